"""Reaching a database: from a path or URL to an engine, and from its errors to one clear line."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
)

from openbook.errors import UserError
from openbook.ledger.schema import prepare_postgresql, prepare_sqlite

CONNECT_SECONDS = 10
_FULL = ("cannot grow: the disk is full", "free some space; nothing was half booked")
_LOCKED = ("is locked by another process", "try again when it is done")
_READ_ONLY = ("may be read but not written", "check its permissions")
_DAMAGED = ("is damaged", "restore a copy, then book its runs again")
_TOO_MUCH = (
    "cannot hold that sum: a run's account on one day comes to more than 9.2 billion dollars",
    "enter it in parts by run or day",
)
_SQLITE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: (
        "could not be read or written by the disk",
        "check that it has free space; nothing was half booked",
    ),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: ("is not a database", "name another file"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "check the path and its permissions"),
}
# By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRESQL = {
    "53100": _FULL,
    "53200": ("has no memory left", "try again later; nothing was half booked"),
    "53300": ("has no connection left", "try again later; nothing was half booked"),
    "55P03": _LOCKED,
    "40P01": _LOCKED,
    "25006": _READ_ONLY,
    "42501": ("may not be used by this user", "ask its owner for the right to read and add"),
    "22003": _TOO_MUCH,
    "28P01": ("does not take that password", "check the user and password in the URL"),
    "28000": ("does not take that user", "check the user in the URL"),
    "3D000": ("does not exist", "create the database first, with createdb"),
    "57P01": ("was shut down", "try again when it is back; nothing was half booked"),
    "57P03": ("is starting up or shutting down", "try again when it is back"),
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}


def make_engine(location: str | Path, busy_timeout_seconds: float) -> Engine:
    """The engine for a path (SQLite) or URL. Raises UserError when there is no such database."""
    url = _url(location)
    try:
        if url.get_backend_name() == "postgresql":
            connect = {"connect_timeout": CONNECT_SECONDS} if "connect_timeout" not in url.query else {}
            # Psycopg's own prepared statements would not survive a pooler between us and the server.
            arguments = {**connect, "prepare_threshold": None}
            engine = create_engine(url, pool_size=1, pool_pre_ping=True, connect_args=arguments)
            prepare_postgresql(engine, busy_timeout_seconds)
        else:
            engine = create_engine(url)
            prepare_sqlite(engine, busy_timeout_seconds)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the driver for {show(url)} is not installed ({error.name})",
            "install it with pip install 'openbook[postgres]'",
        ) from error
    return engine


def show(url: URL) -> str:
    """A URL without its password; the path of a SQLite file."""
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.render_as_string(hide_password=True)


@contextmanager
def explained(location: str) -> Iterator[None]:
    """Turn an error of the database into one line that says what to do."""
    try:
        yield
    except IntegrityError as error:
        if "_is_whole" in str(error.orig):
            raise UserError(f"ledger {location} {_TOO_MUCH[0]}", _TOO_MUCH[1]) from error
        raise  # an entry of an unknown run: a programmer's mistake
    except DBAPIError as error:
        what, mend = reason(error)
        raise UserError(f"ledger {location} {what}", mend) from error


def reason(error: DBAPIError) -> tuple[str, str]:
    """What is the matter with a database, to follow its name, and what to do about it."""
    said = " ".join(str(error.orig).split())
    if isinstance(error.orig, sqlite3.Error):
        if said == "integer overflow":
            return _TOO_MUCH
        number = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        return _SQLITE.get(number, (f"cannot be used ({said})", "check the database"))
    state = getattr(error.orig, "sqlstate", None)
    if state in _POSTGRESQL:
        return _POSTGRESQL[state]
    for sign, code in (("does not exist", "3D000"), ("password authentication", "28P01")):
        if sign in said:
            return _POSTGRESQL[code]
    if "connection failed" in said or "connection is bad" in said:
        return f"cannot be reached ({said})", "check the URL, and that the server runs"
    if state is None and isinstance(error, OperationalError):
        return "went away", "try again when the server is back; nothing was half booked"
    return f"cannot be used ({said})", "check the database"


def _url(location: str | Path) -> URL:
    if isinstance(location, Path) or "://" not in location:
        path = Path(location)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"no ledger can be made at {path} ({error.strerror})", "name a file") from error
        return URL.create("sqlite", database=str(path))
    try:
        url = make_url(location)
        backend = url.get_dialect().name
    except ArgumentError as error:
        if isinstance(error, NoSuchModuleError):
            raise _unknown(url.drivername) from error
        raise UserError(f"{location!r} is no database URL", "such as postgresql://host/name") from error
    except ModuleNotFoundError:
        backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise _unknown(url.drivername)
    return url


def _unknown(name: str) -> UserError:
    return UserError(f"{name!r} is no database known here", "use sqlite or postgresql")
