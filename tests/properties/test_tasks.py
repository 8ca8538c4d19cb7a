"""What holds for every problem of every family, and for every text that a model may answer with."""

from __future__ import annotations

import operator
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from openbook.tasks.answers import read_number, verify_number
from openbook.tasks.arithmetic import evaluate
from openbook.tasks.chain import Chain, ChainConfig, ChainFamily, parse_question, trace
from openbook.tasks.countdown import CountdownConfig, CountdownFamily
from openbook.tasks.courtesy import CourtesyConfig, CourtesyFamily, gold_rating
from openbook.tasks.formula import formula_fault
from openbook.tasks.problem import Family, Outcome, Split, Verdict
from openbook.tasks.rewards import Observed, RewardConfig, language_reward, verified_reward
from openbook.tasks.split import split_of
from openbook.tasks.words import Language

CHAIN = ChainFamily(ChainConfig(min_operations=1, max_operations=10))
COUNTDOWN = CountdownFamily(CountdownConfig(max_numbers=5))
COURTESY = CourtesyFamily(CourtesyConfig())
calm = settings(deadline=None)
"""A busy machine is no failure; where time matters it is asserted, in seconds of this process."""

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}

families = st.sampled_from([CHAIN, COUNTDOWN, COURTESY])
verifiable = st.sampled_from([CHAIN, COUNTDOWN])
seeds = st.integers(min_value=0, max_value=2**63)
indexes = st.integers(min_value=0, max_value=10**9)
splits = st.sampled_from(list(Split))
expression_text = st.text(alphabet="0123456789+-*/(). e\u0667x,=", max_size=60)
texts = st.one_of(st.text(), expression_text, st.text(alphabet="<>/answer think0123456789", max_size=60))
chains = st.builds(
    Chain,
    start_letter=st.sampled_from("abcdefghij"),
    first=st.integers(0, 9),
    steps=st.lists(st.tuples(st.sampled_from("+-*"), st.integers(1, 9)), min_size=1, max_size=16).map(tuple),
)


@calm
@given(families, seeds, splits, indexes)
def test_the_same_address_gives_the_same_problem(family: Family, seed: int, split: Split, index: int) -> None:
    problem = family.problem(seed, split, index)
    assert problem == family.problem(seed, split, index)
    assert problem.split is split
    assert problem.id == f"{family.name}/{split}/{seed}/{index}"


@calm
@given(families, seeds, seeds, indexes, indexes)
def test_train_and_held_out_never_meet_whatever_the_seeds(
    family: Family, train_seed: int, held_out_seed: int, train_index: int, held_out_index: int
) -> None:
    train = family.problem(train_seed, Split.TRAIN, train_index)
    held_out = family.problem(held_out_seed, Split.HELD_OUT, held_out_index)
    assert train.question != held_out.question


@calm
@given(seeds, splits, indexes)
def test_a_chain_is_in_the_split_of_its_renamed_text(seed: int, split: Split, index: int) -> None:
    chain = parse_question(CHAIN.problem(seed, split, index).question)
    assert split_of(chain.canonical) is split


@calm
@given(verifiable, seeds, splits, indexes)
def test_a_family_accepts_its_own_answer(family: Family, seed: int, split: Split, index: int) -> None:
    problem = family.problem(seed, split, index)
    assert family.verify(problem, problem.answer).correct
    assert family.verify(problem, f" {problem.answer}\n").correct


@calm
@given(verifiable, seeds, splits, indexes, st.data())
def test_a_family_rejects_a_changed_answer(
    family: Family, seed: int, split: Split, index: int, data: st.DataObject
) -> None:
    problem = family.problem(seed, split, index)
    places = [place for place, char in enumerate(problem.answer) if char.isdigit()]
    place = data.draw(st.sampled_from(places))
    digit = data.draw(st.sampled_from("0123456789".replace(problem.answer[place], "")))
    changed = problem.answer[:place] + digit + problem.answer[place + 1 :]
    verdict = family.verify(problem, changed)
    if family is CHAIN:
        assert verdict.outcome is Outcome.WRONG
    elif verdict.correct:  # another number that was given may do as well, but the sum must be right
        assert evaluate(changed, problem.facts["numbers"]) == problem.facts["target"]  # type: ignore[arg-type]


@calm
@given(seeds, splits, indexes)
def test_a_chain_trace_equals_an_independent_evaluation(seed: int, split: Split, index: int) -> None:
    problem = CHAIN.problem(seed, split, index)
    assignments, asked = problem.question.split(". ")
    known: dict[str, int] = {}
    for line in assignments.split(", "):
        name, term = line.split(" ")
        value = list(known.values())[-1] if known else 0
        known[name] = OPERATORS[term[0]](value, int(term[1:])) % 10 if known else int(term)
    assert trace(problem) == list(known.items())
    assert problem.answer == str(known[asked.rstrip("?")])


@calm
@given(chains)
def test_a_chain_question_reads_back_as_the_chain(chain: Chain) -> None:
    assert parse_question(chain.question) == chain


@calm
@given(chains, st.integers(2, 1000))
def test_chain_values_stay_below_the_modulus(chain: Chain, modulus: int) -> None:
    assert all(0 <= value < modulus for value in chain.values(modulus))


@calm
@given(families, seeds, texts)
def test_verify_never_raises_and_returns_at_once(family: Family, seed: int, text: str) -> None:
    problem = family.problem(seed % 50, Split.TRAIN, 0)
    start = time.process_time()
    verdict = family.verify(problem, text)
    assert isinstance(verdict, Verdict) and verdict.reason.isascii()
    assert time.process_time() - start < 0.5


@calm
@given(st.text(alphabet="0123456789*+-/() ", min_size=501, max_size=3000))
def test_long_expressions_are_refused_at_once(text: str) -> None:
    start = time.process_time()
    for answer in (text, "(" + text, text * 50):
        assert isinstance(evaluate(answer, [1, 2, 3]), str)
        assert isinstance(read_number(answer), str)
        assert formula_fault(answer, names="x")
    assert time.process_time() - start < 0.5


@calm
@given(st.integers(-(10**38), 10**38), st.integers(-(10**38), 10**38))
def test_numbers_are_equal_only_to_themselves(expected: int, given_number: int) -> None:
    assert verify_number(str(expected), str(given_number)).correct == (expected == given_number)
    assert verify_number(str(expected), f"{given_number}.00").correct == (expected == given_number)


@calm
@given(texts, st.sampled_from(list(Language)))
def test_the_language_reward_is_a_share(thinking: str, target: Language) -> None:
    assert 0.0 <= language_reward(thinking, target) <= 1.0


@calm
@given(texts, seeds)
def test_the_gold_rating_is_a_rating_of_any_text(reply: str, seed: int) -> None:
    assert 0.0 <= gold_rating(COURTESY.problem(seed, Split.TRAIN, 0), reply) <= 1.0


@calm
@given(st.sampled_from(list(Outcome)), st.booleans(), texts, st.integers(0, 10**6))
def test_a_reward_is_scored_exactly_when_there_is_a_judgement(
    outcome: Outcome, well_formed: bool, thinking: str, num_tokens: int
) -> None:
    config = RewardConfig(language=0.1, length=1.0)
    observed = Observed(well_formed=well_formed, thinking=thinking, num_tokens=num_tokens)
    reward = verified_reward(config, observed, Verdict(outcome=outcome, reason="tried"))
    assert reward.scored == (outcome in (Outcome.CORRECT, Outcome.WRONG))
    if reward.scored:
        assert -1.0 <= reward.total <= 2.1
