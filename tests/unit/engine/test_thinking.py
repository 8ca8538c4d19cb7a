"""A budget closes thinking cleanly, counts it, and always leaves an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.thinking import ReasoningTags, ThinkingState
from openbook.engine.types import Completion, FinishReason, SamplingParams
from openbook.model.transformer import Transformer

Scripted = Callable[..., Engine]
Saying = Callable[..., Any]

OPEN, CLOSE, ANSWER, END_ANSWER, STOP, WORD = 30, 31, 32, 33, 1, 5
TAGS = ReasoningTags(open_id=OPEN, close_id=CLOSE, closing_ids=(CLOSE, ANSWER), empty_ids=(END_ANSWER,))
VOCAB = 40


def always(*ids: int) -> Callable[[int, int], Tensor]:
    """Each of `ids` is likelier than those behind it, everywhere."""
    logits = torch.full((VOCAB,), -20.0)
    for number, one in enumerate(dict.fromkeys(ids)):
        logits[one] = 20.0 - number
    return lambda token, position: logits


def one_of(engine: Engine, prompt: tuple[int, ...] = (2,), **params: Any) -> Completion:
    params = {"max_tokens": 12, "temperature": 0.0} | params
    return engine.generate([prompt], SamplingParams(**params), num_generations=1, seed=0).completions[0][0]


def test_a_state_follows_the_tags_of_the_prompt() -> None:
    for prompt, is_thinking in (
        ([2], False),
        ([2, OPEN], True),
        ([OPEN, 2, 3], True),
        ([OPEN, 2, CLOSE, 3], False),
        ([OPEN, CLOSE, 3, OPEN, 2], True),
    ):
        assert ThinkingState.behind(prompt, TAGS).is_thinking is is_thinking


def test_thinking_is_counted_with_its_tags_and_the_answer_is_what_remains(
    scripted: Scripted, saying: Saying
) -> None:
    done = one_of(scripted(saying(OPEN, 6, 7, CLOSE, 8, 9, STOP), tags=TAGS))
    assert done.num_thinking_tokens == 4 and len(done.token_ids) == 7 and done.forced == ()
    begun = one_of(scripted(saying(6, 7, CLOSE, 8, STOP, prompt_length=2), tags=TAGS), (2, OPEN))
    assert begun.num_thinking_tokens == 3


def test_usage_tells_thinking_from_answer(scripted: Scripted, saying: Saying) -> None:
    engine = scripted(saying(OPEN, 6, CLOSE, 8, 9, STOP), tags=TAGS)
    usage = engine.generate(
        [[2]] * 2, SamplingParams(max_tokens=9, temperature=0), num_generations=2, seed=0
    ).usage
    assert (usage.completion_tokens, usage.thinking_tokens) == (24, 12)


def test_without_tags_nothing_is_thinking(scripted: Scripted, saying: Saying) -> None:
    assert one_of(scripted(saying(OPEN, 6, CLOSE, 8, STOP))).num_thinking_tokens == 0


@pytest.mark.parametrize("budget", [2, 3, 5])
def test_a_spent_budget_closes_the_thinking_and_the_answer_follows(
    budget: int, scripted: Scripted, saying: Saying
) -> None:
    follow = saying(OPEN, *[6] * 20)
    done = one_of(scripted(follow, tags=TAGS), thinking_budget=budget, max_tokens=10)
    inner = budget - 2
    assert done.token_ids[: budget + 1] == (OPEN, *[6] * inner, CLOSE, ANSWER)
    assert done.num_thinking_tokens == budget
    assert done.forced == (budget - 1, budget) and len(done.token_ids) == 10
    assert done.logprobs[budget - 1] == done.logprobs[budget] == 0


def test_thinking_that_ends_within_its_budget_is_left_alone(scripted: Scripted, saying: Saying) -> None:
    ids = (OPEN, 6, 7, CLOSE, 8, STOP)
    done = one_of(scripted(saying(*ids), tags=TAGS), thinking_budget=5)
    assert done.token_ids == ids and done.forced == ()


@pytest.mark.parametrize("max_tokens", [4, 5, 9])
def test_the_limit_includes_thinking_and_leaves_room_for_an_answer(
    max_tokens: int, scripted: Scripted
) -> None:
    done = one_of(scripted(always(6), tags=TAGS), (2, OPEN), thinking_budget=100, max_tokens=max_tokens)
    assert done.token_ids == (*[6] * (max_tokens - 3), CLOSE, ANSWER, 6)
    assert done.num_thinking_tokens == max_tokens - 2 and done.finish_reason is FinishReason.LENGTH


def test_an_answer_behind_cut_off_thinking_is_never_empty(scripted: Scripted) -> None:
    """The model wants nothing but to stop, to end the answer at once, or to think on."""
    for wanted in (STOP, OPEN, END_ANSWER):
        engine = scripted(always(wanted, STOP, OPEN, END_ANSWER, WORD), tags=TAGS)
        done = one_of(engine, (2, OPEN), thinking_budget=2, max_tokens=8)
        closing = (CLOSE, ANSWER) if wanted == STOP else (wanted, CLOSE, ANSWER)
        assert done.token_ids[: len(closing) + 1] == (*closing, WORD)


def test_a_stop_in_the_middle_of_thinking_closes_it_where_a_budget_promises_an_answer(
    scripted: Scripted, saying: Saying
) -> None:
    engine = scripted(saying(OPEN, 6, STOP, 7, 8, STOP), tags=TAGS)
    done = one_of(engine, thinking_budget=50)
    assert done.token_ids == (OPEN, 6, CLOSE, ANSWER, 8, STOP), "the stop itself is not taken"
    assert done.forced == (2, 3) and done.num_thinking_tokens == 3
    assert one_of(engine).token_ids == (OPEN, 6, STOP), "without a budget a stop is a stop"
    ignoring = one_of(engine, thinking_budget=50, ignore_stops=True, max_tokens=6)
    assert ignoring.token_ids[:3] == (OPEN, 6, STOP)


def test_an_answer_that_the_model_leads_into_is_not_empty_either(scripted: Scripted) -> None:
    def follow(token: int, position: int) -> Tensor:
        wanted = {2: CLOSE, CLOSE: ANSWER, ANSWER: END_ANSWER, END_ANSWER: STOP}.get(token, END_ANSWER)
        logits = torch.full((VOCAB,), -20.0)
        logits[[wanted, WORD]] = torch.tensor([20.0, 5.0])
        return logits

    done = one_of(scripted(follow, tags=TAGS), (OPEN, 2), thinking_budget=50)
    assert done.token_ids == (CLOSE, ANSWER, WORD, END_ANSWER, STOP) and done.forced == ()
    assert one_of(scripted(follow, tags=TAGS), (OPEN, 2)).token_ids == (CLOSE, ANSWER, END_ANSWER, STOP)


def test_with_a_budget_an_answer_without_thinking_is_not_empty(scripted: Scripted) -> None:
    done = one_of(scripted(always(STOP, WORD), tags=TAGS), thinking_budget=50)
    assert done.token_ids == (WORD, STOP)


def test_a_budget_of_nothing_leaves_no_thinking_at_all(scripted: Scripted) -> None:
    engine = scripted(always(OPEN, WORD), tags=TAGS)
    done = one_of(engine, thinking_budget=0, max_tokens=5)
    assert done.token_ids == (WORD,) * 5 and done.num_thinking_tokens == 0
    begun = one_of(engine, (2, OPEN), thinking_budget=0, max_tokens=5)
    assert begun.token_ids == (CLOSE, ANSWER, WORD, WORD, WORD)
    assert begun.num_thinking_tokens == 1 and begun.forced == (0, 1)


def test_thinking_begun_by_the_prompt_keeps_the_smallest_budgets(scripted: Scripted) -> None:
    for budget, thinking in ((1, (CLOSE,)), (2, (6, CLOSE)), (3, (6, 6, CLOSE))):
        done = one_of(scripted(always(6), tags=TAGS), (OPEN,), thinking_budget=budget)
        assert done.token_ids[: len(thinking)] == thinking and done.num_thinking_tokens == budget


def test_thinking_does_not_begin_again_once_its_budget_is_spent(scripted: Scripted) -> None:
    done = one_of(scripted(always(OPEN, WORD), tags=TAGS), thinking_budget=2, max_tokens=8)
    assert done.token_ids == (OPEN, CLOSE, ANSWER, *[WORD] * 5)


def test_thinking_does_not_begin_where_no_answer_would_fit_behind(scripted: Scripted, saying: Saying) -> None:
    def follow(token: int, position: int) -> Tensor:
        logits = torch.full((VOCAB,), -20.0)
        logits[WORD] = 10.0
        logits[OPEN] = 20.0 if position >= 6 else -20.0
        return logits

    for max_tokens in range(4, 14):
        done = one_of(scripted(follow, tags=TAGS), thinking_budget=100, max_tokens=max_tokens)
        assert len(done.token_ids) == max_tokens
        assert done.token_ids[-1] == WORD, done.token_ids


def test_without_a_budget_thinking_may_use_all_the_room(scripted: Scripted) -> None:
    done = one_of(scripted(always(6), tags=TAGS), (OPEN,), max_tokens=7)
    assert done.token_ids == (6,) * 7 and done.num_thinking_tokens == 7 and done.forced == ()


def test_an_engine_without_stop_tokens_has_budgets_too(scripted: Scripted) -> None:
    engine = scripted(
        always(6), stops=(), tags=ReasoningTags(open_id=OPEN, close_id=CLOSE, closing_ids=(CLOSE,))
    )
    done = one_of(engine, (OPEN,), thinking_budget=3, max_tokens=6)
    assert done.token_ids == (6, 6, CLOSE, 6, 6, 6)


def test_forced_places_are_told_with_their_one_alternative(scripted: Scripted) -> None:
    done = one_of(scripted(always(6, 7), tags=TAGS), (OPEN,), thinking_budget=2, num_top_logprobs=2)
    assert len(done.top_logprobs) == len(done.token_ids)
    assert [done.top_logprobs[place] for place in done.forced] == [((CLOSE, 0.0),), ((ANSWER, 0.0),)]


def test_what_is_banned_is_not_part_of_the_distribution_sampled_from(scripted: Scripted) -> None:
    def even(token: int, position: int) -> Tensor:
        return torch.zeros(VOCAB)

    engine = scripted(even, tags=TAGS)
    params = SamplingParams(max_tokens=20, thinking_budget=2)
    done = engine.generate([[OPEN]], params, num_generations=60, seed=0).completions[0]
    log = torch.tensor([float(VOCAB), VOCAB - 3, VOCAB - 1]).log().neg().tolist()
    cut_off = [one for one in done if one.forced == (1, 2)]
    assert len(cut_off) > 40
    for one in cut_off:
        assert one.token_ids[3] not in (STOP, OPEN, END_ANSWER)
        assert one.logprobs[0] == pytest.approx(log[0])
        if one.token_ids[3] not in (CLOSE, ANSWER):
            assert one.logprobs[3] == pytest.approx(log[1])
            assert all(logprob == pytest.approx(log[2]) for logprob in one.logprobs[4:])


def test_a_random_model_never_exceeds_budget_or_limit(scripted: Scripted) -> None:
    """Tags and stops come often and anywhere; whatever happens the counts hold and there is an answer."""
    logits = torch.zeros(VOCAB)
    logits[[OPEN, CLOSE]] = 2.5
    logits[[ANSWER, END_ANSWER, STOP]] = 1.5
    engine = scripted(lambda token, position: logits, tags=TAGS)
    for budget in (0, 1, 2, 3, 6):
        for max_tokens in (4, 5, 7, 12):
            for prompt in ([2], [2, OPEN]):
                params = SamplingParams(max_tokens=max_tokens, thinking_budget=budget)
                for done in engine.generate([prompt], params, num_generations=12, seed=1).completions[0]:
                    check_budget(done, budget, max_tokens)


def check_budget(done: Completion, budget: int, max_tokens: int) -> None:
    began = ThinkingState.behind(done.prompt_ids, TAGS)
    assert 1 <= len(done.token_ids) <= max_tokens
    state, kinds = began, []
    for token in done.token_ids:
        kinds.append(state.take(token))
    assert sum(kinds) == done.num_thinking_tokens <= max(budget, int(OPEN in done.prompt_ids))
    assert not state.is_thinking, "thinking that is left open"
    answer = [one for one, is_thought in zip(done.token_ids, kinds, strict=True) if not is_thought]
    leading = {CLOSE, ANSWER} if done.finish_reason is FinishReason.STOP else {STOP}
    assert set(answer) - leading and answer[0] not in (STOP, END_ANSWER), "an empty answer"
    if done.forced:
        assert not kinds[done.forced[-1]] and len(done.token_ids) > done.forced[-1] + 1


@pytest.mark.parametrize("budget", [0, 2, 5, 30])
def test_guessing_ahead_changes_nothing_about_a_budget(
    budget: int, make_tiny: Callable[..., Transformer]
) -> None:
    """Tags and stops are as likely as anything, and stand among the guesses."""
    model = make_tiny(seed=4, vocab_size=VOCAB, init_std=0.3)
    params = SamplingParams(max_tokens=24, thinking_budget=budget, temperature=1.3)
    found = []
    for num_drafts in (0, 3):
        config = EngineConfig(num_drafts=num_drafts, deterministic=True, num_blocks=64, return_experts=True)
        engine = Engine(model, config, stop_token_ids=(STOP,), tags=TAGS)
        groups = engine.generate([[2], [2, OPEN]], params, num_generations=40, seed=0).completions
        found.append([one for group in groups for one in group])
        assert (sum(one.usage.rejected_tokens for one in found[-1]) > 0) == (num_drafts > 0)
    for plain, guessed in zip(*found, strict=True):
        check_budget(plain, budget, 24)
        assert guessed.token_ids == plain.token_ids and guessed.forced == plain.forced
        assert guessed.logprobs == pytest.approx(plain.logprobs, abs=1e-5)
        assert guessed.experts is not None and plain.experts is not None
        assert guessed.experts.shape == plain.experts.shape
