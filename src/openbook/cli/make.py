"""The verbs that compute: the whole story, or one stage of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from openbook.cli.launch import Launch, Request, begin, prepare, resumable
from openbook.cli.options import Budget, DryRun, Out, Overrides, RecipeName, Resume, Seed, StageOut

Stages = list[str] | None
Base = Annotated[
    Path | None,
    typer.Option("--from", metavar="CHECKPOINT", help="The model to start from (checkpoint or run)."),
]
Teacher = Annotated[
    Path | None, typer.Option("--teacher", metavar="CHECKPOINT", help="The model whose answers are learnt.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="PATH", help="Conversations to learn from: a file, a folder of files, or a run."
    ),
]
Text = Annotated[
    Path | None,
    typer.Option("--data", metavar="PATH", help="Text to read: a .txt, .jsonl or .parquet, or a folder."),
]
Problems = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="FILE", help="Your own problems, one JSON object a line, for the recipe's."
    ),
]
Reward = Annotated[
    str | None,
    typer.Option("--reward", metavar="MODULE:FUNCTION", help="Your own Python function that judges answers."),
]
GivenTokenizer = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer", metavar="PATH", help="Use this tokenizer: of a checkpoint, or a tokenizer.json."
    ),
]


def run(
    recipe: RecipeName = None,
    out: Out = None,
    seed: Seed = None,
    overrides: Overrides = None,
    only: Annotated[
        Stages, typer.Option("--only", metavar="STAGE", help="Run this stage alone; may be given again.")
    ] = None,
    skip: Annotated[
        Stages, typer.Option("--skip", metavar="STAGE", help="Leave this stage out; may be given again.")
    ] = None,
    repeat: Annotated[
        Stages,
        typer.Option("--repeat", metavar="STAGE", help="Do this finished stage again; may be given again."),
    ] = None,
    resume: Resume = None,
    budget: Budget = None,
    dry_run: DryRun = False,
) -> None:
    """The whole story of R1, from the tokenizer to the bill.

    The same command again goes on where the last one stopped; finished stages are kept.
    """
    request = Request("run", recipe, out, seed, overrides or (), resume, dry_run, budget)
    launch = _asked(request, inputs={})
    if launch is None:
        return
    from openbook.cli.live import watched
    from openbook.cli.outlook import foresee, say_settled
    from openbook.cli.spending import limit, spending
    from openbook.r1.report import story_table
    from openbook.r1.story import check_story, run_story

    cap = limit(request.budget, launch.out)
    check_story(launch.recipe.config)
    if request.resume is None:
        begin(launch)
        foresee(launch)
    with resumable(launch), watched(spending(launch.out)) as progress:
        story = run_story(
            launch.recipe.config,
            out=launch.out,
            seed=launch.seed,
            only=tuple(only or ()),
            skip=tuple(skip or ()),
            repeat=tuple(repeat or ()),
            progress=progress,
            limit=cap,
        )
    print(story_table(json.loads(story.read_text(encoding="utf-8"))))
    say_settled(launch.out)
    _say_what_next(launch.out)
    print(story)


def _say_what_next(out: Path) -> None:
    """The commands that look at a finished story."""
    last = [*sorted(out.glob("*-reasoning_rl")), *sorted(out.glob("*-all_scenarios"))]
    made = [folder for folder in last if (folder / "checkpoint").is_dir()]
    print(f"read it:   {out / 'report.html'}", file=sys.stderr)
    print(f"the bill:  openbook bill --root {out}", file=sys.stderr)
    if made:
        print(f"talk to it: openbook chat {made[-1] / 'checkpoint'}", file=sys.stderr)


def pretrain(
    recipe: RecipeName = None,
    data: Text = None,
    tokenizer: GivenTokenizer = None,
    out: StageOut = None,
    seed: Seed = None,
    overrides: Overrides = None,
    resume: Resume = None,
    budget: Budget = None,
    dry_run: DryRun = False,
) -> None:
    """Train a base model from nothing on text."""
    inputs = {"data": data, "tokenizer": tokenizer}
    _stage(Request("pretrain", recipe, out, seed, overrides or (), resume, dry_run, budget), inputs)


def sft(
    recipe: RecipeName = None,
    base: Base = None,
    data: Data = None,
    out: StageOut = None,
    seed: Seed = None,
    overrides: Overrides = None,
    resume: Resume = None,
    budget: Budget = None,
    dry_run: DryRun = False,
) -> None:
    """Fine-tune a model on conversations."""
    request = Request("sft", recipe, out, seed, overrides or (), resume, dry_run, budget)
    _stage(request, {"base": base, "data": data})


def rl(
    recipe: RecipeName = None,
    base: Base = None,
    data: Problems = None,
    reward: Reward = None,
    out: StageOut = None,
    seed: Seed = None,
    overrides: Overrides = None,
    resume: Resume = None,
    budget: Budget = None,
    dry_run: DryRun = False,
) -> None:
    """Reinforce right answers to hard problems, by GRPO."""
    changes = (*own_problems(data, reward), *(overrides or ()))
    _stage(Request("rl", recipe, out, seed, changes, resume, dry_run, budget), {"base": base, "data": data})


def own_problems(data: Path | None, reward: str | None) -> Iterator[str]:
    """What `--data` and `--reward` change in a recipe: the problems trained on, and those examined on."""
    for family in ("family", "exam.family"):
        if data is not None:
            yield f"{family}.kind=jsonl"
            yield f"{family}.path={json.dumps(data.as_posix())}"
        if reward is not None:
            yield f"{family}.reward={json.dumps(reward)}"
            yield f"{family}.verifier=none"
    if data is not None:
        yield "exam.harder=none"


def distill(
    recipe: RecipeName = None,
    base: Base = None,
    teacher: Teacher = None,
    out: StageOut = None,
    seed: Seed = None,
    overrides: Overrides = None,
    resume: Resume = None,
    budget: Budget = None,
    dry_run: DryRun = False,
) -> None:
    """Teach a small model the checked answers of a large one."""
    inputs = {"base": base, "teacher": teacher}
    _stage(Request("distill", recipe, out, seed, overrides or (), resume, dry_run, budget), inputs)


def _asked(request: Request, inputs: Mapping[str, Path]) -> Launch | None:
    """The work that was asked for; None when only the forecast was, which is printed."""
    launch = prepare(request, inputs)
    if request.dry_run:
        from openbook.cli.plan import print_forecast

        print_forecast(launch)
        return None
    return launch


def _stage(request: Request, inputs: Mapping[str, Path | None]) -> None:
    launch = _asked(request, _found(inputs))
    if launch is None:
        return
    from openbook.cli.live import watched
    from openbook.cli.outlook import foresee, say_settled
    from openbook.cli.spending import limit, spending
    from openbook.r1.verbs import Order, open_stage

    order = Order(
        verb=request.verb,
        config=launch.recipe.config,
        out=launch.out,
        seed=launch.seed,
        inputs=launch.inputs,
        limit=limit(request.budget, launch.out),
    )
    run_stage = open_stage(order)  # refuses what is missing or unfit before anything is written
    if request.resume is None:
        begin(launch)
        foresee(launch)
    with resumable(launch), watched(spending(launch.out)) as progress:
        result = run_stage(progress)
    say_settled(launch.out)
    print(result)


def _found(inputs: Mapping[str, Path | None]) -> dict[str, Path]:
    """The inputs that were given: models as checkpoint folders, data as it is."""
    from openbook.cli.shelf import find_checkpoint
    from openbook.errors import UserError

    found = {}
    for role, path in inputs.items():
        if path is None:
            continue
        if role == "data" and not path.exists():
            raise UserError(f"--data {path} does not exist", "name a file or the folder of a run")
        is_taken_as_it_is = role == "data" or (role == "tokenizer" and path.is_file())
        found[role] = path if is_taken_as_it_is else find_checkpoint(path)
    return found
