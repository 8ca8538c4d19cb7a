"""When a completion ends: stop ids, stop texts in the answer, the limit, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from openbook.engine.engine import Engine
from openbook.engine.thinking import ReasoningTags
from openbook.engine.types import Completion, FinishReason, SamplingParams

Scripted = Callable[..., Engine]
Saying = Callable[..., Any]

TAGS = ReasoningTags(open_id=30, close_id=31, closing_ids=(31, 32))
WORDS = {
    5: "Hello",
    6: " wor",
    7: "ld",
    8: "ST",
    9: "OP",
    10: " and more",
    11: "S",
    12: "T",
    13: "O",
    14: "P",
}


def decode(ids: Sequence[int]) -> str:
    return "".join(WORDS.get(one, "?") for one in ids)


def one_of(engine: Engine, **params: Any) -> Completion:
    params = {"max_tokens": 12, "temperature": 0.0} | params
    generation = engine.generate([[2]], SamplingParams(**params), num_generations=1, seed=0)
    return generation.completions[0][0]


def test_a_stop_token_ends_it_and_stays_part_of_it(scripted: Scripted, saying: Saying) -> None:
    done = one_of(scripted(saying(5, 6, 1, 7)))
    assert done.token_ids == (5, 6, 1) and done.finish_reason is FinishReason.STOP
    assert done.stop_text == "" and len(done.logprobs) == 3


def test_a_request_may_bring_stop_tokens_of_its_own(scripted: Scripted, saying: Saying) -> None:
    engine = scripted(saying(5, 6, 7, 1))
    assert one_of(engine, stop_token_ids=(7,)).token_ids == (5, 6, 7)
    assert one_of(engine).token_ids == (5, 6, 7, 1), "they are that request's alone"


def test_stops_are_ignored_on_demand(scripted: Scripted, saying: Saying) -> None:
    done = one_of(scripted(saying(5, 1, 6)), ignore_stops=True, max_tokens=4)
    assert done.token_ids == (5, 1, 6, 0) and done.finish_reason is FinishReason.LENGTH


def test_the_limit_ends_it(scripted: Scripted, saying: Saying) -> None:
    done = one_of(scripted(saying(5, 6, 7)), max_tokens=2)
    assert done.token_ids == (5, 6) and done.finish_reason is FinishReason.LENGTH


def test_a_stop_that_is_the_last_token_allowed_is_a_stop(scripted: Scripted, saying: Saying) -> None:
    assert one_of(scripted(saying(5, 1)), max_tokens=2).finish_reason is FinishReason.STOP


def test_a_stop_token_in_the_prompt_ends_nothing(scripted: Scripted, saying: Saying) -> None:
    engine = scripted(saying(5, 6, prompt_length=3))
    generation = engine.generate(
        [[1, 1, 1]], SamplingParams(max_tokens=2, temperature=0), num_generations=1, seed=0
    )
    assert generation.completions[0][0].token_ids == (5, 6)


@pytest.mark.parametrize("ids", [(5, 8, 9, 10), (5, 11, 12, 13, 14, 10), (5, 11, 12, 9, 10)])
def test_a_stop_text_is_found_when_it_is_split_over_tokens(
    ids: tuple[int, ...], scripted: Scripted, saying: Saying
) -> None:
    done = one_of(scripted(saying(*ids), decode=decode), stop=("###", "STOP"))
    assert done.token_ids == ids[:-1] and done.finish_reason is FinishReason.STOP
    assert done.stop_text == "STOP"


def test_a_stop_text_inside_a_token_ends_there(scripted: Scripted, saying: Saying) -> None:
    done = one_of(scripted(saying(5, 10, 6), decode=decode), stop=("nd m",))
    assert done.token_ids == (5, 10) and done.stop_text == "nd m"


def test_the_first_of_several_stop_texts_that_stands_there_is_named(
    scripted: Scripted, saying: Saying
) -> None:
    done = one_of(scripted(saying(5, 6, 7, 10), decode=decode), stop=("more", "world", "and"))
    assert done.token_ids == (5, 6, 7) and done.stop_text == "world"


def test_a_stop_text_that_the_prompt_began_is_not_found(scripted: Scripted, saying: Saying) -> None:
    engine = scripted(saying(9, 10, 8, 9), decode=decode)
    generation = engine.generate(
        [[8]], SamplingParams(max_tokens=6, temperature=0, stop=("STOP",)), num_generations=1, seed=0
    )
    assert generation.completions[0][0].token_ids == (9, 10, 8, 9)


def test_a_stop_text_far_from_the_end_of_a_long_answer_is_still_read(
    scripted: Scripted, saying: Saying
) -> None:
    done = one_of(
        scripted(saying(*[5] * 60, 8, 9, 10), decode=decode), stop=("HelloHelloST" + "OP",), max_tokens=80
    )
    assert len(done.token_ids) == 62 and done.finish_reason is FinishReason.STOP


def test_thinking_is_not_searched_for_stop_texts(scripted: Scripted, saying: Saying) -> None:
    thinking = (30, 8, 9, 31)
    done = one_of(scripted(saying(*thinking, 5, 8, 9, 6), tags=TAGS, decode=decode), stop=("STOP",))
    assert done.token_ids == (*thinking, 5, 8, 9) and done.num_thinking_tokens == 4


def test_a_stop_text_does_not_reach_back_into_the_thinking(scripted: Scripted, saying: Saying) -> None:
    done = one_of(scripted(saying(30, 8, 31, 9, 6, 1), tags=TAGS, decode=decode), stop=("ST", "OP6"))
    assert done.token_ids == (30, 8, 31, 9, 6, 1)


def test_thinking_in_the_middle_of_an_answer_is_not_searched_either(
    scripted: Scripted, saying: Saying
) -> None:
    ids = (5, 30, 8, 9, 31, 6, 7, 1)
    done = one_of(scripted(saying(*ids), tags=TAGS, decode=decode), stop=("STOP",))
    assert done.token_ids == ids and done.num_thinking_tokens == 4


def test_a_stop_token_ends_thinking_as_well(scripted: Scripted, saying: Saying) -> None:
    done = one_of(scripted(saying(30, 5, 1, 6), tags=TAGS))
    assert done.token_ids == (30, 5, 1) and done.num_thinking_tokens == 3


def test_a_request_keeps_its_own_stop_among_others(
    scripted: Scripted, saying: Saying, drive: Callable[[Engine], dict[int, Completion]]
) -> None:
    engine = scripted(saying(5, 6, 7, 1))
    limits = [{"stop_token_ids": (6,)}, {}, {"max_tokens": 1}, {"stop_token_ids": (5,)}]
    for limit in limits:
        engine.submit([2], SamplingParams(**{"max_tokens": 9, "temperature": 0.0} | limit))
    done = drive(engine)
    assert [done[number].token_ids for number in range(4)] == [(5, 6), (5, 6, 7, 1), (5,), (5,)]
