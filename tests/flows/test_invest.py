"""`openbook invest` end to end: in a terminal, as a file, served to a real browser, a file of one's own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from openbook.economics.invest import page
from openbook.economics.invest.answer import Answer, Study, answer, prepare
from openbook.economics.invest.answer_json import answer_to_json
from openbook.economics.invest.assumptions import NAMES, load_scenario
from openbook.economics.invest.sampling import Plan

Command = Callable[..., Any]
Browser = Any

pytestmark = pytest.mark.timeout(300)

PATHS = 512
SEED = 7
FEW = ("--paths", str(PATHS), "--seed", str(SEED))


@pytest.fixture(scope="module")
def study() -> Study:
    """What the command is to answer with `FEW`."""
    main, *others = map(load_scenario, NAMES)
    plan = Plan(num_paths=PATHS, seed=SEED)
    return prepare(main, others=tuple(others), plan=plan, movable=True)


@pytest.fixture(scope="module")
def plain(study: Study) -> Answer:
    return answer(study)


def without_time(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in json.loads(json.dumps(said)).items() if key != "seconds"}


def close(one: Any, other: Any) -> bool:
    """Equal, numbers to 9 significant digits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-9, abs=1e-12)
    return bool(one == other)


def text_of(html: str) -> str:
    """What a reader sees of a piece of HTML, blanks as one."""
    return " ".join(Markup(html).striptags().split())


def test_the_answer_is_one_page_of_plain_words(openbook: Command) -> None:
    said = openbook("invest")
    assert said.code == 0 and said.err == ""
    for part in (
        "What must be true",
        "Value by scenario",
        "What matters most",
        "It loses in",
        "505 is stated",
        "seed 0",
    ):
        assert part in said.out
    assert all(name in said.out for name in NAMES)
    assert len(said.out.splitlines()) <= 66 and max(map(len, said.out.splitlines())) <= 120
    assert "\x1b" not in said.out and said.out.isascii()


def test_json_holds_every_figure_the_seed_the_versions_and_the_source_of_each_input(
    inside: Command, plain: Answer
) -> None:
    said = json.loads(inside("invest", *FEW, "--json").out)
    assert close(without_time(said), {**without_time(answer_to_json(plain)), "mixture": {}})
    assert said["reproduce"]["seed"] == SEED and said["reproduce"]["num_paths"] == PATHS
    assert {"python", "numpy", "scipy", "openbook"} == set(said["reproduce"]["versions"])
    for name, given in said["scenario"]["inputs"].items():
        assert given["source"] and given["unit"] and given["mark"] in ("primary", "second-hand", "ours"), name
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", given["date"]), name
    other = json.loads(inside("invest", "--paths", str(PATHS), "--seed", "8", "--json").out)
    assert other["npv_usd_billion"]["mean"] != said["npv_usd_billion"]["mean"]


def test_an_input_held_by_hand_and_weights_of_ones_own(inside: Command, study: Study) -> None:
    weights = ("--weights", "payoff=1,slowdown=2,bubble=1")
    said = json.loads(inside("invest", *FEW, "--set", "utilisation=0.9", *weights, "--json").out)
    held = answer(study, {"utilisation": 0.9})
    assert held.moved is not None and held.moved.mean.value > 0, "busier machines are worth more"
    moved = said["moved_usd_billion"]["mean"]["value"]
    assert moved == pytest.approx(held.moved.mean.value, rel=1e-9)
    value = {row.scenario.name: row.value.mean.value for row in held.rows}
    expected = (value["payoff"] + 2 * value["slowdown"] + value["bubble"]) / 4
    assert said["mixture"]["mean_usd_billion"] == pytest.approx(expected, rel=1e-9)
    assert (
        "Mixed by your weights (payoff 0.25, slowdown 0.5, bubble 0.25)"
        in inside("invest", *FEW, *weights).out
    )


def test_a_file_of_ones_own_from_the_template(inside: Command, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(inside("invest", "--template").out, encoding="utf-8")
    said = json.loads(inside("invest", mine, *FEW, "--json").out)
    assert [row["scenario"] for row in said["compared"]] == ["mine"]
    assert len(said["scenario"]["companies"]) == 1
    beside = json.loads(inside("invest", mine, *FEW, "--against", "bubble", "--json").out)
    assert [row["scenario"] for row in beside["compared"]] == ["mine", "bubble"]
    assert close(beside["npv_usd_billion"]["q50"], said["npv_usd_billion"]["q50"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("invest", "artcle"), "artcle"),
        (("invest", "--paths", "1000"), "1000 paths are not 16 times a power of two; 512 or 1024 are"),
        (("invest", "--seed", "-1"), "a seed of -1"),
        (("invest", "--set", "utilisation"), "--set 'utilisation': not of the form NAME=NUMBER"),
        (("invest", "--set", "utilization=0.5"), "unknown input 'utilization'; did you mean 'utilisation'?"),
        (("invest", "--set", "utilisation=1.5"), "utilisation: 1.5 share is out of bounds"),
        (("invest", "--weights", "payoff=-1"), "they are no weights"),
        (("invest", "--weights", "pay=1"), "pay"),
        (("invest", "--html", "/nowhere/page.html"), "/nowhere/page.html cannot be written"),
        (("invest", "--serve", "--port", "70000"), "there is no port 70000"),
        (("invest", "--serve", "--json"), "--serve answers by itself"),
    ],
)
def test_a_mistake_is_one_line(inside: Command, words: tuple[str, ...], line: str) -> None:
    said = inside(*words)
    assert said.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("openbook: ") and line in said.err


