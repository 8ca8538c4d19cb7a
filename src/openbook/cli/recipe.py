"""`openbook recipe`: which recipes there are, what one says in full, and whether it is sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from openbook.cli.options import Json, Overrides

app = typer.Typer(help="Recipes: the short files that say what to compute.", no_args_is_help=True)

RecipeText = Annotated[str, typer.Argument(metavar="RECIPE", help="A name, verb/name, or a TOML file.")]


@app.command("list")
def list_recipes(as_json: Json = False) -> None:
    """The recipes that come with openbook, by their verb."""
    from openbook.cli.render import print_json, print_table
    from openbook.cli.shelf import all_recipes

    recipes = all_recipes()
    rows = [(*name.split("/", 1), _first_comment(path), str(path)) for name, path in recipes.items()]
    if as_json:
        print_json([dict(zip(("verb", "name", "about", "path"), row, strict=True)) for row in rows])
        return
    print_table(["verb", "name", "about"], [(verb, name, _short(about)) for verb, name, about, _ in rows])


@app.command("show")
def show_recipe(recipe: RecipeText, overrides: Overrides = None, as_json: Json = False) -> None:
    """A recipe with every value resolved, by the keys of --set."""
    from openbook.cli.render import print_json, print_pairs
    from openbook.cli.shelf import find_recipe
    from openbook.config import dump, load_recipe
    from openbook.r1.schemas import SCHEMAS

    found = load_recipe(find_recipe(recipe), SCHEMAS, overrides or [])
    config = dump(found.config)
    if as_json:
        print_json({"verb": found.verb, "name": found.name, "digest": found.digest, "config": config})
        return
    print(f"# {found.path}\n# {found.digest}")
    print_pairs({"verb": _toml(found.verb), **dict(_dotted(config))})


@app.command("check")
def check_recipes(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE]...", help="Names or TOML files; all that come with openbook when none is given."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Whether recipes are sound: all, or those named."""
    from openbook.cli.render import print_json, print_table
    from openbook.cli.shelf import all_recipes

    results = [_check(text) for text in recipes or list(all_recipes())]
    if as_json:
        print_json(results)
    else:
        print_table(["recipe", "result"], [(one["recipe"], one["error"] or one["digest"]) for one in results])
    if any(one["error"] for one in results):
        raise typer.Exit(2)


def _check(text: str) -> dict[str, str]:
    from openbook.cli.shelf import find_recipe
    from openbook.config import load_recipe
    from openbook.errors import UserError
    from openbook.r1.schemas import SCHEMAS

    try:
        return {"recipe": text, "digest": load_recipe(find_recipe(text), SCHEMAS).digest, "error": ""}
    except UserError as error:
        return {"recipe": text, "digest": "", "error": str(error)}


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _first_comment(path: Path) -> str:
    """The first comment of a recipe file: its own one line about itself."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").rstrip()
    return ""


def _dotted(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _toml(value)


def _toml(value: object) -> str:
    """A value as TOML writes it; none, for which TOML has no word, as recipes do."""
    import json

    return '"none"' if value is None else json.dumps(value)
