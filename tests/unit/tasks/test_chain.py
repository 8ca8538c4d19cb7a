from __future__ import annotations

import pytest

from openbook.config import digest, dump, parse
from openbook.errors import UserError
from openbook.tasks.chain import Chain, ChainConfig, ChainFamily, parse_question, trace
from openbook.tasks.problem import Split

EXAMPLE = Chain(start_letter="a", first=3, steps=(("+", 4), ("*", 2), ("-", 5)))


def test_a_chain_reads_as_its_question() -> None:
    assert EXAMPLE.question == "a 3, b +4, c *2, d -5. d?"


def test_values_are_taken_modulo_ten_after_every_step() -> None:
    assert EXAMPLE.values(10) == (3, 7, 4, 9)


def test_a_difference_below_zero_wraps_to_a_value_that_is_not_negative() -> None:
    assert Chain(start_letter="a", first=2, steps=(("-", 9),)).values(10) == (2, 3)


def test_another_modulus_keeps_larger_values() -> None:
    assert EXAMPLE.values(100) == (3, 7, 14, 9)


def test_the_trace_gives_each_variable_with_its_value() -> None:
    problem = ChainFamily(ChainConfig()).problem(0, Split.TRAIN, 3)
    chain = parse_question(problem.question)
    assert trace(problem) == list(zip(chain.variables, chain.values(10), strict=True))
    assert trace(problem)[-1][1] == int(problem.answer)


def test_facts_hold_what_a_solution_writer_needs() -> None:
    problem = ChainFamily(ChainConfig(min_operations=2, max_operations=2)).problem(0, Split.TRAIN, 0)
    assert set(problem.facts) == {"variables", "values", "operations", "modulus"}
    assert problem.difficulty == 2
    chain = parse_question(problem.question)
    assert problem.facts["variables"] == list(chain.variables)
    assert problem.facts["values"] == list(chain.values(10))
    assert problem.facts["operations"] == [list(step) for step in chain.steps]


def test_the_dials_bound_what_is_drawn() -> None:
    config = ChainConfig(min_operations=3, max_operations=5, operations="+-", start_letters=2)
    family = ChainFamily(config)
    chains = [parse_question(family.problem(1, Split.TRAIN, index).question) for index in range(200)]
    assert {len(chain.steps) for chain in chains} == {3, 4, 5}
    assert {chain.start_letter for chain in chains} == {"a", "b"}
    assert {operator for chain in chains for operator, _ in chain.steps} == {"+", "-"}
    assert {operand for chain in chains for _, operand in chain.steps} == set(range(1, 10))
    assert {chain.first for chain in chains} == set(range(10))


def test_renaming_the_letters_does_not_change_the_split() -> None:
    family = ChainFamily(ChainConfig(start_letters=20))
    for index in range(30):
        chain = parse_question(family.problem(0, Split.HELD_OUT, index).question)
        assert chain.canonical.startswith("a ")
        assert chain.canonical == Chain(start_letter="c", first=chain.first, steps=chain.steps).canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a 3",
        "a 3. b?",
        "a 3, b +4. c?",
        "a 3, c +4. c?",
        "a = 3, b = a + 4. b?",
        "a 3, b /4. b?",
        "a 3, b **4. b?",
        "a 3, b +-4. b?",
        "a \u0663, b +4. b?",
        "a 3, b +4. b? a 1. a?",
        "z = 3, { = z + 4. {?",
    ],
)
def test_what_is_no_chain_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(UserError, match="not a chain question"):
        parse_question(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"min_operations": 0},
        {"min_operations": 7, "max_operations": 6},
        {"modulus": 1},
        {"operations": ""},
        {"operations": "+^"},
        {"start_letters": 0},
        {"start_letters": 21, "max_operations": 6},
    ],
)
def test_dials_out_of_range_are_a_user_error_in_a_recipe(fields: dict[str, object]) -> None:
    with pytest.raises(UserError, match="task"):
        parse(ChainConfig, fields, where="task")


def test_the_config_survives_a_dump() -> None:
    config = ChainConfig(max_operations=9)
    assert parse(ChainConfig, dump(config)) == config
    assert digest(config) != digest(ChainConfig())
