"""A made-up story as `openbook run` leaves it, whole and small; and what a stage stands in."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openbook.engine.types import Completion, FinishReason
from openbook.evals.score import Tally, scores
from openbook.evals.scorecard import METRICS, Scorecard, scorecard_to_json
from openbook.model.checkpoint import Checkpoint, save_checkpoint
from openbook.r1.config import MachineConfig
from openbook.r1.frame import Frame, Work
from openbook.rl.types import Attempt
from openbook.runs.manifest import Ancestor
from openbook.runs.progress import Silence
from openbook.runs.run import Run
from openbook.runs.stop import StopSignal
from openbook.runs.usage import Usage
from openbook.tasks.problem import Problem
from openbook.tokens.template import parse, response
from openbook.tokens.tokenizer import Tokenizer

STAGES = {
    # pass@1, tokens, device-seconds
    "pretrain": (0.11, 21.0, 610.0),
    "zero": (0.74, 52.0, 540.0),
    "cold_start": (0.69, 47.0, 45.0),
    "reasoning_rl": (0.86, 58.0, 420.0),
    "rejection": (0.84, 55.0, 60.0),
    "all_scenarios": (0.90, 57.0, 240.0),
    "student_base": (0.04, 19.0, 120.0),
    "distill": (0.71, 51.0, 75.2),
    "control": (0.12, 24.0, 75.9),
}
QUESTIONS = {
    "a 3, b +4, c *2. c?": "4",
    "d = 9, e = d - 5, f = e + 8. f?": "2",
    "b = 6, c = b + <7. c?": "3",
}
THOUGHTS = {"4": "b = seven c = four", "2": "e = four f = two", "3": "c = three"}


def make_story(folder: Path, *, stages: tuple[str, ...] = tuple(STAGES), num_steps: int = 240) -> Path:
    """A story as `openbook run` leaves it, made up: one stage failed first, one was begun again."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = []
    parent = Ancestor(role="data", name="corpus", digest="sha256:" + "c0" * 32)
    for number, stage in enumerate(stages, start=1):
        score, tokens, seconds = STAGES[stage]
        place = folder / f"{number:02d}-{stage}"
        card = scorecard(rng, stage, "held_out", score, tokens)
        harder = scorecard(rng, stage, "harder", score * 0.6, tokens * 1.4)
        run = make_run(place, rng, stage, parent, seconds, num_steps)
        parent = Ancestor(
            role="base", name=stage, digest="sha256:" + f"{number:02d}" * 32, run_id=run.manifest.id
        )
        write(place / "scorecards.json", [scorecard_to_json(card), scorecard_to_json(harder)])
        write(place / "samples.json", samples(stage, score))
        write(place / "compute.json", {"device_microseconds": round(seconds * 1e6)})
        rows.append(story_row(card, seconds))
    broken = Run.create(
        folder / "failed" / "zero", verb="run", stage="zero", recipe={}, seed=0, run_id="20260101-zero-x"
    )
    broken.start(device="cpu")
    broken.record(Usage(completion_tokens=1000, device_microseconds=30_000_000))
    broken.fail("the loss became NaN at step 9")
    write(folder / "01-pretrain" / "expert_loads.json", expert_loads(rng))
    write(folder / "story.json", rows)
    write(folder / "launch.json", {"recipe": "nano", "digest": "sha256:" + "ab" * 32, "seed": 0})
    return folder


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def make_run(
    folder: Path, rng: np.random.Generator, stage: str, parent: Ancestor, seconds: float, num_steps: int
) -> Run:
    run = Run.create(folder, verb="run", stage=stage, recipe={"stage": stage}, seed=0, parents=[parent])
    run.start(device="cpu")
    if stage == "reasoning_rl":  # stopped, then begun again from nothing: that minute was lost
        run.record(Usage(completion_tokens=90_000, device_microseconds=60_000_000))
        run.log(1, {"loss": 1.0})
        run.interrupt("stopped by Ctrl-C")
        run.start(device="cpu")
        run.truncate_metrics(0)
    by_step = int(seconds * 1e6 / num_steps)
    for step in range(1, num_steps + 1):
        run.record(Usage(completion_tokens=3000, trained_tokens=3000, device_microseconds=by_step))
        run.log(step, metrics(rng, stage, step, num_steps))
    run.finish()
    return run


