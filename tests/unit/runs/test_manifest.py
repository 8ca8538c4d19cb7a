from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from openbook.config import config, digest, dump
from openbook.runs.manifest import new_run_id, recipe_differences, recipe_digest
from openbook.runs.provenance import code_version


@config
class Example:
    steps: int = 3
    lr: float = 1e-3


def test_run_ids_show_their_time_in_utc_and_their_stage() -> None:
    moment = datetime(2026, 1, 31, 16, 45, tzinfo=timezone(timedelta(hours=1)))
    assert re.fullmatch(r"20260131-154500-cold_start-[0-9a-z]{4}", new_run_id("cold_start", moment))


def test_run_ids_sort_by_time_and_differ_within_a_second() -> None:
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    earlier, later = new_run_id("zero", moment), new_run_id("a", moment + timedelta(seconds=1))
    assert earlier < later
    assert len({new_run_id("zero", moment) for _ in range(50)}) > 45


def test_the_digest_of_a_recipe_is_the_digest_of_its_config() -> None:
    assert recipe_digest(dump(Example())) == digest(Example())


def test_differences_name_dotted_keys_that_came_went_or_changed() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": "x", "e": {}}
    new = {"a": {"b": 2, "c": [1, 2]}, "f": None, "e": {}}
    assert recipe_differences(old, new) == ["a.b 1 -> 2", 'd "x" -> (absent)', "f (absent) -> null"]


def test_the_code_has_a_version() -> None:
    assert re.match(r"git:[0-9a-z]|\d+\.\d+|not installed", code_version())
