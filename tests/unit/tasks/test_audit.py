from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from openbook.tasks import audit as audit_module
from openbook.tasks.answers import correct, wrong
from openbook.tasks.audit import NO_ANSWER, audit
from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.code import CodeConfig, CodeFamily
from openbook.tasks.countdown import CountdownConfig, CountdownFamily
from openbook.tasks.courtesy import CourtesyConfig, CourtesyFamily
from openbook.tasks.forgeries import forgeries, honest
from openbook.tasks.gym import GymConfig, GymFamily
from openbook.tasks.gym_library import GymLibrary
from openbook.tasks.problem import Family, Outcome, Problem, Split, Verdict
from openbook.tasks.sandbox import SandboxLimits, probe
from openbook.tokens.template import parse

ISOLATION = probe()

Judge = Callable[[Problem, str], bool]


class Judging:
    """Questions for whole numbers, judged by a function of problem and answer."""

    name = "judging"

    def __init__(self, judge: Judge, answer: str = "42") -> None:
        self.judge = judge
        self.answer = answer

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        return Problem(
            id=f"judging/{index}",
            family="judging",
            split=split,
            question="6 times 7?",
            answer=self.answer,
            difficulty=1,
        )

    def verify(self, problem: Problem, answer: str) -> Verdict:
        return correct() if self.judge(problem, answer) else wrong("so it was judged")


def found_by(judge: Judge) -> dict[str, str]:
    """attack -> finding, over one problem."""
    return {finding.attack: finding.finding for finding in audit(Judging(judge), 0, 1).findings}


@pytest.mark.parametrize(
    "family", [ChainFamily(ChainConfig()), CountdownFamily(CountdownConfig())], ids=lambda family: family.name
)
def test_our_own_families_stand(family: Family) -> None:
    found = audit(family, 0, 5)
    assert found.passed and found.judges and found.honest == {"correct": 5}, found.findings
    assert len(found.summaries) == 19
    assert all(set(row.outcomes) == {"wrong"} for row in found.summaries)


def test_a_family_that_no_rule_judges_is_said_to_be_one() -> None:
    found = audit(CourtesyFamily(CourtesyConfig()), 0, 2)
    assert found.passed and not found.judges and found.honest == {"unscorable": 2}


@pytest.mark.slow
@pytest.mark.skipif(not ISOLATION.may_run, reason=ISOLATION.refused)
def test_the_code_family_stands() -> None:
    found = audit(CodeFamily(CodeConfig(limits=SandboxLimits(wall_seconds=1.5))), 0, 2)
    assert found.passed and found.honest == {"correct": 2}, found.findings
    assert {"program that patches", "program that never ends"} <= {row.attack for row in found.summaries}


NEEDS_OPTIONS = {"composite": "it mixes other datasets, which its options must name"}
WITHOUT_OWN_ANSWER = {"boxnet", "rush_hour"}


@pytest.fixture
def library() -> Iterator[GymLibrary]:
    library = GymLibrary()
    yield library
    library.close()


@pytest.mark.slow
def test_every_family_of_the_library_stands(library: GymLibrary) -> None:
    findings = []
    for name in library.names():
        if name in NEEDS_OPTIONS:
            continue
        found = audit(GymFamily(GymConfig(name=name), library), 0, 2)
        findings += [finding for finding in found.findings if finding.finding != "slow"]  # a busy machine
        assert not found.honest_refused
        assert (NO_ANSWER in found.honest) == (name in WITHOUT_OWN_ANSWER)
    assert findings == []


def test_an_exact_judge_stands() -> None:
    assert found_by(lambda problem, answer: answer == problem.answer) == {}


@pytest.mark.parametrize(
    ("judge", "attacks"),
    [
        (lambda problem, answer: problem.answer in answer, {"list of candidates", "text around the answer"}),
        (lambda problem, answer: answer.startswith(problem.answer), {"list of candidates", "null bytes"}),
        (lambda problem, answer: answer.split()[-1:] == [problem.answer], {"list of candidates"}),
        (lambda problem, answer: not answer, {"nothing", "answer in the thinking only"}),
        (lambda problem, answer: answer in ("nan", problem.answer), {"not a number"}),
        (lambda problem, answer: answer.isdigit() and int(answer[:99]) == 42, {"other digits and letters"}),
        (lambda problem, answer: answer.strip("\x00") == problem.answer, {"null bytes"}),
        (lambda problem, answer: "zzz" in answer, {"format only"}),
        (lambda problem, answer: "?" in answer, {"question copied"}),
        (lambda problem, answer: "6" in answer and "7" in answer, {"numbers of the question"}),
        (lambda problem, answer: "42" in answer and "100" in answer, {"all numbers named"}),
        (lambda problem, answer: "**" in answer, {"huge powers"}),
        (lambda problem, answer: "import" in answer, {"evaluated text"}),
        (lambda problem, answer: "<b>42</b>" in answer, {"tags inside the answer"}),
        (lambda problem, answer: len(answer) > 50_000, {"very long"}),
    ],
)
def test_a_lenient_judge_is_found_out(judge: Judge, attacks: set[str]) -> None:
    found = found_by(judge)
    assert attacks <= set(found) and set(found.values()) == {"earned"}


def test_a_judge_that_raises_or_dawdles_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_by(lambda problem, answer: int(answer[:99] or "0") == 42)
    assert "raised" in found.values()
    monkeypatch.setattr(audit_module, "MOST_SECONDS", 0.01)
    assert (
        found_by(lambda problem, answer: "**" in answer and bool(time.sleep(0.02)))["huge powers"] == "slow"
    )


def test_an_honest_answer_that_earns_nothing_fails_the_audit() -> None:
    found = audit(Judging(lambda problem, answer: False), 0, 3)
    assert not found.passed and not found.findings
    assert len(found.honest_refused) == 3 and "'42' is wrong" in found.honest_refused[0]


def test_a_problem_without_an_answer_is_attacked_without_one() -> None:
    found = audit(Judging(lambda problem, answer: False, answer=""), 0, 1)
    assert found.passed and found.honest == {NO_ANSWER: 1}
    assert "list of candidates" not in {row.attack for row in found.summaries}


def test_what_no_judgement_comes_of_earns_nothing_and_is_counted() -> None:
    class Tired(Judging):
        def verify(self, problem: Problem, answer: str) -> Verdict:
            return Verdict(outcome=Outcome.TIMED_OUT, reason="tired") if "nan" in answer else wrong("no")

    found = audit(Tired(lambda problem, answer: False), 0, 1)
    row = next(row for row in found.summaries if row.attack == "not a number")
    assert row.outcomes == {"timed_out": 1, "wrong": 7}


def test_format_paid_for_form_alone_is_told_apart_from_accuracy() -> None:
    rows = {row.attack: row for row in audit(ChainFamily(ChainConfig()), 0, 1).summaries}
    assert rows["format only"].num_paid_for_format == rows["format only"].num_attempts
    assert rows["two answer blocks"].num_paid_for_format == 0
    assert rows["answer outside its block"].num_paid_for_format == 0


def test_a_right_answer_that_looks_like_an_attack_is_no_attack() -> None:
    truth = Judging(lambda problem, answer: answer == "True", answer="True")
    assert audit(truth, 0, 1).passed


def test_every_forgery_differs_from_the_honest_answer() -> None:
    problem = ChainFamily(ChainConfig()).problem(0, Split.TRAIN, 0)
    made = [forgery.completion for forgery in forgeries(problem)]
    assert len(made) > 80 and len(set(made)) == len(made)
    assert honest(problem) not in made
    assert sum(parse(text).answer == problem.answer for text in made) == 0
