from __future__ import annotations

from importlib import resources

import pytest

from openbook.economics.invest.backtest import TOTAL, Verdict, conclusion, hold, read_backtest
from openbook.economics.invest.sampling import Plan
from openbook.errors import UserError

TEXT = (resources.files("openbook.economics") / "data" / "invest" / "backtest_2026.toml").read_text()
ROWS = {row.name: row for row in hold(read_backtest(), Plan(num_paths=4096))}


def test_every_input_was_public_on_the_day() -> None:
    backtest = read_backtest()
    assert [company.name for company in backtest.companies] == ["Amazon", "Alphabet", "Meta", "Microsoft"]
    assert all(company.capex.date <= backtest.public_until for company in backtest.companies)


def test_a_figure_from_after_the_day_is_refused() -> None:
    leaked = TEXT.replace('{ value = 125, source = "amazon" }', '{ value = 131.8, source = "later-amazon" }')
    with pytest.raises(UserError, match=r"companies.Amazon: .* was not public on 2026-01-29"):
        read_backtest(leaked)


def test_bands_run_from_standing_still_to_repeating_last_years_growth() -> None:
    for name, last, before in [("Amazon", 125, 83), ("Alphabet", 92, 52.5), ("Microsoft", 83, 57.24)]:
        band = ROWS[name].band
        assert band["q05"].value == pytest.approx(last, rel=5e-3)
        assert band["q95"].value == pytest.approx(last * last / before, rel=5e-3)


def test_what_held_and_what_did_not() -> None:
    verdicts = {name: row.verdict for name, row in ROWS.items()}
    assert verdicts == {
        "Amazon": Verdict.MISSED,
        "Alphabet": Verdict.MISSED,
        "Meta": Verdict.NO_TEST,
        "Microsoft": Verdict.NO_TEST,
        TOTAL: Verdict.MISSED,
    }
    assert (ROWS[TOTAL].later_low, ROWS[TOTAL].later_high) == (606, 665)
    assert ROWS["Amazon"].share_below_low > 0.95
    said = conclusion(tuple(ROWS.values()))
    assert "held: none" in said and "Nothing but 2026 capex could be tested yet" in said


def test_the_verdict_follows_the_figures() -> None:
    def verdict(low: float, high: float) -> Verdict:
        text = TEXT
        for end, value in (("low", low), ("high", high)):
            old = 'later_END = { value = 200, source = "later-amazon", note = "about" }'.replace("END", end)
            assert old in text
            text = text.replace(old, old.replace("200", str(value)))
        return hold(read_backtest(text), Plan(num_paths=4096))[0].verdict

    assert verdict(140, 150) is Verdict.HELD
    assert verdict(170, 200) is Verdict.PARTLY
    assert verdict(110, 120) is Verdict.MISSED
