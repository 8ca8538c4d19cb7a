"""What a million served tokens cost: missed input, cached input, output. No torch.

    case = ServingCase(server=server, layout=layout, traffic=Traffic(context_tokens=4989, hit_share=0.5625))
    unit_cost(case).output_usd                                  dollars per million output tokens

Cost = 1e6 x (devices x USD/h) / (3600 x tokens/s x u), u being the busy share of the PAID hours, night and
all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property

from openbook.economics.serving.choose import default_layout
from openbook.economics.serving.layout import Layout, Server, check_unit
from openbook.economics.serving.network import EXPERT_BANDWIDTH
from openbook.economics.serving.price_list import require_share
from openbook.economics.serving.roofline import DecodeStep, Prefill, choose_batch, decode_step, prefill
from openbook.economics.sourced import Mark, Sourced
from openbook.errors import UserError

SECONDS_PER_HOUR = 3600
HOURS_PER_MONTH = 730
_DAY_6 = "deepseek-ai/open-infra-index, day 6"


def _day_6(value: float, unit: str, note: str) -> Sourced:
    return Sourced(
        value=value, unit=unit, source=_DAY_6, date=date(2025, 2, 28), mark=Mark.PRIMARY, note=note
    )


CONTEXT_TOKENS = _day_6(4989, "tokens", "Mean length of the cache while an output token is made.")
HIT_SHARE = _day_6(342 / 608, "share", "342 of 608 billion input tokens were found in the cache.")
OUTPUT_PER_INPUT = _day_6(168 / 608, "ratio", "168 billion output for 608 billion input tokens.")
SPEED = _day_6(21, "tokens/s", "20 to 22 tokens a second for each user.")
UTILISATION = _day_6(
    226.75 / 278, "share", "A fleet held at its peak all day: mean over peak nodes. 1 is a fleet never idle."
)
STORAGE_USD_PER_GB_MONTH = Sourced(
    value=0.00167,
    unit="USD/GB-month",
    source="ours",
    date=date(2026, 11, 24),
    mark=Mark.OURS,
    note="A drive of about 100 USD a terabyte over five years; not looked up. A cloud asks fifty times that.",
)
STORAGE_HOURS_PER_HIT = Sourced(
    value=24.0,
    unit="h",
    source="ours",
    date=date(2026, 11, 24),
    mark=Mark.OURS,
    note="How long a cached token lies there for each time that it is read; not measured.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What users send: lengths in tokens, `hit_share` of the input found in a cache, speed for each user.

    `context_tokens` is the mean length of the cache while output is made. `prompt_tokens` and
    `completion_tokens` follow from it and the ratio of output to input unless given: context = prompt +
    completion / 2. `tokens_per_second_per_user` null asks for no speed: batches as large as memory allows.
    """

    context_tokens: int = round(CONTEXT_TOKENS.value)
    hit_share: float = HIT_SHARE.value
    output_per_input: float = OUTPUT_PER_INPUT.value
    tokens_per_second_per_user: float | None = SPEED.value

    def __post_init__(self) -> None:
        require_share("the cache hit share", self.hit_share)
        if self.context_tokens < 1:
            raise UserError(f"a context of {self.context_tokens} tokens", "give 1 or more")
        if not 0 < self.output_per_input < float("inf"):
            raise UserError(
                f"{self.output_per_input:g} output tokens for each input token", "give a ratio above 0"
            )
        speed = self.tokens_per_second_per_user
        if speed is not None and not 0 < speed < float("inf"):
            raise UserError(f"a speed of {speed:g} tokens a second", "give one above 0")

    @property
    def prompt_tokens(self) -> int:
        return max(1, round(self.context_tokens / (1 + self.output_per_input / 2)))

    @property
    def input_share(self) -> float:
        """Of all billed tokens."""
        return 1 / (1 + self.output_per_input)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingCase:
    """What a unit cost follows from. `usd_per_device_hour` null is the rent in the accelerator's table."""

    server: Server
    layout: Layout | None = None
    traffic: Traffic = Traffic()
    utilisation: float = UTILISATION.value
    usd_per_device_hour: float | None = None
    storage_usd_per_gb_month: float = STORAGE_USD_PER_GB_MONTH.value
    storage_hours_per_hit: float = STORAGE_HOURS_PER_HIT.value

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise UserError(
                f"a utilisation of {self.utilisation:g}", "give the busy share of the paid hours, 0 to 1"
            )
        if self.usd_per_device_hour is not None and not 0 <= self.usd_per_device_hour < float("inf"):
            raise UserError(f"a rent of {self.usd_per_device_hour:g} USD/h", "a price is not negative")

    @property
    def rent_usd_per_hour(self) -> float:
        """Raises UserError when neither the case nor the accelerator's table has one."""
        if self.usd_per_device_hour is not None:
            return self.usd_per_device_hour
        accelerator = self.server.accelerator
        if accelerator.rent_usd_per_hour is None:
            raise UserError(f"no rental price of {accelerator.name} is known", "supply one with --rent")
        return accelerator.rent_usd_per_hour.value


