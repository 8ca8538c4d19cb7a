"""Bringing a database to the schema of today: all of the way or not at all.

    version_of(connection)   0: nothing there     n: a ledger of schema n
    upgrade(connection)      runs the revisions in `migrations` that are still to come

Whoever upgrades holds the database alone; who comes second finds it done.
"""

from __future__ import annotations

import threading
import warnings
from importlib import resources

from sqlalchemy import Connection, inspect, select, text

from openbook.ledger.schema import SCHEMA_VERSION, ledger_table

LOCK_NUMBER = 5_391_845_061_742_290_763
"""Of PostgreSQL's advisory lock: any number, so long as every opener takes the same."""
_one_at_a_time = threading.Lock()
"""Alembic hands its operations to the revisions through a global of its own."""


class NotALedgerError(Exception):
    """The database holds something else."""


def version_of(connection: Connection) -> int:
    """The schema of a ledger, 0 for an empty database. Raises NotALedgerError."""
    inspector = inspect(connection)
    if inspector.has_table(ledger_table.name):
        query = select(ledger_table.c.value).where(ledger_table.c.name == "schema_version")
        return int(connection.execute(query).scalar_one())
    if inspector.get_table_names():
        raise NotALedgerError
    return 0


def upgrade(connection: Connection) -> None:
    """Run what is still to be run of the revisions, within the caller's transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK_NUMBER})
    version = version_of(connection)
    if version >= SCHEMA_VERSION:
        return  # somebody else did it, or a newer one
    # Imported here, because a ledger that is up to date has no need of it.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    with resources.as_file(resources.files("openbook.ledger") / "migrations") as folder, _one_at_a_time:
        scripts = ScriptDirectory(str(folder))
        context = MigrationContext.configure(
            connection, opts={"fn": lambda revision, _: scripts._upgrade_revs("head", revision)}
        )
        if version and context.get_current_revision() is None:
            context.stamp(scripts, f"{version:04d}")  # version 1 kept its number without alembic
        with Operations.context(context), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what SQLite cannot reflect, it is not asked for
            context.run_migrations()
