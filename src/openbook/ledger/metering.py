"""What the tokens of one request come to: each token is charged once. No torch.

The common API counts cached tokens inside `prompt_tokens` and reasoning inside `completion_tokens`:

    charge = (prompt - cached) p_missed + cached p_cached + completion p_output

A TokenUsage that breaks either rule cannot be made, and `charge` takes no part twice. 2,006 prompt tokens
of which 1,920 cached, and 300 out, at 0.55, 0.14 and 2.19 dollars a million, are $0.0009731.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from openbook.errors import UserError
from openbook.runs.usage import Usage
from openbook.units import NANO_USD_PER_USD, to_usd

TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenUsage:
    """The tokens of a request as the common API reports them.

    `prompt_tokens` includes `cached_tokens`, `completion_tokens` includes `reasoning_tokens`. Raises
    UserError for counts that cannot be so.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}", "a count of tokens is not negative")
        if self.cached_tokens > self.prompt_tokens:
            raise UserError(
                f"{self.cached_tokens:,} cached of {self.prompt_tokens:,} prompt tokens",
                "prompt_tokens includes the cached ones: add them up before they are charged",
            )
        if self.reasoning_tokens > self.completion_tokens:
            raise UserError(
                f"{self.reasoning_tokens:,} reasoning of {self.completion_tokens:,} completion tokens",
                "completion_tokens includes the reasoning: add it up before it is charged",
            )

    @property
    def missed_tokens(self) -> int:
        """Prompt tokens that were not in the cache and had to be computed."""
        return self.prompt_tokens - self.cached_tokens

    @classmethod
    def of_run(cls, usage: Usage) -> TokenUsage:
        """From the counts of a run, whose `prompt_tokens` are the computed ones alone.

        Tokens guessed in vain or computed again are the server's own affair and are not charged.
        """
        return cls(
            prompt_tokens=usage.prompt_tokens + usage.cached_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.thinking_tokens,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenPrices:
    """Dollars per million tokens: computed input, cached input, output."""

    missed_usd: Decimal
    cached_usd: Decimal
    output_usd: Decimal

    def __post_init__(self) -> None:
        for name in ("missed_usd", "cached_usd", "output_usd"):
            price = getattr(self, name)
            if not price.is_finite() or price < 0:
                raise UserError(f"{name} is {price}", "a price is a number that is not negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """What a request came to, by meter, in exact dollars; `nano_usd` is their sum, rounded once."""

    missed_usd: Decimal
    cached_usd: Decimal
    output_usd: Decimal
    nano_usd: int


def charge(usage: TokenUsage, prices: TokenPrices) -> Charge:
    """Charge each token once. Exact but for one rounding to nano-dollars, half to even."""
    missed = _exact(usage.missed_tokens, prices.missed_usd)
    cached = _exact(usage.cached_tokens, prices.cached_usd)
    output = _exact(usage.completion_tokens, prices.output_usd)
    return Charge(
        missed_usd=_usd(missed),
        cached_usd=_usd(cached),
        output_usd=_usd(output),
        nano_usd=round((missed + cached + output) * NANO_USD_PER_USD),
    )


def check_charge(usage: TokenUsage, prices: TokenPrices, billed_nano_usd: int) -> None:
    """Raise UserError when a bill is not what `charge` makes of it, naming the usual mistake if it is one."""
    right = charge(usage, prices).nano_usd
    if billed_nano_usd == right:
        return
    cached_twice = _exact(usage.cached_tokens, prices.missed_usd)
    reasoning_twice = _exact(usage.reasoning_tokens, prices.output_usd)
    mistakes = {
        "cached tokens are charged as missed and again as cached": cached_twice,
        "reasoning tokens are charged inside the completion and again beside it": reasoning_twice,
        "cached tokens and reasoning tokens are both charged twice": cached_twice + reasoning_twice,
    }
    why = "the tokens do not come to that"
    for name, extra in mistakes.items():
        if extra and abs(billed_nano_usd - right - extra * NANO_USD_PER_USD) <= 1:
            why = name
            break
    raise UserError(f"a bill of ${to_usd(billed_nano_usd)} is wrong: {why}", f"it should be ${to_usd(right)}")


def _exact(num_tokens: int, usd_per_million: Decimal) -> Fraction:
    return Fraction(usd_per_million) * num_tokens / TOKENS_PER_PRICE


def _usd(value: Fraction) -> Decimal:
    """Exact: a decimal price over a power of ten is a finite decimal."""
    return Decimal(value.numerator) / Decimal(value.denominator)
