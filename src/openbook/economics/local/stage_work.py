"""From a plan and the lengths of what is written to amounts of work: of one step, one call, a whole stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from openbook.economics.local.stages import Learned, Learning, Sampled, StagePlan
from openbook.economics.local.work import (
    Batch,
    Calls,
    Work,
    computed_prompt_tokens,
    sampling,
    saving,
    training,
)

TARGET_SHARE = 0.5
"""Of the tokens of an example, those that are predicted: the reply, not the prompt."""
PACKED_STEP = 0.02
MOST_ROW_TOKENS = 256
"""How long a row grows in which completions share their prompt."""


class Part(StrEnum):
    """What the work of a stage is for."""

    LEARNING = "learning"
    """Steps, with the sampling and the saving in them."""
    HARVEST = "harvest"
    PROBES = "probes"
    EXAMS = "exams"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Tokens by kind, as usage lines count them; a prompt's are those computed. `+` adds."""

    trained: float = 0.0
    prompt: float = 0.0
    completion: float = 0.0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            trained=self.trained + other.trained,
            prompt=self.prompt + other.prompt,
            completion=self.completion + other.completion,
        )

    def __mul__(self, times: float) -> Tokens:
        return Tokens(
            trained=self.trained * times, prompt=self.prompt * times, completion=self.completion * times
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Mean lengths in tokens: of an example, and by label of prompts and completions.

    `rollout` is the curve of mean completion lengths, step by step; it goes on at its last value.
    """

    example: float
    prompt: Mapping[str, float]
    completion: Mapping[str, float]
    rollout: tuple[float, ...] = ()

    def rollout_at(self, step: int) -> float:
        """The mean length in step `step`, from 0."""
        return self.rollout[min(step, len(self.rollout) - 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """Work and the tokens that are counted with it."""

    work: Work
    tokens: Tokens

    def __mul__(self, times: float) -> Amount:
        return Amount(work=self.work * times, tokens=self.tokens * times)


def stage_amounts(plan: StagePlan, lengths: Lengths, num_steps: int | None = None) -> dict[Part, Amount]:
    """What the whole stage comes to, part by part; of `num_steps` steps where a budget ends it early."""
    found: dict[Part, Amount] = {}
    if plan.harvest is not None:
        found[Part.HARVEST] = sampled(plan.harvest, lengths)
    if plan.learned is not None:
        steps = plan.learned.num_steps if num_steps is None else num_steps
        found[Part.LEARNING] = _learning(plan, plan.learned, lengths, steps)
        if plan.probe is not None and plan.probe_every:
            # What follows the last step is not on its books.
            probes = [sampled(plan.probe, lengths) * max(0, (steps - 1) // plan.probe_every)]
            found[Part.PROBES] = Amount(work=Work.total(one.work for one in probes), tokens=Tokens())
    if plan.exams:
        exams = [sampled(exam, lengths) for exam in plan.exams]
        found[Part.EXAMS] = _added(exams)
    return found


def step_amount(
    plan: StagePlan, learned: Learned, *, example: float, prompt: float, rollout: float
) -> Amount:
    """One step, by the lengths of an example, of a prompt and of a completion."""
    if plan.rollout is None:
        num_tokens = learned.examples_per_step * example
        return Amount(work=update_work(learned, num_tokens), tokens=Tokens(trained=num_tokens))
    num_tokens = policy_tokens(learned, plan.rollout, prompt=prompt, completion=rollout)
    generated = sampled_once(plan.rollout, prompt=prompt, completion=rollout)
    updated = update_work(learned, num_tokens, plan.rollout, prompt=prompt, completion=rollout)
    return Amount(work=updated + generated.work, tokens=Tokens(trained=num_tokens) + generated.tokens)


def update_work(
    learned: Learned,
    num_tokens: float,
    rollout: Sampled | None = None,
    *,
    prompt: float = 0.0,
    completion: float = 0.0,
) -> Work:
    """The forward and backward passes over `num_tokens` tokens, and the update of the weights."""
    num_drawn, num_targets = learned.examples_per_step, 0.0
    row_length, num_copied, num_rows = num_tokens / num_drawn, 0.0, float(num_drawn)
    if learned.learning is Learning.EXAMPLES:
        num_targets = num_tokens * TARGET_SHARE
    if rollout is not None:
        row_length = prompt + completion
        rows = policy_rows(learned, rollout, prompt=prompt, completion=completion)
        num_rows = rows * learned.num_iterations
        if learned.shares_prompts:
            num_copied = num_drawn * row_length * learned.num_iterations
        num_targets = num_drawn * completion * learned.num_iterations
    passes, padding = packed(learned, num_tokens, num_rows)
    batch = Batch(
        num_tokens=num_tokens,
        padding=padding,
        row_length=row_length,
        num_drawn=num_drawn,
        num_targets=num_targets,
        num_copied=num_copied,
        num_passes=passes,
        num_updates=learned.num_updates,
        num_reference_passes=learned.num_reference_passes / learned.num_iterations,
        products_share=learned.products_share,
    )
    return training(learned.network, batch)


def packed(learned: Learned, num_tokens: float, num_rows: float) -> tuple[int, float]:
    """Passes of a step in `num_rows` rows, and positions by tokens. Each update packs rows of its own."""
    rows = max(1, round(num_rows / learned.num_updates))
    mean = num_tokens / max(1.0, num_rows)
    # In steps of 2 %: lines differ little, and packing them one by one would take longer than all the rest.
    known = round(math.log(max(1.0, mean)) / PACKED_STEP)
    passes, padding = _cut(rows, known, learned.spread, learned.tokens_per_batch)
    return passes * learned.num_updates, padding


@lru_cache(maxsize=4096)
def _cut(num_rows: int, log_mean: int, spread: float, tokens_per_batch: int) -> tuple[int, float]:
    """Batches of rows that are evenly between shortest and longest, cut as `group_by_length` cuts them."""
    mean = math.exp(log_mean * PACKED_STEP)
    passes, in_batch, positions, longest = 0, 0, 0.0, 0.0
    for row in range(num_rows):
        length = mean * (1 + spread * ((2 * row + 1) / num_rows - 1))
        if in_batch and (in_batch + 1) * length > tokens_per_batch:
            passes, positions, in_batch = passes + 1, positions + in_batch * longest, 0
        in_batch, longest = in_batch + 1, length
    positions += in_batch * longest
    return passes + 1, max(1.0, positions / (num_rows * mean))


def policy_rows(learned: Learned, rollout: Sampled, *, prompt: float, completion: float) -> int:
    """Rows of a policy's batch: completions share a prompt up to a row's length."""
    if not learned.shares_prompts:
        return learned.examples_per_step
    branches = max(1, int((MOST_ROW_TOKENS - prompt) / max(1.0, completion - 1)))
    return rollout.num_problems * math.ceil(rollout.num_generations / branches)


def policy_tokens(learned: Learned, rollout: Sampled, *, prompt: float, completion: float) -> float:
    """Tokens that one step of a policy trains on: of a completion all but the last, and prompts by rows."""
    rows = policy_rows(learned, rollout, prompt=prompt, completion=completion)
    branches = rollout.num_sequences * max(0.0, completion - 1)
    return (branches + rows * prompt) * learned.num_iterations


def sampled(one: Sampled, lengths: Lengths) -> Amount:
    """A whole occasion of sampling."""
    return sampled_once(one, prompt=lengths.prompt[one.label], completion=lengths.completion[one.label])


def sampled_once(one: Sampled, *, prompt: float, completion: float) -> Amount:
    """The same, by the lengths of a prompt and of a completion."""
    num_prompts = min(one.num_problems, one.problems_per_call)
    computed = one.num_calls * computed_prompt_tokens(
        num_prompts=num_prompts, num_generations=one.num_generations, prompt_length=prompt
    )
    tokens = Tokens(prompt=computed, completion=one.num_sequences * completion)
    return Amount(work=call_work(one, one.num_calls, tokens, prompt=prompt), tokens=tokens)


def call_work(one: Sampled, num_calls: float, tokens: Tokens, *, prompt: float) -> Work:
    """`num_calls` calls of an engine in which so many tokens were computed and sampled."""
    calls = Calls(
        num_calls=num_calls,
        num_sequences=min(one.num_problems, one.problems_per_call) * one.num_generations,
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion,
        prompt_length=prompt,
        max_tokens=one.max_tokens,
        num_published=num_calls if one.num_calls == 1 else 0.0,
    )
    return sampling(one.network, calls)


def num_saves(learned: Learned, num_steps: int) -> int:
    """States saved on the way: what comes after the last step is the result, and not booked."""
    return max(0, (num_steps - 1) // learned.save_every)


def _learning(plan: StagePlan, learned: Learned, lengths: Lengths, num_steps: int) -> Amount:
    prompt = lengths.prompt.get("rollout", 0.0)
    steps = []
    if plan.rollout is None:
        steps.append(step_amount(plan, learned, example=lengths.example, prompt=0.0, rollout=0.0) * num_steps)
    else:
        known = min(num_steps, len(lengths.rollout))
        shown = [lengths.rollout[step] for step in range(known)]
        for length in shown:
            steps.append(step_amount(plan, learned, example=0.0, prompt=prompt, rollout=length))
        if known < num_steps:
            rest = step_amount(plan, learned, example=0.0, prompt=prompt, rollout=lengths.rollout_at(known))
            steps.append(rest * (num_steps - known))
    total = _added(steps)
    return Amount(
        work=total.work + saving(learned.network, num_saves(learned, num_steps)), tokens=total.tokens
    )


def _added(parts: list[Amount]) -> Amount:
    tokens = Tokens()
    for one in parts:
        tokens += one.tokens
    return Amount(work=Work.total(one.work for one in parts), tokens=tokens)