def metrics(rng: np.random.Generator, stage: str, step: int, num_steps: int) -> dict[str, float]:
    done = step / num_steps
    if stage in ("zero", "reasoning_rl", "all_scenarios", "control"):
        base = 0.11 if stage == "zero" else 0.6
        accuracy = base + (0.75 - base) / (1 + math.exp(-10 * (done - 0.35))) + rng.normal(0, 0.03)
        length = 21 + 34 / (1 + math.exp(-9 * (done - 0.5))) + rng.normal(0, 1.5)
        values = {
            "reward": accuracy + 0.9,
            "reward_accuracy": accuracy,
            "reward_format": min(1, 0.3 + 2 * done) + rng.normal(0, 0.01),
            "accuracy": accuracy,
            "format": min(1, 0.3 + 2 * done),
            "mean_completion_tokens": length,
            "mean_correct_tokens": 0.0 if step < 4 else length + 4,
            "entropy": 0.9 * math.exp(-2 * done) + 0.2 + rng.normal(0, 0.01),
            "kl": 0.3 * done,
            "loss": rng.normal(0, 0.01),
            "grad_norm": 0.4 + abs(rng.normal(0, 0.1)),
            "truncated_share": 0.3 * math.exp(-6 * done),
            "steps_share": 1 / (1 + math.exp(-12 * (done - 0.3))),
            "zero_variance_groups": 0.6 - 0.4 * done,
        }
        if step % 30 == 0:
            values |= {"eval_pass_at_1": accuracy - 0.03, "eval_mean_completion_tokens": length}
        return values
    return {
        "loss": 2.2 * math.exp(-5 * done) + 1.1 + rng.normal(0, 0.03),
        "mtp_loss": 2.4 * math.exp(-5 * done) + 1.5 + rng.normal(0, 0.03),
        "learning_rate": 1e-3 * (1 - done),
        "load_max_over_mean": 1.1 + 1.6 * math.exp(-6 * done) + abs(rng.normal(0, 0.03)),
    }


def scorecard(rng: np.random.Generator, stage: str, suite: str, score: float, tokens: float) -> Scorecard:
    shares = dict.fromkeys(METRICS, 0.97) | {
        "pass_at_1": score,
        "forgiven_pass_at_1": min(1, score * 1.05),
        "majority_at_k": min(1, score * 1.08),
        "pass_at_k": min(1, score * 1.3),
        "truncated_share": 0.02,
    }
    tallies = []
    for metric, value in shares.items():
        sums = rng.binomial(4, value, size=200).astype(float)
        if metric.endswith("tokens"):
            sums = rng.normal(4 * tokens, 8, size=200)
        tallies.append(Tally(metric=metric, sums=tuple(sums), counts=(4.0,) * 200, num_samples=800))
    return Scorecard(
        stage=stage,
        checkpoint_digest="sha256:12",
        suite=suite,
        seed=0,
        temperature=1.0,
        max_tokens=128,
        k=4,
        num_problems=200,
        num_samples=4,
        num_unscored=0,
        **scores(tallies, rng, num_resamples=200),
    )


def story_row(card: Scorecard, seconds: float) -> dict[str, object]:
    return {
        "stage": card.stage,
        "pass_at_1": card.pass_at_1.value,
        "pass_at_1_low": card.pass_at_1.low,
        "pass_at_1_high": card.pass_at_1.high,
        "majority_at_k": card.majority_at_k.value,
        "mean_completion_tokens": card.mean_completion_tokens.value,
        "wall_seconds": seconds * 1.1,
        "device_seconds": seconds,
        "cost_usd": seconds / 3600 * 0.01,
        "seed": 0,
    }


