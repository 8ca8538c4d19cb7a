"""From problems to a scorecard, through any Generator.

problems -> prompts -> Generator -> EvalSample (text, parsed, verdicts) -> Tally -> Scorecard
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from openbook.engine.types import FinishReason, Generation, Generator, SamplingParams
from openbook.evals.config import EvalConfig
from openbook.evals.passk import majority_vote, pass_at_k
from openbook.evals.score import Tally, scores
from openbook.evals.scorecard import Scorecard
from openbook.evals.thinking import has_steps
from openbook.runs.usage import Usage
from openbook.tasks.problem import Family, Outcome, Problem, Submission, Verdict, verify_all
from openbook.tasks.words import Language, language_shares, number_words
from openbook.tokens.numerals import last_number
from openbook.tokens.renderer import Renderer
from openbook.tokens.template import Parsed


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is examined, and on what: names for the scorecard."""

    stage: str
    checkpoint_digest: str
    suite: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalSample:
    """One judged completion.

    `verdict` is on the text of the answer block; `forgiven` is correct too when the last number of the
    whole text is, whatever the format. `num_tokens` counts what was sampled, the end token included.
    """

    problem: Problem
    text: str
    parsed: Parsed
    verdict: Verdict
    forgiven: Verdict
    num_tokens: int
    num_thinking_tokens: int
    truncated: bool


def evaluate(
    generator: Generator,
    renderer: Renderer,
    family: Family,
    *,
    problems: Sequence[Problem],
    subject: Subject,
    config: EvalConfig,
    seed: int,
    on_usage: Callable[[Usage], None] = lambda _: None,
) -> tuple[Scorecard, list[EvalSample]]:
    """Sample `config.num_samples` completions of each of `problems` and judge them.

    `config.num_problems` is for whoever draws the problems; all those given are used. The samples come
    back problem by problem. `on_usage` is told what each call of the generator consumed. The same seed,
    problems and generator give the same scorecard.
    """
    assert problems, "an evaluation needs at least one problem"
    samples: list[EvalSample] = []
    for batch, generation in _generations(generator, renderer, problems, config, seed):
        on_usage(generation.usage)
        samples += judge(renderer, family, batch, generation)
    return score_samples(samples, subject, config, seed), samples


def judge(
    renderer: Renderer, family: Family, problems: Sequence[Problem], generation: Generation
) -> list[EvalSample]:
    """Decode all completions, take them apart and have their answers verified, all at once."""
    asked = [
        (problem, completion)
        for problem, completions in zip(problems, generation.completions, strict=True)
        for completion in completions
    ]
    texts = [renderer.text(completion.token_ids) for _, completion in asked]
    parsed = [renderer.parse(text) for text in texts]
    submissions = [
        Submission(problem=problem, answer=read.answer, completion=text)
        for (problem, _), text, read in zip(asked, texts, parsed, strict=True)
    ]
    verdicts = verify_all(family, submissions)
    return [
        EvalSample(
            problem=problem,
            text=text,
            parsed=read,
            verdict=verdict,
            forgiven=forgiven,
            num_tokens=len(completion.token_ids),
            num_thinking_tokens=len(renderer.tokenizer.encode(read.thinking)),
            truncated=completion.finish_reason is FinishReason.LENGTH,
        )
        for (problem, completion), text, read, verdict, forgiven in zip(
            asked, texts, parsed, verdicts, _forgiven(family, submissions, verdicts), strict=True
        )
    ]


def _forgiven(
    family: Family, submissions: Sequence[Submission], verdicts: Sequence[Verdict]
) -> list[Verdict]:
    """The verdicts again, but where an answer is wrong, that on the last number of its text."""
    numbers = [
        last_number(one.completion) if verdict.outcome is Outcome.WRONG else ""
        for one, verdict in zip(submissions, verdicts, strict=True)
    ]
    again = [
        replace(one, answer=number)
        for one, number in zip(submissions, numbers, strict=True)
        if number and number != one.answer
    ]
    found = iter(verify_all(family, again))
    return [
        next(found) if number and number != one.answer else verdict
        for one, number, verdict in zip(submissions, numbers, verdicts, strict=True)
    ]


