"""The native kernels: compiled for the processor at hand on first use, then kept in a cache.

    load_native() -> Native | Missing

They need a C++ compiler (c++, g++ or clang++, or what CXX names). Where there is none the engine takes its
plain path, and `openbook doctor` says what is missed.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch  # before the library: both then share one OpenMP runtime, and so one team of threads

SOURCES = Path(__file__).parent / "native"
COMPILE_TIMEOUT_SECONDS = 300

_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fopenmp",
    "-shared",
    "-fPIC",
    "-w",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Native:
    """The loaded library. `features` names the instructions it was built for; `build` tells builds apart."""

    library: ctypes.CDLL
    features: str
    build: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """Why there are no native kernels, in one line."""

    reason: str


@functools.cache
def load_native() -> Native | Missing:
    """Compile if need be, and load. Never raises: what is missing is said in the result."""
    try:
        compiler = _compiler()
    except ValueError as error:
        return Missing(reason=f"CXX cannot be read: {error}")
    if compiler is None:
        return Missing(reason="no C++ compiler was found; install g++ or name one in CXX")
    try:
        build = _build_name(compiler)
        path = cache_folder() / f"{build}.so"
        if not path.exists():
            _compile(compiler, path)
        library = ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        return Missing(reason=f"{compiler[0]} could not compile the kernels: {_complaint(str(error.stderr))}")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Missing(reason=f"the kernels could not be built: {error}")
    library.openbook_features.restype = ctypes.c_char_p
    library.openbook_scratch_bytes.restype = ctypes.c_int64
    library.openbook_op_bytes.restype = ctypes.c_int64
    features = library.openbook_features().decode()
    if not features:
        return Missing(reason="the system does not grant the AMX registers that the processor announces")
    return Native(library=library, features=features, build=build)


def _complaint(message: str) -> str:
    """The line of a compiler's message that says what is wrong."""
    lines = message.strip().splitlines() or ["no message"]
    return next((line for line in lines if "error" in line), lines[0])


def cache_folder() -> Path:
    """Where compiled kernels are kept: OPENBOOK_CACHE, or openbook in the user's cache folder."""
    named = os.environ.get("OPENBOOK_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(named) if named else Path(base) / "openbook"


def _compiler() -> list[str] | None:
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named
    return next(([name] for name in ("c++", "g++", "clang++") if shutil.which(name)), None)


def _build_name(compiler: list[str]) -> str:
    """A digest of everything that decides the machine code: sources, flags, compiler and processor."""
    version = _run([*compiler, "--version"])
    parts = [torch.__version__, version, *_FLAGS, _processor()]
    parts += [path.read_text() for path in sorted(SOURCES.iterdir())]
    return "kernels-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What the processor can do, as the system tells it; empty where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(compiler: list[str], path: Path) -> None:
    """Into a neighbour first and then renamed: two processes that compile at once do each other no harm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        _run([*compiler, *_FLAGS, str(SOURCES / "program.cpp"), "-o", str(made)])
        made.replace(path)


def _run(command: list[str]) -> str:
    """What a command writes; CalledProcessError with what it complains of."""
    return subprocess.run(
        command,
        check=True,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=COMPILE_TIMEOUT_SECONDS,
    ).stdout
