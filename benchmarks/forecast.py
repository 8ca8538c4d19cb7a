"""Forecast before, actual after, of stages that differ twofold from every run seen -> a table, and JSON.

    python benchmarks/forecast.py --history out/nano-0 [--out out/forecast] [--cases wide-base zero-half ...]
    python benchmarks/forecast.py --history out/nano-0 --read-only      # the table of what is there

History is a finished story of `openbook run nano`; nothing that this script runs becomes history. Each case
is forecast twice, from the machine's profile alone (`openbook doctor --measure` writes it; without one it is
measured first) and from profile and history, then run in a process of its own on one thread. Compared are
the processor seconds of the usage lines: with the lengths of completions as forecast, and with those that
there were. A case that is done is not done again. About six minutes on a quiet processor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openbook.cli.outlook import outlook
from openbook.cli.shelf import find_checkpoint, find_recipe
from openbook.config import Recipe, load_recipe
from openbook.economics.local.forecast import Forecast, doublings, stage_seconds
from openbook.economics.local.forecast_file import forecast_to_json
from openbook.economics.local.history import PastRun
from openbook.errors import UserError
from openbook.pages.tables import Column, Table, text_table
from openbook.r1.past import PastReader
from openbook.r1.schemas import SCHEMAS
from openbook.runs.machine import LoadNote, now
from openbook.runs.machine_profile import profile_path
from openbook.runs.run import MANIFEST_FILE, Run
from openbook.runs.store import find_runs

CHAINS = 'kind = "chain"\nmin_operations = 5\nmax_operations = 6\nstart_letters = 4\n'
EXAM = f"""[exam.family]
{CHAINS}
[exam.harder]
kind = "chain"
min_operations = 7
max_operations = 8
start_letters = 2

[exam.sampling]
num_problems = 500
num_samples = 4
max_tokens = 80
batch_size = 125
"""
RECIPES = {
    "zero.toml": f"""verb = "rl"
# Nano's zero as a stage of its own.
[family]
{CHAINS}
[rl]
num_steps = 12
num_problems = 16
num_generations = 16
max_tokens = 72
save_every = 10
optim = {{ muon_learning_rate = 0.003, adamw_learning_rate = 4e-4 }}

{EXAM}""",
    "distill.toml": f"""verb = "distill"
# Nano's distillation as a stage of its own, with half the batch and fewer problems.
[family]
{CHAINS}
[sampling]
num_problems = 512
num_generations = 2
max_tokens = 72
min_consistency = 0.95
keep_per_problem = 2

[train]
num_steps = 100
examples_per_step = 24
save_every = 50
optim = {{ muon_learning_rate = 0.01, adamw_learning_rate = 1.5e-3 }}
schedule = {{ warmup_steps = 5 }}

{EXAM}""",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A stage to be run: a verb with a recipe, what is changed in it, and checkpoints by option.

    A checkpoint is that of a stage of the history (`history/NAME`) or of another case (its name).
    """

    name: str
    what: str
    verb: str
    recipe: str
    sets: tuple[str, ...] = ()
    starts: tuple[tuple[str, str], ...] = ()
    only: str = ""


