"""What every stage stands in: how it ends, how it is gone on with, and what its run says afterwards."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openbook.engine.choose import choose
from openbook.engine.engine import Engine
from openbook.engine.types import SamplingParams
from openbook.errors import Diverged, Interrupted, UserError
from openbook.kernels.native import Missing, load_native
from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import MachineConfig
from openbook.r1.frame import (
    COMPUTE_FILE,
    LOADS_FILE,
    NUM_KEPT_LOADS,
    Frame,
    Work,
    ancestor,
    stage_checkpoint,
    tokenizer_of,
)
from openbook.runs.journal import RunStatus
from openbook.runs.manifest import Ancestor
from openbook.runs.progress import Silence
from openbook.runs.run import Run
from openbook.runs.usage import Usage
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.report import StepReport

MakeFrame = Callable[..., Frame]
CPU = torch.device("cpu")
BASE = Ancestor(role="base", name="pretrain", digest="sha256:01", run_id="run-1")


def saving(tokenizer: Tokenizer, make_tiny: Callable[..., Any]) -> Callable[[Work], Checkpoint]:
    """The body of a stage that makes an untrained model."""
    return lambda work: work.save(make_tiny(), tokenizer, step=4)


def failing(error: BaseException) -> Callable[[Work], Checkpoint]:
    def body(work: Work) -> Checkpoint:
        raise error

    return body


def report(step: int, microseconds: int = 100) -> StepReport:
    return StepReport(
        step=step,
        metrics={"loss": 1.0 / step},
        usage=Usage(trained_tokens=10, device_microseconds=microseconds),
        expert_loads=np.full((1, 4), step),
    )


def test_a_stage_that_is_done_is_taken_as_it_is(
    make_frame: MakeFrame, tokenizer: Tokenizer, make_tiny: Callable[..., Any]
) -> None:
    frame = make_frame()
    first = stage_checkpoint(frame, saving(tokenizer, make_tiny))
    assert Run.open(frame.folder).status is RunStatus.DONE
    again = stage_checkpoint(frame, failing(AssertionError("a done stage must not work again")))
    assert again.digest == first.digest
    assert len(Run.open(frame.folder).attempts) == 1


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Interrupted("stopped after step 2", "go on"), RunStatus.INTERRUPTED, "stopped after step 2"),
        (KeyboardInterrupt(), RunStatus.INTERRUPTED, "stopped at once"),
        (UserError("nothing was kept", "train longer"), RunStatus.FAILED, "nothing was kept"),
        (Diverged("loss became nan at step 3"), RunStatus.FAILED, "loss became nan at step 3"),
        (ZeroDivisionError("division by zero"), RunStatus.FAILED, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_stage_that_ends_early_says_how_and_can_be_gone_on_with(
    error: BaseException,
    status: RunStatus,
    reason: str,
    make_frame: MakeFrame,
    tokenizer: Tokenizer,
    make_tiny: Callable[..., Any],
) -> None:
    frame = make_frame()
    with pytest.raises(type(error)):
        stage_checkpoint(frame, failing(error))
    run = Run.open(frame.folder)
    assert (run.status, run.reason) == (status, reason)
    stage_checkpoint(frame, saving(tokenizer, make_tiny))
    assert [one.status for one in run.attempts] == [status, RunStatus.DONE]


def test_a_stage_is_not_gone_on_with_otherwise_than_it_was_begun(make_frame: MakeFrame) -> None:
    begun = make_frame(parents=[BASE])
    with pytest.raises(Interrupted):
        stage_checkpoint(begun, failing(Interrupted("stopped")))
    recipe = {"settings": {"num_steps": 5}, "seed": 0}
    body = failing(AssertionError("refused before it works"))
    with pytest.raises(UserError, match=r"another recipe: settings.num_steps 4 -> 5"):
        stage_checkpoint(replace(begun, recipe=recipe), body)
    for other in (replace(BASE, digest="sha256:02"), replace(BASE, role="teacher")):
        with pytest.raises(UserError, match=f"begun from another {other.role}: .*, not {other.digest}"):
            stage_checkpoint(replace(begun, parents=[other]), body)
    assert len(Run.open(begun.folder).attempts) == 1


def test_what_a_stage_saves_says_where_it_comes_from(
    work: Work, tokenizer: Tokenizer, make_tiny: Callable[..., Any]
) -> None:
    work = Work(frame=replace(work.frame, parents=[BASE]), run=work.run, card={"traces": "sha256:77"})
    checkpoint = work.save(make_tiny(), tokenizer, step=7)
    run_id = work.run.manifest.id
    assert checkpoint.provenance == {"run_id": run_id, "stage": "zero", "step": 7, "parents": [BASE.digest]}
    card = json.loads((work.run.folder / "card.json").read_text())
    assert card["checkpoint"] == checkpoint.digest
    assert card["tokenizer"] == tokenizer.digest
    assert (card["step"], card["traces"]) == (7, "sha256:77")
    assert tokenizer_of(checkpoint).digest == tokenizer.digest
    assert ancestor("base", checkpoint) == Ancestor(
        role="base", name="zero", digest=checkpoint.digest, run_id=run_id
    )
    public = json.loads((checkpoint.folder / "config.json").read_text())
    assert public["eos_token_id"] == tokenizer.eos_id


def test_compute_counts_learning_without_examination_and_without_what_was_done_twice(
    work: Work, tokenizer: Tokenizer, make_tiny: Callable[..., Any]
) -> None:
    work.spend(Usage(device_microseconds=1000))  # sampling
    work.run.log(0, {})
    for step in (1, 2, 3):
        work.on_step(report(step))
    assert work.device_microseconds == 1300
    work.run.record(Usage(device_microseconds=5000))  # an examination
    assert work.device_microseconds == 1300
    work.run.interrupt()

    work.run.start(device="cpu")
    again = Work(frame=work.frame, run=work.run)
    again.go_back(1)
    assert again.device_microseconds == 1100
    for step in (2, 3):
        again.on_step(report(step, microseconds=200))
    assert again.device_microseconds == 1500
    again.save(make_tiny(), tokenizer, step=3)
    written = json.loads((work.run.folder / COMPUTE_FILE).read_text())
    assert written == {"device_microseconds": 1500}
    assert work.run.usage().device_microseconds == 1300 + 5000 + 400, "everything was paid"
    assert [row["step"] for row in work.run.metrics()] == [0, 1, 2, 3]


@pytest.mark.parametrize("num_steps", [1, 39, 40, 41, 79, 500])
def test_the_loads_of_the_experts_are_kept_evenly_and_not_too_often(
    num_steps: int, work: Work, tokenizer: Tokenizer, make_tiny: Callable[..., Any]
) -> None:
    for step in range(1, num_steps + 1):
        work.on_step(report(step))
    work.save(make_tiny(), tokenizer, step=num_steps)
    kept = json.loads((work.run.folder / LOADS_FILE).read_text())
    assert min(num_steps, NUM_KEPT_LOADS // 2) <= len(kept["steps"]) <= NUM_KEPT_LOADS
    assert kept["steps"][0] == 1
    assert len({b - a for a, b in pairwise(kept["steps"])}) <= 1
    assert kept["loads"] == [[[step] * 4] for step in kept["steps"]]


def test_a_dense_model_has_no_loads_to_keep(
    work: Work, tokenizer: Tokenizer, make_tiny: Callable[..., Any]
) -> None:
    work.on_step(StepReport(step=1, metrics={}, usage=Usage()))
    work.save(make_tiny(gqa=True), tokenizer, step=1)
    assert not (work.run.folder / LOADS_FILE).exists()


def test_a_stop_asked_for_before_the_work_ends_it_with_nothing_to_save(make_frame: MakeFrame) -> None:
    frame = make_frame()

    def body(work: Work) -> Checkpoint:
        signal.raise_signal(signal.SIGTERM)
        work.frame.stop.check()
        raise AssertionError("the stop was not seen")

    with frame.stop, pytest.raises(Interrupted, match="stopped"):
        stage_checkpoint(frame, body)
    assert Run.open(frame.folder).status is RunStatus.INTERRUPTED


def test_the_device_has_the_name_that_its_price_is_found_by(make_frame: MakeFrame, tmp_path: Path) -> None:
    frame = make_frame()
    assert frame.device_name == "cpu"
    with pytest.raises(UserError):
        stage_checkpoint(frame, failing(UserError("no")))
    assert Run.open(frame.folder).attempts[0].device == "cpu"


class Notes(Silence):
    """Remembers what is worth a line."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def sampling(
    tokenizer: Tokenizer, make_tiny: Callable[..., Any], engines: list[Engine]
) -> Callable[[Work], Any]:
    """The body of a stage that makes an engine and is stopped."""

    def body(work: Work) -> Checkpoint:
        engines.append(work.engine(make_tiny(), tokenizer))
        raise Interrupted("stopped", "go on")

    return body


