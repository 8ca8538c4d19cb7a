"""Budgets that several clients share: no order of holds and settlements goes over the cap."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from openbook.errors import UserError
from openbook.ledger.book import Book
from openbook.ledger.budget import Budget, TooLittleLeft
from openbook.ledger.cap import parse_cap

DOLLAR = 10**9


@pytest.fixture
def book(location: str) -> Iterator[Book]:
    with Book.open(location, busy_timeout_seconds=60) as book:
        yield book


def test_what_is_held_is_not_free_and_what_was_not_spent_is_free_again(book: Book) -> None:
    budget = Budget.open(book, "key-7", parse_cap("$5"))
    first = budget.hold(3 * DOLLAR, holder="request 1")
    assert (budget.state().held, budget.state().left) == (3 * DOLLAR, 2 * DOLLAR)
    with pytest.raises(
        TooLittleLeft, match=r"budget 'key-7' of \$5.00 has \$2.00 left, and \$2.50 may be needed"
    ):
        budget.hold(5 * DOLLAR // 2)
    assert budget.open_holds() == (first,)
    budget.settle(first, DOLLAR)
    state = budget.state()
    assert (state.spent, state.held, state.left) == (DOLLAR, 0, 4 * DOLLAR)
    assert budget.open_holds() == ()
    budget.hold(4 * DOLLAR)
    with pytest.raises(TooLittleLeft):
        budget.hold(1)


def test_a_hold_is_settled_once_and_for_no_more_than_was_held(book: Book) -> None:
    budget = Budget.open(book, "b", parse_cap("100 tokens"))
    hold = budget.hold(60)
    with pytest.raises(AssertionError, match="61 was spent of 60"):
        budget.settle(hold, 61)
    budget.settle(hold, 60)
    with pytest.raises(AssertionError, match="settled before"):
        budget.settle(hold, 60)
    assert budget.state().spent == 60


def test_a_cap_can_be_raised_and_lowered_but_counts_what_it_counted(book: Book) -> None:
    budget = Budget.open(book, "b", parse_cap("100 tokens"))
    budget.settle(budget.hold(80), 80)
    again = Budget.open(book, "b", parse_cap("50 tokens"))
    assert again.state().left == -30
    with pytest.raises(TooLittleLeft, match="has 0 tokens left"):
        again.hold(1)
    Budget.open(book, "b", parse_cap("90 tokens"))
    again.hold(10)
    with pytest.raises(UserError, match="budget 'b' counts tokens, not usd"):
        Budget.open(book, "b", parse_cap("$1"))


def spend_until_refused(location: str, seed: int) -> tuple[int, int]:
    """Hold, settle less, until nothing fits -> what was settled, and how often the cap was seen exceeded."""
    draw = random.Random(seed)
    spent = num_exceeded = 0
    with Book.open(location, busy_timeout_seconds=60) as book:
        budget = Budget(book, "shared")
        for _ in range(6):
            try:
                hold = budget.hold(draw.randrange(1, 100))
            except TooLittleLeft:
                break
            state = budget.state()
            num_exceeded += state.spent + state.held > state.cap.most
            used = draw.randrange(hold.amount + 1)
            budget.settle(hold, used)
            spent += used
    return spent, num_exceeded


def test_64_clients_at_once_never_exceed_the_cap(location: str) -> None:
    with Book.open(location) as book:
        budget = Budget.open(book, "shared", parse_cap("1500 tokens"))
        with ThreadPoolExecutor(64) as pool:
            results = list(pool.map(spend_until_refused, [location] * 64, range(64)))
        state = budget.state()
        assert sum(exceeded for _, exceeded in results) == 0
        assert state.spent == sum(spent for spent, _ in results) <= 1500
        assert state.held == 0 and budget.open_holds() == ()


def test_processes_share_a_budget_and_one_that_is_killed_leaves_its_hold(location: str) -> None:
    code = (
        "import os, signal, sys\n"
        "from openbook.ledger.book import Book\n"
        "from openbook.ledger.budget import Budget\n"
        "budget = Budget(Book.open(sys.argv[1], busy_timeout_seconds=60), 'shared')\n"
        "budget.settle(budget.hold(10), 4)\n"
        "budget.hold(20, holder='lost')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with Book.open(location) as book:
        budget = Budget.open(book, "shared", parse_cap("60 tokens"))
        clients = [subprocess.Popen([sys.executable, "-c", code, location]) for _ in range(2)]
        assert [client.wait() for client in clients] == [-9, -9]
        state = budget.state()
        assert (state.spent, state.held, state.left) == (8, 40, 12)
        assert [hold.holder for hold in budget.open_holds()] == ["lost", "lost"]
        for hold in budget.open_holds():
            budget.settle(hold, hold.amount)  # the worst that may have happened
        assert (budget.state().spent, budget.state().left) == (48, 12)
