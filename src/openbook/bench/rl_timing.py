"""What a step of reinforcement learning took: wall and processor seconds, memory, disk. No torch."""

from __future__ import annotations

import importlib.metadata
import re
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTiming:
    """One step of one trainer: sample, reward, forward, backward, update, and what it does around them."""

    num_new_tokens: int
    sampling_seconds: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """The most memory that its process has held so far."""
    startup_seconds: float = 0.0
    """From the start of its process to when it could begin its first step: imports and weights."""
    installed_bytes: int = 0
    """The files of its package and of all that this one requires."""

    @property
    def rate(self) -> float:
        """New tokens a second, everything included."""
        return self.num_new_tokens / self.seconds

    @property
    def cpu_rate(self) -> float:
        """New tokens a second of a processor."""
        return self.num_new_tokens / self.cpu_seconds

    @property
    def sampling_rate(self) -> float:
        """New tokens a second of sampling, getting the new weights to the sampler included."""
        return self.num_new_tokens / self.sampling_seconds


class StepWatch:
    """Times steps from inside the process that makes them."""

    def __init__(self) -> None:
        self._sampling_seconds = 0.0
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def start(self) -> None:
        """A step begins."""
        self._sampling_seconds = 0.0
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """What runs inside is sampling."""
        started = time.perf_counter()
        yield
        self._sampling_seconds += time.perf_counter() - started

    def stop(self, num_new_tokens: int) -> StepTiming:
        """The step has ended."""
        return StepTiming(
            num_new_tokens=num_new_tokens,
            sampling_seconds=self._sampling_seconds,
            seconds=time.perf_counter() - self._wall,
            cpu_seconds=time.process_time() - self._cpu,
            peak_bytes=peak_bytes(),
        )


def peak_bytes() -> int:
    """The most memory that this process has held.

    From /proc where there is one: what getrusage tells begins with what the parent held.
    """
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^VmHWM:\s*(\d+) kB", text, re.MULTILINE)
    kilobytes = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * kilobytes


def installed_bytes(*names: str, folders: Sequence[Path] = ()) -> int:
    """Bytes of the files of these distributions and of all that they require, each once.

    What is not installed counts nothing; extras count where one is required by name. `folders` are
    counted too: a package that is installed for editing lies elsewhere.
    """
    paths = {path for name in _closure(names) for path in _files_of(name)}
    paths |= {path for folder in folders for path in folder.rglob("*")}
    return sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")


def _closure(names: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        try:
            distribution = importlib.metadata.distribution(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(_normal(wanted.name))
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)
            ):
                waiting.append(requirement)
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _files_of(name: str) -> list[Path]:
    return [Path(str(file.locate())) for file in importlib.metadata.distribution(name).files or ()]