BASE, STUDENT, TEACHER = "history/pretrain", "history/student_base", "history/all_scenarios"
CASES = (
    Case(
        name="wide-base",
        what="pretraining, twice as wide",
        verb="run",
        recipe="nano",
        sets=("pretrain.num_steps=50", "model.hidden_size=256", "model.intermediate_size=768"),
        only="pretrain",
    ),
    Case(
        name="large-batch",
        what="pretraining, batch 2.7 times as large",
        verb="run",
        recipe="nano",
        sets=("pretrain.num_steps=40", "pretrain.examples_per_step=128"),
        only="pretrain",
    ),
    Case(
        name="deep-base",
        what="pretraining, 2.5 times as deep",
        verb="run",
        recipe="nano",
        sets=("pretrain.num_steps=35", "model.num_hidden_layers=10"),
        only="pretrain",
    ),
    Case(
        name="dense-base",
        what="pretraining, dense and six times the student",
        verb="run",
        recipe="nano",
        sets=(
            "pretrain.num_steps=35",
            "model.hidden_size=256",
            "model.intermediate_size=768",
            "model.moe=none",
            "model.num_nextn_predict_layers=0",
        ),
        only="pretrain",
    ),
    Case(
        name="zero-half",
        what="zero, half the batch",
        verb="rl",
        recipe="zero.toml",
        sets=("rl.num_generations=8", "rl.num_steps=40"),
        starts=(("from", BASE),),
    ),
    Case(
        name="zero-double",
        what="zero, twice the batch",
        verb="rl",
        recipe="zero.toml",
        sets=("rl.num_problems=32", "rl.num_steps=15"),
        starts=(("from", BASE),),
    ),
    Case(
        name="zero-wide",
        what="zero, from the base twice as wide",
        verb="rl",
        recipe="zero.toml",
        starts=(("from", "wide-base"),),
    ),
    Case(
        name="distill-half",
        what="distillation, half the batch and half the steps",
        verb="distill",
        recipe="distill.toml",
        starts=(("from", STUDENT), ("teacher", TEACHER)),
    ),
)
ROLES = {"from": "base", "teacher": "teacher"}


