from __future__ import annotations

from pathlib import Path

import pytest

from openbook.economics.invest.assumptions import NAMES, load_scenario, template_text
from openbook.economics.invest.register import provenance
from openbook.economics.invest.scenario import Scenario
from openbook.economics.invest.toml_lines import line_of
from openbook.economics.sourced import Mark
from openbook.errors import UserError


@pytest.fixture
def article() -> Scenario:
    return load_scenario("article")


def test_every_scenario_of_the_package_loads_with_a_source_for_each_input() -> None:
    for name in NAMES:
        rows = provenance(load_scenario(name))
        assert len(rows) > 70
        assert all(row.source and row.meaning and row.value for row in rows)
        assert {row.mark for row in rows} >= {Mark.SECOND_HAND, Mark.OURS}


def test_the_articles_case_is_505_and_says_that_no_split_is_right(article: Scenario) -> None:
    total = sum(article.inputs[f"{one.key}.first_capex"].median for one in article.companies)
    assert total == pytest.approx(505)
    assert article.inputs["meta.first_capex"].median == 135
    assert article.inputs["microsoft.first_capex"].median == pytest.approx(2 * 72.4)
    assert len(article.notes) == 1 and "No split" in article.notes[0]
    assert "finance leases counted at Microsoft" in article.notes[0]


def test_the_year_before_is_366_and_later_guidance_lies_in_its_range(article: Scenario) -> None:
    before = sum(article.inputs[f"{one.key}.opening_capex"].median for one in article.companies)
    later = load_scenario("later_guidance")
    ends = [later.inputs[f"{one.key}.first_capex"] for one in later.companies]
    assert before == pytest.approx(366, abs=0.02)
    assert sum(one.median for one in ends) == pytest.approx(635.5)
    assert sum(one.median for one in ends) == pytest.approx((606 + 665) / 2)


def test_the_template_is_a_scenario_and_explains_itself(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(template_text(), encoding="utf-8")
    scenario = load_scenario(path)
    assert [one.key for one in scenario.companies] == ["mine"]
    assert scenario.serving.accelerator == "h100"
    assert template_text().count("#") > 30


def changed(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = template_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    return path


RENT = next(line for line in template_text().splitlines() if line.startswith("rent ="))


@pytest.mark.parametrize(
    ("old", "new", "line_starts", "says"),
    [
        (RENT, RENT.replace("USD/device-hour", "USD billion"), "rent", "unit 'USD billion'"),
        (RENT, RENT.replace('"mine"', '"yours"'), "rent", "unknown source"),
        (RENT, RENT.replace("low = 1.7", "low = 4"), "rent", "empty"),
        (RENT, RENT.replace("low = 1.7", "low = -1"), "rent", "out of bounds"),
        (RENT, RENT.replace("rent =", "rnet ="), "rnet", "unknown input"),
        (RENT, RENT.replace("mode", "middle"), "rent", "unknown key"),
        ('period = "calendar"', 'period = "fiscal"', "period", "calendar years"),
        ('basis = "cash"', 'basis = "with leases"', "basis", "needs lease_share"),
        (
            'title = "Plan of my company"\ndate = 2026-11-20',
            'title = "P"\ndate = 2027-01-01',
            "discount_rate",
            "as_of",
        ),
        ("spending_years = 2", "spending_years = 20", "spending_years", "num_years"),
        ("share = { value = 0.35", "share = { value = 0.45", "[segments", "add up to 1.1"),
        ('accelerator = "h100"', 'accelerator = "h1000"', "[serving]", "h1000"),
        (
            'between = ["api_growth", "utilisation"]',
            'between = ["api_growth", "tax_rate"]',
            "between",
            "constant",
        ),
        ("rank = 0.3", "rank = 1.3", "[[correlations]]", "1.3"),
        ("first_capex =", "second_capex =", "second_capex", "unknown input"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_line_to_change(
    tmp_path: Path, old: str, new: str, line_starts: str, says: str
) -> None:
    path = changed(tmp_path, (old, new))
    with pytest.raises(UserError) as refused:
        load_scenario(path)
    text = str(refused.value)
    where = text.partition(": ")[0]
    assert says in text
    name, _, number = where.rpartition(":")
    assert name == str(path)
    assert path.read_text(encoding="utf-8").splitlines()[int(number) - 1].startswith(line_starts)


def test_leases_on_a_cash_basis_are_refused(tmp_path: Path) -> None:
    lease = 'lease_share = { value = 0.3, unit = "share", source = "mine" }\nai_share'
    with pytest.raises(UserError, match="cash basis"):
        load_scenario(changed(tmp_path, ("ai_share", lease)))


def test_a_total_over_two_bases_needs_a_reason(tmp_path: Path) -> None:
    """Microsoft's 144.8 counts finance leases, the others' capex does not."""
    path = tmp_path / "mixed.toml"
    text = (
        'extends = "article"\n[stated]\nvalue = 505\nunit = "USD billion"\nsource = "S1"\nsplit_note = ""\n'
    )
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="finance leases are capex that no cash was paid for"):
        load_scenario(path)


def test_an_event_outside_the_years_is_refused(tmp_path: Path) -> None:
    event = '[market]\nshock_year = { value = 2025, unit = "year", source = "mine" }\n'
    with pytest.raises(UserError, match="outside 2026 to 2036"):
        load_scenario(changed(tmp_path, ("[market] ", event)))


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bare.toml"
    path.write_text(
        template_text().replace('extends = "base"', "").replace("[segments", "[sources.x]\n[segments")
    )
    with pytest.raises(UserError):
        load_scenario(path)
    without = changed(tmp_path, ("first_capex =", "#"))
    with pytest.raises(UserError, match="first_capex: missing"):
        load_scenario(without)


def test_companies_that_do_not_add_up_need_a_reason(tmp_path: Path) -> None:
    stated = '[stated]\nvalue = 2\nunit = "USD billion"\nsource = "mine"\n\n[serving] '
    path = changed(tmp_path, ("[serving] ", stated))
    with pytest.raises(UserError, match=r"add up to 1\.08"):
        load_scenario(path)
    noted = changed(tmp_path, ("[serving] ", stated.replace("source", 'split_note = "Yes."\nsource')))
    assert load_scenario(noted).notes[0].endswith("2 is stated. Yes.")


@pytest.mark.parametrize(
    ("name", "says"), [("seats_now", "seats_addressable"), ("seats_addressable", "starts at 0")]
)
def test_seats_need_both_who_has_one_and_who_could(tmp_path: Path, name: str, says: str) -> None:
    seats = f'{name} = {{ value = 3, unit = "M seats", source = "mine" }}\nai_share'
    with pytest.raises(UserError, match=says):
        load_scenario(changed(tmp_path, ("ai_share", seats)))


def test_a_circle_of_files_and_an_unknown_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('extends = "a.toml"\n', encoding="utf-8")
    with pytest.raises(UserError, match="circle"):
        load_scenario(path)
    with pytest.raises(UserError, match="article"):
        load_scenario("artcle")


def test_lines_of_keys() -> None:
    text = "a = 1\n[b]\nc = { d = 2 }\n[[e]]\nf = 1\n[[e]]\nf = 2\n"
    assert line_of(text, "a") == (1, 1)
    assert line_of(text, "b.c.d") == (3, 2)
    assert line_of(text, "b.x") == (2, 1)
    assert line_of(text, "e[1].f") == (7, 3)
    assert line_of(text, "z")[1] == 0
