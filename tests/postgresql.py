"""A real PostgreSQL server in a folder of its own, for as long as somebody wants it.

    with server() as running:
        url = running.new_database()

Reached through a socket in that folder only, so it is in nobody's way. A server refuses to be run by
root, who runs it as the user `postgres` (or `nobody`).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BINARIES = "usr/lib/postgresql/*/bin"
HOW_TO_INSTALL = "no PostgreSQL server here: install the package postgresql"
START_SECONDS = 30


@dataclass(slots=True)
class Server:
    """A server in `folder`; kill its `process` to see how others take it, and start it again."""

    folder: Path
    settings: tuple[str, ...]
    process: subprocess.Popen[bytes]
    _num_databases: int = 0

    def start(self) -> None:
        """Start it again where it was stopped."""
        self.process = _start(self.folder, self.settings)

    def new_database(self) -> str:
        """Make an empty database and give its URL."""
        import psycopg

        self._num_databases += 1
        name = f"ledger_{self._num_databases}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://openbook@/{name}?host={self.folder}"

    def address(self, database: str) -> str:
        """How the driver reaches a database."""
        return f"host={self.folder} user=openbook dbname={database}"


def binaries() -> Path | None:
    """Where the newest server is installed; None where there is none."""
    found = [folder for folder in Path("/").glob(BINARIES) if (folder / "initdb").exists()]
    on_path = shutil.which("initdb")
    return max(found, key=lambda folder: float(folder.parent.name), default=on_path and Path(on_path).parent)


@contextlib.contextmanager
def server(*settings: str) -> Iterator[Server]:
    """Start a server with its own settings (`name=value`), durable as it comes; stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="openbook-pg-"))
    user = _unprivileged_user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    words = ["-D", folder / "data", "-U", "openbook", "-A", "trust", "-E", "UTF8", "--no-sync"]
    running = None
    try:
        initdb = [_program("initdb"), *words]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **_run_as())
        running = Server(folder=folder, settings=settings, process=_start(folder, settings))
        yield running
    finally:
        if running is not None:
            running.process.send_signal(signal.SIGQUIT)  # at once, without tidying what is thrown away
            running.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, settings: Sequence[str]) -> subprocess.Popen[bytes]:
    options = [word for setting in ("listen_addresses=", *settings) for word in ("-c", setting)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [_program("postgres"), "-D", folder / "data", "-k", folder, *options],
            stdout=log,
            stderr=log,
            cwd=folder,
            **_run_as(),
        )
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if subprocess.run([_program("pg_isready"), "-q", "-h", folder], check=False).returncode == 0:
            return process
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{(folder / 'log').read_text()}")


def _program(name: str) -> Path:
    programs = binaries()
    assert programs is not None, HOW_TO_INSTALL
    return programs / name


def _run_as() -> dict[str, Any]:
    user = _unprivileged_user()
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _unprivileged_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("root may not run a server, and there is no other user")
