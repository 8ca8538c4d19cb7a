"""Where recipes and checkpoints lie, and how what a person types finds one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openbook.errors import UserError, nearest
from openbook.model.packaged import find_gguf, open_gguf

if TYPE_CHECKING:
    from openbook.model.checkpoint import Checkpoint
    from openbook.model.gguf import GgufCheckpoint

OUT = Path("out")


def recipe_folder() -> Path:
    """The recipes that come with openbook: inside the installed package, or beside the code in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parents[1] / "recipes"


def all_recipes() -> dict[str, Path]:
    """Every recipe that comes with openbook as `verb/name`, in order."""
    folder = recipe_folder()
    paths = sorted(folder.glob("*/*.toml"))
    return {f"{path.parent.name}/{path.stem}": path for path in paths if not path.name.startswith("_")}


def find_recipe(text: str, verb: str = "") -> Path:
    """The file of a recipe: a path, `verb/name`, or a name that is one of `verb` (of any verb without it).

    Raises UserError naming the nearest when there is none, and all of them when there are several.
    """
    if text.endswith(".toml"):
        if not Path(text).is_file():
            raise UserError(f"there is no file {text}", "`openbook recipe list` shows the recipes by name")
        return Path(text)
    recipes = all_recipes()
    known = {name: path for name, path in recipes.items() if not verb or name.startswith(f"{verb}/")}
    found = [name for name in known if text in (name, name.partition("/")[2])]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise UserError(f"{len(found)} recipes are called {text!r}", f"say which: {', '.join(found)}")
    names = [name.partition("/")[2] for name in known] if verb else list(known)
    kind = f"{verb} recipe" if verb else "recipe"
    raise UserError(
        f"there is no {kind} {text!r}", nearest(text, names) if names else "give the path of a TOML file"
    )


def find_checkpoint(path: Path) -> Path:
    """The folder of a checkpoint: `path` itself, or the result of the run it names by folder or id."""
    if (path / "checkpoint").is_dir():
        return path / "checkpoint"
    if path.is_dir():
        return path
    if find_gguf(path) is not None:
        raise UserError(f"{path} is a GGUF file", "name the folder of a checkpoint here")
    from openbook.runs.store import resolve_run

    run = resolve_run(str(path), OUT)
    if not run.checkpoint_folder.is_dir():
        raise UserError(f"run {run.manifest.id} has no checkpoint", f"it is {run.status}; name another run")
    return run.checkpoint_folder


def open_checkpoint(path: Path) -> Checkpoint | GgufCheckpoint:
    """What a folder, a run, a GGUF file or a name such as `smollm2` holds. Raises UserError."""
    file = find_gguf(path)
    if file is None:
        from openbook.model.checkpoint import Checkpoint

        return Checkpoint.open(find_checkpoint(path))
    return open_gguf(file)