def test_a_mistake_in_a_file_is_named_by_its_line(inside: Command, tmp_path: Path) -> None:
    text = inside("invest", "--template").out
    number = next(place for place, line in enumerate(text.splitlines(), 1) if line.startswith("utilisation"))
    mine = tmp_path / "mine.toml"
    mine.write_text(
        re.sub(
            r"(?m)^utilisation = .*$", 'utilisation = { value = 70, unit = "share", source = "ours" }', text
        )
    )
    assert f"{mine}:{number}: " in inside("invest", mine).err


def test_two_scenarios_of_one_name_are_refused(inside: Command, tmp_path: Path) -> None:
    mine = tmp_path / "bubble.toml"
    mine.write_text('extends = "bubble"\n')
    said = inside("invest", mine, *FEW, "--against", "bubble")
    assert said.code == 2 and "two scenarios are called 'bubble'" in said.err


def test_the_file_is_whole_by_itself_in_a_real_browser(
    inside: Command, browser: Browser, plain: Answer, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    assert str(path) in inside("invest", *FEW, "--html", path).out
    html = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|<link|<script|<form", html)
    browser.get(path.as_uri())
    assert seen(browser) == {name: text_of(body) for name, body in page.parts(plain).items()}
    assert complaints(browser) == []
    for width in (390, 1280):
        browser.set_window_size(width, 900)
        wide, shown = browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide <= shown, f"the page scrolls sideways at {width}"


@pytest.fixture
def served(begin: Command) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = begin("invest", *FEW, "--serve", "--port", "0", stdout=subprocess.PIPE)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url), process.stderr.read()
    yield url, process


def test_a_dial_moved_in_a_real_browser_changes_the_figures_to_those_of_the_python_code(
    served: tuple[str, subprocess.Popen[str]], browser: Browser, study: Study, plain: Answer
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    url, process = served
    browser.get(url)
    before = seen(browser)
    assert before == {name: text_of(body) for name, body in page.parts(plain).items()}

    def move(name: str, keys: str) -> float:
        answered = browser.execute_script("return document.body.dataset.answered || '0'")
        dial = browser.find_element(By.CSS_SELECTOR, f"#dials input[name={name}]")
        dial.send_keys(keys)
        WebDriverWait(browser, 30).until(
            lambda one: one.execute_script(
                "return (document.body.dataset.answered || '0') !== arguments[0] "
                "&& !document.getElementById('dials').hasAttribute('aria-busy')",
                answered,
            )
        )
        return float(dial.get_property("value"))

    utilisation = move("utilisation", Keys.ARROW_RIGHT * 12)
    assert utilisation > 0.75
    expected = answer(study, {"utilisation": utilisation})
    assert seen(browser) == {name: text_of(body) for name, body in page.parts(expected).items()}
    assert seen(browser)["opening"] != before["opening"]

    elasticity = move("elasticity", Keys.HOME)
    expected = answer(study, {"utilisation": utilisation, "elasticity": elasticity})
    assert seen(browser) == {name: text_of(body) for name, body in page.parts(expected).items()}
    assert "paths in" in browser.find_element(By.ID, "dials-status").text

    answered = browser.execute_script("return document.body.dataset.answered")
    browser.find_element(By.CSS_SELECTOR, "#dials button").send_keys(Keys.ENTER)
    WebDriverWait(browser, 30).until(
        lambda one: one.execute_script("return document.body.dataset.answered") != answered
    )
    assert seen(browser) == before
    assert complaints(browser) == []

    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=20) == 0


def seen(browser: Browser) -> dict[str, str]:
    """The text of each part of the page as the browser has it."""
    found = {}
    for element in browser.find_elements("css selector", "[id$=-part]"):
        name = element.get_attribute("id").removesuffix("-part")
        found[name] = text_of(element.get_attribute("innerHTML"))
    return found


def complaints(browser: Browser) -> list[str]:
    """What the browser's console says: scripts that fail, resources that a policy forbids."""
    return [entry["message"] for entry in browser.get_log("browser") if "favicon" not in entry["message"]]
