"""Problems from a person's own file: read, refused by line, split, and judged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openbook.errors import UserError
from openbook.tasks.jsonl import JsonlConfig, JsonlFamily, verify_text
from openbook.tasks.problem import BatchFamily, FiniteFamily, Outcome, Split, Submission, verify_all
from openbook.tasks.registry import make_family
from openbook.tasks.split import split_of
from openbook.tasks.wall import WallConfig

REWARD = """
def reward(question, answer, completion, given, fields):
    if fields.get("level") == "none":
        return None
    if completion == "huge":
        return -1e300
    return 0.25 * len(completion) if given != answer else 1
"""
WALL = WallConfig(seconds=5, num_workers=1)


def lines(count: int = 40, **more: object) -> list[dict[str, Any]]:
    return [{"question": f"{index} + 1?", "answer": str(index + 1), **more} for index in range(count)]


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "sums.jsonl", lines())


@pytest.fixture
def rewarded(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonlFamily]:
    monkeypatch.chdir(path.parent)
    (path.parent / "my_rewards.py").write_text(REWARD, encoding="utf-8")
    written(path, [*lines(30), {"question": "nothing?", "answer": "", "level": "none"}])
    family = JsonlFamily(JsonlConfig(path=path, reward="my_rewards:reward", wall=WALL))
    yield family
    family.close()


def test_every_problem_comes_once_before_any_comes_again(path: Path) -> None:
    family = JsonlFamily(JsonlConfig(path=path, verifier="number"))
    for split in Split:
        count = family.num_problems(split)
        drawn = [family.problem(3, split, index) for index in range(2 * count)]
        first, second = [one.question for one in drawn[:count]], [one.question for one in drawn[count:]]
        assert len(set(first)) == count
        assert sorted(first) == sorted(second)
        assert all(split_of(question) is split for question in first)
        assert {family.problem(3, split, index).id for index in range(count)} == {one.id for one in drawn}
    orders = [[family.problem(seed, Split.TRAIN, i).id for i in range(20)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sum(family.num_problems(split) for split in Split) == 40


def test_problems_can_be_held_out_by_a_file_of_their_own(path: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "held.jsonl", [{"question": "100 + 1?", "answer": 101}])
    config = JsonlConfig(path=path, held_out_path=other, verifier="number")
    family = JsonlFamily(config)
    assert [family.num_problems(split) for split in (Split.TRAIN, Split.HELD_OUT)] == [40, 1]
    assert family.problem(0, Split.HELD_OUT, 5).answer == "101"
    written(other, [{"question": "100 + 1?", "answer": 101}, {"question": "7 + 1?", "answer": 8}])
    with pytest.raises(UserError, match="line 2: its question is line 8"):
        JsonlFamily(config)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "a?", "answer": "1"', "not JSON"),
        ('["a?", "1"]', "is no object"),
        (
            '{"prompt": "a?", "answer": "1"}',
            "no 'question': set question_field to one of its fields (answer, prompt)",
        ),
        ('{"question": " ", "answer": "1"}', "no 'question'"),
        ('{"question": "a?"}', "no 'answer': set answer_field"),
        ('{"question": ["a?"], "answer": "1"}', "has to be text or a number"),
        ('{"question": "a?", "answer": true}', "has to be text or a number"),
        ('{"question": "a?", "answer": "one"}', "its answer: answer is not a number"),
        ('{"question": "0 + 1?", "answer": "2"}', "the question of line 1 again, with another answer"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_what_to_change(
    path: Path, line: str, message: str
) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write("\n" + line + "\n")
    with pytest.raises(UserError) as caught:
        JsonlFamily(JsonlConfig(path=path, verifier="number"))
    assert f"{path} line 42: " in str(caught.value)
    assert message in str(caught.value)


def test_all_bad_lines_are_counted_and_the_first_are_shown(path: Path) -> None:
    written(path, [{"question": "a?"}] * 30)
    with pytest.raises(UserError, match=r"line 1: .* line 5: .*and 25 more lines"):
        JsonlFamily(JsonlConfig(path=path, verifier="text"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "cannot be read"),
        (b"", "holds no problems"),
        (b'{"question": "a?", "answer": "\xff"}', "line 1: not UTF-8"),
        (b'{"question": "a?", "answer": "1"}\n' * 3, "falls into"),
    ],
)
def test_a_file_that_is_no_use_is_refused(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "problems.jsonl"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=message):
        JsonlFamily(JsonlConfig(path=path, verifier="number"))


def test_fields_may_have_other_names_and_numbers_may_be_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"p": f"{n}?", "gold": n / 2} for n in range(40)])
    family = JsonlFamily(JsonlConfig(path=path, question_field="p", answer_field="gold", verifier="number"))
    problem = family.problem(0, Split.TRAIN, 0)
    assert family.verify(problem, problem.answer).correct
    assert problem.facts["fields"] == {"p": problem.question, "gold": float(problem.answer)}


@pytest.mark.parametrize(
    ("verifier", "right", "wrong"),
    [("number", "007", "7 or 8"), ("text", " 7 ", "7 or 8"), ("maths", "$7.0$", "8-1")],
)
def test_each_verifier_judges_alone_and_in_company(
    tmp_path: Path, verifier: Any, right: str, wrong: str
) -> None:
    path = written(tmp_path / "a.jsonl", [{"question": f"{n}?", "answer": "7"} for n in range(40)])
    family = JsonlFamily(JsonlConfig(path=path, verifier=verifier, wall=WALL))
    problem = family.problem(0, Split.TRAIN, 0)
    asked = [Submission(problem=problem, answer=text, completion="...") for text in (right, wrong, "")]
    outcomes = [Outcome.CORRECT, Outcome.WRONG, Outcome.WRONG]
    assert [verdict.outcome for verdict in verify_all(family, asked)] == outcomes
    assert [family.verify(problem, one.answer).outcome for one in asked] == outcomes
    family.close()


def test_a_function_of_ones_own_gives_values_within_limits(rewarded: JsonlFamily) -> None:
    problem = rewarded.problem(0, Split.TRAIN, 0)
    while problem.question == "nothing?":
        problem = rewarded.problem(0, Split.TRAIN, 1)
    asked = [
        Submission(problem=problem, answer=given, completion=completion)
        for given, completion in [(problem.answer, "a"), ("", "aa"), ("", "aaaaaaaa"), ("", "huge")]
    ]
    found = rewarded.verify_many(asked)
    assert [verdict.value for verdict in found] == [1.0, 0.5, 2.0, -10.0]
    assert [verdict.correct for verdict in found] == [True, False, True, False]
    assert found[3].reason == "reward -1e+300, taken as -10"
    nothing = next(
        one
        for split in Split
        for index in range(rewarded.num_problems(split))
        if (one := rewarded.problem(0, split, index)).question == "nothing?"
    )
    verdict = rewarded.verify(nothing, "a")
    assert (verdict.outcome, verdict.value) == (Outcome.UNSCORABLE, None)


def test_a_function_that_is_not_there_is_refused_before_anything_is_read(path: Path) -> None:
    with pytest.raises(UserError, match="no_such_module:reward cannot be loaded"):
        JsonlFamily(JsonlConfig(path=path, reward="no_such_module:reward", wall=WALL))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "set one of them"),
        ({"verifier": "text", "reward": "a:b"}, "either verifier or reward"),
        ({"reward": "a"}, "module:function"),
        ({"reward": ":a"}, "module:function"),
        ({"reward": "a:b", "correct_at": 11.0}, "rise in this order"),
        ({"reward": "a:b", "reward_min": float("nan")}, "rise in this order"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JsonlConfig(path=Path("a.jsonl"), **fields)


def test_a_file_is_read_once_for_all_who_ask_and_again_when_it_has_changed(path: Path) -> None:
    config = JsonlConfig(path=path, verifier="number")
    family = make_family(config)
    assert isinstance(family, BatchFamily) and isinstance(family, FiniteFamily)
    assert make_family(config) is family
    written(path, lines(60))
    assert make_family(config) is not family


def test_texts_are_compared_but_for_case_and_spacing() -> None:
    assert verify_text("New  York", " new york\n").correct
    assert not verify_text("York", "New York").correct
    assert not verify_text("a", "a" * 5000).correct
