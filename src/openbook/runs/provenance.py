"""Which code ran, and on what machine."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGES_THAT_CHANGE_RESULTS = ("torch", "numpy", "tokenizers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """The machine and the libraries of a run; `packages` is pairs of name and version."""

    name: str
    system: str
    processor: str
    num_cpus: int
    python: str
    packages: tuple[tuple[str, str], ...]


def this_host() -> Host:
    """The machine this process runs on."""
    return Host(
        name=platform.node(),
        system=f"{platform.system()} {platform.release()}",
        processor=platform.machine(),
        num_cpus=os.cpu_count() or 1,
        python=platform.python_version(),
        packages=tuple((name, _version(name)) for name in PACKAGES_THAT_CHANGE_RESULTS),
    )


def code_version() -> str:
    """`git:<description>` of the checkout this file belongs to, else the version of the package."""
    here = Path(__file__).resolve()
    # An installed copy may lie inside somebody else's repository, which does not track it.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is not None:
        description = _git(here.parent, "describe", "--always", "--dirty", "--tags")
        if description:
            return f"git:{description}"
    return _version("openbook")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or no repository: the package's version says it instead
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
