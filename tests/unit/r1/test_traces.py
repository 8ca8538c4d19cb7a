"""Which of a teacher's answers are kept, and how they come back from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from openbook.data.corpus import Document
from openbook.errors import UserError
from openbook.model.checkpoint import Checkpoint
from openbook.r1 import traces
from openbook.r1.config import SamplingConfig
from openbook.r1.frame import Work
from openbook.r1.traces import (
    FIRST_INDEX,
    PROBLEMS_PER_CALL,
    TRACES_FILE,
    data_ancestor,
    data_path,
    keep,
    read_documents,
    sample_traces,
    to_examples,
)
from openbook.rl.types import Attempt
from openbook.runs.journal import lost_lines
from openbook.runs.usage import Usage
from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.problem import Problem, Split
from openbook.tokens.renderer import Renderer
from openbook.tokens.template import response
from openbook.tokens.tokenizer import Tokenizer

FAMILY = ChainFamily(ChainConfig(min_operations=1, max_operations=2))
AttemptAt = Callable[[Problem, str], Attempt]


def problem(index: int = 0) -> Problem:
    return FAMILY.problem(0, Split.TRAIN, index)


def config(**changed: Any) -> SamplingConfig:
    return SamplingConfig(**{"num_problems": 4, "num_generations": 2, "max_tokens": 16, **changed})


def test_only_right_and_well_formed_answers_that_show_thinking_are_kept(attempt_at: AttemptAt) -> None:
    asked = problem()
    right = response("b = seven", asked.answer)
    texts = (
        response("b = seven", asked.answer + "1"),
        response("", asked.answer),
        f" <think> b = seven </think> {asked.answer}",
        asked.answer,
        "",
        right,
    )
    found = keep([attempt_at(asked, text) for text in texts], FAMILY, config(keep_per_problem=9))
    assert found == [Document(question=asked.question, response=right)]


def test_the_most_consistent_come_first_and_no_text_twice(attempt_at: AttemptAt) -> None:
    asked = problem()
    mixed = response("b = seven, c = dos", asked.answer)
    english = response("b = seven, c = two", asked.answer)
    spanish = response("b = siete, c = dos", asked.answer)
    attempts = [attempt_at(asked, text) for text in (spanish, mixed, english, mixed)]
    kept = {
        number: [one.response for one in keep(attempts, FAMILY, config(keep_per_problem=number))]
        for number in (1, 2, 9)
    }
    assert kept == {1: [english], 2: [english, mixed], 9: [english, mixed, spanish]}
    strict = config(keep_per_problem=9, min_consistency=0.5)
    assert [one.response for one in keep(attempts, FAMILY, strict)] == [english, mixed]
    in_spanish = config(language_target="spanish")
    assert [one.response for one in keep(attempts, FAMILY, in_spanish)] == [spanish]


def test_traces_come_back_as_they_were_written(tmp_path: Path) -> None:
    documents = [Document(question="a 1. a?", response=" \u2028 uno\n"), Document(question="b", response="")]
    file = tmp_path / TRACES_FILE
    lines = [json.dumps(asdict(document), ensure_ascii=False) for document in documents]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_documents(file) == documents
    assert read_documents(tmp_path) == documents, "the folder of a run stands for its traces"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b'{"question": "a", "response": "b"}\n{"question": "a"}\n', "line 2 is no trace"),
        (b'{"question": "a", "response": "b"}\n\n{"question": "a", "response": "b"}\n', "line 2 is no trace"),
        (b"hello\n", "line 1 is no trace"),
        (b"3\n", "line 1 is no trace"),
        (b"\xff\xfe\n", "cannot be read"),
    ],
)
def test_a_line_that_is_no_trace_is_named(content: bytes, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as error:
        read_documents(file)
    assert str(file) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(UserError, match="cannot be read"):
            read_documents(path)
        with pytest.raises(UserError, match=r"cannot be read|there is no \*\.txt"):
            data_ancestor(path)


def test_data_is_an_ancestor_by_digest_and_by_the_run_that_sampled_it(work: Work, tmp_path: Path) -> None:
    text = '{"question": "a", "response": "b"}\n'
    (work.run.folder / TRACES_FILE).write_text(text)
    (tmp_path / "mine.jsonl").write_text(text)
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    of_run, of_file = data_ancestor(work.run.folder), data_ancestor(tmp_path / "mine.jsonl")
    assert (of_run.role, of_run.digest, of_run.run_id) == ("data", digest, work.run.manifest.id)
    assert (of_file.name, of_file.digest, of_file.run_id) == ("mine.jsonl", digest, "")


def test_a_folder_of_data_is_an_ancestor_by_its_files_wherever_it_lies(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "a.txt").write_text("a")
        (tmp_path / name / "deep" / "a.txt").write_text("b")
        digests.append(data_ancestor(tmp_path / name).digest)
    assert digests[0] == digests[1]
    (tmp_path / "two" / "deep" / "a.txt").write_text("c")
    assert data_ancestor(tmp_path / "two").digest != digests[0]


def test_a_run_that_sampled_nothing_is_no_data(work: Work) -> None:
    with pytest.raises(UserError, match="sampled no traces"):
        data_path(work.run.folder)


def test_the_loss_counts_on_the_response_alone(tokenizer: Tokenizer) -> None:
    (example,) = to_examples([Document(question="a 1. a?", response=" <think>")], Renderer.ours(tokenizer))
    counted = [token for token, weight in zip(example.token_ids, example.weights, strict=True) if weight]
    assert counted == [*tokenizer.encode(" <think>"), tokenizer.eos_id]


class Script:
    """Stands where sampling stands: writes right or wrong answers, and counts what that takes."""

    def __init__(self, attempt_at: AttemptAt, *, share_right: float = 1.0) -> None:
        self.asked: list[str] = []
        self._attempt_at = attempt_at
        self._share_right = share_right

    def __call__(
        self, problems: Sequence[Problem], *_: object, num_generations: int, seed: int
    ) -> tuple[list[list[Attempt]], Usage]:
        num_right = round(self._share_right * len(problems))
        groups = []
        for number, one in enumerate(problems):
            answer = one.answer if number < num_right else "no number"
            groups.append([self._attempt_at(one, response(f"seed {seed}", answer))] * num_generations)
        self.asked += [one.id for one in problems]
        return groups, Usage(completion_tokens=num_generations * len(problems), device_microseconds=1)


def test_sampling_takes_training_problems_that_reinforcement_does_not_reach(
    work: Work, checkpoint: Checkpoint, attempt_at: AttemptAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(attempt_at, share_right=0.5)
    monkeypatch.setattr(traces, "roll_out", script)
    many = config(num_problems=PROBLEMS_PER_CALL + 6)
    kept = sample_traces(work, checkpoint, FAMILY, many)
    numbers = range(FIRST_INDEX, FIRST_INDEX + many.num_problems)
    assert script.asked == [FAMILY.problem(0, Split.TRAIN, number).id for number in numbers]
    assert len(kept) == PROBLEMS_PER_CALL // 2 + 3
    assert work.run.usage().completion_tokens == 2 * many.num_problems
    assert work.device_microseconds >= 2
    (row,) = work.run.metrics()
    assert (row["step"], row["kept_traces"], row["attempts"]) == (0, len(kept), 2 * many.num_problems)

    file = work.run.folder / TRACES_FILE
    assert work.card["traces"] == "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
    before = list(script.asked)
    assert sample_traces(work, checkpoint, FAMILY, many) == kept
    assert script.asked == before, "a finished harvest is read back"


def test_a_harvest_of_nothing_says_out_of_how_many(
    work: Work, checkpoint: Checkpoint, attempt_at: AttemptAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "roll_out", Script(attempt_at, share_right=0.0))
    with pytest.raises(UserError, match="none of 8 attempts was correct and readable"):
        sample_traces(work, checkpoint, FAMILY, config())
    assert not (work.run.folder / TRACES_FILE).exists()
    assert work.run.usage().completion_tokens == 8, "what came to nothing was paid all the same"


def test_a_harvest_that_was_killed_is_lost_work(
    work: Work, checkpoint: Checkpoint, attempt_at: AttemptAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.spend(Usage(completion_tokens=5, device_microseconds=700))  # a call that came back before the kill
    work.run.interrupt("as if killed")
    work.run.start(device="cpu")
    again = Work(frame=work.frame, run=work.run)
    monkeypatch.setattr(traces, "roll_out", Script(attempt_at))
    sample_traces(again, checkpoint, FAMILY, config())
    assert lost_lines(work.run.journal.rewinds) == {0}
    assert again.device_microseconds < work.run.usage().device_microseconds
    again.go_back(0)  # as training does when it begins
    assert lost_lines(work.run.journal.rewinds) == {0}
    assert [row["step"] for row in work.run.metrics()] == [0]
