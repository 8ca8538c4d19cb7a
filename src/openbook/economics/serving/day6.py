"""The one published day of a large service, and what follows from it by arithmetic. No torch.

Source: deepseek-ai/open-infra-index, day 6: 24 hours to 28 February 2025, 12:00 UTC+8, V3 and R1 on H800.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from openbook.economics.serving.margin import Margin
from openbook.ledger.metering import TokenPrices, TokenUsage, charge
from openbook.units import to_usd

R1_PRICES = TokenPrices(missed_usd=Decimal("0.55"), cached_usd=Decimal("0.14"), output_usd=Decimal("2.19"))
V3_PRICES = TokenPrices(missed_usd=Decimal("0.27"), cached_usd=Decimal("0.07"), output_usd=Decimal("1.10"))
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """A day of a service: tokens, nodes and the tokens a second that a node was said to do.

    `input_per_second` counts cache hits; a node does one of the two at a time.
    """

    input_tokens: int
    hit_tokens: int
    output_tokens: int
    mean_nodes: float
    peak_nodes: float
    devices_per_node: int
    usd_per_device_hour: float
    input_per_second: float
    output_per_second: float
    tokens_per_second_per_user: float

    @property
    def cost_usd(self) -> float:
        return self.mean_nodes * self.usd_per_node_hour * 24

    @property
    def usd_per_node_hour(self) -> float:
        return self.devices_per_node * self.usd_per_device_hour

    @property
    def hit_share(self) -> float:
        return self.hit_tokens / self.input_tokens

    @property
    def prefill_node_days(self) -> float:
        return self.input_tokens / self.input_per_second / SECONDS_PER_DAY

    @property
    def decode_node_days(self) -> float:
        return self.output_tokens / self.output_per_second / SECONDS_PER_DAY

    @property
    def node_days(self) -> float:
        """From the published throughputs, to be held against `mean_nodes`."""
        return self.prefill_node_days + self.decode_node_days

    @property
    def input_usd(self) -> float:
        """Dollars per million input tokens, hits included."""
        return 1e6 * self.usd_per_node_hour / 3600 / self.input_per_second

    @property
    def missed_usd(self) -> float:
        """Dollars per million input tokens that were computed, if hits cost nothing."""
        return self.input_usd / (1 - self.hit_share)

    @property
    def output_usd(self) -> float:
        return 1e6 * self.usd_per_node_hour / 3600 / self.output_per_second

    @property
    def blended_usd(self) -> float:
        """Dollars per million tokens of either kind, from the day's whole cost."""
        return self.cost_usd / (self.input_tokens + self.output_tokens) * 1e6

    @property
    def mean_streams(self) -> float:
        """Users being written to at once."""
        return self.output_tokens / SECONDS_PER_DAY / self.tokens_per_second_per_user

    def margin(self, prices: TokenPrices) -> Margin:
        """If every token were billed at `prices`; the real revenue of the day was much lower."""
        usage = TokenUsage(
            prompt_tokens=self.input_tokens,
            cached_tokens=self.hit_tokens,
            completion_tokens=self.output_tokens,
        )
        revenue = float(to_usd(charge(usage, prices).nano_usd))
        return Margin(revenue_usd=revenue, cost_usd=self.cost_usd)


DAY_6 = Day(
    input_tokens=608 * 10**9,
    hit_tokens=342 * 10**9,
    output_tokens=168 * 10**9,
    mean_nodes=226.75,
    peak_nodes=278,
    devices_per_node=8,
    usd_per_device_hour=2.0,
    input_per_second=73_700,
    output_per_second=14_800,
    tokens_per_second_per_user=21,
)
