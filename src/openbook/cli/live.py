"""What a person sees while work goes on: a live bar on a terminal, plain lines elsewhere.

Both show the stage, the step, the rate, the time left, the money spent so far and the metrics
that matter most, and say once what the doctor would warn of. They write to stderr, for stdout is for results.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TextIO

from openbook.runs.diagnosis import Watch
from openbook.runs.progress import Progress
from openbook.units import show_count, show_seconds

if TYPE_CHECKING:
    from rich.progress import TaskID

    from openbook.runs.case import Diagnosis

Spent = Callable[[], str]
Clock = Callable[[], float]

SHOWN_FIRST = ("accuracy", "mean_completion_tokens", "reward", "loss")
NUM_SHOWN = 2
SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def watched(spent: Spent) -> Iterator[Progress]:
    """A Progress for stderr as it is; leaves the terminal in order however the work ends."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Lines(sys.stderr, spent)
        return
    bar = Bar(spent)
    try:
        yield bar
    finally:
        bar.close()


def show_metrics(metrics: Mapping[str, float]) -> str:
    """The few metrics that matter most: `loss 2.31  accuracy 0.42`."""
    names = [name for name in SHOWN_FIRST if name in metrics]
    names += [name for name in metrics if name not in names]
    return "  ".join(f"{name} {show_number(metrics[name])}" for name in names[:NUM_SHOWN])


def show_number(value: float) -> str:
    """Four digits, however large: `2.310`, `0.0042`, `12.3K`."""
    if abs(value) >= 10_000:
        return show_count(value)
    return f"{value:.4g}"


class Pace:
    """Rate and time left of one stage, from its most recent steps (a resumed stage starts late)."""

    def __init__(self, total_steps: int, clock: Clock) -> None:
        self.total_steps = total_steps
        self._clock = clock
        self._recent: deque[tuple[float, int]] = deque(maxlen=50)

    def reach(self, step: int) -> None:
        self._recent.append((self._clock(), step))

    def show(self) -> str:
        """`12.3/s  15 s left`; nothing before there are two steps to compare."""
        if len(self._recent) < 2:
            return ""
        (first_time, first_step), (last_time, last_step) = self._recent[0], self._recent[-1]
        if last_time <= first_time or last_step <= first_step:
            return ""
        steps_per_second = (last_step - first_step) / (last_time - first_time)
        left_seconds = max(0, self.total_steps - last_step) / steps_per_second
        slow = steps_per_second < 1
        rate = f"{1 / steps_per_second:.1f} s/step" if slow else f"{steps_per_second:.1f}/s"
        return f"{rate}  {show_seconds(left_seconds)} left"


class Lines:
    """A Progress of plain lines, one every ten seconds or so: for logs and pipes."""

    def __init__(self, stream: TextIO, spent: Spent, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._spent = spent
        self._clock = clock
        self._stage = ""
        self._pace = Pace(0, clock)
        self._watch = Watch()
        self._started = self._written = clock()

    def start(self, stage: str, total_steps: int) -> None:
        self._stage = stage
        self._pace = Pace(total_steps, self._clock)
        self._watch = Watch()
        self._started = self._written = self._clock()
        self._write(f"{stage}: {total_steps} steps")

    def advance(self, step: int, metrics: Mapping[str, float]) -> None:
        self._pace.reach(step)
        for one in self._watch.see(step, metrics):
            self._write(warning_line(f"{self._stage} {step}/{self._pace.total_steps}", one))
        if self._clock() - self._written < SECONDS_BETWEEN_LINES:
            return
        self._written = self._clock()
        where = f"{self._stage} {step}/{self._pace.total_steps}"
        parts = (where, self._pace.show(), self._spent(), show_metrics(metrics))
        self._write("  ".join(part for part in parts if part))

    def note(self, text: str) -> None:
        self._write(text)

    def finish(self, stage: str, summary: str) -> None:
        self._write(finish_line(stage, self._clock() - self._started, self._spent(), summary))

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Bar:
    """A Progress with one live bar at the foot of the terminal; finished stages stay above as lines."""

    def __init__(self, spent: Spent, clock: Clock = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(table_column=Column(min_width=12, max_width=16)),
            TextColumn("{task.fields[details]}", markup=False, table_column=Column(no_wrap=True)),
            console=self._console,
            transient=True,
        )
        self._spent = spent
        self._clock = clock
        self._pace = Pace(0, clock)
        self._watch = Watch()
        self._stage = ""
        self._started = clock()
        self._task: TaskID | None = None

    def start(self, stage: str, total_steps: int) -> None:
        self._drop_task()
        self._stage = stage
        self._pace = Pace(total_steps, self._clock)
        self._watch = Watch()
        self._started = self._clock()
        self._task = self._rich.add_task(stage, total=total_steps, details=f"0/{total_steps}")
        self._rich.start()

    def advance(self, step: int, metrics: Mapping[str, float]) -> None:
        assert self._task is not None, "start a stage before advancing it"
        self._pace.reach(step)
        where = f"{step}/{self._pace.total_steps}"
        for one in self._watch.see(step, metrics):
            self.note(warning_line(f"{self._stage} {where}", one))
        parts = (where, self._pace.show(), self._spent(), show_metrics(metrics))
        self._rich.update(self._task, completed=step, details="  ".join(part for part in parts if part))

    def note(self, text: str) -> None:
        self._console.print(text)

    def finish(self, stage: str, summary: str) -> None:
        self._drop_task()
        self._console.print(finish_line(stage, self._clock() - self._started, self._spent(), summary))

    def close(self) -> None:
        """Take the bar away and give the terminal back."""
        self._drop_task()
        self._rich.stop()

    def _drop_task(self) -> None:
        if self._task is not None:
            self._rich.remove_task(self._task)
            self._rich.refresh()
            self._task = None


def warning_line(where: str, found: Diagnosis) -> str:
    """`zero 35/60  warning: entropy is gone ... (entropy 0.4 -> 0.01); raise epsilon_high ...`."""
    return f"{where}  {found.severity}: {found.what} ({found.evidence}); {found.mend}"


def finish_line(stage: str, seconds: float, spent: str, summary: str) -> str:
    """`zero         1 min 12 s  $0.0004  accuracy 0.71`."""
    return "  ".join(part for part in (f"{stage:<16}", show_seconds(seconds), spent, summary) if part)
