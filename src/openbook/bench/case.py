"""A case: work that ours and its peers do side by side, and how it becomes measurements."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from openbook.bench.contest import Line, Runner, T, interleave, median
from openbook.bench.measurement import Measurement, show_number
from openbook.errors import UserError, nearest
from openbook.kernels.limits import Limits, torch_threads
from openbook.runs.machine import LoadNote, now, this_machine

OURS = "openbook"

Tell = Callable[[str], None]
"""Hears of progress, a line at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How the cases of a benchmark are to run."""

    repeats: int = 5
    num_threads: int | None = None
    """None: as many as each case is defined with."""
    checkpoint: Path | None = None
    """A checkpoint of the nano story; None measures random weights of the same shape."""
    find_smollm2: Callable[[], Path]
    """The GGUF file of SmolLM2-135M-Instruct; UserError where it is not installed."""
    nano_recipe: Path
    cache_folder: Path
    """Where the files stay that are made for a peer and can be used again."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer(Generic[T]):
    """Somebody else's way to do the same work."""

    name: str
    modules: tuple[str, ...]
    """What has to be importable."""
    open: Callable[[ExitStack], Runner[T]]
    """Makes it ready; what it holds is given back with the stack. UserError where it cannot run here."""
    extra: str = "bench"
    """What to install with openbook to have it."""

    def missing(self) -> str | None:
        """What is not installed, None where nothing is missing."""
        gone = [module for module in self.modules if importlib.util.find_spec(module) is None]
        return (
            f"{self.name} is missing: no {' and no '.join(gone)}; pip install 'openbook[{self.extra}]'"
            if gone
            else None
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest(Generic[T]):
    """A case made ready: ours can run, the peers can be opened, the limits are measured."""

    ours: Runner[T]
    peers: tuple[Peer[T], ...]
    lines: tuple[Line[T], ...]
    best_peer_only: bool = False
    """Report only the peer that is best in each line: one peer with several ways to do the work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A piece of work by name. `prepare` gets the number of threads; what it holds goes with the stack."""

    name: str
    about: str
    num_threads: int
    prepare: Callable[[Setting, int, ExitStack], Contest[Any]]


def choose_cases(cases: tuple[Case, ...], names: list[str]) -> list[Case]:
    """The cases of these names, all without names; `smollm2-decode` names all that begin so. UserError."""
    for name in names:
        if not any(_is_called(case, name) for case in cases):
            raise UserError(f"there is no case {name!r}", nearest(name, [case.name for case in cases]))
    return [case for case in cases if not names or any(_is_called(case, name) for name in names)]


def _is_called(case: Case, name: str) -> bool:
    return case.name == name or case.name.startswith(f"{name}-")


def run_cases(cases: list[Case], setting: Setting, tell: Tell) -> tuple[list[Measurement], dict[str, str]]:
    """Measure cases one after the other; and by name, why some could not be.

    The machine and its load are told before the first and after the last.
    """
    tell(f"machine: {this_machine()}, load {now().load:.1f}")
    measurements: list[Measurement] = []
    failed: dict[str, str] = {}
    for case in cases:
        try:
            measurements += run_case(case, setting, tell)
        except UserError as error:
            failed[case.name] = str(error)
            tell(f"{case.name}: left out: {error}")
    tell(f"machine: {this_machine()}, load {now().load:.1f}")
    return measurements, failed


def run_case(case: Case, setting: Setting, tell: Tell) -> list[Measurement]:
    """Measure one case, contestants in turn; a measurement for each line and peer.

    Raises UserError where ours cannot run: no weights, no such format.
    """
    num_threads = setting.num_threads or case.num_threads
    with ExitStack() as stack, torch_threads(num_threads):
        tell(f"{case.name}: {case.about}")
        contest = case.prepare(setting, num_threads, stack)
        contestants, absent = _open(contest, stack)
        for reason in absent.values():
            tell(f"{case.name}: {reason}")
        before = now()
        timings = interleave(
            contestants,
            repeats=setting.repeats,
            on_round=lambda number, done: tell(_round_line(case, contest, setting, number, done)),
        )
        load = LoadNote.between(before, now(), num_threads=num_threads)
        tell(f"{case.name}: {load}")
    gc.collect()
    notes = (str(load),) if load.is_disturbed else ()
    return [
        measurement
        for line in contest.lines
        for measurement in _measurements(case, contest, line, timings, absent, notes)
    ]


def _open(contest: Contest[T], stack: ExitStack) -> tuple[dict[str, Runner[T]], dict[str, str]]:
    """The contestants that can run, ours first, and why others cannot."""
    contestants, absent = {OURS: contest.ours}, {}
    for peer in contest.peers:
        reason = peer.missing()
        if reason is None:
            try:
                contestants[peer.name] = peer.open(stack)
            except UserError as error:
                reason = f"{peer.name} is missing: {error}"
        if reason is not None:
            absent[peer.name] = reason
    return contestants, absent


def _round_line(case: Case, contest: Contest[T], setting: Setting, number: int, done: Mapping[str, T]) -> str:
    line = contest.lines[0]
    figures = ", ".join(f"{name} {show_number(line.read(timing))}" for name, timing in done.items())
    return f"{case.name}: {number + 1} of {setting.repeats}: {figures} {line.unit}"


def _measurements(
    case: Case,
    contest: Contest[T],
    line: Line[T],
    timings: Mapping[str, list[T]],
    absent: Mapping[str, str],
    notes: tuple[str, ...],
) -> list[Measurement]:
    """One line against every peer, or against the best of them."""
    found = []
    for peer in contest.peers:
        is_here = peer.name in timings
        found.append(
            Measurement(
                name=case.name + line.suffix,
                unit=line.unit,
                ours=median(timings[OURS], line),
                peer_name=peer.name,
                peer=median(timings[peer.name], line) if is_here else None,
                limit=line.limit,
                notes=line.notes + notes + (() if is_here else (absent[peer.name],)),
            )
        )
    if not contest.best_peer_only:
        return found
    return [min(found, key=lambda one: float("inf") if one.ratio is None else one.ratio)]
