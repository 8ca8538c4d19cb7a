"""Price lists: what vendors ask for a million tokens, by model, meter, tier, hour and date. No torch.

    lists = PriceList.default()
    at = datetime(2025, 3, 1, 17, 0, tzinfo=UTC)
    lists.offer("deepseek", "deepseek-r1", at).prices.output_usd        0.55, within the night window

An offer holds on the days from `valid_from` (included) to `valid_to` (excluded), UTC. One with a window holds
from its first minute (included) to its last (excluded), across midnight if it begins later than it ends, and
goes before the offer for the whole day.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from importlib import resources
from itertools import combinations
from pathlib import Path

from openbook.config import config, parse_toml, read_text
from openbook.economics.sourced import MAX_AGE_DAYS, Mark
from openbook.errors import UserError, nearest
from openbook.ledger.metering import TokenPrices

STANDARD = "standard"
_DAY = 24 * 60


@config
class Offer:
    """One vendor's prices for one model: USD per million tokens, by meter.

    `input_cached` null means that the vendor gives no discount: a cached token costs what a missed one does.
    """

    vendor: str
    model: str
    tier: str = STANDARD
    window_from: time | None = None
    window_to: time | None = None
    valid_from: date
    valid_to: date = date.max
    input_missed: Decimal
    input_cached: Decimal | None = None
    output: Decimal
    checked: date
    """The day on which the source was seen to say so."""
    source: str
    mark: Mark
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("input_missed", "input_cached", "output"):
            price = getattr(self, name)
            if price is not None and not (price.is_finite() and price >= 0):
                raise ValueError(f"{name} is {price}: a price is a number that is not negative")
        if self.valid_from >= self.valid_to:
            raise ValueError("valid_to must be after valid_from")
        if (self.window_from is None) != (self.window_to is None):
            raise ValueError("a window needs window_from and window_to")
        if self.window_from is not None and self.window_from == self.window_to:
            raise ValueError("a window that ends where it begins is none; leave it out for the whole day")

    @property
    def prices(self) -> TokenPrices:
        cached = self.input_missed if self.input_cached is None else self.input_cached
        return TokenPrices(missed_usd=self.input_missed, cached_usd=cached, output_usd=self.output)

    @property
    def window(self) -> str:
        """`16:30-00:30 UTC`, or nothing."""
        if self.window_from is None or self.window_to is None:
            return ""
        return f"{self.window_from:%H:%M}-{self.window_to:%H:%M} UTC"

    def holds(self, at: datetime) -> bool:
        """Whether the offer holds at a moment in UTC."""
        if not self.valid_from <= at.date() < self.valid_to:
            return False
        minute = at.hour * 60 + at.minute
        return any(first <= minute < last for first, last in self._spans())

    def overlaps(self, other: Offer) -> bool:
        """Whether both hold at some moment and neither goes before the other."""
        mine = (self.vendor, self.model, self.tier, self.window_from is None)
        if mine != (other.vendor, other.model, other.tier, other.window_from is None):
            return False
        if self.valid_from >= other.valid_to or other.valid_from >= self.valid_to:
            return False
        return any(a < d and c < b for a, b in self._spans() for c, d in other._spans())

    def is_stale(self, today: date, max_age_days: int = MAX_AGE_DAYS) -> bool:
        """Whether a price that is said to hold still was last checked too long ago."""
        return self.valid_to > today and today - self.checked > timedelta(days=max_age_days)

    def _spans(self) -> tuple[tuple[int, int], ...]:
        """The minutes of a day in which it holds, the last one excluded."""
        if self.window_from is None or self.window_to is None:
            return ((0, _DAY),)
        first = self.window_from.hour * 60 + self.window_from.minute
        last = self.window_to.hour * 60 + self.window_to.minute
        return ((first, last),) if first < last else ((first, _DAY), (0, last))


@config
class CacheRule:
    """How a vendor who bills the cache apart does it: shares of the price of a missed token."""

    vendor: str
    write_5m_share: Decimal
    """Writing to a cache that lives five minutes."""
    write_1h_share: Decimal
    read_share: Decimal
    source: str
    mark: Mark
    checked: date
    note: str = ""

    def write_usd(self, missed_usd: Decimal, *, hours: int = 0) -> Decimal:
        """USD per million tokens written, for one hour or (0) five minutes."""
        return missed_usd * (self.write_1h_share if hours else self.write_5m_share)


@config
class PriceList:
    """Offers, no two of which hold for the same thing at the same moment."""

    offers: tuple[Offer, ...] = ()
    cache_rules: tuple[CacheRule, ...] = ()

    def __post_init__(self) -> None:
        for one, other in combinations(self.offers, 2):
            if one.overlaps(other):
                day = max(one.valid_from, other.valid_from)
                raise ValueError(
                    f"two prices of {one.vendor} {one.model} {one.tier} {one.window} hold on {day}"
                )

    @classmethod
    def default(cls) -> PriceList:
        """The lists that come with the package."""
        return _packaged()

    @classmethod
    def load(cls, path: Path) -> PriceList:
        """The list in a TOML file. Raises UserError for anything in it that does not fit."""
        return cls.from_toml(read_text(path, "price list"), str(path))

    @classmethod
    def from_toml(cls, text: str, where: str) -> PriceList:
        """The list in a TOML text; `where` names it in errors."""
        return parse_toml(cls, text, where=f"price list {where}", parse_float=Decimal)

    def of(self, vendor: str | None = None, model: str | None = None) -> tuple[Offer, ...]:
        """The offers of a vendor or of a model, or of both. Raises UserError for unknown names."""
        if vendor is not None and vendor not in (known := sorted({o.vendor for o in self.offers})):
            raise UserError(f"no price list of {vendor!r}", nearest(vendor, known))
        found = [o for o in self.offers if vendor in (None, o.vendor)]
        if model is not None and model not in (known := sorted({o.model for o in found})):
            raise UserError(f"no price of {model!r}", nearest(model, known))
        return tuple(o for o in found if model in (None, o.model))

    def offer(self, vendor: str, model: str, at: datetime, tier: str = STANDARD) -> Offer:
        """The offer that holds at the moment `at` (UTC). Raises UserError when there is none."""
        offers = [o for o in self.of(vendor, model) if o.tier == tier]
        if not offers:
            tiers = sorted({o.tier for o in self.of(vendor, model)})
            raise UserError(f"{vendor} {model} has no tier {tier!r}", nearest(tier, tiers))
        holding = [o for o in offers if o.holds(at)]
        if not holding:
            raise UserError(
                f"no price of {vendor} {model} holds at {at:%Y-%m-%d %H:%M} UTC",
                f"the first is of {min(o.valid_from for o in offers)}; add one with --price-list FILE",
            )
        return min(holding, key=lambda o: o.window_from is None)

    def at(self, at: datetime, vendor: str | None = None) -> tuple[Offer, ...]:
        """Every offer that holds at a moment, the one in its window before the one for the whole day."""
        keys = dict.fromkeys((o.vendor, o.model, o.tier) for o in self.of(vendor) if o.holds(at))
        return tuple(self.offer(v, m, at, t) for v, m, t in keys)


def blended_usd(prices: TokenPrices, *, input_share: float, hit_share: float) -> float:
    """Dollars per million tokens, input and output together: in [h hit + (1 - h) miss] + out p_out."""
    require_share("the input share", input_share)
    require_share("the cache hit share", hit_share)
    inputs = hit_share * float(prices.cached_usd) + (1 - hit_share) * float(prices.missed_usd)
    return input_share * inputs + (1 - input_share) * float(prices.output_usd)


def require_share(name: str, value: float) -> None:
    """Raise UserError unless `value` lies between 0 and 1."""
    if not 0 <= value <= 1:
        raise UserError(f"{name} is {value:g}", "give a share between 0 and 1, such as 0.56")


@cache
def _packaged() -> PriceList:
    data = resources.files("openbook.economics").joinpath("data/price_lists.toml")
    return PriceList.from_toml(data.read_text(encoding="utf-8"), "price_lists.toml")