def samples(stage: str, score: float) -> list[dict[str, str]]:
    found = []
    for question, answer in QUESTIONS.items():
        text, verdict = response(THOUGHTS[answer], answer), "correct"
        if score < 0.2:
            text, verdict = " b = <think> the the <b>", "wrong"
        elif stage == "zero" and answer == "2":
            text, verdict = response("e = cuatro f = tres", "3"), "wrong"
        found.append(
            {"problem": question, "answer": answer, "stage": stage, "text": text, "verdict": verdict}
        )
    return found


def expert_loads(rng: np.random.Generator) -> dict[str, object]:
    steps = np.arange(1, 241, 2)
    favour = rng.gamma(0.7, 1.0, size=(3, 8))
    even = 1 - np.exp(-steps / 40)[:, None, None]
    shares = even + (1 - even) * favour[None] + rng.normal(0, 0.04, size=(len(steps), 3, 8))
    return {"steps": steps.tolist(), "loads": (np.maximum(shares, 0) * 500).astype(int).tolist()}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_story(tmp_path_factory.mktemp("stories") / "nano-0", num_steps=60)


SMALL = ("pretrain", "zero", "cold_start", "distill", "control")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A story with few curves, whose report is quickly drawn."""
    folder = make_story(tmp_path_factory.mktemp("small") / "nano-0", stages=SMALL, num_steps=3)
    for path in folder.glob("*/metrics.jsonl"):
        kept = (
            "step",
            "time",
            "attempt",
            "usage_lines",
            "accuracy" if "zero" in path.parent.name else "loss",
        )
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({key: line[key] for key in kept}) + "\n" for line in lines))
    return folder


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """A small story to break."""
    return Path(shutil.copytree(small, tmp_path / "nano-0"))


@pytest.fixture
def make_frame(tmp_path: Path) -> Callable[..., Frame]:
    """`make_frame(seed=3)`: where a stage can run, on one thread of the CPU, watched by nobody."""

    def make(**changed: Any) -> Frame:
        values: dict[str, Any] = {
            "folder": tmp_path / "stage",
            "verb": "rl",
            "stage": "zero",
            "seed": 0,
            "recipe": {"settings": {"num_steps": 4}, "seed": 0},
            "parents": [],
            "machine": MachineConfig(device="cpu", num_threads=1),
            "progress": Silence(),
            "stop": StopSignal(),
        }
        return Frame(**values | changed)

    return make


@pytest.fixture
def work(make_frame: Callable[..., Frame]) -> Work:
    """A stage at work in a run that has begun."""
    frame = make_frame()
    run = Run.create(frame.folder, verb="rl", stage="zero", recipe=frame.recipe, seed=0)
    run.start(device="cpu")
    return Work(frame=frame, run=run)


@pytest.fixture
def checkpoint(make_tiny: Callable[..., Any], tokenizer: Tokenizer, tmp_path: Path) -> Checkpoint:
    """A tiny untrained model with its tokenizer."""
    folder = tmp_path / "untrained"
    return save_checkpoint(
        folder, make_tiny(), provenance={"run_id": "run-1"}, extra_files=[tokenizer.save(tmp_path)]
    )


@pytest.fixture
def attempt_at() -> Callable[..., Attempt]:
    """`attempt_at(problem, text)`: a completion of a problem, taken apart."""

    def make(problem: Problem, text: str) -> Attempt:
        completion = Completion(
            prompt_ids=(1,),
            token_ids=tuple(range(1, 1 + len(text.split()))),
            logprobs=tuple(-1.0 for _ in text.split()),
            finish_reason=FinishReason.STOP,
            policy_version=0,
        )
        return Attempt(problem=problem, completion=completion, text=text, parsed=parse(text))

    return make