def score_samples(
    samples: Sequence[EvalSample], subject: Subject, config: EvalConfig, seed: int
) -> Scorecard:
    """The scorecard of judged samples, `config.num_samples` in a row for each problem."""
    size = config.num_samples
    groups = [samples[start : start + size] for start in range(0, len(samples), size)]
    assert all(len(group) == size and len({one.problem.id for one in group}) == 1 for group in groups)
    k = config.k or size
    rng = np.random.default_rng([seed, len(groups)])
    found = scores([*_votes(groups, k), *_means(groups, config.language_target)], rng)
    return Scorecard(
        stage=subject.stage,
        checkpoint_digest=subject.checkpoint_digest,
        suite=subject.suite,
        seed=seed,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        k=k,
        num_problems=len(groups),
        num_samples=size,
        num_unscored=sum(one.verdict.outcome not in (Outcome.CORRECT, Outcome.WRONG) for one in samples),
        **found,
    )


def sample_to_json(sample: EvalSample, stage: str) -> dict[str, Any]:
    """A sample as a line of `samples.json`, which a report shows."""
    return {
        "problem": sample.problem.question,
        "answer": sample.problem.answer,
        "stage": stage,
        "text": sample.text,
        "verdict": str(sample.verdict.outcome),
        "reason": sample.verdict.reason,
        "num_tokens": sample.num_tokens,
    }


def _generations(
    generator: Generator, renderer: Renderer, problems: Sequence[Problem], config: EvalConfig, seed: int
) -> Iterator[tuple[Sequence[Problem], Generation]]:
    params = SamplingParams(max_tokens=config.max_tokens, temperature=config.temperature)
    for start in range(0, len(problems), config.batch_size):
        batch = problems[start : start + config.batch_size]
        prompts = [renderer.prompt_ids(problem.question) for problem in batch]
        batch_seed = int(np.random.SeedSequence([seed, start]).generate_state(1)[0])
        yield batch, generator.generate(prompts, params, num_generations=config.num_samples, seed=batch_seed)


def _votes(groups: Sequence[Sequence[EvalSample]], k: int) -> list[Tally]:
    """The metrics that look at the samples of a problem together."""
    solved = [pass_at_k(len(group), sum(one.verdict.correct for one in group), k) for group in groups]
    agreed = [float(_majority_is_correct(group[:k])) for group in groups]
    return [
        Tally(metric=metric, sums=tuple(sums), counts=(1.0,) * len(groups), num_samples=num_samples)
        for metric, sums, num_samples in (
            ("pass_at_k", solved, sum(map(len, groups))),
            ("majority_at_k", agreed, k * len(groups)),
        )
    ]


def _majority_is_correct(group: Sequence[EvalSample]) -> bool:
    choice = majority_vote([one.parsed.answer for one in group])
    return any(one.verdict.correct for one in group if one.parsed.answer.strip() == choice)


def _means(groups: Sequence[Sequence[EvalSample]], language: Language) -> list[Tally]:
    """The metrics that are means over completions."""
    observed = [[_observe(one, language) for one in group] for group in groups]
    tallies = []
    for metric in observed[0][0]:
        columns = [[value for one in group if (value := one[metric]) is not None] for group in observed]
        tallies.append(
            Tally(
                metric=metric,
                sums=tuple(float(sum(column)) for column in columns),
                counts=tuple(float(len(column)) for column in columns),
                num_samples=sum(map(len, columns)),
            )
        )
    return tallies


def _observe(sample: EvalSample, language: Language) -> Mapping[str, float | None]:
    """What each metric sees of one completion; None where the completion does not count for it."""
    text = sample.parsed.thinking
    return {
        "pass_at_1": float(sample.verdict.correct),
        "forgiven_pass_at_1": float(sample.forgiven.correct),
        "mean_completion_tokens": float(sample.num_tokens),
        "mean_correct_tokens": float(sample.num_tokens) if sample.verdict.correct else None,
        "mean_thinking_tokens": float(sample.num_thinking_tokens),
        "share_with_steps": float(has_steps(text)),
        "well_formed_share": float(sample.parsed.well_formed),
        "language_consistency": language_shares(text)[language] if number_words(text) else None,
        "truncated_share": float(sample.truncated),
    }
