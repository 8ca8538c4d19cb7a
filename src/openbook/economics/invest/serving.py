"""From a model on a device to hours of work for a million tokens: the link to `economics.serving`. No torch.

    ServingChoice(model="deepseek-v3", accelerator="gb200").device_hours_per_million

The unit cost of `economics.serving` at a rent of one dollar an hour, on devices that are never idle, IS the
number of device-hours in a million tokens; utilisation and electricity come in by path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.capital import HOURS_PER_YEAR
from openbook.economics.invest.distributions import Floats
from openbook.economics.serving.layout import Server
from openbook.economics.serving.models import KNOWN, known_model
from openbook.economics.serving.unit_cost import ServingCase, Traffic, UnitCost, unit_cost
from openbook.errors import UserError, nearest
from openbook.model.architecture import Architecture


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingChoice:
    """What tokens are made with: a known model or a public config.json, a device, and what users send."""

    model: str = "deepseek-v3"
    accelerator: str = "gb200"
    precision: Precision = Precision.FP8
    context_tokens: int = 4989
    hit_share: float = 0.5625
    output_per_input: float = 0.2763
    tokens_per_second_per_user: float | None = 21.0

    @property
    def device_hours_per_million(self) -> float:
        """Busy device-hours for a million tokens, input and output together at their ratio."""
        return serving_cost(self).blended_usd

    def case(self, *, usd_per_device_hour: float, utilisation: float) -> ServingCase:
        """The serving case at a price of the hour, for what stakeholders pay."""
        return ServingCase(
            server=Server(
                architecture=read_model(self.model),
                accelerator=find_accelerator(self.accelerator),
                precision=self.precision,
            ),
            traffic=Traffic(
                context_tokens=self.context_tokens,
                hit_share=self.hit_share,
                output_per_input=self.output_per_input,
                tokens_per_second_per_user=self.tokens_per_second_per_user,
            ),
            utilisation=utilisation,
            usd_per_device_hour=usd_per_device_hour,
        )


@cache
def serving_cost(choice: ServingChoice) -> UnitCost:
    """The unit cost at one dollar a device-hour with no hour idle and free drives: device-hours alone."""
    case = choice.case(usd_per_device_hour=1.0, utilisation=1.0)
    return unit_cost(replace(case, storage_usd_per_gb_month=0.0))


@cache
def read_model(model: str) -> Architecture:
    """A known model, or the architecture of a config.json. Raises UserError."""
    if model in KNOWN:
        return known_model(model)
    path = Path(model)
    if not path.is_file():
        raise UserError(
            f"serving.model: {model!r} is neither a known model nor a file", nearest(model, [*KNOWN])
        )
    import json

    from openbook.model.decoders import read_decoder

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"serving.model: {path}: {error}") from error
    return read_decoder(data, str(path))


def cash_usd_per_hour(
    *, usd_per_device: Floats, opex_share: Floats, utilisation: Floats, kilowatts: Floats, usd_per_kwh: Floats
) -> Floats:
    """What a busy hour of a device costs in cash once it stands there: running cost and energy.

    opex x price / (8760 u) + kW x $/kWh, kW at the meter of the facility (fact sheet 8.5, without capital).
    """
    return opex_share * usd_per_device / (HOURS_PER_YEAR * utilisation) + kilowatts * usd_per_kwh


def levelised_usd_per_hour(
    *, usd_per_device: Floats, rate: Floats, life: Floats, utilisation: Floats
) -> Floats:
    """Capital in a busy hour: price x CRF / (8760 u), CRF = r / (1 - (1 + r)^-n) (fact sheet 8.5)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        recovery = np.where(rate == 0, 1 / life, rate / -np.expm1(-life * np.log1p(rate)))
    return usd_per_device * recovery / (HOURS_PER_YEAR * utilisation)
