"""The process that runs the reasoning-gym library: one JSON request a line, one JSON reply a line.

Started by `gym_library.GymLibrary` as a script of its own and never imported. It keeps the library apart:
its imports, its prints, its memory, and above all its scorers, some of which parse a model's text in
ways that can take for ever. The parent kills this process when a reply is late.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

MAX_MEMORY_BYTES = 4 * 2**30
FAR_INDEX = 2**31 - 1
"""Most datasets make any item from its index alone; a few hold a list as long as their `size`."""

FACTS = ("source_dataset", "numbers", "target", "valid_answers")
"""Metadata that the family's own rules use; a composite's items name the dataset they came from."""

EXAMPLE_ANSWERS = ("example_answer", "example_correct_answer", "possible_answer")
"""Where datasets without one right answer keep an example of a right one."""


@functools.lru_cache(maxsize=8)
def dataset(name: str, options: str) -> Any:
    import reasoning_gym

    arguments = {"seed": 0, **json.loads(options)}
    if name == "composite" and "datasets" in arguments:
        from reasoning_gym.composite import DatasetSpec

        arguments["datasets"] = [DatasetSpec(**spec) for spec in arguments["datasets"]]
    return reasoning_gym.create_dataset(name, **arguments)


@functools.lru_cache(maxsize=256)
def entry(name: str, options: str, index: int) -> Any:
    return dataset(name, options)[index]


def names(request: Mapping[str, Any]) -> Any:
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS)


def num_items(request: Mapping[str, Any]) -> Any:
    made = dataset(request["name"], request["options"])
    try:
        made[FAR_INDEX - 1]
    except IndexError:  # a dataset with a list: its length is what there is
        return len(made)
    return FAR_INDEX


def item(request: Mapping[str, Any]) -> Any:
    made = entry(request["name"], request["options"], request["index"])
    metadata = made.get("metadata", {})
    return {
        "question": made["question"],
        "answer": own_answer(made["answer"], metadata),
        "facts": {key: metadata[key] for key in FACTS if key in metadata},
    }


def own_answer(answer: object, metadata: Mapping[str, Any]) -> str:
    """The entry's right answer as text; empty when the library knows none."""
    if answer is not None:
        return str(answer)
    for key in EXAMPLE_ANSWERS:
        if key in metadata:
            example = metadata[key]
            return example if isinstance(example, str) else json.dumps(example)
    return ""


def score(request: Mapping[str, Any]) -> Any:
    name, options = request["name"], request["options"]
    made = entry(name, options, request["index"])
    return float(dataset(name, options).score_answer(request["answer"], made))


OPERATIONS = {"names": names, "num_items": num_items, "item": item, "score": score}


def limit_resources() -> None:
    """Cap memory and forbid writing files, where the system can."""
    try:
        from openbook.tasks import containment
    except ImportError:  # Windows has no such limits; the parent's time limit still holds
        return
    containment.limit_memory(MAX_MEMORY_BYTES)
    containment.forbid_files()


def main() -> None:
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the library prints is no reply
    limit_resources()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"value": OPERATIONS[request["operation"]](request)}
            text = json.dumps(reply)
        except Exception as error:  # whatever the library raises is the parent's to report
            text = json.dumps({"error": f"{type(error).__name__}: {error}"[:300]})
        replies.write(text + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
