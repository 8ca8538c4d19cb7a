"""What can never be met is refused with its reason and the mend, and queues nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.thinking import ReasoningTags
from openbook.engine.types import SamplingParams
from openbook.errors import UserError
from openbook.model.transformer import Transformer

Scripted = Callable[..., Engine]

TAGS = ReasoningTags(open_id=30, close_id=31, closing_ids=(31, 32))


def even(token: int, position: int) -> Tensor:
    return torch.zeros(40)


REFUSED: dict[str, tuple[list[int], dict[str, Any], str]] = {
    "no prompt": ([], {}, r"the prompt is empty; give it at least one token"),
    "unknown token": ([5, 40], {}, r"the prompt holds token 40; the model knows 0 to 39"),
    "negative token": ([-1], {}, r"the prompt holds token -1; the model knows 0 to 39"),
    "beyond the context": (
        [5] * 250,
        {},
        r"the prompt has 250 tokens and max_tokens is 10; together they may have 256, the model's context",
    ),
    "beyond the cache": (
        [5] * 120,
        {},
        r"the request may grow to 130 tokens and the whole cache holds 128; lower max_tokens, or raise",
    ),
    "a stop that cannot come": (
        [5],
        {"stop_token_ids": (3, 77)},
        r"stop token 77 can never be sampled; the model knows 0 to 39",
    ),
    "a stop text without a tokenizer": (
        [5],
        {"stop": ("END",)},
        r"stop texts need a tokenizer; give the engine `decode`, or use stop_token_ids",
    ),
    "a budget without tags": (
        [5],
        {"thinking_budget": 5},
        r"a thinking budget needs a model that marks its thinking; leave thinking_budget out",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_never_be_met_is_refused_alone_and_in_a_batch(name: str, scripted: Scripted) -> None:
    prompt, fields, text = REFUSED[name]
    params = SamplingParams(**{"max_tokens": 10} | fields)
    engine = scripted(even, num_blocks=8)
    with pytest.raises(UserError, match=f"^{text}"):
        engine.submit(prompt, params)
    with pytest.raises(UserError, match=text) as caught:
        engine.generate([[6], prompt], params, num_generations=2, seed=0)
    if not fields:
        assert caught.value.what.startswith("prompt 1: ")
    assert not engine.has_unfinished and not engine.scheduler.has_unfinished
    assert engine.scheduler.pool.num_held == 0
    good = engine.generate([[6]], SamplingParams(max_tokens=2), num_generations=1, seed=0)
    assert len(good.completions[0][0].token_ids) <= 2, "the engine goes on"


def test_a_refused_request_leaves_those_on_their_way_alone(
    scripted: Scripted, drive: Callable[..., Any]
) -> None:
    engine = scripted(even, stops=())
    engine.submit([5], SamplingParams(max_tokens=6))
    engine.step()
    with pytest.raises(UserError):
        engine.submit([99], SamplingParams(max_tokens=6))
    engine.submit([7], SamplingParams(max_tokens=6))
    assert [len(one.token_ids) for one in drive(engine).values()] == [6, 6]


def test_a_budget_that_leaves_no_room_for_an_answer_is_refused(scripted: Scripted) -> None:
    engine = scripted(even, tags=TAGS)
    with pytest.raises(
        UserError,
        match=r"max_tokens is 3, and closing the thinking takes 3 with an answer; allow more than 3",
    ):
        engine.submit([5], SamplingParams(max_tokens=3, thinking_budget=9))
    engine.submit([5], SamplingParams(max_tokens=4, thinking_budget=9))


def test_no_prompts_at_all_are_refused(scripted: Scripted) -> None:
    with pytest.raises(UserError, match="there is no prompt; give at least one"):
        scripted(even).generate([], SamplingParams(max_tokens=1), num_generations=1, seed=0)


def test_what_just_fits_is_taken(scripted: Scripted, drive: Callable[..., Any]) -> None:
    engine = scripted(even, stops=(), num_blocks=8)
    engine.submit([5] * 118, SamplingParams(max_tokens=10))
    wide = scripted(even, stops=(), num_blocks=16)
    wide.submit([5] * 246, SamplingParams(max_tokens=10))
    assert [len(drive(one)[0].token_ids) for one in (engine, wide)] == [10, 10]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        ({"temperature": -0.1}, "temperature must be 0 or more, not -0.1"),
        ({"temperature": float("nan")}, "temperature must be 0 or more, not nan"),
        ({"temperature": float("inf")}, "temperature must be 0 or more, not inf"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, not 1.5"),
        ({"top_k": -1}, "top_k must be 0 or more, not -1"),
        ({"min_p": 1.1}, "min_p must be 0 to 1, not 1.1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0, not 0.0"),
        ({"presence_penalty": float("inf")}, "presence_penalty must be a number, not inf"),
        ({"frequency_penalty": float("nan")}, "frequency_penalty must be a number, not nan"),
        ({"stop": ("a", "")}, "a text in stop must not be empty"),
        ({"thinking_budget": -1}, "thinking_budget must be 0 or more, not -1"),
        ({"num_top_logprobs": -1}, "num_top_logprobs must be 0 or more, not -1"),
    ],
)
def test_sampling_parameters_keep_to_their_ranges(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        SamplingParams(**{"max_tokens": 5} | fields)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"max_running": 0}, "max_running"),
        ({"chunk_tokens": 0}, "chunk_tokens"),
        ({"num_blocks": -1}, "num_blocks"),
        ({"num_drafts": -1}, "num_drafts"),
        ({"max_tokens_per_step": 9, "max_running": 10}, "max_tokens_per_step is 9; 10 running sequences"),
    ],
)
def test_engine_settings_keep_to_their_ranges(fields: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        EngineConfig(**fields)


def test_a_cache_for_nothing_holds_one_block_and_says_so_when_asked_for_more(
    make_tiny: Callable[..., Transformer],
) -> None:
    engine = Engine(make_tiny(), EngineConfig(cache_bytes=1, decode="torch"), stop_token_ids=())
    with pytest.raises(UserError, match=r"the whole cache holds 16; .* raise cache_bytes or num_blocks"):
        engine.submit([5] * 10, SamplingParams(max_tokens=10))
    assert (
        len(engine.generate([[5]], SamplingParams(max_tokens=9), num_generations=1, seed=0).completions) == 1
    )
