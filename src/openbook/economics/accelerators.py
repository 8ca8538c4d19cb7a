"""Which accelerators are known, by name. No torch.

    find_accelerator("h800").peak(Precision.BF16).value -> 989.5e12

The figures that come with the package lie in `data/accelerators.toml`. `with_file` puts a user's own over
them. `docs/concepts/hardware-figures.md` says what each figure means and where it is from.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date as Date
from functools import cache
from importlib import resources
from pathlib import Path

from openbook.config import read_text
from openbook.economics.accelerator import (
    THIS,
    Accelerator,
    Precision,
    Quote,
    QuoteKind,
    Scope,
    require_precision,
)
from openbook.economics.accelerator_file import read_accelerators
from openbook.errors import UserError, nearest

__all__ = [
    "THIS",
    "Accelerator",
    "Precision",
    "Quote",
    "QuoteKind",
    "Scope",
    "accelerators",
    "find_accelerator",
    "require_precision",
    "with_file",
]


@cache
def _packaged() -> Mapping[str, Accelerator]:
    data = resources.files("openbook.economics").joinpath("data/accelerators.toml")
    return read_accelerators(data.read_text(encoding="utf-8"), where="accelerators.toml")


def accelerators() -> tuple[Accelerator, ...]:
    """Those that come with the package, oldest first."""
    return tuple(_packaged().values())


def with_file(path: Path | None) -> Mapping[str, Accelerator]:
    """The accelerators by name, those of the file at `path` over those of the package.

    An entry of the file replaces the entry of the same name whole, or adds one. Raises UserError for a file
    that cannot be read and for anything in it that does not fit.
    """
    if path is None:
        return _packaged()
    return {**_packaged(), **read_accelerators(read_text(path, "accelerators"), where=str(path))}


def find_accelerator(
    name: str, known: Mapping[str, Accelerator] | None = None, *, today: Date | None = None
) -> Accelerator:
    """The accelerator called `name` (in any case), among `known` or those of the package.

    `this` is the machine at hand, from the profile that `openbook doctor --measure` wrote, at its price of
    `today`. Raises UserError with the nearest name for an unknown one, and where there is no such profile.
    """
    known = _packaged() if known is None else known
    name = name.lower()
    if name == THIS:
        from openbook.economics.host import this_machine

        return this_machine(today=today or Date.today())
    if name not in known:
        raise UserError(f"there is no accelerator {name!r}", _meant(name, [*known, THIS]))
    return known[name]


def _meant(name: str, known: list[str]) -> str:
    """Those of the same family first: a misspelt one is nearest by its beginning, `a100` or `h100-sxm`."""
    same = [one for one in known if name and (one.startswith(name) or name.startswith(one))]
    return f"did you mean {' or '.join(map(repr, same))}?" if same else nearest(name, known)
