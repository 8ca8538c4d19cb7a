from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from openbook.engine.types import FinishReason, SamplingParams
from openbook.rl.rollout import attempt, judge, roll_out
from openbook.rl.types import Attempt, Rollout, Scored
from openbook.tasks.problem import Outcome, Problem, Verdict
from openbook.tasks.rewards import RewardParts
from openbook.tokens.renderer import Renderer
from openbook.tokens.tokenizer import Tokenizer

RIGHT = " <think> b = seven </think> <answer> 7 </answer>"
PARAMS = SamplingParams(max_tokens=40, temperature=0.7)


def test_every_problem_is_asked_once_and_each_completion_stays_with_its_problem(
    tokenizer: Tokenizer, make_problem: Callable[[str], Problem], script: Callable[..., Any]
) -> None:
    problems = [make_problem("a 3. a?"), make_problem("a 4. a?")]
    generator = script(RIGHT, " 7")
    attempts, usage = roll_out(
        problems, generator, Renderer.ours(tokenizer), PARAMS, num_generations=2, seed=5
    )
    asked = [Renderer.ours(tokenizer).prompt_ids(problem.question) for problem in problems]
    assert generator.calls == [(asked, PARAMS, 2, 5)]
    assert [[one.problem for one in group] for group in attempts] == [[problems[0]] * 2, [problems[1]] * 2]
    assert [list(group[0].completion.prompt_ids) for group in attempts] == asked
    assert [one.parsed.well_formed for one in attempts[0]] == [True, False]
    assert attempts[0][0].parsed.answer == "7"
    assert attempts[0][1].text == " 7"
    assert usage.prompt_tokens == 5


def test_an_attempt_reads_the_text_without_its_end_token(
    tokenizer: Tokenizer, make_problem: Callable[[str], Problem], make_rollout: Callable[..., Rollout]
) -> None:
    ids = (*tokenizer.encode(RIGHT), tokenizer.eos_id)
    completion = make_rollout(token_ids=ids).attempt.completion
    found = attempt(Renderer.ours(tokenizer), make_problem("a?"), completion)
    assert (found.parsed.thinking, found.parsed.answer, found.parsed.well_formed) == ("b = seven", "7", True)
    assert "<eos>" not in found.text
    assert found.completion.finish_reason is FinishReason.STOP


def test_judgements_return_to_the_attempts_they_belong_to(make_rollout: Callable[..., Rollout]) -> None:
    texts = [["a", "b"], ["c"], [], ["d", "e"]]
    attempts = [[make_rollout(text=text).attempt for text in group] for group in texts]

    def scorer(flat: Sequence[Attempt]) -> list[Scored]:
        assert [one.text for one in flat] == ["a", "b", "c", "d", "e"], "all at once, in order"
        return [
            Scored(
                verdict=Verdict(outcome=Outcome.WRONG, reason=one.text),
                reward=RewardParts(parts={"accuracy": 0.0}, scored=True, reason=""),
            )
            for one in flat
        ]

    groups = judge(attempts, scorer)
    assert [[one.scored.verdict.reason for one in group.rollouts] for group in groups] == texts
    assert [[one.attempt for one in group.rollouts] for group in groups] == attempts


def test_a_scorer_that_loses_an_attempt_is_a_mistake(make_rollout: Callable[..., Rollout]) -> None:
    attempts = [[make_rollout().attempt] * 2]
    with pytest.raises(RuntimeError):
        judge(attempts, lambda flat: [])
