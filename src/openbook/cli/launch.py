"""From the options of a verb to what is to be computed, and the record of it that a resume reads."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openbook.cli.shelf import OUT, find_recipe
from openbook.config import Recipe, dump, load_recipe, parse_schema
from openbook.errors import Interrupted, OverBudget, UserError

RECORD_FILE = "launch.json"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, as typed; None where an option was not given."""

    verb: str
    recipe: str | None
    out: Path | None
    seed: int | None
    overrides: Sequence[str]
    resume: str | None
    dry_run: bool
    budget: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """What is to be computed: a checked recipe, where it goes, the seed, and checkpoints and data by role."""

    recipe: Recipe
    out: Path
    seed: int
    inputs: Mapping[str, Path]


def prepare(request: Request, inputs: Mapping[str, Path]) -> Launch:
    """Check a request and resolve it. Raises UserError for anything in it that does not fit."""
    if request.resume is not None:
        return _resumed(request, inputs)
    if request.recipe is None:
        raise UserError(
            "no recipe was named", f"`openbook recipe list` shows those for `openbook {request.verb}`"
        )
    from openbook.r1.schemas import SCHEMAS

    path = find_recipe(request.recipe, request.verb)
    recipe = load_recipe(path, SCHEMAS, request.overrides)
    if recipe.verb != request.verb:
        raise UserError(
            f"{path} is a recipe of another verb", f"use `openbook {recipe.verb} {request.recipe}`"
        )
    seed = request.seed or 0
    prefix = "" if request.verb == "run" else f"{request.verb}-"
    out = request.out or OUT / f"{prefix}{recipe.name}-{seed}"
    return Launch(recipe=recipe, out=out, seed=seed, inputs=inputs)


def begin(launch: Launch) -> None:
    """Write the record into the output folder, or check it against the one of an earlier start.

    Giving the same command again goes on with the work; another recipe, seed or input in the same
    folder is a UserError that names what differs.
    """
    path = launch.out / RECORD_FILE
    asked = _to_json(launch)
    if path.exists():
        _refuse_other(path, asked)
        return
    try:
        launch.out.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"{launch.out} cannot be written ({error.strerror})", "name another --out") from error


@contextlib.contextmanager
def resumable(launch: Launch) -> Iterator[None]:
    """Tell whoever stops the work which command goes on with it."""
    mend = f"go on with: openbook {launch.recipe.verb} --resume {launch.out}"
    try:
        yield
    except OverBudget as stop:
        raise OverBudget(stop.what, f"{mend} --budget MORE") from stop
    except Interrupted as stop:
        raise Interrupted(stop.what, mend) from stop
    except KeyboardInterrupt as stop:
        raise Interrupted("stopped at once; work since the last saved state is lost", mend) from stop


def _to_json(launch: Launch) -> dict[str, Any]:
    return {
        "verb": launch.recipe.verb,
        "recipe": launch.recipe.name,
        "path": launch.recipe.path.as_posix(),
        "digest": launch.recipe.digest,
        "seed": launch.seed,
        "inputs": {role: path.as_posix() for role, path in launch.inputs.items()},
        "config": dump(launch.recipe.config),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})", "restore it, or name another --out") from error
    return record


def _refuse_other(path: Path, asked: Mapping[str, Any]) -> None:
    from openbook.runs.manifest import recipe_differences

    begun = _read(path)
    compared = ("verb", "seed", "inputs", "config")
    differences = recipe_differences(
        {key: begun.get(key) for key in compared}, {key: asked[key] for key in compared}
    )
    if differences:
        shown = ", ".join(differences[:4]) + (
            f" and {len(differences) - 4} more" if len(differences) > 4 else ""
        )
        raise UserError(
            f"{path.parent} was begun otherwise ({shown})",
            f"go on with it by --resume {path.parent}, or name another --out",
        )


def _resumed(request: Request, inputs: Mapping[str, Path]) -> Launch:
    assert request.resume is not None
    if request.recipe or request.overrides or request.out or inputs or request.seed is not None:
        raise UserError(
            "--resume goes on with a run as it was begun", "give it without recipe, --set, --seed or inputs"
        )
    path = _find_record(request.resume)
    record = _read(path)
    if record["verb"] != request.verb:
        raise UserError(
            f"{path.parent} was begun by another verb", f"use `openbook {record['verb']} --resume`"
        )
    from openbook.r1.schemas import SCHEMAS

    recipe = Recipe(
        verb=record["verb"],
        name=record["recipe"],
        path=Path(record["path"]),
        config=parse_schema(SCHEMAS[record["verb"]], record["config"]),
        digest=record["digest"],
    )
    begun_with = {role: Path(text) for role, text in record["inputs"].items()}
    return Launch(recipe=recipe, out=path.parent, seed=record["seed"], inputs=begun_with)


def _find_record(text: str) -> Path:
    """The record in a folder, or in the folders above the run that `text` names."""
    if (Path(text) / RECORD_FILE).exists():
        return Path(text) / RECORD_FILE
    from openbook.runs.store import resolve_run

    run = resolve_run(text, OUT)
    for folder in (run.folder, *run.folder.parents):
        if (folder / RECORD_FILE).exists():
            return folder / RECORD_FILE
    raise UserError(f"{run.folder} has no {RECORD_FILE}", "give the recipe and --out instead of --resume")
