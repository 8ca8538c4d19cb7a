"""Options that several commands share, so that each has one name and one meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeName = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE", show_default=False, help="A name that `openbook recipe list` shows, or a TOML file."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where the work goes. [default: out/RECIPE-SEED]")
]
StageOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where the work goes. [default: out/VERB-RECIPE-SEED]"),
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Equal seeds give equal results. [default: 0]")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one value of the recipe; may be given again."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the resolved recipe and what its models cost; compute nothing."),
]
Resume = Annotated[
    str | None,
    typer.Option(
        "--resume", metavar="RUN", help="Go on with this run (folder or id), its recipe and its seed."
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="AMOUNT",
        help="Stop and save before more is spent: '$0.01', 2h (of device time) or '1e6 tokens'.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="The folder below which runs lie.")]
BookAt = Annotated[
    str | None,
    typer.Option(
        "--book",
        metavar="FILE|URL",
        help="The ledger: SQLite or PostgreSQL. [default: ledger.sqlite in the root]",
    ),
]
Prices = Annotated[
    Path | None,
    typer.Option("--prices", metavar="FILE", help="A price plan of your own. [default: the one inside]"),
]
Since = Annotated[str | None, typer.Option("--since", metavar="DAY", help="From this day or month on (UTC).")]
Until = Annotated[str | None, typer.Option("--until", metavar="DAY", help="To this day or month, included.")]
CheckpointFolder = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="The folder of a checkpoint or of a run that made one, a GGUF file, or `smollm2`.",
    ),
]
AcceleratorFile = Annotated[
    Path | None, typer.Option("--accelerators", metavar="FILE", help="Your own accelerators, over ours.")
]
