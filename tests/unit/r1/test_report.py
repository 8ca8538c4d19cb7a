"""The report of a story: everything there, anything missing, and nothing from outside."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from openbook.errors import UserError
from openbook.r1.report import story_table, write_report
from openbook.r1.report_story import read_story
from openbook.runs.run import Run
from openbook.runs.usage import Usage


class Reader(HTMLParser):
    """Text, ids, links and every tag of a page; notes tags that were not closed in order."""

    VOID = frozenset({"meta", "br", "img", "hr", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given[name] or "" for name in ("href", "src") if name in given]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page(story: Path) -> str:
    return write_report(story).read_text(encoding="utf-8")


def text_of(folder: Path) -> str:
    html = write_report(folder).read_text(encoding="utf-8")
    assert not Reader(html).open
    return Reader(html).text


def test_the_page_is_sound_and_its_links_lead_somewhere(page: str) -> None:
    reader = Reader(page)
    assert not reader.open
    assert len(set(reader.ids)) == len(reader.ids)
    inner = [link for link in reader.links if link.startswith("#")]
    assert inner and {link[1:] for link in inner} <= set(reader.ids)


def test_the_page_loads_nothing_from_anywhere(page: str) -> None:
    reader = Reader(page)
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    assert "script" not in reader.tags and "link" not in reader.tags
    assert not re.search(r"url\((?!#|data:)|@import", page)
    assert "default-src 'none'" in page


def test_the_headline_tells_before_after_and_cost(story: Path, page: str) -> None:
    rows = json.loads((story / "story.json").read_text())
    before, zero, after = (f"{100 * rows[index]['pass_at_1']:.1f}%" for index in (0, 1, 5))
    text = Reader(page).text
    assert f"from solving {before} of held-out problems in 21 tokens each to {zero} in 52 tokens each" in text
    assert f"The whole pipeline ended at {after}" in text
    device_seconds = sum(row["device_seconds"] for row in rows) + 90  # and what was lost
    assert f"cost ${device_seconds / 3600 * 0.01:.4f}" in text


def test_the_bill_counts_what_was_lost_and_names_price_and_source(page: str) -> None:
    text = Reader(page).text
    # a failed run of 30 s and a minute done twice, at one cent an hour
    assert "Of that, $0.00025 was lost" in text
    assert "R1-Zero failed: $0.000083" in text and "done twice after interruptions: $0.00017" in text
    assert "$0.01 a device hour" in text and "ours" in text and "purchase 12,000 USD" in text


def test_what_models_wrote_is_shown_and_cannot_become_markup(page: str) -> None:
    text = Reader(page).text
    assert "b = <think> the the <b>" in text and "b = 6, c = b + <7. c?" in text
    assert "b" not in Reader(page).tags
    assert "e = cuatro f = tres" in text


def test_every_part_of_a_whole_story_is_there(page: str) -> None:
    reader = Reader(page)
    for section in ("zero", "stages", "samples", "distill", "router", "curves", "bill", "made"):
        assert section in reader.ids
    assert "Both were given the same device time" in reader.text
    assert "Mixture-of-experts layer 3 of 3" in reader.text
    assert "sha256:" + "ab" * 32 in reader.text
    assert "skipped" not in reader.text


def test_the_same_story_gives_the_same_page(small: Path, tmp_path: Path) -> None:
    first, second = (write_report(small, tmp_path / name).read_text() for name in ("a.html", "b.html"))
    assert first == second


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("story.json", "story.json is missing"),
        ("02-zero", "The stage `zero` has logged no metrics."),
        ("05-control", "the same small model"),
        ("01-pretrain/expert_loads.json", "No stage has recorded the load of its experts"),
        ("01-pretrain/scorecards.json", "Stage by stage"),
        ("01-pretrain/samples.json", "before and after"),
        ("01-pretrain/usage.jsonl", "The bill"),
        ("01-pretrain/metrics.jsonl", "Nothing was logged by: pre-training."),
        ("launch.json", "How it was made"),
    ],
)
def test_a_missing_part_is_said_in_words(copy: Path, name: str, said: str) -> None:
    if (copy / name).is_dir():
        shutil.rmtree(copy / name)
        shutil.rmtree(copy / "failed")
    else:
        (copy / name).unlink()
    assert said.lower() in text_of(copy).lower()


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"steps": [1], "loads": 3}', '[{"stage": 3}, 7]'])
def test_a_damaged_file_never_stops_the_report(copy: Path, damage: str) -> None:
    for name in ("story.json", "launch.json", "02-zero/scorecards.json", "02-zero/samples.json"):
        (copy / name).write_text(damage)
    for path in (copy / "01-pretrain/expert_loads.json", copy / "03-cold_start/metrics.jsonl"):
        path.write_text(damage)
    assert "The bill" in text_of(copy)


def test_stages_that_were_never_run_are_called_skipped(copy: Path) -> None:
    for name in ("02-zero", "04-distill", "05-control", "failed"):
        shutil.rmtree(copy / name)
    rows = json.loads((copy / "story.json").read_text())
    (copy / "story.json").write_text(
        json.dumps([row for row in rows if row["stage"] not in ("zero", "distill", "control")])
    )
    text = text_of(copy)
    assert "The stage `zero` was skipped" in text
    assert "There is nothing to compare: distill and control were skipped." in text
    assert "In the whole pipeline, the model went from" in text


def test_an_unfinished_story_has_no_before_and_after_yet(copy: Path) -> None:
    (copy / "story.json").unlink()
    assert "no before and after yet" in text_of(copy)


def test_a_difference_within_the_intervals_is_called_chance(copy: Path) -> None:
    rows = json.loads((copy / "story.json").read_text())
    for row in rows:
        row |= {"pass_at_1": 0.5, "pass_at_1_low": 0.4, "pass_at_1_high": 0.6}
    (copy / "story.json").write_text(json.dumps(rows))
    assert "a difference that may be chance" in text_of(copy)


def test_unequal_device_times_are_said(copy: Path) -> None:
    (copy / "05-control" / "compute.json").write_text(json.dumps({"device_microseconds": 500_000_000}))
    assert "The comparison is not at equal device time: distillation took 1 min 15 s" in text_of(copy)


def test_a_run_on_a_device_without_a_price_is_named_and_not_forgotten(copy: Path) -> None:
    run = Run.create(copy / "extra", verb="run", stage="extra", recipe={}, seed=0)
    run.start(device="abacus")
    run.record(Usage(device_microseconds=10))
    run.finish()
    text = text_of(copy)
    assert "Not in the bill: extra" in text and "abacus" in text


def test_a_run_that_was_set_aside_does_not_hide_the_one_in_its_place(story: Path) -> None:
    zero = read_story(story).stage("zero")
    assert zero is not None and zero.run is not None
    assert zero.run.folder.name == "02-zero" and len(zero.metrics) == 60


def test_a_stage_without_a_score_stands_where_it_ran(copy: Path) -> None:
    rows = json.loads((copy / "story.json").read_text())
    (copy / "story.json").write_text(json.dumps([row for row in rows if row["stage"] != "cold_start"]))
    assert [stage.name for stage in read_story(copy).stages] == [
        "pretrain",
        "zero",
        "cold_start",
        "distill",
        "control",
    ]


def test_a_folder_without_a_story_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no story"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        write_report(tmp_path / "nowhere")


def test_the_terminal_table_reads_without_colour(story: Path) -> None:
    lines = story_table(json.loads((story / "story.json").read_text())).splitlines()
    assert lines[0].split()[:3] == ["stage", "pass@1", "(95"]
    assert lines[2].startswith("pretrain") and "11 min 11 s" in lines[2]
    assert lines[-1].startswith("total") and lines[-1].endswith("$0.0061")
    assert len({len(line) for line in lines}) == 1
    assert story_table([]) == "No stage is finished yet."
    assert "-" in story_table([{"stage": "zero", "pass_at_1": None}]).splitlines()[2]


def test_a_report_is_written_without_torch() -> None:
    code = "import sys, openbook.r1.report; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
