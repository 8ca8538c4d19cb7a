"""The tally: what the runs below a folder have consumed and cost so far, while they go on.

It reads on in each run's usage where it stopped, so asking after every step costs next to nothing. The
ledger later says the same: both price the same lines by the same plan, and round them as one sum.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

from openbook.errors import UserError
from openbook.ledger.cap import Cap, Meter, show_amount
from openbook.ledger.entry import amount_nano_usd
from openbook.ledger.prices import Price, PricePlan
from openbook.runs.run import Run
from openbook.runs.store import find_runs

SECONDS_BETWEEN_SEARCHES = 0.5
NUM_PIECES = 16
"""Recent pieces of work of which the largest stands for the next one."""

Amounts = dict[Meter, int]


@dataclass(slots=True)
class _Reading:
    """How far one run has been read."""

    run: Run
    devices: dict[int, str] = field(default_factory=dict)
    num_bytes: int = 0
    microseconds: Counter[Price] = field(default_factory=Counter)
    sums: Amounts = field(default_factory=lambda: dict.fromkeys(Meter, 0))
    pieces: deque[Amounts] = field(default_factory=lambda: deque(maxlen=NUM_PIECES))


class Tally:
    """Sums over everything below `root`: failed and earlier attempts, and runs inside runs, too."""

    def __init__(self, root: Path, plan: PricePlan, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._plan = plan
        self._clock = clock
        self._searched_at = -SECONDS_BETWEEN_SEARCHES
        self._readings: dict[Path, _Reading] = {}
        self._at_work: _Reading | None = None
        self.unpriced: dict[str, UserError] = {}
        """Devices whose time the plan does not price, and why; it counts as free."""

    def read(self) -> Amounts:
        """Everything spent so far: nano-dollars, microseconds of device time, tokens."""
        if self._clock() - self._searched_at >= SECONDS_BETWEEN_SEARCHES:
            self._searched_at = self._clock()
            for run in find_runs(self._root, on_broken=lambda _: None):
                self._readings.setdefault(run.folder, _Reading(run=run))
        for reading in self._readings.values():
            self._read_on(reading)
        return {meter: sum(reading.sums[meter] for reading in self._readings.values()) for meter in Meter}

    def next_piece(self, meter: Meter) -> int:
        """What the next piece of work may take: the most of the last ones of the run that is at work."""
        return max((piece[meter] for piece in self._at_work.pieces), default=0) if self._at_work else 0

    def _read_on(self, reading: _Reading) -> None:
        path = reading.run.folder / "usage.jsonl"
        size = path.stat().st_size if path.exists() else 0
        if size < reading.num_bytes:  # a torn line was dropped
            self._readings[reading.run.folder] = reading = _Reading(run=reading.run)
        if size == reading.num_bytes:
            return
        with path.open("rb") as stream:
            stream.seek(reading.num_bytes)
            new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]
        reading.num_bytes += len(whole)
        for line in whole.splitlines():
            self._count(reading, line)
        reading.sums[Meter.USD] = sum(
            _cost(price, microseconds) for price, microseconds in reading.microseconds.items()
        )
        self._at_work = reading

    def _count(self, reading: _Reading, line: bytes) -> None:
        try:
            value = json.loads(line)
        except ValueError:
            return  # the bill names a damaged line; it must not stop the work that is watched
        microseconds: int = value["device_microseconds"]
        piece = {
            Meter.USD: 0,
            Meter.DEVICE_TIME: microseconds,
            Meter.TOKENS: value["prompt_tokens"] + value["completion_tokens"] + value["trained_tokens"],
        }
        day = datetime.fromisoformat(value["time"]).astimezone(UTC).date()
        price = self._price(self._device(reading, value["attempt"]), day)
        if price is not None:
            reading.microseconds[price] += microseconds
            piece[Meter.USD] = _cost(price, microseconds)
        for meter in (Meter.DEVICE_TIME, Meter.TOKENS):
            reading.sums[meter] += piece[meter]
        reading.pieces.append(piece)

    def _device(self, reading: _Reading, attempt: int) -> str:
        if attempt not in reading.devices:
            reading.devices = {one.number: one.device for one in reading.run.attempts}
        return reading.devices[attempt]

    def _price(self, device: str, day: date) -> Price | None:
        try:
            return self._plan.price(self._plan.resource_of(device), day)
        except UserError as error:
            self.unpriced[device] = error
            return None


class Limit:
    """Says why the work that a tally counts may not go on, "" while it may: for StopSignal.

    It says so before the piece of work that would go over the cap, judged by the largest of the last ones.
    """

    def __init__(self, cap: Cap, tally: Tally) -> None:
        self._cap = cap
        self._tally = tally

    def __call__(self) -> str:
        """Raises UserError when dollars are capped and the plan has no price for the device."""
        meter = self._cap.meter
        spent, piece = self._tally.read()[meter], self._tally.next_piece(meter)
        if meter is Meter.USD and self._tally.unpriced:
            raise next(iter(self._tally.unpriced.values()))
        if spent + piece <= self._cap.most and spent < self._cap.most:
            return ""
        what = f"the budget of {self._cap.show()} is spent ({show_amount(meter, spent)} so far"
        return f"{what}; the next step may take {show_amount(meter, piece)})" if piece else f"{what})"


def device_cost(plan: PricePlan, device: str, device_microseconds: int, day: date | None = None) -> int:
    """Nano-dollars for holding `device`; 0 when the plan does not price it (the bill then says so)."""
    try:
        price = plan.price(plan.resource_of(device), day or datetime.now(UTC).date())
    except UserError:
        return 0  # a missing price must not stop the work that is watched
    return _cost(price, device_microseconds)


def _cost(price: Price, device_microseconds: int) -> int:
    return amount_nano_usd(Decimal(device_microseconds).scaleb(-6), price.price_usd, price.unit)
