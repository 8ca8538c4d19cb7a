"""A run: a folder that says what was set out to be done, how it went and what it consumed.

    manifest.json   what it is: written once          recipe.json    the resolved recipe
    journal.jsonl   starts, ends and rewinds          metrics.jsonl  one line for each logged step
    usage.jsonl     one line for each piece of work   card.json, card.md   what came out of what
    heartbeat.json  how long the piece at hand has held the device, while there is one
    state/          to go on after an interruption    checkpoint/    the result

    run = Run.create(folder, verb="rl", stage="zero", recipe=recipe, seed=1, parents=[base])
    run.start(device="cpu")
    for step in ...:
        run.record(usage)              # first what the step consumed,
        run.log(step, {"loss": loss})  # then how it went
    run.finish()

Every write is appended or replaced whole, so a kill at any instant leaves a run that can be read,
resumed and booked up to its last heartbeat, a few seconds before.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openbook.errors import UserError
from openbook.runs.card import card_to_markdown
from openbook.runs.durable import (
    append_line,
    drop_torn_line,
    explained,
    locked,
    read_lines,
    read_records,
    replace_text,
    sync_file,
)
from openbook.runs.heartbeat import HEARTBEAT_FILE, Heartbeat, read_beat
from openbook.runs.journal import (
    Attempt,
    Journal,
    Rewind,
    RunStatus,
    end_event,
    read_journal,
    rewind_event,
    start_event,
)
from openbook.runs.manifest import (
    Ancestor,
    RunManifest,
    manifest_from_json,
    manifest_to_json,
    new_run_id,
    recipe_differences,
    recipe_digest,
)
from openbook.runs.metrics import metrics_line, parse_metrics, up_to_step
from openbook.runs.process import this_process
from openbook.runs.provenance import code_version, this_host
from openbook.runs.usage import Usage

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageLine:
    """What one piece of work consumed, when it was recorded, and by which attempt.

    `estimated`: the work was cut off, and the last heartbeat says how long it had held the device.
    """

    attempt: int
    time: datetime
    usage: Usage
    estimated: bool = False


class Run:
    """One run on disk. Reading needs nothing more; writing needs `start` first."""

    def __init__(self, folder: Path, manifest: RunManifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._attempt = 0  # the number of the attempt this object made; 0 when it only reads
        self._num_usage_lines = 0
        self._heartbeat: Heartbeat | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        verb: str,
        stage: str,
        recipe: Mapping[str, Any],
        seed: int,
        parents: Sequence[Ancestor] = (),
        run_id: str = "",
        sampler: str = "",
    ) -> Run:
        """Make a new run in `folder`, which may exist but may not hold a run yet.

        `recipe` is the resolved recipe as JSON values; `run_id` is made here unless given. `sampler`
        names what samples. Raises UserError when there is a run already or the folder cannot be written.
        """
        created_at = datetime.now(UTC)
        manifest = RunManifest(
            id=run_id or new_run_id(stage, created_at),
            verb=verb,
            stage=stage,
            seed=seed,
            recipe_digest=recipe_digest(recipe),
            code_version=code_version(),
            host=this_host(),
            parents=tuple(parents),
            created_at=created_at,
            sampler=sampler,
        )
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if (folder / MANIFEST_FILE).exists():
                raise UserError(
                    f"{folder} holds a run already", f"go on with --resume {folder}, or name another --out"
                )
            replace_text(folder / "recipe.json", _pretty(recipe))
            # Last, because a folder with a manifest is a run.
            replace_text(folder / MANIFEST_FILE, _pretty(manifest_to_json(manifest)))
        return cls(folder, manifest)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run in `folder`. Raises UserError when there is none or it cannot be read."""
        path = folder / MANIFEST_FILE
        try:
            value = json.loads(path.read_text())
        except FileNotFoundError:
            raise UserError(
                f"{folder} holds no run", "`openbook runs list` shows the runs there are"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error})", "name another run") from error
        return cls(folder, manifest_from_json(value, str(path)))

    @classmethod
    def resume(cls, folder: Path, *, recipe: Mapping[str, Any]) -> Run:
        """The run in `folder`, to be gone on with. Raises UserError when its recipe was another."""
        run = cls.open(folder)
        if recipe_digest(recipe) != run.manifest.recipe_digest:
            differences = recipe_differences(run.recipe, recipe)
            shown = ", ".join(differences[:8])
            more = f" and {len(differences) - 8} more" if len(differences) > 8 else ""
            raise UserError(
                f"run {run.manifest.id} was begun with another recipe: {shown}{more}",
                "resume it with its own recipe, or begin a new run",
            )
        return run

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe as JSON values."""
        recipe: dict[str, Any] = json.loads((self.folder / "recipe.json").read_text())
        return recipe

    @property
    def state_folder(self) -> Path:
        """Where the work keeps what it needs to go on."""
        return self.folder / "state"

    @property
    def checkpoint_folder(self) -> Path:
        """Where the result lies."""
        return self.folder / "checkpoint"

    @property
    def journal(self) -> Journal:
        """All attempts and rewinds so far, read from disk."""
        signs = (*self._logs(), self.folder / HEARTBEAT_FILE)
        written = [path.stat().st_mtime for path in signs if path.exists()]
        last_write_at = datetime.fromtimestamp(max(written), UTC) if written else self.manifest.created_at
        events = read_records(self.folder / "journal.jsonl")
        return read_journal(events, last_write_at=last_write_at, now=datetime.now(UTC))

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every start of this run, with its process, its times and how it ended."""
        return self.journal.attempts

    @property
    def status(self) -> RunStatus:
        """How far the run is; one left running by a process that is gone reads as killed."""
        attempts = self.attempts
        return attempts[-1].status if attempts else RunStatus.CREATED

    @property
    def reason(self) -> str:
        """Why the run is in its status; "" when there is nothing to say."""
        attempts = self.attempts
        return attempts[-1].reason if attempts else ""

    def start(self, *, device: str = "cpu") -> None:
        """Begin an attempt in this process on `device` (its name finds the price of its time).

        Raises UserError when the run is done or another process is at work on it.
        """
        assert not self._attempt, "this run was started already"
        with locked(self.folder):
            attempts = self.attempts
            if attempts and attempts[-1].status is RunStatus.DONE:
                raise UserError(f"run {self.manifest.id} is done", "begin a new run")
            if attempts and attempts[-1].status is RunStatus.RUNNING:
                raise UserError(f"run {self.manifest.id} is in use: {attempts[-1].reason}", "stop it first")
            for path in self._logs():
                drop_torn_line(path)
            if attempts and attempts[-1].status is RunStatus.KILLED:
                self._record_cut_off_work(attempts[-1].number)
            number = len(attempts) + 1
            self._write(start_event(number, this_process(), device))
            self._attempt = number
        self._num_usage_lines = len(read_lines(self._usage_file))
        self._heartbeat = Heartbeat(self.folder, attempt=number, num_lines=self._num_usage_lines)
        weakref.finalize(self, self._heartbeat.let_go)

    def finish(self) -> None:
        """End the attempt: the work is done."""
        self._end(RunStatus.DONE, "")

    def fail(self, reason: str) -> None:
        """End the attempt: the work cannot go on, for this reason."""
        self._end(RunStatus.FAILED, reason, cut_off=True)

    def interrupt(self, reason: str = "", *, cut_off: bool = False) -> None:
        """End the attempt: the work was stopped and can be resumed; `cut_off` in the middle of a piece."""
        self._end(RunStatus.INTERRUPTED, reason, cut_off=cut_off)

    def record(self, usage: Usage) -> None:
        """Append what a piece of work consumed; never taken back, for it was paid."""
        assert self._attempt, "start the run before recording usage"
        self._append_usage(self._attempt, datetime.now(UTC), usage)
        self._num_usage_lines += 1
        if self._heartbeat:
            self._heartbeat.recorded(self._num_usage_lines, usage.device_microseconds)

    def usage(self) -> Usage:
        """The sum of everything recorded, over all attempts."""
        return sum((line.usage for line in self.usage_lines()), Usage())

    def usage_lines(self) -> list[UsageLine]:
        """Everything recorded, oldest first. Raises UserError when a line was damaged.

        Of a killed run the last line is what it held up to its last heartbeat.
        """
        parsed = [_usage_line(value) for value in read_records(self._usage_file)]
        attempts = self.attempts if (self.folder / HEARTBEAT_FILE).exists() else ()
        if attempts and attempts[-1].status is RunStatus.KILLED:
            cut_off = self._cut_off_work(attempts[-1].number, len(parsed))
            parsed += [cut_off] if cut_off else []
        return parsed

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the metrics of a step; call it after `record`, so a rewind knows what is lost."""
        assert self._attempt, "start the run before logging"
        counts = {"attempt": self._attempt, "usage_lines": self._num_usage_lines}
        now = datetime.now(UTC).timestamp()
        append_line(self._metrics_file, metrics_line(step, now, counts, metrics))

    def metrics(self) -> list[dict[str, float]]:
        """The logged rows, oldest first: the metrics with `step`, `time` (Unix seconds) and `attempt`."""
        return parse_metrics(read_records(self._metrics_file))

    def truncate_metrics(self, after_step: int) -> None:
        """On resume: drop the metrics of later steps and mark the work behind them as lost."""
        assert self._attempt, "start the run before rewinding it"
        kept, num_usage_lines = up_to_step(read_records(self._metrics_file), after_step)
        if num_usage_lines < self._num_usage_lines:
            rewind = Rewind(step=after_step, first_line=num_usage_lines, end_line=self._num_usage_lines)
            self._write(rewind_event(self._attempt, rewind))
        replace_text(self._metrics_file, "".join(f"{json.dumps(record)}\n" for record in kept))

    def write_card(self, card: Mapping[str, Any]) -> None:
        """Write card.json and card.md: what came out, from which ancestors, by digest."""
        parents = [asdict(parent) for parent in self.manifest.parents]
        full = {"run": self.manifest.id, "stage": self.manifest.stage, "ancestors": parents, **card}
        replace_text(self.folder / "card.json", _pretty(full))
        replace_text(self.folder / "card.md", card_to_markdown(full))

    @property
    def _usage_file(self) -> Path:
        return self.folder / "usage.jsonl"

    @property
    def _metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    def _logs(self) -> tuple[Path, Path, Path]:
        return self.folder / "journal.jsonl", self._usage_file, self._metrics_file

    def _end(self, status: RunStatus, reason: str, *, cut_off: bool = False) -> None:
        assert self._attempt, "start the run before ending it"
        if self._heartbeat:
            self._heartbeat.stop()
            self._heartbeat = None
        if cut_off:
            self._record_cut_off_work(self._attempt)
        # What the status speaks of must be on the disk before the status is.
        sync_file(self._usage_file)
        sync_file(self._metrics_file)
        self._write(end_event(self._attempt, status, reason))
        self._attempt = 0
        with suppress(OSError):
            (self.folder / HEARTBEAT_FILE).unlink(missing_ok=True)

    def _record_cut_off_work(self, attempt: int) -> None:
        """Enter what an attempt had held its device for at its last beat, unless that is entered already."""
        line = self._cut_off_work(attempt, len(read_lines(self._usage_file)))
        if line is not None:
            self._append_usage(attempt, line.time, line.usage, estimated=True)

    def _cut_off_work(self, attempt: int, num_lines: int) -> UsageLine | None:
        """What the last beat says beyond the lines that are there."""
        beat = read_beat(self.folder)
        if beat is None or (beat.attempt, beat.num_lines) != (attempt, num_lines):
            return None
        usage = Usage(device_microseconds=beat.held_microseconds)
        return UsageLine(attempt=attempt, time=beat.time, usage=usage, estimated=True)

    def _append_usage(self, attempt: int, time: datetime, usage: Usage, *, estimated: bool = False) -> None:
        line = {"attempt": attempt, "time": time.isoformat(), **asdict(usage)}
        append_line(self._usage_file, json.dumps(line | ({"estimated": True} if estimated else {})))

    def _write(self, event: Mapping[str, Any]) -> None:
        line = json.dumps({"time": datetime.now(UTC).isoformat(), **event})
        append_line(self.folder / "journal.jsonl", line, sync=True)


def _usage_line(value: dict[str, Any]) -> UsageLine:
    attempt, time = value.pop("attempt"), datetime.fromisoformat(value.pop("time"))
    estimated = value.pop("estimated", False)
    return UsageLine(attempt=attempt, time=time, usage=Usage(**value), estimated=estimated)


def _pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