def main() -> None:
    arguments = _arguments()
    out, history = arguments.out, arguments.history
    os.environ["OMP_NUM_THREADS"] = "1"  # what is forecast is one thread, as what is run
    out.mkdir(parents=True, exist_ok=True)
    for name, text in RECIPES.items():
        (out / name).write_text(text, encoding="utf-8")
    if not profile_path().exists() and not arguments.read_only:
        subprocess.run([sys.executable, "-m", "openbook", "doctor", "--measure"], check=True)
    chosen = [case for case in CASES if not arguments.cases or case.name in arguments.cases]
    if not arguments.read_only:
        for case in chosen:
            if not _is_done(out, case):
                _foresee(case, out, history)
                _run(case, out, history)
    rows = [_row(case, out) for case in chosen if _is_done(out, case)]
    if not rows:
        raise SystemExit("no case is done yet")
    result = {"history": history.as_posix(), "cases": rows, "worst": _worst(rows)}
    (out / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1) if arguments.json else text_table(_table(rows)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--history", type=Path, required=True, help="the folder of a finished story")
    parser.add_argument("--out", type=Path, default=Path("out/forecast"))
    parser.add_argument("--cases", nargs="*", choices=[case.name for case in CASES])
    parser.add_argument("--read-only", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _run_folder(out: Path, case: Case) -> Path:
    return out / case.name / f"01-{case.only}" if case.only else out / case.name


def _is_done(out: Path, case: Case) -> bool:
    folder = _run_folder(out, case)
    return (folder / MANIFEST_FILE).exists() and str(Run.open(folder).status) == "done"


def _starts(case: Case, out: Path, history: Path) -> dict[str, Path]:
    """The checkpoints that a case starts from, by option."""
    found = {}
    for option, name in case.starts:
        if name.startswith("history/"):
            wanted = name.partition("/")[2]
            folders = [one.folder for one in find_runs(history) if one.manifest.stage == wanted]
            if not folders:
                raise UserError(f"{history} has no stage {wanted}", "name a finished story of nano")
            found[option] = find_checkpoint(folders[-1])
        else:
            other = next(one for one in CASES if one.name == name)
            found[option] = find_checkpoint(_run_folder(out, other))
    return found


def _recipe(case: Case, out: Path) -> Recipe:
    path = out / case.recipe if case.recipe.endswith(".toml") else find_recipe(case.recipe, case.verb)
    return load_recipe(path, SCHEMAS, case.sets)


def _foresee(case: Case, out: Path, history: Path) -> None:
    """Forecast a case before it runs, from profile and history and from the profile alone."""
    inputs = {ROLES[option]: path for option, path in _starts(case, out, history).items()}
    recipe = _recipe(case, out)
    made = {
        name: forecast_to_json(outlook(recipe, inputs, roots=roots), datetime.now(UTC))
        for name, roots in (("history", [history]), ("profile", []))
    }
    (out / f"{case.name}.forecast.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def _run(case: Case, out: Path, history: Path) -> None:
    recipe = out / case.recipe if case.recipe.endswith(".toml") else case.recipe
    words = [case.verb, str(recipe), "--out", str(out / case.name), "--seed", "1"]
    for one in case.sets:
        words += ["--set", one]
    for option, path in _starts(case, out, history).items():
        words += [f"--{option}", str(path)]
    if case.only:
        words += ["--only", case.only]
    print(f"{case.name}: openbook {' '.join(words)}", file=sys.stderr, flush=True)
    before = now()
    done = subprocess.run([sys.executable, "-m", "openbook", *words], stdout=subprocess.DEVNULL, check=False)
    note = str(LoadNote.between(before, now(), num_threads=1))
    (out / f"{case.name}.load").write_text(note + "\n", encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{case.name} ended with code {done.returncode}; the same command goes on")


def _row(case: Case, out: Path) -> dict[str, Any]:
    """One case: both forecasts beside what it took."""
    from openbook.economics.local.forecast_file import forecast_from_json

    path = out / f"{case.name}.forecast.json"
    made = json.loads(path.read_text(encoding="utf-8"))
    before = {name: forecast_from_json(one, str(path)) for name, one in made.items()}
    past = PastReader().read(Run.open(_run_folder(out, case)))
    assert past is not None, f"{case.name} was not started by this script"
    load = out / f"{case.name}.load"
    return {
        "case": case.name,
        "what": case.what,
        "cpu_seconds": past.cpu_seconds,
        "completion_tokens": past.tokens.completion,
        "doublings": doublings(past.plan.settings, before["history"].basis.seen),
        **_compared("history", before["history"], past),
        **_compared("profile", before["profile"], past),
        "load": load.read_text(encoding="utf-8").strip() if load.exists() else "",
    }


def _compared(name: str, before: Forecast, past: PastRun) -> dict[str, Any]:
    stage = next(one for one in before.stages if one.name == past.plan.name)
    remodelled = stage_seconds(before.basis, past.work)[0]
    return {
        f"{name}_cpu_seconds": stage.cpu_seconds.value,
        f"{name}_low": stage.cpu_seconds.low,
        f"{name}_high": stage.cpu_seconds.high,
        f"{name}_completion_tokens": stage.tokens["completion"].value,
        f"{name}_error": stage.cpu_seconds.value / past.cpu_seconds - 1,
        f"{name}_error_realised": remodelled / past.cpu_seconds - 1,
        f"{name}_in_band": stage.cpu_seconds.holds(past.cpu_seconds),
    }


def _worst(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The largest errors either way: relative with history, a factor with a profile alone."""
    return {
        "history_error": max((row["history_error"] for row in rows), key=abs),
        "history_error_realised": max((row["history_error_realised"] for row in rows), key=abs),
        "profile_factor": max(max(1 + row["profile_error"], 1 / (1 + row["profile_error"])) for row in rows),
        "least_doublings": min(row["doublings"] for row in rows),
    }


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    shown = tuple(
        (
            row["what"],
            f"{2 ** row['doublings']:.1f} x",
            f"{row['history_cpu_seconds']:.1f}",
            f"{row['history_low']:.1f} to {row['history_high']:.1f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['history_error']:+.1%}",
            f"{row['history_error_realised']:+.1%}",
            f"{row['profile_cpu_seconds']:.1f}",
            f"{1 + row['profile_error']:.2f} x",
            "disturbed" if row["load"].startswith("disturbed") else "",
        )
        for row in rows
    )
    labels = (
        "changed",
        "forecast, s",
        "80 % band",
        "actual, s",
        "error",
        "real lengths",
        "profile alone, s",
        "by actual",
        "load",
    )
    columns = (Column(label="case"), *(Column(label=label, number=True) for label in labels))
    return Table(columns=columns, rows=shown)


if __name__ == "__main__":
    main()
