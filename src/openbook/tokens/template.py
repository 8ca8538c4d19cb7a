"""The prompt of R1-Zero and the shape of its answer.

The prompt is one plain sentence that says where thinking and answer go, then the question; it
hints at no content (DeepSeek-R1, Table 1, in our own words). An answer is well formed when it is
exactly `<think> ... </think> <answer> ... </answer>`, once, with nothing outside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INSTRUCTION = "Reply in <think> </think> <answer> </answer>."
_WELL_FORMED = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_TAGS_IN_ORDER = ("<think>", "</think>", "<answer>", "</answer>")
_TAG = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """A completion's text, taken apart.

    Example: `parse("<think> b = seven </think> <answer> 7 </answer>")` gives thinking
    `"b = seven"`, answer `"7"`, well_formed True. A text that is not well formed has the reason;
    its answer is empty unless there is exactly one answer block.
    """

    thinking: str
    answer: str
    well_formed: bool
    reason: str


def prompt(question: str) -> str:
    """The text before which the BOS token goes and after which the model continues."""
    return f"{INSTRUCTION} User: {question} Assistant:"


def response(thinking: str, answer: str) -> str:
    """The well-formed continuation of a prompt."""
    inner = f" {thinking} " if thinking else " "
    return f" <think>{inner}</think> <answer> {answer} </answer>"


def parse(text: str) -> Parsed:
    """Take a completion apart; never raises."""
    match = _WELL_FORMED.fullmatch(text)
    if match and not _TAG.search(match[1]) and not _TAG.search(match[2]):
        return Parsed(thinking=match[1].strip(), answer=match[2].strip(), well_formed=True, reason="")
    answers = _ANSWER.findall(text)
    thinking = text.partition("<think>")[2].partition("</think>")[0] if "<think>" in text else ""
    return Parsed(
        thinking=thinking.strip(),
        answer=answers[0].strip() if len(answers) == 1 and not _TAG.search(answers[0]) else "",
        well_formed=False,
        reason=_what_is_wrong(text),
    )


def _what_is_wrong(text: str) -> str:
    for tag in _TAGS_IN_ORDER:
        if (count := text.count(tag)) != 1:
            return f"{tag} appears {count} times, not once"
    places = [text.index(tag) for tag in _TAGS_IN_ORDER]
    if places != sorted(places):
        return f"the tags are not in the order {' '.join(_TAGS_IN_ORDER)}"
    return "there is text outside the think and answer blocks"
