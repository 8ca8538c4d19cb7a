"""Two judges side by side: rules for chains, a learned model for replies, and what it never sees."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from openbook.data.batch import Example
from openbook.r1.all_scenarios import (
    COURTESY_FILE,
    _write_courtesy,
    courtesy_judge,
    mixed_problems,
    scenario_judge,
    watch_courtesy,
)
from openbook.r1.frame import Work
from openbook.r1.judges import rule_judge
from openbook.rl.types import Attempt, Group, RewardedGroup, Rollout, Scored
from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.courtesy import CourtesyConfig, CourtesyFamily, Tone
from openbook.tasks.problem import Outcome, Problem, Split
from openbook.tasks.rewards import RewardConfig
from openbook.tokens.template import response
from openbook.tokens.tokenizer import Tokenizer

AttemptAt = Callable[[Problem, str], Attempt]
CHAIN = ChainFamily(ChainConfig())
COURTESY = CourtesyFamily(CourtesyConfig())


class Fond(nn.Module):
    """A reward model that likes long replies: its score is their number of tokens, less a hundred."""

    def __init__(self, score: float | None = None) -> None:
        super().__init__()
        self.seen: list[Example] = []
        self._score = score

    def forward(self, examples: Sequence[Example], *, pad_id: int) -> Tensor:
        self.seen += examples
        lengths = torch.tensor([float(len(one.token_ids)) for one in examples])
        return lengths - 100 if self._score is None else torch.full_like(lengths, self._score)


def request(index: int = 0) -> Problem:
    return COURTESY.problem(0, Split.TRAIN, index)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 25), (0.3, 30), (0.5, 50), (1.0, 100)])
def test_the_share_of_requests_is_exact_and_evenly_spread(share: float, expected: int) -> None:
    draw = mixed_problems(CHAIN, COURTESY, seed=1, courtesy_share=share)
    problems = draw(0, 100)
    places = [index for index, one in enumerate(problems) if one.family == "courtesy"]
    assert len(places) == expected
    gaps = {b - a for a, b in pairwise(places)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert draw(0, 37) + draw(37, 63) == problems, "a resumed stage sees the same stream"
    assert {one.split for one in problems} == {Split.TRAIN}


def test_each_attempt_goes_to_its_own_judge_and_comes_back_in_its_place(
    attempt_at: AttemptAt, tokenizer: Tokenizer
) -> None:
    problems = mixed_problems(CHAIN, COURTESY, seed=1, courtesy_share=0.4)(0, 10)
    attempts = [attempt_at(one, response("", one.answer)) for one in problems]
    rewards = RewardConfig()
    judge = scenario_judge(
        rule_judge(CHAIN, rewards), courtesy_judge(Fond(), COURTESY, tokenizer, rewards), COURTESY
    )
    found = judge(attempts)
    assert len(found) == 10
    for problem, one in zip(problems, found, strict=True):
        is_reply = problem.family == "courtesy"
        assert one.verdict.outcome is (Outcome.UNSCORABLE if is_reply else Outcome.CORRECT)
        assert set(one.reward.parts) == {"format", "preference" if is_reply else "accuracy"}
        assert one.reward.scored
    assert judge([]) == []
    only_chains = [one for one in attempts if one.problem.family == "chain"]
    assert len(judge(only_chains)) == len(only_chains)


def test_the_reward_model_reads_the_answer_without_the_thinking(
    attempt_at: AttemptAt, tokenizer: Tokenizer
) -> None:
    model = Fond()
    judge = courtesy_judge(model, COURTESY, tokenizer, RewardConfig())
    judge([attempt_at(request(), response("I think of kind words", "Dear Ann"))])
    (example,) = model.seen
    text = tokenizer.decode(example.token_ids)
    assert "Dear Ann" in text
    assert "kind words" not in text


def test_no_reply_earns_without_bound_and_language_is_no_part_of_it(
    attempt_at: AttemptAt, tokenizer: Tokenizer
) -> None:
    rewards = RewardConfig(language=1.0, preference=0.5)
    for score, expected in ((1e6, 0.5), (-1e6, 0.0), (0.0, 0.25)):
        judge = courtesy_judge(Fond(score), COURTESY, tokenizer, rewards)
        (found,) = judge([attempt_at(request(), response("", "Dear Ann"))])
        assert found.reward.parts == {"format": 1.0, "preference": expected}


def test_a_score_that_is_no_number_is_not_scored(attempt_at: AttemptAt, tokenizer: Tokenizer) -> None:
    judge = courtesy_judge(Fond(float("nan")), COURTESY, tokenizer, RewardConfig())
    (found,) = judge([attempt_at(request(), response("", "Dear Ann"))])
    assert not found.reward.scored


def rewarded(attempts: Sequence[Attempt], scored: Scored) -> RewardedGroup:
    rollouts = tuple(Rollout(attempt=one, scored=scored) for one in attempts)
    return RewardedGroup(group=Group(rollouts=rollouts), advantages=(0.0,) * len(rollouts))


def test_what_the_annotators_meant_is_watched_and_chains_do_not_sway_it(attempt_at: AttemptAt) -> None:
    problem, chain = request(), CHAIN.problem(0, Split.TRAIN, 0)
    replies = COURTESY.replies(problem, random.Random(0))
    attempts = [attempt_at(problem, response("", replies[tone])) for tone in (Tone.COURTEOUS, Tone.CURT)]
    (scored,) = rule_judge(CHAIN, RewardConfig())([attempt_at(chain, "")])
    groups = [rewarded(attempts, scored), rewarded([attempt_at(chain, response("", chain.answer))], scored)]
    assert watch_courtesy(COURTESY)(groups) == {"courtesy_gold": 0.5}
    assert watch_courtesy(COURTESY)(groups[1:]) == {"courtesy_gold": 0.0}


def test_the_first_and_the_last_tenth_are_compared(work: Work) -> None:
    for step in range(1, 31):
        work.run.log(step, {"courtesy_gold": step / 30, "reward_preference": 1 - step / 30})
    _write_courtesy(work)
    written = json.loads((work.run.folder / COURTESY_FILE).read_text())
    assert written["first"] == {"preference": pytest.approx(1 - 2 / 30), "gold": pytest.approx(2 / 30)}
    assert written["last"] == {"preference": pytest.approx(1 - 29 / 30), "gold": pytest.approx(29 / 30)}
