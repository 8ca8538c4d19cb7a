"""What our own tokens cost, from what was measured: device time split by kind of token. No torch.

A piece of work takes prompt tokens x a + cached tokens x b + completion tokens x c seconds. From pieces of
different mixes a, b and c follow by least squares, none below zero. One mix alone cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import combinations

from openbook.economics.serving.price_list import Offer
from openbook.economics.serving.unit_cost import SECONDS_PER_HOUR
from openbook.economics.sourced import Mark
from openbook.errors import UserError
from openbook.ledger.metering import TokenPrices
from openbook.runs.run import Run
from openbook.runs.usage import Usage

VENDOR = "openbook"
KINDS = ("prompt", "cached", "completion")
_ALIKE = 1e-4
"""Least share of its length in which the column of a kind has to differ from those of the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Sampling that was timed: `prompt_tokens` were computed, `cached_tokens` were not."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    device_seconds: float

    @classmethod
    def of(cls, usage: Usage) -> Work:
        """Tokens computed again for want of memory count as prompt, for that is what they cost."""
        return cls(
            prompt_tokens=usage.prompt_tokens + usage.recomputed_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            device_seconds=usage.device_microseconds / 1e6,
        )

    @property
    def tokens(self) -> tuple[int, int, int]:
        return self.prompt_tokens, self.cached_tokens, self.completion_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenTimes:
    """Device-seconds for a token of each kind. `cached_seconds` null: no cached token was seen.

    `unexplained` is the share of the device time by which the works miss the fit, taken absolutely.
    """

    prompt_seconds: float
    cached_seconds: float | None
    completion_seconds: float
    unexplained: float
    num_works: int
    device_seconds: float

    def prices(self, usd_per_device_hour: Decimal) -> TokenPrices:
        """Dollars per million tokens at cost, to six decimals; without a cached one it costs as a missed."""
        cached = self.prompt_seconds if self.cached_seconds is None else self.cached_seconds

        def usd(seconds: float) -> Decimal:
            exact = Decimal(seconds) * 1_000_000 * usd_per_device_hour / SECONDS_PER_HOUR
            return exact.quantize(Decimal("0.000001"))

        return TokenPrices(
            missed_usd=usd(self.prompt_seconds),
            cached_usd=usd(cached),
            output_usd=usd(self.completion_seconds),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """Token times of a model on a device, and at what the hour of the device was reckoned."""

    model: str
    device: str
    day: date
    times: TokenTimes
    usd_per_device_hour: Decimal
    price_source: str
    how: str

    @property
    def prices(self) -> TokenPrices:
        return self.times.prices(self.usd_per_device_hour)

    def offer(self, margin_on_cost: float = 0.0) -> Offer:
        """The entry of a price list by which a server sells this model: its cost, and a markup on it.

        It holds from the day of the measurement. Raises UserError for a markup below -1.
        """
        if margin_on_cost < -1:
            raise UserError(f"a markup of {margin_on_cost:g}", "give -1 (for nothing) or more")
        factor, prices = Decimal(str(1 + margin_on_cost)), self.prices
        markup = f", {100 * margin_on_cost:g} % on cost" if margin_on_cost else ", at cost"
        return Offer(
            vendor=VENDOR,
            model=self.model,
            valid_from=self.day,
            checked=self.day,
            input_missed=prices.missed_usd * factor,
            input_cached=prices.cached_usd * factor,
            output=prices.output_usd * factor,
            source=f"measured on {self.device}, {self.how}{markup}",
            mark=Mark.OURS,
            note=f"{self.usd_per_device_hour} USD a device-hour: {self.price_source}",
        )


def works_of(runs: Iterable[Run]) -> dict[str, list[Work]]:
    """By device: the usage lines of runs that sampled and did not train meanwhile."""
    found: dict[str, list[Work]] = {}
    for run in runs:
        devices = {attempt.number: attempt.device for attempt in run.attempts}
        for line in run.usage_lines():
            usage = line.usage
            if usage.completion_tokens and not usage.trained_tokens and usage.device_microseconds:
                found.setdefault(devices[line.attempt], []).append(Work.of(usage))
    return found


def split_times(works: Sequence[Work]) -> TokenTimes:
    """Least squares over the works, no kind below zero.

    Raises UserError when there are too few works, or works too alike, to tell the kinds apart.
    """
    columns = [i for i in range(len(KINDS)) if any(work.tokens[i] for work in works)]
    seconds = [work.device_seconds for work in works]
    rows = [[float(work.tokens[i]) for i in columns] for work in works]
    _require_apart(rows, [KINDS[i] for i in columns])
    best = _non_negative(rows, seconds)
    found = dict(zip(columns, best, strict=True))
    missed = sum(
        abs(sum(a * b for a, b in zip(row, best, strict=True)) - one)
        for row, one in zip(rows, seconds, strict=True)
    )
    return TokenTimes(
        prompt_seconds=found.get(0, 0.0),
        cached_seconds=found.get(1),
        completion_seconds=found.get(2, 0.0),
        unexplained=missed / sum(seconds),
        num_works=len(works),
        device_seconds=sum(seconds),
    )


def _require_apart(rows: Sequence[Sequence[float]], kinds: Sequence[str]) -> None:
    """Raise UserError unless the columns are independent: Gram-Schmidt leaves something of each."""
    mend = "take works of different mixes, or measure with --measured"
    if not kinds or len(rows) < len(kinds):
        raise UserError(f"{len(rows)} pieces of work cannot tell {len(kinds)} kinds of tokens apart", mend)
    basis: list[list[float]] = []
    for index, kind in enumerate(kinds):
        column = [row[index] for row in rows]
        size = sum(x * x for x in column)
        for direction in basis:
            part = sum(x * y for x, y in zip(column, direction, strict=True))
            column = [x - part * y for x, y in zip(column, direction, strict=True)]
        left = sum(x * x for x in column)
        if left < _ALIKE * size:
            raise UserError(
                f"all works have nearly the same mix: the time of {kind} tokens is not to be told apart", mend
            )
        basis.append([x / left**0.5 for x in column])


def _non_negative(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """The best fit with no negative part, by trying every set of parts that are above zero."""
    width = len(rows[0])
    best, least = [0.0] * width, sum(s * s for s in seconds)
    for number in range(1, width + 1):
        for chosen in combinations(range(width), number):
            part = _solve(
                [[sum(r[i] * r[j] for r in rows) for j in chosen] for i in chosen],
                [sum(r[i] * s for r, s in zip(rows, seconds, strict=True)) for i in chosen],
            )
            if min(part) < 0:
                continue
            full = [0.0] * width
            for i, value in zip(chosen, part, strict=True):
                full[i] = value
            error = sum(
                (sum(a * b for a, b in zip(row, full, strict=True)) - s) ** 2
                for row, s in zip(rows, seconds, strict=True)
            )
            if error < least:
                best, least = full, error
    return best


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """A small symmetric positive system, by elimination with pivots."""
    size = len(right)
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    for i in range(size):
        pivot = max(range(i, size), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(i + 1, size):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    found = [0.0] * size
    for i in reversed(range(size)):
        rest = sum(rows[i][k] * found[k] for k in range(i + 1, size))
        found[i] = (rows[i][size] - rest) / rows[i][i]
    return found
