"""Accounts: what money goes to, and the units in which each of them is counted.

A price unit buys so many units of quantity: a device-hour buys 3600 device-seconds. Device time is
counted in seconds and energy in joules because microseconds and microjoules, which is what clocks
and meters give, are no finite decimals of an hour or of a kilowatt-hour.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbook.errors import UserError, nearest

# What a price is for -> the unit in which the quantity is counted, and how many of it one price buys.
PRICE_UNITS = {
    "device-hour": ("device-second", 3600),
    "kilowatt-hour": ("joule", 3_600_000),
    "token": ("token", 1),
    "million-tokens": ("token", 1_000_000),
    "hour": ("hour", 1),
    "gigabyte": ("gigabyte", 1),
    "gigabyte-month": ("gigabyte-month", 1),
    "day": ("day", 1),
    "month": ("month", 1),
    "item": ("item", 1),
    "usd": ("usd", 1),  # a sum of money that nobody broke down: so many dollars at one dollar each
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One kind of spending: its name in the ledger, a title, and the units its quantities may have."""

    name: str
    title: str
    units: tuple[str, ...]


ACCOUNTS = {
    account.name: account
    for account in (
        Account(name="device", title="compute", units=("device-second",)),
        Account(name="idle", title="idle devices", units=("device-second",)),
        Account(name="energy", title="energy", units=("joule", "usd")),
        Account(name="prompt_tokens", title="tokens read", units=("token",)),
        Account(name="cached_tokens", title="tokens found in the cache", units=("token",)),
        Account(name="completion_tokens", title="tokens sampled", units=("token",)),
        Account(name="trained_tokens", title="tokens trained on", units=("token",)),
        Account(name="teacher_tokens", title="tokens of a teacher", units=("token", "usd")),
        Account(name="data", title="data", units=("token", "gigabyte", "item", "hour", "usd")),
        Account(name="staff", title="staff", units=("hour", "usd")),
        Account(name="storage", title="storage", units=("gigabyte-month", "usd")),
        Account(name="hardware", title="hardware bought", units=("item", "usd")),
        Account(name="depreciation", title="depreciation", units=("day", "month", "usd")),
        Account(name="recovered", title="depreciation charged to runs already", units=("usd",)),
        Account(name="other", title="other", units=("item", "hour", "month", "usd")),
    )
}


def find_account(name: str) -> Account:
    """The account of this name. Raises UserError with the nearest when there is none."""
    if name not in ACCOUNTS:
        raise UserError(f"there is no account {name!r}", nearest(name, list(ACCOUNTS)))
    return ACCOUNTS[name]
