"""`openbook tasks`: the families of problems, single problems, and what a verifier says of an answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from openbook.cli.groups import Group
from openbook.cli.options import Json, Overrides

if TYPE_CHECKING:
    from openbook.tasks.problem import Family, Problem

app = typer.Typer(cls=Group, help="Tasks: families of problems with exact verifiers.", no_args_is_help=True)

FamilyName = Annotated[str, typer.Argument(metavar="FAMILY", help="A name that `openbook tasks list` shows.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="The seed of the family.")]
Index = Annotated[int, typer.Option("--index", min=0, metavar="I", help="Which problem, counted from 0.")]
HeldOut = Annotated[bool, typer.Option("--held-out", help="From the problems that no training sees.")]


@app.command("list")
def list_tasks(as_json: Json = False) -> None:
    """All families: our own, and reasoning-gym's as gym/NAME."""
    from openbook.cli.render import print_json
    from openbook.errors import UserError
    from openbook.tasks.registry import OWN_FAMILIES, family_names

    try:
        names = family_names()
    except UserError as error:
        print(f"reasoning-gym is left out: {error}", file=sys.stderr)
        names = list(OWN_FAMILIES)
    if as_json:
        print_json(names)
        return
    print("\n".join(names))


@app.command("show")
def show_task(
    family: FamilyName,
    seed: Seed = 0,
    index: Index = 0,
    num_problems: Annotated[
        int, typer.Option("--num", "-n", min=1, metavar="N", help="How many problems.")
    ] = 3,
    held_out: HeldOut = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Problems of a family with their sealed answers."""
    from openbook.cli.render import print_json
    from openbook.config import read_overrides

    chosen = find_family(family, read_overrides(overrides or []))
    problems = [_problem(chosen, seed, index + offset, held_out) for offset in range(num_problems)]
    if as_json:
        print_json([_to_json(problem) for problem in problems])
        return
    for problem in problems:
        print(f"{problem.id}  difficulty {problem.difficulty}\n{problem.question}\n-> {problem.answer}\n")


@app.command("verify")
def verify_answer(
    family: FamilyName,
    answer: Annotated[str, typer.Argument(metavar="ANSWER", help="The text of an answer.")],
    seed: Seed = 0,
    index: Index = 0,
    held_out: HeldOut = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """What the verifier says of an answer to one problem.

    The exit code is 1 unless the answer is correct.
    """
    from openbook.cli.render import print_json
    from openbook.config import read_overrides

    chosen = find_family(family, read_overrides(overrides or []))
    problem = _problem(chosen, seed, index, held_out)
    verdict = chosen.verify(problem, answer)
    if as_json:
        print_json(
            {**_to_json(problem), "given": answer, "outcome": verdict.outcome, "reason": verdict.reason}
        )
    else:
        print(f"{problem.question}\n{verdict.outcome}: {verdict.reason}")
    if not verdict.correct:
        raise typer.Exit(1)


def find_family(name: str, dials: Mapping[str, object]) -> Family:
    """The family called `name` with some of its dials changed. Raises UserError with the nearest name."""
    from typing import get_args

    from openbook.config import parse_kind
    from openbook.errors import UserError, nearest
    from openbook.tasks.registry import OWN_FAMILIES, FamilyConfig, make_family

    kind, _, dataset = name.partition("/")
    if kind not in (*OWN_FAMILIES, "gym", "jsonl") or (kind == "gym") != bool(dataset):
        raise UserError(f"there is no family {name!r}", nearest(name, [*OWN_FAMILIES, "gym/NAME", "jsonl"]))
    asked = {"kind": kind, **({"name": dataset} if dataset else {}), **dials}
    return make_family(parse_kind(get_args(FamilyConfig), asked))


def _problem(family: Family, seed: int, index: int, held_out: bool) -> Problem:
    from openbook.tasks.problem import Split

    return family.problem(seed, Split.HELD_OUT if held_out else Split.TRAIN, index)


def _to_json(problem: Problem) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(problem)
