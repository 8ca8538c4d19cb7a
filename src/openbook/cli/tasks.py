"""`openbook tasks`: the families of problems, single problems, and what a verifier says of an answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from openbook.cli.groups import Group
from openbook.cli.options import Json, Overrides

if TYPE_CHECKING:
    from openbook.tasks.audit import Audit
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


@app.command("audit")
def audit_rewards(
    family: FamilyName,
    seed: Seed = 0,
    num_problems: Annotated[
        int, typer.Option("--num", "-n", min=1, metavar="N", help="How many problems are attacked.")
    ] = 4,
    held_out: HeldOut = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Attack a family's verifier and reward with forged answers.

    Only the honest answer may earn accuracy. The exit code is 1 if anything else does, if anything
    raises or takes long, or if the honest answer earns nothing.
    """
    from dataclasses import asdict

    from openbook.cli.render import print_json
    from openbook.config import read_overrides
    from openbook.tasks.audit import audit
    from openbook.tasks.problem import Split

    chosen = find_family(family, read_overrides(overrides or []))
    found = audit(chosen, seed, num_problems, Split.HELD_OUT if held_out else Split.TRAIN)
    if as_json:
        print_json({**asdict(found), "judges": found.judges, "passed": found.passed})
    else:
        _print_audit(found)
    if not found.passed:
        raise typer.Exit(1)


def _print_audit(found: Audit) -> None:
    from openbook.cli.render import print_table

    print_table(
        ["attack", "tried", "found", "format paid", "seconds", "outcomes", "reason"],
        [
            [
                row.attack,
                row.num_attempts,
                row.num_findings,
                row.num_paid_for_format,
                f"{row.most_seconds:.2f}",
                " ".join(f"{outcome} {count}" for outcome, count in row.outcomes.items()),
                row.reason if len(row.reason) <= 60 else row.reason[:57] + "...",
            ]
            for row in found.summaries
        ],
        right=["tried", "found", "format paid", "seconds"],
    )
    honest = ", ".join(f"{outcome} {count}" for outcome, count in found.honest.items())
    print(f"\nthe honest answer of {found.num_problems} problems: {honest}")
    for finding in found.findings:
        print(
            f"{finding.finding}: {finding.attack}, {finding.problem_id}: {finding.excerpt}: {finding.reason}"
        )
    for refused in found.honest_refused:
        print(f"honest and refused: {refused}")
    if not found.judges:
        print(f"no rule judges {found.family}: there is no accuracy to earn, and none to protect")
    elif found.passed:
        print("nothing earned accuracy but the honest answer; the format part is paid for form alone")


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
