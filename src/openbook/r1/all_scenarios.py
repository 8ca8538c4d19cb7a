"""Stage: reinforcement for all scenarios, by rules or by a learned model (DeepSeek-R1 2.3.4).

Chains are judged by their verifier; courteous replies, which no rule can verify, by the reward model.
The annotators' meaning of courtesy, which the reward model never sees, is watched beside it: reward
that rises while this falls is reward hacking.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import torch

from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import ExamConfig, ScenariosConfig
from openbook.r1.exam import examine
from openbook.r1.frame import Frame, Work, stage_checkpoint
from openbook.r1.judges import observed, rule_judge
from openbook.r1.learn import Arena, reinforce
from openbook.r1.reward_model import load_reward_model, reply_example
from openbook.rl.metrics import mean
from openbook.rl.preference import RewardModel
from openbook.rl.step import Environment
from openbook.rl.types import Attempt, RewardedGroup, Scored, Scorer
from openbook.runs.durable import replace_text
from openbook.tasks.courtesy import CourtesyFamily, gold_rating
from openbook.tasks.problem import Family, Problem, Split
from openbook.tasks.rewards import RewardConfig, preference_reward
from openbook.tokens.renderer import Renderer
from openbook.tokens.tokenizer import Tokenizer

COURTESY_FILE = "courtesy.json"


def all_scenarios(
    config: ScenariosConfig,
    exam: ExamConfig,
    frame: Frame,
    *,
    start: Checkpoint,
    reward_model: Checkpoint,
    family: Family,
    courtesy: CourtesyFamily,
) -> Checkpoint:
    """The last reinforcement of R1."""
    renderer = Renderer.of_folder(start.folder)
    tokenizer = renderer.tokenizer
    scorer = scenario_judge(
        rule_judge(family, config.rl.rewards),
        courtesy_judge(load_reward_model(reward_model, frame), courtesy, tokenizer, config.rl.rewards),
        courtesy,
    )
    environment = Environment(
        draw=mixed_problems(family, courtesy, frame.seed, config.courtesy_share),
        scorer=scorer,
        renderer=renderer,
        seed=frame.seed,
        watch=watch_courtesy(courtesy),
    )

    def body(work: Work) -> Checkpoint:
        checkpoint = reinforce(work, start, Arena(config=config.rl, environment=environment))
        examine(work, checkpoint, exam)
        _write_courtesy(work)
        return checkpoint

    return stage_checkpoint(frame, body)


def mixed_problems(
    family: Family, courtesy: CourtesyFamily, seed: int, courtesy_share: float
) -> Callable[[int, int], list[Problem]]:
    """A stream in which `courtesy_share` of the problems, evenly spread, are requests for a reply."""

    def is_courtesy(index: int) -> bool:
        return int((index + 1) * courtesy_share) > int(index * courtesy_share)

    return lambda position, count: [
        (courtesy if is_courtesy(index) else family).problem(seed, Split.TRAIN, index)
        for index in range(position, position + count)
    ]


def scenario_judge(rules: Scorer, preferences: Scorer, courtesy: CourtesyFamily) -> Scorer:
    """Each attempt to the judge of its family, the results in the order of the attempts."""

    def judge(attempts: Sequence[Attempt]) -> list[Scored]:
        is_reply = [one.problem.family == courtesy.name for one in attempts]
        replies = iter(preferences([one for one, reply in zip(attempts, is_reply, strict=True) if reply]))
        solved = iter(rules([one for one, reply in zip(attempts, is_reply, strict=True) if not reply]))
        return [next(replies) if reply else next(solved) for reply in is_reply]

    return judge


def courtesy_judge(
    model: RewardModel, courtesy: CourtesyFamily, tokenizer: Tokenizer, rewards: RewardConfig
) -> Scorer:
    """The reward model's score through a sigmoid, so that no reply can earn without bound.

    Only the answer is read. The language part has nothing to say about replies and is left out.
    """
    weights = RewardConfig(accuracy=0, format=rewards.format, language=0, preference=rewards.preference)

    def judge(attempts: Sequence[Attempt]) -> list[Scored]:
        if not attempts:
            return []
        examples = [reply_example(one.problem.question, one.parsed.answer, tokenizer) for one in attempts]
        with torch.no_grad():
            scores = model(examples, pad_id=tokenizer.pad_id).sigmoid().tolist()
        return [
            Scored(
                verdict=courtesy.verify(one.problem, one.parsed.answer),
                reward=preference_reward(weights, observed(one), score),
            )
            for one, score in zip(attempts, scores, strict=True)
        ]

    return judge


def watch_courtesy(courtesy: CourtesyFamily) -> Callable[[Sequence[RewardedGroup]], Mapping[str, float]]:
    """`courtesy_gold`: what the annotators meant, 0 to 1; never part of a reward."""

    def watch(groups: Sequence[RewardedGroup]) -> Mapping[str, float]:
        attempts = [rollout.attempt for group in groups for rollout in group.group.rollouts]
        replies = [one for one in attempts if one.problem.family == courtesy.name]
        return {"courtesy_gold": mean(gold_rating(one.problem, one.parsed.answer) for one in replies)}

    return watch


def _write_courtesy(work: Work) -> None:
    """The first and the last tenth of the stage: learned reward beside what was meant."""
    rows = [row for row in work.run.metrics() if "courtesy_gold" in row]
    size = max(1, len(rows) // 10)
    result = {
        name: {
            "preference": mean(row.get("reward_preference", 0.0) for row in part),
            "gold": mean(row["courtesy_gold"] for row in part),
        }
        for name, part in (("first", rows[:size]), ("last", rows[-size:]))
    }
    replace_text(work.run.folder / COURTESY_FILE, json.dumps(result, indent=2))