@dataclass(frozen=True, kw_only=True)
class UnitCost:
    """Dollars per million tokens and what they follow from. Speeds are of busy devices."""

    case: ServingCase
    layout: Layout
    prefill: Prefill
    decode: DecodeStep
    missed_usd: float
    cached_usd: float
    output_usd: float

    @cached_property
    def input_usd(self) -> float:
        """Per billed million of input: (1 - h) missed + h cached."""
        hit = self.case.traffic.hit_share
        return (1 - hit) * self.missed_usd + hit * self.cached_usd

    @cached_property
    def blended_usd(self) -> float:
        """Per million of input and output together, at the traffic's ratio."""
        share = self.case.traffic.input_share
        return share * self.input_usd + (1 - share) * self.output_usd

    @cached_property
    def input_tokens_per_second_per_node(self) -> float:
        """Input tokens including cache hits, of a node that prefills; infinite if all are hits."""
        computed = self.prefill.tokens_per_second_per_device * self._node
        missed = 1 - self.case.traffic.hit_share
        return computed / missed if missed else float("inf")

    @cached_property
    def output_tokens_per_second_per_node(self) -> float:
        return self.decode.tokens_per_second_per_device * self._node

    @cached_property
    def seconds_to_first_token(self) -> float:
        """Prefill of one prompt and sending its cache to the decode unit, without any queue."""
        traffic, accelerator = self.case.traffic, self.case.server.accelerator
        computed = traffic.prompt_tokens * (1 - traffic.hit_share) * self.prefill.seconds
        network = accelerator.network_bandwidth or accelerator.link_bandwidth
        if network is None:
            return computed
        server = self.case.server
        return (
            computed
            + server.architecture.cache_bytes(traffic.prompt_tokens, server.cache_bytes_per_element)
            / network.value
        )

    @property
    def _node(self) -> int:
        return self.case.server.accelerator.devices_per_node


def unit_cost(case: ServingCase) -> UnitCost:
    """The unit cost of a case. Raises UserError for a layout or a context that does not fit."""
    server, traffic = case.server, case.traffic
    limit = server.architecture.max_position_embeddings
    if limit is not None and traffic.context_tokens > limit:
        raise UserError(
            f"a context of {traffic.context_tokens:,} tokens is beyond the model's {limit:,}",
            "give a shorter --context",
        )
    layout = case.layout or layout_for(server, traffic)
    for unit in (layout.prefill, layout.decode):
        check_unit(server, unit)
    filling = prefill(server, layout.prefill, traffic.prompt_tokens, traffic.hit_share)
    batch = choose_batch(server, layout.decode, traffic.context_tokens, traffic.tokens_per_second_per_user)
    step = decode_step(server, layout.decode, batch, traffic.context_tokens)
    rent = case.rent_usd_per_hour
    return UnitCost(
        case=case,
        layout=layout,
        prefill=filling,
        decode=step,
        missed_usd=usd_per_million(rent, filling.tokens_per_second_per_device, case.utilisation),
        cached_usd=cached_usd(case),
        output_usd=usd_per_million(rent, step.tokens_per_second_per_device, case.utilisation),
    )


def layout_for(server: Server, traffic: Traffic) -> Layout:
    """The layout that is taken where a case names none. It takes some milliseconds: keep it."""
    return default_layout(
        server,
        context=traffic.context_tokens,
        prompt_tokens=traffic.prompt_tokens,
        tokens_per_second_per_user=traffic.tokens_per_second_per_user,
    )


def usd_per_million(usd_per_hour: float, tokens_per_second: float, utilisation: float = 1.0) -> float:
    """1e6 x USD/h / (3600 x tokens/s x u), price and speed being of the same machine or machines."""
    return 1e6 * usd_per_hour / (SECONDS_PER_HOUR * tokens_per_second * utilisation)


def cached_usd(case: ServingCase) -> float:
    """Dollars per million tokens found in the cache: lying on a drive, and the time of loading them.

    Loading is charged as if a device waited for it over its network (over nothing, where it has none).
    """
    server = case.server
    num_bytes = server.architecture.kv_bytes_per_token(server.cache_bytes_per_element)
    months = case.storage_hours_per_hit / HOURS_PER_MONTH
    storage = num_bytes / 1e9 * case.storage_usd_per_gb_month * months
    network = server.accelerator.network_bandwidth
    loading = 0.0
    if network is not None:
        loading = num_bytes / network.value * case.rent_usd_per_hour / SECONDS_PER_HOUR / case.utilisation
    return 1e6 * (storage + loading)


def assumptions(case: ServingCase) -> dict[str, Sourced]:
    """Every figure that the cost of a case rests on, where it stands in a table or was taken by default."""
    server, accelerator = case.server, case.server.accelerator
    found: dict[str, Sourced] = dict(server.limits.assumptions())
    found["peak_flops"] = accelerator.peak(server.precision)
    for name in ("memory_bytes", "memory_bandwidth", "link_bandwidth", "network_bandwidth"):
        figure = getattr(accelerator, name)
        if figure is not None:
            found[name] = figure
    if accelerator.rent_usd_per_hour is not None and case.usd_per_device_hour in (
        None,
        accelerator.rent_usd_per_hour.value,
    ):
        found["rent_usd_per_hour"] = accelerator.rent_usd_per_hour
    found["expert_bandwidth"] = EXPERT_BANDWIDTH
    traffic = case.traffic
    for name, value, default in (
        ("context_tokens", traffic.context_tokens, CONTEXT_TOKENS),
        ("hit_share", traffic.hit_share, HIT_SHARE),
        ("output_per_input", traffic.output_per_input, OUTPUT_PER_INPUT),
        ("tokens_per_second_per_user", traffic.tokens_per_second_per_user, SPEED),
        ("utilisation", case.utilisation, UTILISATION),
        ("storage_usd_per_gb_month", case.storage_usd_per_gb_month, STORAGE_USD_PER_GB_MONTH),
        ("storage_hours_per_hit", case.storage_hours_per_hit, STORAGE_HOURS_PER_HIT),
    ):
        if value == default.value:
            found[name] = default
    return found
