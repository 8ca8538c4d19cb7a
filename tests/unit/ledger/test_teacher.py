from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from openbook.errors import UserError
from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.prices import PricePlan
from openbook.ledger.statement import statement
from openbook.ledger.teacher import TeacherPrice, book_teacher
from openbook.runs.run import Run
from openbook.runs.usage import Usage

R1 = TeacherPrice(
    output_usd=Decimal("2.19"), input_usd=Decimal("0.55"), source="R1 at launch", day=date(2025, 1, 20)
)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with Book.open(tmp_path / "ledger.db") as book:
        yield book


def a_run(folder: Path, *usages: Usage) -> Run:
    run = Run.create(folder, verb="distill", stage="distill", recipe={}, seed=1)
    run.start()
    for usage in usages:
        run.record(usage)
    run.finish()
    return run


def test_tokens_before_the_first_step_are_the_teachers(book: Book, tmp_path: Path) -> None:
    run = a_run(
        tmp_path / "run",
        Usage(completion_tokens=600_000, prompt_tokens=10_000, cached_tokens=90_000),
        Usage(completion_tokens=400_000),
        Usage(trained_tokens=500),
        Usage(completion_tokens=123),  # the student's examination
    )
    with pytest.raises(UserError, match=r"is not in ledger .*`openbook bill` books it"):
        book_teacher(book, run, R1)
    book_run(book, run, PricePlan.default())
    assert len(book_teacher(book, run, R1)) == 2
    row = statement(book).rows[0]
    assert row.amounts["teacher_tokens"] == 2_190_000_000 + 55_000_000
    assert row.num_tokens["teacher_tokens"] == 1_100_000
    assert verify(book, [run]) == ()
    with pytest.raises(UserError, match="in the books already"):
        book_teacher(book, run, R1)


def test_a_run_without_a_teacher_is_refused(book: Book, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", Usage(trained_tokens=5), Usage(completion_tokens=5))
    book_run(book, run, PricePlan.default())
    with pytest.raises(UserError, match="sampled nothing before it learned"):
        book_teacher(book, run, R1)
