"""Errors that are the user's to mend: one clear line, a non-zero exit, never a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A mistake or a state that the user can change.

    `what` says what is wrong and `mend` what to do about it; the command line prints
    `what`, then `mend`, on one line and exits with `exit_code`.
    """

    exit_code = 2

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(f"{what}; {mend}" if mend else what)
        self.what = what
        self.mend = mend


class Interrupted(UserError):
    """Ctrl-C or SIGTERM: the work is saved and can be resumed."""

    exit_code = 130


class OverBudget(Interrupted):
    """A budget is spent: the work is saved and can be resumed with a higher one."""

    exit_code = 4


class Diverged(UserError):
    """A loss or gradient became NaN or infinite; the last good state is kept."""

    exit_code = 3


def nearest(name: str, known: list[str]) -> str:
    """A `did you mean` for a misspelt name: the nearest known one, or the whole list."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
