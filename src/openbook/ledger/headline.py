"""The three totals: what a figure such as "$6 million" says, and what it leaves out.

    headline            the kept device time of the runs that made it: the figure that is usually quoted
    1 the run           all that its runs took: lost work and failed tries of its stages too
    2 owned hardware    what the machines cost, used or idle
    3 whole programme   every entry: people, data, failures and experiments; machines by depreciation

They answer different questions and are never added. The same run differs by up to two orders of
magnitude between them (facts of 7.2, 7.3), which is why each bears its label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openbook.ledger.accounts import ACCOUNTS
from openbook.ledger.book import Book
from openbook.ledger.hardware import Ownership
from openbook.ledger.lineage import Lineage
from openbook.ledger.statement import statement, usd_text
from openbook.ledger.sums import Sums, sums_of

BOUGHT, USED_UP, IDLE, VALUE = "bought", "used up so far", "of that idle", "still worth"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One labelled total. `parts` say what it is made of or, for owned hardware, how far it is used up."""

    label: str
    amount_nano_usd: int
    parts: Mapping[str, int]

    def left_out(self, headline_nano_usd: int) -> float | None:
        """The share of it that the headline leaves out; negative if the headline is more; None of nothing."""
        return 1 - headline_nano_usd / self.amount_nano_usd if self.amount_nano_usd else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """The headline and the three totals. `owned` is None while no hardware is entered."""

    headline: Figure
    run: Figure
    owned: Figure | None
    programme: Figure


def totals_of_runs(source: Book | Sums, run_ids: Sequence[str] | None = None) -> Totals:
    """Of these runs (default: all): what is done made it, everything else did not. Raises UserError."""
    sums = sums_of(source)
    rows = statement(sums, run_ids).rows
    made_it = [row.run_id for row in rows if not row.status.is_lost]
    in_vain = [row.run_id for row in rows if row.status.is_lost]
    return _totals(sums, made_it, in_vain, "the runs, at the margin")


def totals_of_lineage(source: Book | Sums, found: Lineage) -> Totals:
    """Of a result: its ancestors made it, and the failed tries of their stages were on the way."""
    return _totals(
        sums_of(source),
        [row.run_id for row in found.made_it.rows],
        [row.run_id for row in found.in_vain.rows],
        "this result from nothing, at the margin",
    )


def _totals(sums: Sums, made_it: Sequence[str], in_vain: Sequence[str], label: str) -> Totals:
    made = sums.by_account(made_it)
    device, device_lost = made.get("device", (0, 0))
    tried = sum(amount for amount, _ in sums.by_account(in_vain).values())
    all_made = sum(amount for amount, _ in made.values())
    lost = sum(lost for _, lost in made.values())
    kept = device - device_lost
    everything = sums.by_account()
    bought = sum(one.hardware.cost_nano_usd for one in sums.owned)
    # The price of machines is in the programme day by day; what was bought and is not depreciated, at once.
    programme = {
        ACCOUNTS[account].title: amount - (bought if account == "hardware" else 0)
        for account, (amount, _) in everything.items()
    }
    programme = {title: amount for title, amount in programme.items() if amount}
    return Totals(
        headline=Figure(
            label=f"the kept work of {_num_runs(made_it)} that made it",
            amount_nano_usd=kept,
            parts={"compute": kept},
        ),
        run=Figure(
            label=label,
            amount_nano_usd=all_made + tried,
            parts=_not_zero(
                {
                    "compute that was kept": kept,
                    "work done twice": lost,
                    f"{_num_runs(in_vain)} in vain": tried,
                    "all else entered for these runs": all_made - kept - lost,
                }
            ),
        ),
        owned=_owned(sums.owned) if sums.owned else None,
        programme=Figure(
            label="the whole programme", amount_nano_usd=sum(programme.values()), parts=programme
        ),
    )


def _owned(owned: Sequence[Ownership]) -> Figure:
    bought = sum(one.hardware.cost_nano_usd for one in owned)
    return Figure(
        label="the owned hardware",
        amount_nano_usd=bought,
        parts={
            BOUGHT: bought,
            USED_UP: sum(one.used_up_nano_usd for one in owned),
            IDLE: sum(one.idle_nano_usd for one in owned),
            VALUE: sum(one.value_nano_usd for one in owned),
        },
    )


def _num_runs(run_ids: Sequence[str]) -> str:
    return "1 run" if len(run_ids) == 1 else f"{len(run_ids)} runs"


def _not_zero(parts: Mapping[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in parts.items() if amount}


def totals_to_json(found: Totals) -> dict[str, Any]:
    """The totals for machines; shares are fractions, None where there is nothing to take a share of."""
    headline = found.headline.amount_nano_usd
    return {
        "headline": _figure_to_json(found.headline),
        **{
            name: None
            if figure is None
            else {**_figure_to_json(figure), "left_out_by_headline": figure.left_out(headline)}
            for name, figure in (
                ("this_run", found.run),
                ("owned_hardware", found.owned),
                ("whole_programme", found.programme),
            )
        },
    }


def _figure_to_json(figure: Figure) -> dict[str, Any]:
    return {
        "label": figure.label,
        "amount_nano_usd": figure.amount_nano_usd,
        "amount_usd": usd_text(figure.amount_nano_usd),
        "parts_nano_usd": dict(figure.parts),
    }
