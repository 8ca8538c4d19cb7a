"""The tally follows runs as they are written, and a limit says when the next step would go over the cap."""

from __future__ import annotations

from pathlib import Path

import pytest

from openbook.errors import OverBudget, UserError
from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.cap import Meter, parse_cap
from openbook.ledger.prices import PricePlan
from openbook.ledger.statement import statement
from openbook.ledger.tally import Limit, Tally, device_cost
from openbook.runs.run import Run
from openbook.runs.stop import StopSignal
from openbook.runs.usage import Usage

PLAN = PricePlan.from_toml(
    """
    devices = { cpu = "host" }
    [[prices]]
    resource = "host"
    unit = "device-hour"
    price_usd = 3.6
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
SECOND = Usage(
    device_microseconds=1_000_000, trained_tokens=10, completion_tokens=5, prompt_tokens=2, cached_tokens=99
)


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def begun(folder: Path, device: str = "cpu") -> Run:
    run = Run.create(folder, verb="rl", stage="zero", recipe={}, seed=1)
    run.start(device=device)
    return run


def test_a_tally_reads_on_and_agrees_with_the_bill(tmp_path: Path, time: Time) -> None:
    tally = Tally(tmp_path / "runs", PLAN, time)
    assert tally.read() == {Meter.USD: 0, Meter.DEVICE_TIME: 0, Meter.TOKENS: 0}
    run = begun(tmp_path / "runs" / "one")
    time.now += 1
    for seconds in range(1, 4):
        run.record(SECOND)
        assert tally.read() == {
            Meter.USD: seconds * 1_000_000,
            Meter.DEVICE_TIME: seconds * 1_000_000,
            Meter.TOKENS: seconds * 17,
        }
    run.fail("nan")
    other = begun(tmp_path / "runs" / "one" / "inside")
    other.record(SECOND)
    assert tally.read()[Meter.TOKENS] == 51, "runs are looked for now and then"
    time.now += 1
    with Book.open(tmp_path / "ledger.db") as book:
        book_run(book, run, PLAN)
        book_run(book, other, PLAN)
        assert tally.read()[Meter.USD] == statement(book).total_nano_usd == 4_000_000


def test_an_unfinished_line_is_read_once_it_is_whole(tmp_path: Path, time: Time) -> None:
    run, tally = begun(tmp_path), Tally(tmp_path, PLAN, time)
    run.record(SECOND)
    path = tmp_path / "usage.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert tally.read()[Meter.TOKENS] == 17
    path.write_bytes(whole + whole)
    assert tally.read()[Meter.TOKENS] == 34
    path.write_bytes(whole)
    assert tally.read()[Meter.TOKENS] == 17, "a torn line that was dropped makes the file shorter"


def test_a_limit_holds_before_the_step_that_would_go_over(tmp_path: Path, time: Time) -> None:
    run = begun(tmp_path)
    limit = Limit(parse_cap("3.5 s"), Tally(tmp_path, PLAN, time))
    for _ in range(3):
        assert limit() == ""
        run.record(SECOND)
    assert limit() == (
        "the budget of 3.50 s of device time is spent (3.00 s of device time so far; "
        "the next step may take 1.00 s of device time)"
    )
    assert Limit(parse_cap("51 tokens"), Tally(tmp_path, PLAN, time))() != ""
    assert Limit(parse_cap("68 tokens"), Tally(tmp_path, PLAN, time))() == ""
    assert Limit(parse_cap("$0.0039"), Tally(tmp_path, PLAN, time))() != ""
    assert Limit(parse_cap("$0.0040"), Tally(tmp_path, PLAN, time))() == ""


def test_a_higher_cap_lets_the_same_work_go_on(tmp_path: Path, time: Time) -> None:
    begun(tmp_path).record(SECOND)
    with StopSignal(Limit(parse_cap("1s"), Tally(tmp_path, PLAN, time))) as stop:
        assert stop.requested
        with pytest.raises(
            OverBudget, match=r"stopped: the budget of 1\.00 s of device time is spent"
        ) as raised:
            stop.check()
    assert raised.value.exit_code == 4
    with StopSignal(Limit(parse_cap("2s"), Tally(tmp_path, PLAN, time))) as stop:
        stop.check()


def test_dollars_cannot_cap_a_device_without_a_price(tmp_path: Path, time: Time) -> None:
    begun(tmp_path, device="quantum").record(SECOND)
    tally = Tally(tmp_path, PLAN, time)
    assert tally.read()[Meter.USD] == 0, "a progress line goes on"
    with pytest.raises(UserError, match="does not say what an hour of 'quantum' costs"):
        Limit(parse_cap("$1"), tally)()
    assert Limit(parse_cap("1h"), tally)() == ""
    assert device_cost(PLAN, "quantum", 1_000_000) == 0
    assert device_cost(PLAN, "cpu", 1_000_000) == 1_000_000
