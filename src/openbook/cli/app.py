"""`openbook`: the commands by section, and how a command that cannot go on ends.

Importing this module must stay cheap: each command imports what it needs when it is called.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from openbook.cli import (
    bench,
    bill,
    checkpoint,
    doctor,
    evaluate,
    invest,
    ledger,
    make,
    plan,
    price,
    quantize,
    recipe,
    runs,
    talk,
    tasks,
)
from openbook.cli.groups import Group
from openbook.errors import UserError

# typer brings its own copy of click and exports of its errors only children of this one
UsageError: Any = typer.BadParameter.__base__

MAKE, USE, MEASURE, LOOK = "Make", "Use", "Measure", "Look"


app = typer.Typer(
    cls=Group,
    help="Train, distil and use reasoning models the way DeepSeek-R1 was made, with open books.",
    epilog="Start with: openbook run nano",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # drawing help with rich would cost as long as everything else together
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"openbook {version('openbook')}")
        raise typer.Exit


@app.callback()
def _openbook(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


COMMANDS: tuple[tuple[str, str, Callable[..., None]], ...] = (
    (MAKE, "run", make.run),
    (MAKE, "pretrain", make.pretrain),
    (MAKE, "sft", make.sft),
    (MAKE, "rl", make.rl),
    (MAKE, "distill", make.distill),
    (MAKE, "quantize", quantize.quantize),
    (USE, "generate", talk.generate),
    (USE, "chat", talk.chat),
    (MEASURE, "eval", evaluate.evaluate),
    (MEASURE, "plan", plan.plan),
    (MEASURE, "price", price.price),
    (MEASURE, "invest", invest.invest),
    (MEASURE, "bill", bill.bill),
    (MEASURE, "report", bill.report),
    (MEASURE, "doctor", doctor.doctor),
)
GROUPS = (
    (MEASURE, "bench", bench.app),
    (LOOK, "ledger", ledger.app),
    (LOOK, "runs", runs.app),
    (LOOK, "recipe", recipe.app),
    (LOOK, "tasks", tasks.app),
    (LOOK, "checkpoint", checkpoint.app),
)

for section, name, command in COMMANDS:
    app.command(name, rich_help_panel=section)(command)
for section, name, group in GROUPS:
    app.add_typer(group, name=name, rich_help_panel=section)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that `arguments` (default: the process's) name, and exit.

    A user's mistake is one line on stderr and the exit code of its error. Anything unforeseen is
    one line that says where the traceback lies; with OPENBOOK_DEBUG=1 it is the traceback.
    """
    try:
        sys.exit(app(args=arguments, prog_name="openbook", standalone_mode=False))
    except UserError as error:
        _end(str(error), error.exit_code)
    except UsageError as error:
        _end_usage(error)
    except typer.Abort:
        _end("stopped", 130)
    except Exception as error:
        if os.environ.get("OPENBOOK_DEBUG") == "1":
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _end("the disk is full; free some space, then give the same command again", 1)
        where = _write_traceback(error)
        _end(f"{type(error).__name__}: {error} (a defect of openbook; the traceback is in {where})", 1)


def _end_usage(error: Any) -> NoReturn:
    """One line for a command line that cannot be read; the whole help where nothing was asked for."""
    text = error.format_message()
    if text.startswith("Usage:"):
        print(text, file=sys.stderr)
        sys.exit(error.exit_code)
    path = error.ctx.command_path if error.ctx else "openbook"
    _end(f"{text.rstrip('.')}; see {path} --help", error.exit_code)


def _end(text: str, exit_code: int) -> NoReturn:
    print("openbook: " + " ".join(text.splitlines()), file=sys.stderr)
    sys.exit(exit_code)


def _write_traceback(error: Exception) -> Path:
    handle, name = tempfile.mkstemp(prefix="openbook-traceback-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    return Path(name)
