"""Finding runs below a folder, and one run by what a person types."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from openbook.errors import UserError, nearest
from openbook.runs.run import MANIFEST_FILE, Run


def find_runs(root: Path, on_broken: Callable[[UserError], None] | None = None) -> list[Run]:
    """All runs below `root`, runs inside runs too, oldest first.

    A run that cannot be read is given to `on_broken` and left out; without it the UserError is
    raised.
    """
    runs = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        if MANIFEST_FILE not in files:
            continue
        subfolders[:] = [name for name in subfolders if name not in ("state", "checkpoint")]
        try:
            runs.append(Run.open(Path(folder)))
        except UserError as error:
            if on_broken is None:
                raise
            on_broken(error)
    return sorted(runs, key=lambda run: (run.manifest.created_at, run.manifest.id))


def resolve_run(text: str, root: Path) -> Run:
    """The run that `text` names: its folder, the beginning of its id, or the last part of its id.

    Raises UserError when there is none (with the nearest) or more than one.
    """
    for folder in (Path(text), root / text):
        if (folder / MANIFEST_FILE).exists():
            return Run.open(folder)
    runs = {run.manifest.id: run for run in find_runs(root, on_broken=lambda _: None)}
    found = [name for name in runs if name.startswith(text) or name.endswith(f"-{text}")] if text else []
    if len(found) == 1:
        return runs[found[0]]
    if found:
        raise UserError(f"{text!r} names {len(found)} runs: {', '.join(found)}", "type more of the id")
    if not runs:
        raise UserError(f"there is no run {text!r}, and none at all below {root}", "name its folder")
    raise UserError(f"there is no run {text!r} below {root}", nearest(text, list(runs)))
