"""The examination: the same held-out problems for everyone, and what of it is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from openbook.engine.engine import Engine
from openbook.errors import Interrupted
from openbook.evals.config import EvalConfig
from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import ExamConfig
from openbook.r1.exam import SAMPLES_FILE, exam_problems, examine, probe
from openbook.r1.frame import SCORECARDS_FILE, Work, tokenizer_of
from openbook.r1.pretrain import base_exam
from openbook.tasks.chain import ChainConfig
from openbook.tasks.problem import Split
from openbook.tasks.registry import make_family
from openbook.tokens.renderer import Renderer

EXAM = ExamConfig(
    family=ChainConfig(min_operations=1, max_operations=1),
    harder=ChainConfig(min_operations=3, max_operations=3),
    sampling=EvalConfig(num_problems=5, num_samples=2, max_tokens=6),
    num_kept_samples=3,
)


def read(work: Work, name: str) -> Any:
    return json.loads((work.run.folder / name).read_text())


def test_a_checkpoint_is_examined_on_both_suites(work: Work, checkpoint: Checkpoint) -> None:
    cards = examine(work, checkpoint, EXAM)
    assert [card.suite for card in cards] == ["held_out", "harder"]
    assert all((card.num_problems, card.num_samples) == (5, 2) for card in cards)
    assert {card.checkpoint_digest for card in cards} == {checkpoint.digest}
    assert [card["suite"] for card in read(work, SCORECARDS_FILE)] == ["held_out", "harder"]
    samples = read(work, SAMPLES_FILE)
    held_out = exam_problems(make_family(EXAM.family), 5)
    assert [one["problem"] for one in samples] == [problem.question for problem in held_out[:3]]
    assert work.run.usage().completion_tokens > 0, "an examination is paid for"
    assert work.device_microseconds == 0, "and is no learning"


def test_equal_checkpoints_get_equal_marks_whatever_the_seed_of_the_story(
    work: Work, checkpoint: Checkpoint
) -> None:
    examine(work, checkpoint, EXAM)
    first = read(work, SCORECARDS_FILE)
    examine(Work(frame=replace(work.frame, seed=99), run=work.run), checkpoint, EXAM)
    assert read(work, SCORECARDS_FILE) == first


def test_the_problems_are_held_out_and_of_the_length_asked_for() -> None:
    for family, length in ((EXAM.family, 1), (EXAM.harder, 3)):
        problems = exam_problems(make_family(family), 20)
        assert {problem.split for problem in problems} == {Split.HELD_OUT}
        assert {problem.difficulty for problem in problems} == {length}
        assert problems[:5] == exam_problems(make_family(family), 5)


def test_a_base_is_sampled_more_often_than_others() -> None:
    exam = base_exam(replace(EXAM, base_samples=7))
    assert (exam.sampling.num_samples, exam.sampling.k) == (7, 7)
    assert replace(exam, sampling=EXAM.sampling, base_samples=EXAM.base_samples) == EXAM


def test_a_stop_is_seen_before_each_suite(work: Work, checkpoint: Checkpoint) -> None:
    work.frame.stop.requested = True
    with pytest.raises(Interrupted):
        examine(work, checkpoint, EXAM)
    assert not (work.run.folder / SCORECARDS_FILE).exists()


def test_a_probe_measures_a_policy_on_its_way_and_leaves_it_as_it_was(
    checkpoint: Checkpoint, make_tiny: Callable[..., Any]
) -> None:
    tokenizer = tokenizer_of(checkpoint)
    model = make_tiny().train()
    sampler = Engine(model, stop_token_ids=(tokenizer.eos_id,))
    measure = probe(Renderer.ours(tokenizer), EXAM)
    found = measure(sampler)
    assert set(found) == {"eval_pass_at_1", "eval_mean_completion_tokens"}
    assert 0 <= found["eval_pass_at_1"] <= 1
    assert 1 <= found["eval_mean_completion_tokens"] <= EXAM.sampling.max_tokens
    assert measure(sampler) == found
    assert model.training
