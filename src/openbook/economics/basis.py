"""Quantities that carry the basis they were counted on, and refuse arithmetic across two. No torch.

A GAAP profit over an adjusted profit per share, cash capex less capex with leases, a utilisation of the FP8
peak beside one of the BF16 peak: each is two right numbers and one wrong answer. Here the two never meet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from openbook.errors import UserError


class Basis(StrEnum):
    """What a quantity was counted on. Bases of one family exclude each other."""

    GAAP = "GAAP"
    NON_GAAP = "non-GAAP"
    CASH_CAPEX = "cash paid for property and equipment"
    LEASE_CAPEX = "capex including finance leases"
    BF16_PEAK = "of the BF16 peak"
    FP8_PEAK = "of the FP8 peak"
    CAUSAL = "causal attention counted half"
    FULL = "attention counted in full"
    PLAIN = "no basis that matters"


_REASONS = {
    frozenset({Basis.GAAP, Basis.NON_GAAP}): (
        "adjusted (non-GAAP) figures leave out what GAAP counts, such as gains on investments"
    ),
    frozenset({Basis.CASH_CAPEX, Basis.LEASE_CAPEX}): (
        "finance leases are capex that no cash was paid for yet; only the cash one belongs in free cash flow"
    ),
    frozenset({Basis.BF16_PEAK, Basis.FP8_PEAK}): (
        "the FP8 peak is twice the BF16 peak, so one utilisation is half the other for the same speed"
    ),
    frozenset({Basis.CAUSAL, Basis.FULL}): (
        "full attention counts twice the scores that a causal kernel computes"
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """`value` in `unit`, counted on `basis`. `+ - /` and comparisons need one basis on both sides.

    Plain quantities (shares of stock, hours) go with every basis in products and quotients. A sum
    needs equal units as well. Example: net income 38.46 (GAAP) / earnings a share 4.14 (non-GAAP)
    raises UserError, for it would give 9.29 billion shares where there are 7.45.
    """

    value: float
    unit: str
    basis: Basis
    name: str = ""

    def __add__(self, other: Quantity) -> Quantity:
        self._require_same(other, "add")
        return replace(self, value=self.value + other.value, name="")

    def __sub__(self, other: Quantity) -> Quantity:
        self._require_same(other, "subtract")
        return replace(self, value=self.value - other.value, name="")

    def __truediv__(self, other: Quantity) -> Quantity:
        """The quotient. Of two quantities on one basis it is a plain number or a plain ratio of units."""
        self._require_basis(other, "divide")
        if other.value == 0:
            raise UserError(f"cannot divide {self} by zero")
        unit = "1" if self.unit == other.unit else f"{self.unit} per {other.unit}"
        basis = self.basis if other.basis is Basis.PLAIN else Basis.PLAIN
        return Quantity(value=self.value / other.value, unit=unit, basis=basis)

    def __mul__(self, factor: float) -> Quantity:
        return replace(self, value=self.value * factor)

    def __lt__(self, other: Quantity) -> bool:
        self._require_same(other, "compare")
        return self.value < other.value

    def __le__(self, other: Quantity) -> bool:
        self._require_same(other, "compare")
        return self.value <= other.value

    def __str__(self) -> str:
        what = f"{self.name} " if self.name else ""
        return f"{what}{self.value:g} {self.unit} ({self.basis})"

    def _require_same(self, other: Quantity, verb: str) -> None:
        if self.basis is not other.basis:
            self._refuse(other, verb)
        if self.unit != other.unit:
            raise UserError(f"cannot {verb} {self} and {other}", "their units differ")

    def _require_basis(self, other: Quantity, verb: str) -> None:
        if self.basis is not other.basis and Basis.PLAIN not in (self.basis, other.basis):
            self._refuse(other, verb)

    def _refuse(self, other: Quantity, verb: str) -> None:
        reason = _REASONS.get(frozenset({self.basis, other.basis}), "they do not measure the same thing")
        raise UserError(f"cannot {verb} {self} and {other}: {reason}", "bring both to one basis first")
