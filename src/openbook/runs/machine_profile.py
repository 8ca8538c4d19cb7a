"""What this machine can do, as `openbook doctor --measure` found it: a file that forecasts read. No torch.

The file lies in the user's data folder, because it is of the machine and not of a project: $OPENBOOK_HOME, or
`openbook` below $XDG_DATA_HOME, or ~/.local/share/openbook.
"""

from __future__ import annotations

import json
import os
from datetime import date as Date
from enum import StrEnum
from pathlib import Path
from typing import Literal

from openbook.config import config, dump, parse
from openbook.errors import UserError
from openbook.runs.durable import replace_text
from openbook.runs.machine import Machine

FILE_NAME = "machine.json"
FORMAT = 1
MEASURE = "openbook doctor --measure"

DtypeName = Literal["fp32", "bf16"]


class ShapeClass(StrEnum):
    """Kinds of matrix products, which reach very different shares of what a machine can do."""

    SQUARE = "square"
    """Large in every direction: the peak."""
    SKINNY = "skinny"
    """Many rows through a narrow layer: a small model reads or learns."""
    FEW_ROWS = "few-rows"
    """Few rows through a narrow layer: a small model writes."""


@config
class ProductRate:
    """Floating-point operations a second of one product."""

    dtype: DtypeName
    shape_class: ShapeClass
    num_threads: int
    num_rows: int
    width_in: int
    width_out: int
    flops_per_second: float

    def __post_init__(self) -> None:
        if not 0 < self.flops_per_second < float("inf"):
            raise ValueError("flops_per_second is positive")


@config
class ReadRate:
    """Bytes a second at which memory beyond the caches is read."""

    num_threads: int
    bytes_per_second: float

    def __post_init__(self) -> None:
        if not 0 < self.bytes_per_second < float("inf"):
            raise ValueError("bytes_per_second is positive")


@config
class MachineProfile:
    """One measuring of one machine."""

    format: int = FORMAT
    measured_on: Date
    processor: str
    num_cpus: int
    """Processors that may be used."""
    memory_bytes: int | None
    torch: str
    products: tuple[ProductRate, ...]
    reads: tuple[ReadRate, ...]
    dispatch_microseconds: float
    """To start an operation, one thread."""
    gradient_microseconds: float
    """To start an operation that is recorded, and its backward pass."""
    load: str
    """What else the machine did meanwhile."""
    is_disturbed: bool

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format {self.format} is of another version of openbook; run `{MEASURE}` again")
        if not self.products or not self.reads:
            raise ValueError(f"nothing was measured; run `{MEASURE}` again")

    @property
    def max_threads(self) -> int:
        """The most threads that were measured."""
        return max(rate.num_threads for rate in self.reads)

    def product_rate(
        self, dtype: DtypeName, shape_class: ShapeClass, num_threads: int | None = None
    ) -> float:
        """FLOP/s of products of a class; on all processors unless `num_threads` says otherwise.

        Of square products the fastest, which is the peak; of the others what all of them together take,
        each being done once. For a number of threads that was not measured, the nearest below. Raises
        UserError where nothing was measured.
        """
        wanted = num_threads or self.max_threads
        rates = [one for one in self.products if one.dtype == dtype and one.shape_class == shape_class]
        fitting = [one.num_threads for one in rates if one.num_threads <= wanted]
        if not fitting:
            raise UserError(
                f"the machine profile has no {shape_class} products in {dtype}", f"run `{MEASURE}` again"
            )
        chosen = [one for one in rates if one.num_threads == max(fitting)]
        if shape_class is ShapeClass.SQUARE:
            return max(one.flops_per_second for one in chosen)
        flops = [2 * one.num_rows * one.width_in * one.width_out for one in chosen]
        seconds = sum(work / one.flops_per_second for work, one in zip(flops, chosen, strict=True))
        return sum(flops) / seconds

    def read_rate(self, num_threads: int | None = None) -> float:
        """Bytes a second from memory, by threads as `product_rate` has it. Raises UserError likewise."""
        wanted = num_threads or self.max_threads
        fitting = [one for one in self.reads if one.num_threads <= wanted]
        if not fitting:
            raise UserError(
                f"the machine profile has no reading on {wanted} threads", f"run `{MEASURE}` again"
            )
        return max(fitting, key=lambda one: one.num_threads).bytes_per_second

    def is_of(self, machine: Machine) -> bool:
        """Whether it was measured on such a machine: the processor and how many of them may be used."""
        return (self.processor, self.num_cpus) == (machine.processor, machine.num_cpus)


def profile_path() -> Path:
    """Where the profile lies unless somebody says otherwise."""
    if home := os.environ.get("OPENBOOK_HOME"):
        return Path(home) / FILE_NAME
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "openbook" / FILE_NAME


def save_profile(profile: MachineProfile, path: Path | None = None) -> Path:
    """Write the profile whole and return where it lies. Raises UserError when it cannot be written."""
    path = path or profile_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: {error.strerror}", "name another file with --out") from error
    replace_text(path, json.dumps(dump(profile), indent=1) + "\n")
    return path


def load_profile(path: Path | None = None) -> MachineProfile:
    """The profile at `path`, or where it usually lies. Raises UserError where none can be read."""
    path = path or profile_path()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"this machine has not been measured ({path} does not exist)", f"run `{MEASURE}`"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"machine profile {path} cannot be read ({error})", f"run `{MEASURE}` again"
        ) from error
    try:
        return parse(MachineProfile, data)
    except UserError as error:
        raise UserError(
            f"machine profile {path}: {error.what}", error.mend or f"run `{MEASURE}` again"
        ) from error
