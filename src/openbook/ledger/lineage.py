"""Lineage: what a result cost from nothing: its ancestors, and the tries of them that failed.

base (done)   base (failed)          made it: base, zero, student
    zero (done)   zero (killed)      tried in vain: base (failed), zero (killed)
        student   side branch        the rest: side branch
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openbook.errors import UserError, nearest
from openbook.ledger.book import Book
from openbook.ledger.rows import BookedRun
from openbook.ledger.statement import Statement, statement, statement_to_json, usd_text
from openbook.ledger.sums import Sums, sums_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """A result's own cost beside everything else that runs cost.

    `made_it` holds the run and its ancestors; the work in it that was lost on the way is its
    `lost_nano_usd`. `in_vain` holds failed, killed and interrupted runs of the same stage as one of
    those and with the same parents: what it took to get there. `did_not` holds all other runs.
    `missing` are ancestors that were never booked.
    """

    made_it: Statement
    in_vain: Statement
    did_not: Statement
    missing: tuple[str, ...]

    @property
    def total_nano_usd(self) -> int:
        """What the result cost from nothing."""
        return self.made_it.total_nano_usd + self.in_vain.total_nano_usd

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs behind that total."""
        return tuple(row.run_id for row in (*self.made_it.rows, *self.in_vain.rows))


def lineage(source: Book | Sums, run_id: str) -> Lineage:
    """What it took to make a run, ancestors included, and what the rest came to. Raises UserError."""
    sums = sums_of(source)
    runs = sums.runs
    if run_id not in runs:
        raise UserError(f"run {run_id!r} is not in ledger {sums.location}", nearest(run_id, list(runs)))
    made_it, missing = ancestors(runs, [run_id])
    tried = {(runs[name].stage, frozenset(runs[name].parents)) for name in made_it}
    in_vain = {
        name
        for name, run in runs.items()
        if name not in made_it and run.status.is_lost and (run.stage, frozenset(run.parents)) in tried
    }
    return Lineage(
        made_it=statement(sums, sorted(made_it)),
        in_vain=statement(sums, sorted(in_vain)),
        did_not=statement(sums, sorted(runs.keys() - made_it - in_vain)),
        missing=tuple(sorted(missing)),
    )


def ancestors(runs: Mapping[str, BookedRun], names: Sequence[str]) -> tuple[set[str], set[str]]:
    """These runs and all that they were made from, and those of them that are not known."""
    found, missing, to_visit = set[str](), set[str](), list(names)
    while to_visit:
        name = to_visit.pop()
        if name not in runs:
            missing.add(name)
        elif name not in found:
            found.add(name)
            to_visit += runs[name].parents
    return found, missing


def lineage_to_json(found: Lineage) -> dict[str, Any]:
    """A lineage for machines."""
    return {
        "made_it": statement_to_json(found.made_it),
        "in_vain": statement_to_json(found.in_vain),
        "did_not": statement_to_json(found.did_not),
        "missing": list(found.missing),
        "total_nano_usd": found.total_nano_usd,
        "total_usd": usd_text(found.total_nano_usd),
    }
