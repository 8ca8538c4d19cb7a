"""`openbook bench`: ours beside its peers and beside what the machine allows."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbook.cli.groups import Group
from openbook.cli.options import Json

if TYPE_CHECKING:
    from openbook.bench.case import Case, Setting

app = typer.Typer(
    cls=Group,
    help="Benchmarks: ours, its peers, and what the machine allows.",
    no_args_is_help=True,
)

Cases = Annotated[
    list[str] | None,
    typer.Option(
        "--case",
        metavar="NAME",
        help="Measure this case, or all whose names begin so; may be given again. [default: all]",
    ),
]
Repeats = Annotated[
    int, typer.Option("--repeats", min=1, metavar="N", help="Rounds of each case; medians are printed.")
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, metavar="N", help="Threads for all. [default: those of each case]"),
]
NanoCheckpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="CHECKPOINT",
        help="A model of the nano story for its cases. [default: random weights]",
    ),
]
ListCases = Annotated[bool, typer.Option("--list", help="List the cases; measure nothing.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Where weights encoded for a peer are kept. [default: ~/.cache/openbook/bench]",
    ),
]


@app.command("engine")
def bench_engine(
    cases: Cases = None,
    repeats: Repeats = 5,
    threads: Threads = None,
    checkpoint: NanoCheckpoint = None,
    cache: Cache = None,
    list_cases: ListCases = False,
    as_json: Json = False,
) -> None:
    """Measure the engine beside llama.cpp and transformers.

    Results go to stdout; progress, the machine and its load to stderr.
    """
    from openbook.bench.case import choose_cases
    from openbook.bench.engine import CASES
    from openbook.cli.shelf import find_checkpoint

    chosen = choose_cases(CASES, cases or [])
    if list_cases:
        _list(chosen, as_json=as_json)
        return
    setting = replace(
        _setting(repeats, threads),
        checkpoint=None if checkpoint is None else find_checkpoint(checkpoint),
        cache_folder=cache or _default_cache(),
    )
    _measure(chosen, setting, as_json=as_json)


@app.command("rl")
def bench_rl(
    cases: Cases = None,
    repeats: Repeats = 5,
    threads: Threads = None,
    list_cases: ListCases = False,
    as_json: Json = False,
) -> None:
    """Measure a step of reinforcement learning beside TRL.

    Each contestant has a process of its own. Results go to stdout; progress, the machine and its load to
    stderr.
    """
    from openbook.bench.case import choose_cases
    from openbook.bench.rl import CASES

    chosen = choose_cases(CASES, cases or [])
    if list_cases:
        _list(chosen, as_json=as_json)
        return
    _measure(chosen, _setting(repeats, threads), as_json=as_json)


def _setting(repeats: int, threads: int | None) -> Setting:
    from openbook.bench.case import Setting
    from openbook.cli.shelf import find_recipe

    return Setting(
        repeats=repeats,
        num_threads=threads,
        find_smollm2=_find_smollm2,
        nano_recipe=find_recipe("nano", "run"),
        cache_folder=_default_cache(),
    )


def _find_smollm2() -> Path:
    from openbook.model.packaged import find_gguf

    file = find_gguf(Path("smollm2"))
    assert file is not None
    return file


def _default_cache() -> Path:
    import os

    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "openbook" / "bench"


def _list(cases: list[Case], *, as_json: bool) -> None:
    from openbook.cli.render import print_json, print_table

    if as_json:
        print_json([{"name": case.name, "threads": case.num_threads, "about": case.about} for case in cases])
        return
    rows = [(case.name, case.num_threads, case.about) for case in cases]
    print_table(["case", "threads", "about"], rows, right=["threads"])


def _measure(cases: list[Case], setting: Setting, *, as_json: bool) -> None:
    """Run the cases and print what was measured. UserError at the end if some could not run."""
    from openbook.bench.case import run_cases
    from openbook.bench.measurement import measurement_table
    from openbook.cli.render import print_json
    from openbook.errors import UserError

    measurements, failed = run_cases(cases, setting, _tell)
    if as_json:
        print_json([measurement.to_json() for measurement in measurements])
    elif measurements:
        print(measurement_table(measurements))
    if failed:
        raise UserError("; ".join(f"{name} could not be measured: {why}" for name, why in failed.items()))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
