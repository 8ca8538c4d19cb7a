"""A teacher's tokens at a list price: what the answers that a run learned from cost, or would have cost.

Distillation on one's own machine pays the teacher by its device time. Where the teacher was somebody
else's, or to say what it would cost as an API (facts B40), its tokens are entered beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date
from decimal import Decimal

from openbook.errors import UserError
from openbook.ledger.book import Book
from openbook.ledger.stated import Stated, stated_entry
from openbook.runs.run import Run, UsageLine

PREFIX = "teacher:"


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherPrice:
    """Dollars per million tokens sampled and read, who asks so much, and from when."""

    output_usd: Decimal
    input_usd: Decimal
    source: str
    day: date


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherTokens:
    """What was sampled and read before the student first learned; cached tokens count as read."""

    completion_tokens: int
    prompt_tokens: int


def teacher_tokens(lines: Sequence[UsageLine]) -> TeacherTokens:
    """The teacher's part of a run's usage: all sampling that came before the first step of learning."""
    first = next((place for place, line in enumerate(lines) if line.usage.trained_tokens), len(lines))
    before = [line.usage for line in lines[:first]]
    return TeacherTokens(
        completion_tokens=sum(usage.completion_tokens for usage in before),
        prompt_tokens=sum(usage.prompt_tokens + usage.cached_tokens for usage in before),
    )


def book_teacher(book: Book, run: Run, price: TeacherPrice) -> tuple[int, ...]:
    """Enter a run's teacher tokens at a price -> the numbers of the entries. Raises UserError.

    A second time is refused: `openbook ledger reverse` takes the first back.
    """
    run_id, lines = run.manifest.id, run.usage_lines()
    tokens = teacher_tokens(lines)
    if not tokens.completion_tokens:
        raise UserError(f"run {run_id} sampled nothing before it learned", "name a distillation")
    day = lines[0].time.astimezone(UTC).date()
    entries = [
        stated_entry(
            Stated(
                account="teacher_tokens",
                quantity=Decimal(count).scaleb(-6),
                unit="million-tokens",
                price_usd=usd,
                source=price.source,
                day=day,
                price_date=price.day,
                note=f"tokens that the teacher {what}",
                run_id=run_id,
                external_id=f"{PREFIX}{run_id}:{what}",
            )
        )
        for what, count, usd in (
            ("sampled", tokens.completion_tokens, price.output_usd),
            ("read", tokens.prompt_tokens, price.input_usd),
        )
        if usd and count
    ]
    with book.changing() as change:
        if change.run(run_id) is None:
            raise UserError(f"run {run_id} is not in ledger {book.location}", "`openbook bill` books it")
        if change.known_external_ids(entry.external_id for entry in entries):
            raise UserError(
                f"the teacher of run {run_id} is in the books already",
                "take it back by `openbook ledger reverse`",
            )
        return tuple(change.append(entries))