@pytest.mark.parametrize("decode", ["auto", "torch"])
def test_what_samples_is_chosen_once_and_kept_when_the_stage_is_gone_on_with(
    decode: str, make_frame: MakeFrame, tokenizer: Tokenizer, make_tiny: Callable[..., Any]
) -> None:
    notes, engines = Notes(), list[Engine]()
    for wanted in (decode, "torch", "auto"):  # the machine may ask for another one later
        machine = MachineConfig(device="cpu", num_threads=1, decode=wanted)  # type: ignore[arg-type]
        frame = make_frame(machine=machine, progress=notes)
        with pytest.raises(Interrupted):
            stage_checkpoint(frame, sampling(tokenizer, make_tiny, engines))
    choice = choose(CPU, decode)  # type: ignore[arg-type]
    assert Run.open(frame.folder).manifest.sampler == choice.name
    assert [engine.executor.name.split()[:2] for engine in engines] == [choice.name.split()] * 3
    assert not notes.texts
    assert all(engine.config.deterministic == (choice.decode == "native") for engine in engines)


def test_another_build_of_what_samples_is_told(
    make_frame: MakeFrame, tokenizer: Tokenizer, make_tiny: Callable[..., Any]
) -> None:
    for begun_with in ("torch 2.0", "native kernels-of-yore", ""):
        if begun_with.startswith("native") and isinstance(load_native(), Missing):
            continue
        notes = Notes()
        frame = make_frame(progress=notes)
        folder = frame.folder / (begun_with or "none")
        run = Run.create(folder, verb="rl", stage="zero", recipe={}, seed=0, sampler=begun_with)
        engine = Work(frame=frame, run=run).engine(make_tiny(), tokenizer)
        (text,) = notes.texts
        name = begun_with or "a sampler without a name"
        assert text.startswith(f"zero: begun with {name}, goes on with {engine.executor.name.split()[0]}")
        assert text.endswith("the bits may differ")


