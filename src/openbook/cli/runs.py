"""`openbook runs`: what happened, run by run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbook.cli.groups import Group
from openbook.cli.options import Json, Root

if TYPE_CHECKING:
    from openbook.runs.run import Run

COUNTERS = ("time", "attempt", "usage_lines")  # what a metrics row holds beside the metrics

app = typer.Typer(cls=Group, help="Runs: what was done, how it went, what it consumed.", no_args_is_help=True)


@app.command("list")
def list_runs(root: Root = Path("out"), as_json: Json = False) -> None:
    """All runs below a folder, oldest first, failed ones too."""
    from openbook.cli.render import print_json, print_table
    from openbook.runs.store import find_runs
    from openbook.units import show_count, show_seconds

    runs = find_runs(root, on_broken=lambda error: print(f"left out: {error}", file=sys.stderr))
    if as_json:
        print_json([_summary(run) for run in runs])
        return
    if not runs:
        print(f"no runs below {root}; `openbook run nano` makes some", file=sys.stderr)
        return
    rows = []
    for run in runs:
        usage = run.usage()
        seconds = show_seconds(usage.device_microseconds / 1e6)
        tokens = show_count(usage.trained_tokens + usage.prompt_tokens + usage.completion_tokens)
        status = f"{run.status} ({len(run.attempts)} attempts)" if len(run.attempts) > 1 else str(run.status)
        rows.append(
            [run.manifest.id, run.manifest.stage, status, seconds, tokens, run.folder.relative_to(root)]
        )
    columns = ["id", "stage", "status", "device time", "tokens", "folder"]
    print_table(columns, rows, right=("device time", "tokens"))


@app.command("show")
def show_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A folder, or enough of a run's id.")],
    root: Root = Path("out"),
    as_json: Json = False,
) -> None:
    """One run: ancestors, attempts, usage and last metrics."""
    from openbook.cli.render import print_json, print_pairs, print_table
    from openbook.runs.store import resolve_run

    found = resolve_run(run, root)
    summary = _summary(found)
    if as_json:
        print_json(summary)
        return
    tables = {
        key: summary.pop(key) for key in ("attempts", "parents", "usage", "last_metrics", "recipe", "host")
    }
    print_pairs({name: value for name, value in summary.items() if value != ""})
    for title in ("usage", "last_metrics"):
        if tables[title]:
            print(f"\n{title.replace('_', ' ')}")
            print_pairs({f"  {name}": _number(value) for name, value in tables[title].items()})
    for title in ("parents", "attempts"):
        if tables[title]:
            print(f"\n{title}")
            print_table(list(tables[title][0]), [map(_cell, row.values()) for row in tables[title]])


def _summary(run: Run) -> dict[str, Any]:
    from dataclasses import asdict

    manifest = run.manifest
    metrics = run.metrics()
    return {
        "id": manifest.id,
        "verb": manifest.verb,
        "stage": manifest.stage,
        "status": str(run.status),
        "reason": run.reason,
        "folder": run.folder,
        "seed": manifest.seed,
        "created_at": manifest.created_at.isoformat(timespec="seconds"),
        "code_version": manifest.code_version,
        "recipe_digest": manifest.recipe_digest,
        "recipe": run.recipe,
        "host": asdict(manifest.host),
        "parents": [asdict(parent) for parent in manifest.parents],
        "attempts": [
            {
                "number": attempt.number,
                "device": attempt.device,
                "started_at": attempt.started_at.isoformat(timespec="seconds"),
                "last_sign_at": attempt.last_sign_at.isoformat(timespec="seconds"),
                "status": str(attempt.status),
                "reason": attempt.reason,
            }
            for attempt in run.attempts
        ],
        "usage": asdict(run.usage()),
        "last_metrics": {name: metrics[-1][name] for name in metrics[-1] if name not in COUNTERS}
        if metrics
        else {},
    }


def _cell(value: object) -> str:
    """A value of a table; of a digest as much as people compare."""
    return f"{value[:19]}..." if isinstance(value, str) and value.startswith("sha256:") else str(value)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
