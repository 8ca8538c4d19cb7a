"""Frame: what every stage stands in: its run, its device, its progress, and how it ends.

with opened(frame) as run:      done before? -> its checkpoint is taken as it is
    learn, save, examine        killed, failed, interrupted -> the run says so and can be resumed
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openbook.engine.choose import choose
from openbook.engine.config import Decode, EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.speaker import engine_for
from openbook.errors import Interrupted, UserError
from openbook.model.checkpoint import Checkpoint, save_checkpoint
from openbook.model.transformer import Transformer
from openbook.quant.store import load_weights
from openbook.r1.config import MachineConfig
from openbook.runs.durable import replace_text
from openbook.runs.journal import lost_lines
from openbook.runs.manifest import Ancestor
from openbook.runs.progress import Progress
from openbook.runs.run import MANIFEST_FILE, Run
from openbook.runs.stop import StopSignal
from openbook.runs.usage import Usage
from openbook.tokens.special import COMPANIONS
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.device import choose_device, give_back_memory, keep_freed_memory
from openbook.train.report import StepReport

LOADS_FILE = "expert_loads.json"
COMPUTE_FILE = "compute.json"
SCORECARDS_FILE = "scorecards.json"
HELD_OUT_FILE = "held_out.json"
NUM_KEPT_LOADS = 40
"""Snapshots of the router's load kept for the report, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """Where one stage runs: everything it needs that is not its own settings."""

    folder: Path
    verb: str
    stage: str
    seed: int
    recipe: Mapping[str, Any]
    """The resolved settings of this stage, as JSON values: a resumed run must have the same."""
    parents: Sequence[Ancestor]
    machine: MachineConfig
    progress: Progress
    stop: StopSignal

    @property
    def device(self) -> torch.device:
        return choose_device(self.machine.device)

    @property
    def device_name(self) -> str:
        """The name under which the device's time has a price: `cpu`, or the GPU's own."""
        device = self.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def learner(self, checkpoint: Checkpoint, *, with_mtp: bool = True) -> Transformer:
        """The network of a checkpoint on the stage's device, every weight plain and able to learn."""
        return load_weights(checkpoint, self.device, with_mtp=with_mtp, dequantized=True)


