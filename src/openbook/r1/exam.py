"""Examination: the scorecards of a stage's checkpoint, on held-out problems and on harder ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from openbook.engine.types import Generator
from openbook.evals.evaluate import EvalSample, Subject, evaluate, sample_to_json, score_samples
from openbook.evals.scorecard import Scorecard, scorecard_to_json
from openbook.model.checkpoint import Checkpoint
from openbook.quant.store import load_weights
from openbook.r1.config import ExamConfig
from openbook.r1.frame import SCORECARDS_FILE, Work
from openbook.runs.durable import replace_text
from openbook.tasks.problem import Family, FiniteFamily, Problem, Split
from openbook.tasks.registry import make_family
from openbook.tokens.renderer import Renderer
from openbook.train.device import Stopwatch

SAMPLES_FILE = "samples.json"
NUM_PROBE_PROBLEMS = 64
EXAM_SEED = 2025
"""The same problems for every stage and every seed of the story, so that scores are comparable."""


def examine(work: Work, checkpoint: Checkpoint, config: ExamConfig) -> list[Scorecard]:
    """Score a checkpoint on its suites; the cards and some samples are written into the run."""
    device = work.frame.device
    renderer = Renderer.of_folder(checkpoint.folder, config.prompt)
    engine = work.engine(load_weights(checkpoint, device), renderer.tokenizer)
    watch = Stopwatch(device)
    cards: list[Scorecard] = []
    kept: list[EvalSample] = []
    suites = {"held_out": config.family, "harder": config.harder, **config.others}
    for suite, family_config in suites.items():
        if family_config is None:
            continue
        work.frame.stop.check()
        family = make_family(family_config)
        card, samples = evaluate(
            engine,
            renderer,
            family,
            problems=exam_problems(family, config.sampling.num_problems),
            subject=Subject(stage=work.frame.stage, checkpoint_digest=checkpoint.digest, suite=suite),
            config=config.sampling,
            seed=EXAM_SEED,
            on_usage=lambda usage: work.run.record(usage + watch.lap()),
        )
        cards.append(card)
        if suite == "held_out":
            kept = _first_of_each(samples, config)
            cards += _by_member(card, samples, config)
    _write(work, cards, kept)
    return cards


def _by_member(card: Scorecard, samples: Sequence[EvalSample], config: ExamConfig) -> list[Scorecard]:
    """Of a mixture, a card for each of its families; none where there is one family."""
    members: dict[str, list[EvalSample]] = {}
    for sample in samples:
        members.setdefault(sample.problem.family, []).append(sample)
    if len(members) < 2:
        return []
    return [
        score_samples(
            own,
            Subject(stage=card.stage, checkpoint_digest=card.checkpoint_digest, suite=label),
            config.sampling,
            EXAM_SEED,
        )
        for label, own in members.items()
    ]


def probe(renderer: Renderer, config: ExamConfig) -> Callable[[Generator], Mapping[str, float]]:
    """A small examination for a policy on its way: pass@1 and length on held-out problems."""
    family = make_family(config.family)
    sampling = replace(config.sampling, num_problems=min(NUM_PROBE_PROBLEMS, config.sampling.num_problems))
    problems = exam_problems(family, sampling.num_problems)
    subject = Subject(stage="probe", checkpoint_digest="", suite="held_out")

    def measure(generator: Generator) -> Mapping[str, float]:
        card, _ = evaluate(
            generator, renderer, family, problems=problems, subject=subject, config=sampling, seed=EXAM_SEED
        )
        return {
            "eval_pass_at_1": card.pass_at_1.value,
            "eval_mean_completion_tokens": card.mean_completion_tokens.value,
        }

    return measure


def exam_problems(family: Family, count: int) -> list[Problem]:
    """The held-out problems of an examination; fewer where the family has no more."""
    if isinstance(family, FiniteFamily):
        count = min(count, family.num_problems(Split.HELD_OUT))
    return [family.problem(EXAM_SEED, Split.HELD_OUT, index) for index in range(count)]


def _first_of_each(samples: Sequence[EvalSample], config: ExamConfig) -> list[EvalSample]:
    """The first sample of each of the first problems: the same problems for every stage."""
    return list(samples[:: config.sampling.num_samples])[: config.num_kept_samples]


def _write(work: Work, cards: Sequence[Scorecard], samples: Sequence[EvalSample]) -> None:
    folder, stage = work.run.folder, work.frame.stage
    replace_text(folder / SCORECARDS_FILE, json.dumps([scorecard_to_json(card) for card in cards], indent=2))
    replace_text(folder / SAMPLES_FILE, json.dumps([sample_to_json(one, stage) for one in samples], indent=2))