def test_a_stage_whose_native_kernels_are_gone_is_not_gone_on_with_otherwise(
    make_frame: MakeFrame,
    tokenizer: Tokenizer,
    make_tiny: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("openbook.engine.choose.load_native", lambda: Missing(reason="no compiler"))
    frame = make_frame()
    run = Run.create(frame.folder, verb="rl", stage="zero", recipe={}, seed=0, sampler="native kernels-1")
    with pytest.raises(
        UserError, match="begun with native kernels-1: there are no native kernels: no compiler"
    ):
        Work(frame=frame, run=run).engine(make_tiny(), tokenizer)


def test_a_stage_leaves_the_processor_as_it_was(
    make_frame: MakeFrame, tokenizer: Tokenizer, make_tiny: Callable[..., Any]
) -> None:
    def keeps_denormals() -> bool:
        return float(torch.tensor([2e-38]) * 0.25) > 0

    inside = []

    def body(work: Work) -> Checkpoint:
        inside.append(keeps_denormals())
        raise Interrupted("stopped", "go on")

    with pytest.raises(Interrupted):
        stage_checkpoint(make_frame(), body)
    assert keeps_denormals() and inside == [not torch.set_flush_denormal(False)]


def test_the_engine_of_a_stage_knows_the_tokenizer(
    work: Work, tokenizer: Tokenizer, make_tiny: Callable[..., Any]
) -> None:
    engine = work.engine(make_tiny(), tokenizer)
    params = SamplingParams(max_tokens=12, thinking_budget=3, stop=("never",), temperature=0.0)
    prompt = [tokenizer.bos_id, tokenizer.token_id("<think>")]
    one = engine.generate([prompt], params, num_generations=1, seed=0).completions[0][0]
    closing = (tokenizer.token_id("</think>"), tokenizer.token_id("<answer>"))
    assert one.num_thinking_tokens <= 3 and closing[0] in one.token_ids
    assert one.token_ids[-1] != closing[1], "there is an answer"