@dataclass(kw_only=True, slots=True)
class Work:
    """A stage at work: its run, and what is gathered while it goes on."""

    frame: Frame
    run: Run
    device_microseconds: int = 0
    """Device time of learning and of sampling to learn from: no examination, and nothing done twice."""
    card: dict[str, str] = field(default_factory=dict)
    """More lines of the run's card: the digests of what it learned from."""
    beside: list[Path] = field(default_factory=list)
    """Files that belong beside the result: the chat template of a model from elsewhere, say."""
    _loads: list[tuple[int, NDArray[np.int64]]] = field(default_factory=list)

    def spend(self, usage: Usage) -> None:
        """Record usage that belongs to learning."""
        self.run.record(usage)
        self.device_microseconds += usage.device_microseconds

    def keep_companions(self, base: Checkpoint) -> None:
        """What lies beside a base that is not ours, such as its chat template, will lie beside the result."""
        self.beside += [file for name in COMPANIONS if (file := base.folder / name).is_file()]

    def go_back(self, step: int) -> None:
        """Forget what an earlier attempt did after `step`: it was paid, but is no part of the result."""
        self.run.truncate_metrics(after_step=step)
        lost = lost_lines(self.run.journal.rewinds)
        kept = [line.usage for number, line in enumerate(self.run.usage_lines()) if number not in lost]
        self.device_microseconds = sum(usage.device_microseconds for usage in kept)

    def engine(self, model: Transformer, tokenizer: Tokenizer, *, return_experts: bool = False) -> Engine:
        """What samples in this run: chosen when it began, kept when it is resumed. UserError if it is gone.

        The native kernels sample deterministically unless the machine is told otherwise (`exact`), so that a
        completion depends on nothing beside it.
        `return_experts` is for a trainer that replays what the gates chose.
        """
        begun_with = self.run.manifest.sampler or "a sampler without a name"
        decode: Decode = "native" if begun_with.startswith("native") else "torch"
        try:
            now = choose(self.frame.device, decode).name
        except UserError as error:
            raise UserError(
                f"run {self.run.manifest.id} was begun with {begun_with}: {error.what}",
                "mend that, or begin a new run",
            ) from error
        if now != begun_with:
            self.frame.progress.note(
                f"{self.frame.stage}: begun with {begun_with}, goes on with {now}: the bits may differ"
            )
        machine = self.frame.machine
        config = EngineConfig(
            decode=decode,
            deterministic=machine.exact and decode == "native",
            weights=machine.weights,
            return_experts=return_experts,
        )
        return engine_for(model, tokenizer, config)

    def on_step(self, report: StepReport) -> None:
        """Book, log and show one step; the hook of the training loop."""
        self.spend(report.usage)
        self.run.log(report.step, report.metrics)
        self.frame.progress.advance(report.step, report.metrics)
        if report.expert_loads.size:
            self._loads.append((report.step, report.expert_loads))

    def save(self, model: Transformer, tokenizer: Tokenizer, step: int) -> Checkpoint:
        """The stage's result as a public checkpoint with its tokenizer, its card and its router loads."""
        tokenizer_file = tokenizer.save(self.run.folder)
        checkpoint = save_checkpoint(
            self.run.checkpoint_folder,
            model,
            provenance={
                "run_id": self.run.manifest.id,
                "stage": self.frame.stage,
                "step": step,
                "parents": [parent.digest for parent in self.frame.parents],
            },
            extra_files=[tokenizer_file, *self.beside],
            token_ids={
                "bos_token_id": tokenizer.bos_id,
                "eos_token_id": tokenizer.eos_id,
                "pad_token_id": tokenizer.pad_id,
            },
        )
        made = {"checkpoint": checkpoint.digest, "tokenizer": tokenizer.digest, "step": step}
        self.run.write_card({**made, **self.card})
        self._write_loads()
        compute = json.dumps({"device_microseconds": self.device_microseconds})
        replace_text(self.run.folder / COMPUTE_FILE, compute)
        return checkpoint

    def _write_loads(self) -> None:
        if not self._loads:
            return
        every = -(-len(self._loads) // NUM_KEPT_LOADS)
        kept = self._loads[::every]
        text = json.dumps(
            {"steps": [step for step, _ in kept], "loads": [loads.tolist() for _, loads in kept]}
        )
        replace_text(self.run.folder / LOADS_FILE, text)


def stage_checkpoint(frame: Frame, body: Callable[[Work], Checkpoint]) -> Checkpoint:
    """Run a stage, go on with it, or take what it made before.

    An interrupted, failed or killed stage stays in its folder with the reason and is resumed by
    calling this again with the same recipe, seed and ancestors; others are a UserError.
    """
    done = frame.folder / "checkpoint"
    exists = (frame.folder / MANIFEST_FILE).exists()
    if exists and Run.open(frame.folder).status == "done":
        return Checkpoint.open(done)
    frame.stop.check()
    run = _begun_run(frame) if exists else _new_run(frame)
    if frame.machine.num_threads:
        torch.set_num_threads(frame.machine.num_threads)
    # Attention that has become sure of itself leaves numbers too small to be normal, and a CPU is slow with
    # them: as zeros they take a tenth off a step. Before the first thread is made, so that all inherit it.
    torch.set_flush_denormal(True)
    keep_freed_memory()
    run.start(device=frame.device_name)
    work = Work(frame=frame, run=run)
    try:
        checkpoint = body(work)
    except Interrupted as error:
        run.interrupt(error.what)
        raise
    except KeyboardInterrupt:
        run.interrupt("stopped at once", cut_off=True)
        raise
    except UserError as error:
        run.fail(error.what)
        raise
    except Exception as error:
        run.fail(f"{type(error).__name__}: {error}")
        raise
    finally:
        torch.set_flush_denormal(False)  # whoever called may want its numbers whole
        give_back_memory()
    run.finish()
    frame.progress.finish(frame.stage, _summary(run))
    return checkpoint


def _summary(run: Run) -> str:
    """The stage's result in one line, from its scorecards where it has been examined."""
    path, held_out = run.folder / SCORECARDS_FILE, run.folder / HELD_OUT_FILE
    if not path.exists():
        return (
            held_out_summary(json.loads(held_out.read_text(encoding="utf-8")))
            if held_out.exists()
            else "done"
        )
    cards = {card["suite"]: card for card in json.loads(path.read_text(encoding="utf-8"))}
    shown = [f"{suite.replace('_', ' ')} {card['pass_at_1']['value']:.1%}" for suite, card in cards.items()]
    length = cards["held_out"]["mean_completion_tokens"]["value"]
    return f"pass@1 {', '.join(shown)}; {length:.0f} tokens"


def held_out_summary(measured: Mapping[str, Any]) -> str:
    """What was measured on held-out data, in a few words."""
    if "bits_per_byte" in measured:
        return f"held out: {measured['bits_per_byte']:.3f} bits per byte"
    return f"held out: loss {measured['loss']:.3f}"


def _new_run(frame: Frame) -> Run:
    return Run.create(
        frame.folder,
        verb=frame.verb,
        stage=frame.stage,
        recipe=frame.recipe,
        seed=frame.seed,
        parents=frame.parents,
        sampler=choose(frame.device, frame.machine.decode).name,
    )


def _begun_run(frame: Frame) -> Run:
    """The run in the frame's folder, begun with this recipe and from these ancestors. Raises UserError."""
    run = Run.resume(frame.folder, recipe=frame.recipe)
    begun_from = {parent.role: parent.digest for parent in run.manifest.parents}
    for parent in frame.parents:
        if begun_from.get(parent.role) != parent.digest:
            raise UserError(
                f"run {run.manifest.id} was begun from another {parent.role}: "
                f"{begun_from.get(parent.role, 'none')}, not {parent.digest}",
                "give it what it was begun from, or begin a new run",
            )
    return run


def ancestor(role: str, checkpoint: Checkpoint) -> Ancestor:
    """A checkpoint as the ancestor of what is made from it."""
    provenance = checkpoint.provenance
    return Ancestor(
        role=role,
        name=str(provenance.get("stage", checkpoint.folder.name)),
        digest=checkpoint.digest,
        run_id=str(provenance.get("run_id", "")),
    )


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer that stands beside a checkpoint's weights."""
    return Tokenizer.load(checkpoint.folder)
