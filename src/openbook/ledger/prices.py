"""Price plans: what a resource costs, from which day to which, and who says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from datetime import date
from decimal import Decimal
from importlib import resources
from itertools import pairwise
from pathlib import Path

from openbook.config import config, parse_toml, read_text
from openbook.errors import UserError, nearest
from openbook.ledger.accounts import PRICE_UNITS


@config
class Price:
    """`price_usd` for one `unit` of `resource` from `valid_from` (included) to `valid_to` (excluded).

    `watts` is what a device of this resource draws on average while it is held, by `watts_source`: where
    no meter is, energy is estimated from it.
    """

    resource: str
    unit: str
    price_usd: Decimal
    valid_from: date
    valid_to: date = date.max
    source: str
    note: str = ""
    watts: Decimal = Decimal(0)
    watts_source: str = ""

    def __post_init__(self) -> None:
        if self.unit not in PRICE_UNITS:
            raise ValueError(f"unknown unit {self.unit!r}; {nearest(self.unit, list(PRICE_UNITS))}")
        if self.price_usd < 0:
            raise ValueError("a price is not negative")
        if self.valid_from >= self.valid_to:
            raise ValueError("valid_to must be after valid_from")
        if self.watts < 0 or self.watts != round(self.watts, 3):
            raise ValueError("watts are not negative and have at most three decimals")
        if self.watts and not self.watts_source:
            raise ValueError("watts need a watts_source")


@config
class PricePlan:
    """Prices by resource and day, and which resource the time of a device takes."""

    prices: tuple[Price, ...]
    devices: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for earlier, later in pairwise(sorted(self.prices, key=lambda p: (p.resource, p.valid_from))):
            if earlier.resource == later.resource and later.valid_from < earlier.valid_to:
                raise ValueError(f"two prices for {later.resource} hold on {later.valid_from}")
        known = {price.resource for price in self.prices}
        for device, resource in self.devices.items():
            if resource not in known:
                raise ValueError(f"device {device} takes {resource!r}, which has no price")

    @classmethod
    def default(cls) -> PricePlan:
        """The plan that comes with the package."""
        text = resources.files("openbook.ledger").joinpath("data/prices.toml").read_text(encoding="utf-8")
        return cls.from_toml(text, "prices.toml")

    @classmethod
    def load(cls, path: Path) -> PricePlan:
        """The plan in a TOML file. Raises UserError for anything in it that does not fit."""
        return cls.from_toml(read_text(path, "price plan"), str(path))

    @classmethod
    def from_toml(cls, text: str, where: str) -> PricePlan:
        """The plan in a TOML text; `where` names it in errors."""
        return parse_toml(cls, text, where=f"price plan {where}", parse_float=Decimal)

    def price(self, resource: str, day: date) -> Price:
        """The price of `resource` on `day`. Raises UserError when there is none."""
        lines = [price for price in self.prices if price.resource == resource]
        for price in lines:
            if price.valid_from <= day < price.valid_to:
                return price
        if not lines:
            known = sorted({price.resource for price in self.prices})
            raise UserError(f"the price plan has no {resource!r}", nearest(resource, known))
        raise UserError(f"the price plan has no price of {resource} for {day}", "add a line for that day")

    def resource_of(self, device: str) -> str:
        """The resource that prices the time of `device`. Raises UserError when none does.

        Example: `NVIDIA H100 80GB HBM3` is found by `H100`, a whole word of it.
        """
        words = {device.lower(), *re.split(r"[^a-z0-9]+", device.lower())}
        for name, resource in self.devices.items():
            if name.lower() in words:
                return resource
        raise UserError(
            f"the price plan does not say what an hour of {device!r} costs",
            f"add it under [devices]; known: {', '.join(self.devices)}",
        )
