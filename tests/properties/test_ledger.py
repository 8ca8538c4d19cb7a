"""Whatever happens to a run, the ledger says usage times price: exactly, and once."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.prices import PricePlan
from openbook.ledger.statement import statement
from openbook.runs.run import Run
from openbook.runs.usage import Usage

# A price whose products with whole microseconds are hardly ever whole nano-dollars.
PRICE_USD = Fraction("0.037")
PLAN = PricePlan.from_toml(
    """
    devices = { cpu = "host" }
    [[prices]]
    resource = "host"
    unit = "device-hour"
    price_usd = 0.037
    valid_from = 2020-01-01
    source = "ours"
    [[prices]]
    resource = "tokens"
    unit = "token"
    price_usd = 0
    valid_from = 2020-01-01
    source = "ours"
    """,
    "test",
)

steps = st.tuples(st.just("step"), st.integers(1, 10**7))
events = st.one_of(
    steps,
    steps,
    st.tuples(st.sampled_from(["kill", "tear", "interrupt", "fail"]), st.integers(0, 5)),
    st.tuples(st.just("book"), st.just(0)),
)


def exact_nano_usd(microseconds: int) -> int:
    return round(microseconds * PRICE_USD * 10**9 / 3_600_000_000)


class Story:
    """A run driven by events beside a plain count of what it must come to."""

    def __init__(self, folder: Path) -> None:
        self.run = Run.create(folder, verb="rl", stage="zero", recipe={}, seed=1)
        self.run.start()
        self.step = 0
        self.paid = list[int]()  # the microseconds of each usage line
        self.lost = set[int]()
        self.line_of_step = dict[int, int]()

    def take_step(self, microseconds: int) -> None:
        self.run.record(Usage(device_microseconds=microseconds, trained_tokens=1))
        self.step += 1
        self.run.log(self.step, {"loss": 1.0})
        self.paid.append(microseconds)
        self.line_of_step[self.step] = len(self.paid)

    def end(self, how: str, steps_back: int) -> None:
        """End the attempt in one way or another and go on from some steps before its end."""
        match how:
            case "interrupt":
                self.run.interrupt()
            case "fail":
                self.run.fail("")
            case _:
                self._die(torn=how == "tear")
        self.run = Run.open(self.run.folder)
        self.run.start()
        self.step = max(0, self.step - steps_back)
        self.run.truncate_metrics(self.step)
        self.lost |= set(range(self.line_of_step.get(self.step, 0), len(self.paid)))

    def _die(self, *, torn: bool) -> None:
        path = self.run.folder / "journal.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if line["event"] == "start":
                line["process"]["started"] = "long ago"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        if torn:
            with (self.run.folder / "usage.jsonl").open("a") as file:
                file.write('{"attempt": 1, "time": "' + datetime.now(UTC).isoformat())


@settings(max_examples=30, deadline=None)
@given(st.lists(events, max_size=25))
def test_the_ledger_is_usage_times_price_after_any_steps_kills_and_bookings(
    story: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, Book.open(Path(folder) / "ledger.db") as book:
        told = Story(Path(folder) / "run")
        for event, number in story:
            match event:
                case "step":
                    told.take_step(number)
                case "book":
                    book_run(book, told.run, PLAN)
                case how:
                    told.end(how, number)
        told.run.finish()
        book_run(book, told.run, PLAN)
        assert book_run(book, told.run, PLAN).entries == ()
        bill = statement(book)
        assert told.run.usage().device_microseconds == sum(told.paid)
        assert bill.total_nano_usd == exact_nano_usd(sum(told.paid))
        assert bill.lost_nano_usd == exact_nano_usd(sum(told.paid[line] for line in told.lost))
        assert bill.rows[0].num_tokens.get("trained_tokens", 0) == len(told.paid)
        assert verify(book, [told.run]) == ()
