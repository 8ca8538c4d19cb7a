"""Files that survive a kill: lines are appended whole, everything else is replaced whole.

A line is one `write` of bytes that end in a newline, so a reader that drops an unfinished last
line always sees whole records. A file that is not a log is written beside its place, synced and
renamed over it, so a reader sees the old text or the new one and nothing between.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from openbook.errors import UserError

if sys.platform != "win32":
    import fcntl

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def append_line(path: Path, text: str, *, sync: bool = False) -> None:
    """Append one line to a log, making the file if needed; `sync` also waits for the disk.

    A write that does not fit is taken back, so the file keeps its whole lines. Raises UserError
    when the disk is full or the file cannot be written.
    """
    assert "\n" not in text, "a record is one line"
    data = (text + "\n").encode()
    with explained(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size_bytes = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, data)
            except OSError:
                with suppress(OSError):  # what stays is an unfinished line, which no reader counts
                    os.ftruncate(descriptor, size_bytes)
                raise
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Write a whole file so that a kill leaves the old text or the new one. Raises UserError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with explained(path):
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            _write_all(descriptor, text.encode())
            os.fsync(descriptor)
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        _sync_folder(path.parent)


def read_lines(path: Path) -> list[str]:
    """The whole lines of a log; an unfinished last line is left out, no file is no lines."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return data[: data.rfind(b"\n") + 1].decode(errors="replace").split("\n")[:-1]


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines of a log as JSON objects. Raises UserError that names a damaged line."""
    records = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            record = json.loads(line)
            assert isinstance(record, dict)
        except (ValueError, AssertionError):
            raise UserError(f"line {number} of {path} is damaged", "restore the file from a copy") from None
        records.append(record)
    return records


def drop_torn_line(path: Path) -> None:
    """Cut off an unfinished last line, so that the next append starts a line of its own."""
    if not path.exists():
        return
    with explained(path), path.open("r+b") as file:
        end_bytes = file.seek(0, os.SEEK_END)
        if end_bytes:
            file.seek(end_bytes - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)


def sync_file(path: Path) -> None:
    """Wait until what was appended to a log is on the disk; no file is fine."""
    if path.exists():
        with explained(path), path.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one process at a time; the system lets go of it when the process dies."""
    if sys.platform == "win32":
        yield  # no such lock there: starting one run twice at once goes unnoticed
    else:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise UserError(
                f"the disk is full: {path} could not be written",
                f"free some space, then go on with --resume {path.parent}; what was saved before is intact",
            ) from error
        raise UserError(
            f"{path} could not be written ({error.strerror})", "check the folder and its permissions"
        ) from error


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _sync_folder(folder: Path) -> None:
    """Wait until new and renamed entries of a folder are on the disk."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
