"""`openbook invest`: whether the spending on AI pays, what must be true for it, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbook.cli.options import Json

if TYPE_CHECKING:
    from openbook.economics.invest.answer import Study

ScenarioName = Annotated[
    str,
    typer.Argument(
        metavar="[SCENARIO|FILE]",
        show_default=False,
        help="article, later_guidance, payoff, slowdown, bubble, or a TOML file. [default: article]",
    ),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        metavar="SCENARIO|FILE",
        help="Compare with this one; may be given again. [default: all of ours, or none beside a file]",
    ),
]
Paths = Annotated[
    int | None, typer.Option("--paths", metavar="N", help="16 times a power of two. [default: 4096]")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Equal seeds give equal figures.")]
Held = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="INPUT=VALUE", help="Hold an input at a value: utilisation=0.5; may be given again."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="NAME=N,..", help="Mix scenarios by weights that are yours."),
]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the page for a board.")]
Serve = Annotated[bool, typer.Option("--serve", help="The page on this machine alone, with dials.")]
Port = Annotated[int, typer.Option("--port", metavar="N", help="Of --serve; 0 is any that is free.")]
Sources = Annotated[
    bool, typer.Option("--sources", help="Every input with its source, and the articles' clashes.")
]
Template = Annotated[
    bool, typer.Option("--template", help="Print a scenario to fill in, each line explained.")
]


@dataclass(frozen=True, kw_only=True, slots=True)
class InvestOptions:
    """The options as typed."""

    against: tuple[str, ...] | None
    paths: int | None
    seed: int
    held: tuple[str, ...]
    movable: bool


def invest(
    scenario: ScenarioName = "article",
    against: Against = None,
    paths: Paths = None,
    seed: Seed = 0,
    held: Held = None,
    weights: Weights = None,
    html: Html = None,
    serve: Serve = False,
    port: Port = 8505,
    sources: Sources = False,
    template: Template = False,
    as_json: Json = False,
) -> None:
    """Say whether the spending on AI pays: value with its band, what must be true, what matters most.

    A scenario of your own is a TOML file: begin with `openbook invest --template > my.toml`.
    """
    from openbook.cli import invest_text
    from openbook.errors import UserError

    if serve and (as_json or html is not None or held):
        raise UserError("--serve answers by itself", "leave --json, --html and --set out, and turn the dials")
    if template:
        from openbook.economics.invest.assumptions import template_text

        print(template_text(), end="")
        return
    if sources:
        from openbook.economics.invest.assumptions import load_scenario

        invest_text.show_sources(load_scenario(scenario), as_json)
        return
    options = InvestOptions(
        against=None if against is None else tuple(against),
        paths=paths,
        seed=seed,
        held=tuple(held or ()),
        movable=serve or bool(held),
    )
    positions = read_held(options.held)
    mixed = read_weights(weights)
    study = study_of(scenario, options, also=tuple(mixed))
    if serve:
        serve_page(study, port)
        return
    from openbook.economics.invest.answer import answer

    found = answer(study, positions, with_indices=as_json or html is not None)
    if html is not None:
        write_page(html, invest_text.page_of(found))
    invest_text.show_answer(found, mixed, as_json)
    if html is not None and not as_json:
        print(f"\n{html}")


def study_of(scenario: str, options: InvestOptions, *, also: tuple[str, ...] = ()) -> Study:
    """The scenario and those it is compared with, on common paths. Raises UserError."""
    from openbook.economics.invest.answer import DEFAULT_PATHS, prepare
    from openbook.economics.invest.assumptions import NAMES, load_scenario
    from openbook.economics.invest.sampling import Plan
    from openbook.errors import UserError

    plan = Plan(num_paths=DEFAULT_PATHS if options.paths is None else options.paths, seed=options.seed)
    usual = NAMES if scenario in NAMES else ()
    names = [*(usual if options.against is None else options.against), *also]
    main = load_scenario(scenario)
    others = {}
    for name in dict.fromkeys(names):
        if name == scenario:
            continue
        other = load_scenario(name)
        if other.name == main.name or other.name in others:
            raise UserError(f"two scenarios are called {other.name!r}", "give one of the files another name")
        others[other.name] = other
    return prepare(main, others=tuple(others.values()), plan=plan, movable=options.movable)


def read_held(given: tuple[str, ...]) -> dict[str, float]:
    """`--set` as typed. Raises UserError for what is no INPUT=VALUE."""
    return dict(_number(one, "--set") for one in given)


def read_weights(given: str | None) -> dict[str, float]:
    """`--weights` as typed, brought to a sum of 1. Raises UserError."""
    from openbook.errors import UserError

    if given is None:
        return {}
    weights = dict(_number(one, "--weights") for one in given.split(",") if one)
    total = sum(weights.values())
    if any(weight < 0 for weight in weights.values()) or total <= 0:
        raise UserError(f"--weights {given}: they are no weights", "give numbers from 0, not all of them 0")
    return {name: weight / total for name, weight in weights.items()}


def _number(given: str, option: str) -> tuple[str, float]:
    import math

    from openbook.errors import UserError

    name, equals, value = given.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or not name or not math.isfinite(number):
        raise UserError(f"{option} {given!r}: not of the form NAME=NUMBER", "write utilisation=0.5")
    return name.strip(), number


def write_page(path: Path, text: str) -> None:
    """Whole or not at all. Raises UserError where it cannot be written."""
    import os

    from openbook.errors import UserError

    unfinished = path.with_name(path.name + ".tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}", "give another file to --html"
        ) from error


def serve_page(study: Study, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    import signal
    import sys

    from openbook.economics.invest.server import Server
    from openbook.economics.invest.site import site_of

    server = Server(site_of(study), port)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    print(server.url, flush=True)
    print("Ctrl-C stops it; only this machine can reach it", file=sys.stderr, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)
        server.close()
