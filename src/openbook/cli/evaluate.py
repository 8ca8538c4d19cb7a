"""`openbook eval`: how good a checkpoint is, with intervals."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbook.cli.options import Budget, CheckpointFolder, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openbook.cli.speaker import Speaker
    from openbook.engine.types import Generation, Generator, SamplingParams
    from openbook.evals.config import EvalConfig
    from openbook.evals.scorecard import Scorecard
    from openbook.runs.run import Run
    from openbook.runs.stop import StopSignal
    from openbook.runs.usage import Usage
    from openbook.tasks.problem import Family

HEADLINES = {
    "pass_at_1": "accuracy (pass@1)",
    "forgiven_pass_at_1": "accuracy, format forgiven",
    "majority_at_k": "majority vote of k",
    "pass_at_k": "any of k (pass@k)",
    "well_formed_share": "well formed",
    "mean_thinking_tokens": "thinking tokens",
    "mean_completion_tokens": "tokens",
    "share_with_steps": "shows steps",
    "language_consistency": "language consistency",
    "truncated_share": "cut off",
}


def evaluate(
    checkpoint: CheckpointFolder,
    family: Annotated[
        str, typer.Option("--family", metavar="NAME", help="What to ask: a name of `openbook tasks list`.")
    ] = "chain",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="A=B",
            help="Change how to examine (num_problems=200) or the family (family.max_operations=8).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The seed of problems and samples.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder of this run. [default: out/RUN-ID]"),
    ] = None,
    budget: Budget = None,
    as_json: Json = False,
) -> None:
    """Examine a checkpoint on problems that no training saw.

    Accuracy, majority vote and length of thought come with 95 % intervals. The examination is a
    run of its own, and is priced like one.
    """
    from openbook.cli.render import print_json
    from openbook.cli.speaker import Speaker
    from openbook.cli.tasks import find_family
    from openbook.config import parse, read_overrides
    from openbook.evals.config import EvalConfig
    from openbook.evals.scorecard import scorecard_to_json

    dials = read_overrides(overrides or [])
    exam = Exam(
        family_name=family, family=find_family(family, dials.pop("family", {})), seed=seed, budget=budget
    )
    speaker = Speaker.open(checkpoint)
    # Half of a short context is left to the question.
    dials.setdefault("max_tokens", min(256, speaker.checkpoint.config.max_position_embeddings // 2))
    config = parse(EvalConfig, dials)
    card, run = _examine(speaker, exam, config, out)
    if as_json:
        print_json({"run": run.manifest.id, **scorecard_to_json(card)})
        return
    _print_scorecard(card)
    print(f"{run.folder}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exam:
    """Which problems are asked, and what that may cost."""

    family_name: str
    family: Family
    seed: int
    budget: str | None


class Stoppable:
    """A Generator that refuses once a stop was asked for."""

    def __init__(self, generator: Generator, stop: StopSignal) -> None:
        self._generator = generator
        self._stop = stop

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        num_generations: int,
        seed: int,
    ) -> Generation:
        """As Generator says. Raises Interrupted."""
        if self._stop.requested:
            raise self._stop.interruption("stopped", "give a higher --budget, or --set num_problems=FEWER")
        return self._generator.generate(prompts, params, num_generations=num_generations, seed=seed)


def _examine(speaker: Speaker, exam: Exam, config: EvalConfig, out: Path | None) -> tuple[Scorecard, Run]:
    """Sample and judge inside a run of its own, so that the examination is priced like all else."""
    from openbook.cli.spending import limit
    from openbook.errors import Interrupted
    from openbook.evals.evaluate import Subject, evaluate, sample_to_json
    from openbook.evals.scorecard import headline, scorecard_to_json
    from openbook.runs.stop import StopSignal
    from openbook.tasks.problem import Split
    from openbook.train.device import Stopwatch

    problems = [exam.family.problem(exam.seed, Split.HELD_OUT, index) for index in range(config.num_problems)]
    limit(exam.budget, Path())  # refuses what is no amount before anything is written
    run = _create_run(speaker, exam, config, out)
    stop = StopSignal(limit(exam.budget, run.folder))
    run.start(device=speaker.device_name)
    watch = Stopwatch(speaker.device)

    def on_usage(usage: Usage) -> None:
        run.record(watch.lap() + usage)

    try:
        card, samples = evaluate(
            Stoppable(speaker.engine, stop),
            speaker.renderer,
            exam.family,
            problems=problems,
            subject=Subject(
                stage="eval",
                checkpoint_digest=speaker.checkpoint.digest,
                suite=f"{exam.family_name}, held out",
            ),
            config=config,
            seed=exam.seed,
            on_usage=on_usage,
        )
    except Interrupted as error:
        run.interrupt(error.what)
        raise
    except BaseException as error:
        run.fail(f"{type(error).__name__}: {error}")
        raise
    _write(run.folder / "scorecard.json", scorecard_to_json(card))
    _write(run.folder / "samples.json", [sample_to_json(sample, "eval") for sample in samples])
    run.write_card({"scorecard": headline(card)})
    run.finish()
    return card, run


def _create_run(speaker: Speaker, exam: Exam, config: EvalConfig, out: Path | None) -> Run:
    from openbook.cli.shelf import OUT
    from openbook.config import dump
    from openbook.runs.manifest import Ancestor, new_run_id
    from openbook.runs.run import Run

    checkpoint = speaker.checkpoint
    run_id = new_run_id("eval", datetime.now(UTC))
    return Run.create(
        out or OUT / run_id,
        verb="eval",
        stage="eval",
        recipe={"family": exam.family_name, "eval": dump(config)},
        seed=exam.seed,
        parents=[
            Ancestor(
                role="subject",
                name=checkpoint.folder.as_posix(),
                digest=checkpoint.digest,
                run_id=str(checkpoint.provenance.get("run_id", "")),
            )
        ],
        run_id=run_id,
    )


def _print_scorecard(card: Scorecard) -> None:
    from openbook.cli.render import print_table
    from openbook.evals.scorecard import headline

    row = headline(card)
    print(f"{card.suite}: {card.num_problems} problems, {card.num_samples} samples each, k = {card.k}\n")
    rows = [
        (label, _show(row[name]), f"{_show(row[f'{name}_low'])} .. {_show(row[f'{name}_high'])}")
        for name, label in HEADLINES.items()
    ]
    print_table(["", "value", "95 % interval"], rows, right=("value", "95 % interval"))
    if card.num_unscored:
        print(f"\n{card.num_unscored} completions got no judgement; they count as not correct")


def _show(value: object) -> str:
    return (
        "-"
        if value is None
        else f"{value:.3f}"
        if isinstance(value, float) and value <= 1
        else f"{value:.1f}"
    )


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
