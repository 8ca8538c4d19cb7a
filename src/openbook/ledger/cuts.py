"""Cuts: what a line of a statement is. Apart from the statement, so that a help page needs no database."""

from __future__ import annotations

from enum import StrEnum


class Cut(StrEnum):
    """What a line of a statement is."""

    RUN = "run"
    STAGE = "stage"
    STATUS = "status"
    ACCOUNT = "account"
    MONTH = "month"
    DAY = "day"
    PROGRAMME = "programme"
