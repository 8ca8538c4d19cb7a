"""Problems to groups of judged completions, through any Generator."""

from __future__ import annotations

from collections.abc import Sequence

from openbook.engine.types import Completion, Generator, SamplingParams
from openbook.rl.types import Attempt, Group, Rollout, Scorer
from openbook.runs.usage import Usage
from openbook.tasks.problem import Problem
from openbook.tokens.renderer import Renderer


def attempt(renderer: Renderer, problem: Problem, completion: Completion) -> Attempt:
    """Decode a completion and take it apart."""
    text = renderer.text(completion.token_ids)
    return Attempt(problem=problem, completion=completion, text=text, parsed=renderer.parse(text))


def roll_out(
    problems: Sequence[Problem],
    generator: Generator,
    renderer: Renderer,
    params: SamplingParams,
    *,
    num_generations: int,
    seed: int,
) -> tuple[list[list[Attempt]], Usage]:
    """`num_generations` attempts at each problem, and what sampling them consumed."""
    prompts = [renderer.prompt_ids(problem.question) for problem in problems]
    generation = generator.generate(prompts, params, num_generations=num_generations, seed=seed)
    attempts = [
        [attempt(renderer, problem, completion) for completion in completions]
        for problem, completions in zip(problems, generation.completions, strict=True)
    ]
    return attempts, generation.usage


def judge(attempts: Sequence[Sequence[Attempt]], scorer: Scorer) -> list[Group]:
    """Score all attempts at once and put them back into their groups."""
    flat = [one for group in attempts for one in group]
    scored = iter(scorer(flat))
    return [
        Group(rollouts=tuple(Rollout(attempt=one, scored=next(scored)) for one in group))
        for group in attempts
    ]
