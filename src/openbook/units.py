"""Money, time, bytes and counts: exact where they are added up, readable where they are shown.

Money is an integer number of nano-dollars (1e-9 USD), so sums are exact and fit a 64-bit
column; it becomes a Decimal of dollars only to be shown or multiplied by a price.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

NANO_USD_PER_USD = 10**9
MICROSECONDS_PER_SECOND = 10**6


def to_nano_usd(usd: Decimal) -> int:
    """Dollars to integer nano-dollars, rounded half to even."""
    return int((usd * NANO_USD_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN))


def to_usd(nano_usd: int) -> Decimal:
    """Integer nano-dollars to an exact Decimal of dollars."""
    return Decimal(nano_usd) / NANO_USD_PER_USD


def show_usd(nano_usd: int) -> str:
    """`$1,234.50`, or as many decimals as a small amount needs: `$0.000047`."""
    if nano_usd < 0:
        return f"-{show_usd(-nano_usd)}"
    usd = to_usd(nano_usd)
    if usd and usd < Decimal("0.01"):
        digits = max(2, 1 - usd.adjusted())
        return f"${usd:,.{digits}f}"
    return f"${usd:,.{2 if usd >= 1 else 4}f}"


def show_share(share: float) -> str:
    """`12.3 %`, with the decimals that tell it from the whole: `99.9997 %`."""
    percent = share * 100
    for digits in range(1, 7):
        if round(percent, digits) < 100 or share == 1:
            return f"{percent:.{digits}f} %"
    return "over 99.999999 %"


def show_seconds(seconds: float) -> str:
    """`0.42 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def show_bytes(num_bytes: float) -> str:
    """`512 B`, `1.5 MB`, `4.0 GB` (decimal units)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(num_bytes) < 1000 or unit == "TB":
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    raise AssertionError("unreachable")


def show_count(count: float) -> str:
    """`950`, `12.3K`, `1.5M`, `671.0B`, `14.8T`."""
    for unit in ("", "K", "M", "B", "T"):
        if abs(count) < 1000 or unit == "T":
            return f"{count:.0f}" if unit == "" else f"{count:.1f}{unit}"
        count /= 1000
    raise AssertionError("unreachable")
