"""Budgets in the database: whoever is about to spend holds the worst case first, and settles after.

    budget = Budget.open(book, "key-7", parse_cap("$5"))
    hold = budget.hold(worst_case)     TooLittleLeft when it does not fit
    ...                                the work
    budget.settle(hold, spent)         at most what was held; the rest is free again

At every moment, whoever asks from wherever: spent + held <= cap. A hold is one statement that looks and
takes at once, so two clients never both get what is left only once. A hold whose holder died stays
until it is settled: what it spent is not known, and the cap holds either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from openbook.errors import UserError
from openbook.ledger.book import Book
from openbook.ledger.cap import Cap, Meter, show_amount
from openbook.ledger.schema import budgets_table, holds_table


class TooLittleLeft(UserError):
    """A hold does not fit under the cap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """So much was set aside for `holder`, in the smallest unit of the budget's meter."""

    number: int
    budget: str
    amount: int
    holder: str
    held_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetState:
    """Where a budget stands: its cap, what was settled, and what is held."""

    name: str
    cap: Cap
    spent: int
    held: int

    @property
    def left(self) -> int:
        """What can still be held; below zero after the cap was lowered under what is spent."""
        return self.cap.most - self.spent - self.held


class Budget:
    """A named budget in a book; any number of processes may have it open."""

    def __init__(self, book: Book, name: str) -> None:
        self._book = book
        self.name = name

    @classmethod
    def open(cls, book: Book, name: str, cap: Cap) -> Budget:
        """The budget of this name, with this cap from now on. Raises UserError if it counts otherwise."""
        with book.writing() as connection:
            row = _find(connection, name)
            if row is None:
                values = {"name": name, "meter": str(cap.meter), "most": cap.most, "spent": 0, "held": 0}
                connection.execute(insert(budgets_table).values(values))
            elif row["meter"] != cap.meter:
                raise UserError(f"budget {name!r} counts {row['meter']}, not {cap.meter}", "name another one")
            else:
                connection.execute(_one(name).values(most=cap.most))
        return cls(book, name)

    def hold(self, amount: int, *, holder: str = "") -> Hold:
        """Set so much aside: the most that the work can take. Raises TooLittleLeft if it does not fit."""
        assert amount >= 0, "a hold is not negative"
        columns, now = budgets_table.c, datetime.now(UTC)
        with self._book.writing() as connection:
            fits = columns.spent + columns.held + amount <= columns.most
            taken = connection.execute(_one(self.name).where(fits).values(held=columns.held + amount))
            if not taken.rowcount:
                state = _state(connection, self.name)
                raise TooLittleLeft(
                    f"budget {self.name!r} of {state.cap.show()} has {_show(state, state.left)} left, "
                    f"and {_show(state, amount)} may be needed",
                    "ask for less, or raise it",
                )
            values = {"budget": self.name, "amount": amount, "holder": holder, "held_at": now.isoformat()}
            number = connection.execute(insert(holds_table).values(values)).inserted_primary_key
            assert number is not None
        return Hold(number=number[0], budget=self.name, amount=amount, holder=holder, held_at=now)

    def settle(self, hold: Hold, amount: int) -> None:
        """Enter what the work took, at most what was held, and free the rest. A second time is a mistake."""
        assert 0 <= amount <= hold.amount, f"{amount} was spent of {hold.amount} that were held"
        now, columns = datetime.now(UTC).isoformat(), budgets_table.c
        with self._book.writing() as connection:
            settled = connection.execute(
                update(holds_table)
                .where(holds_table.c.number == hold.number, holds_table.c.settled_at.is_(None))
                .values(settled_amount=amount, settled_at=now)
            )
            assert settled.rowcount == 1, f"hold {hold.number} was settled before"
            connection.execute(
                _one(self.name).values(held=columns.held - hold.amount, spent=columns.spent + amount)
            )

    def state(self) -> BudgetState:
        """Where it stands now."""
        with self._book.reading() as connection:
            return _state(connection, self.name)

    def open_holds(self) -> tuple[Hold, ...]:
        """What is held and not settled, oldest first: a server that starts again finds its own here."""
        query = select(holds_table).where(
            holds_table.c.budget == self.name, holds_table.c.settled_at.is_(None)
        )
        with self._book.reading() as connection:
            rows = connection.execute(query.order_by(holds_table.c.number)).mappings().all()
        return tuple(
            Hold(
                number=row["number"],
                budget=row["budget"],
                amount=row["amount"],
                holder=row["holder"],
                held_at=datetime.fromisoformat(row["held_at"]),
            )
            for row in rows
        )


def _one(name: str) -> Any:
    return update(budgets_table).where(budgets_table.c.name == name)


def _find(connection: Connection, name: str) -> Mapping[str, Any] | None:
    query = select(budgets_table).where(budgets_table.c.name == name)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


def _state(connection: Connection, name: str) -> BudgetState:
    row = _find(connection, name)
    assert row is not None, f"budget {name!r} was opened before it was asked"
    cap = Cap(meter=Meter(row["meter"]), most=row["most"])
    return BudgetState(name=name, cap=cap, spent=row["spent"], held=row["held"])


def _show(state: BudgetState, amount: int) -> str:
    return show_amount(state.cap.meter, max(0, amount))
