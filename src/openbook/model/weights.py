"""Safetensors files read with care: every way in which they can be broken has an error that names the file.

A folder holds `model.safetensors`, or shards listed in `model.safetensors.index.json`. The headers are read
and held against the sizes of the files before any tensor is: a download that stopped early is found at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from openbook.errors import UserError

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

_HEADER_LENGTH_BYTES = 8
_COPY_AGAIN = "copy or download it again"


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightFiles:
    """The tensors of a folder: which file holds each, and with which shape."""

    folder: Path
    files: tuple[Path, ...]
    homes: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def find(cls, folder: Path) -> WeightFiles:
        """Read the headers in `folder`. UserError for a missing, truncated or malformed file."""
        index = folder / INDEX_NAME
        weight_map: Mapping[str, str] = read_json(index).get("weight_map", {}) if index.is_file() else {}
        names = sorted(set(weight_map.values())) or [WEIGHTS_NAME]
        files = tuple(folder / name for name in names)
        for file in files:
            if not file.is_file():
                raise UserError(f"{file}: no such file", _what_to_do_without(folder))
        homes, shapes = {}, {}
        for file in files:
            for name, shape in read_shapes(file).items():
                homes[name], shapes[name] = file, shape
        for name, shard in weight_map.items():
            if homes.get(name) != folder / shard:
                raise UserError(f"{folder / shard}: {name} is missing, though {INDEX_NAME} files it there")
        return cls(folder=folder, files=files, homes=homes, shapes=shapes)

    @contextmanager
    def reading(self) -> Iterator[WeightReader]:
        """The files opened for reading, closed at the end."""
        with ExitStack() as stack:
            yield WeightReader(weights=self, handles={file: _open(file, stack) for file in self.files})


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightReader:
    """Reads tensors of open files, each checked against the shape that is asked for."""

    weights: WeightFiles
    handles: Mapping[Path, Any]

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor `name` in its stored dtype. UserError if it is missing or of another shape."""
        home = self.weights.homes.get(name)
        if home is None:
            raise UserError(f"{self._default_file}: tensor {name} is missing", "config.json asks for it")
        stored = self.weights.shapes[name]
        if stored != shape:
            what = f"{home}: tensor {name} has shape {list(stored)}"
            raise UserError(what, f"config.json asks for {list(shape)}")
        try:
            tensor: Tensor = self.handles[home].get_tensor(name)
        except SafetensorError as error:
            raise UserError(f"{home}: tensor {name} cannot be read: {error}") from error
        return tensor

    @property
    def _default_file(self) -> Path:
        files = self.weights.files
        return files[0] if len(files) == 1 else self.weights.folder / INDEX_NAME


def read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of a safetensors file, from its header alone.

    The header is a little-endian 64-bit length, then JSON that gives each tensor's
    `data_offsets` counted from its own end (https://github.com/huggingface/safetensors).
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_length = int.from_bytes(stream.read(_HEADER_LENGTH_BYTES), "little")
        data_start = _HEADER_LENGTH_BYTES + header_length
        if size < _HEADER_LENGTH_BYTES or data_start > size:
            raise UserError(f"{file}: truncated within its header, at byte {size}", _COPY_AGAIN)
        try:
            header = json.loads(stream.read(header_length))
            header.pop("__metadata__", None)
            shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
            ends = {name: data_start + int(entry["data_offsets"][1]) for name, entry in header.items()}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            what = f"{file}: not a safetensors file: its header is not readable"
            raise UserError(what, _COPY_AGAIN) from error
    cut = min((name for name, end in ends.items() if end > size), key=lambda name: ends[name], default=None)
    if cut is not None:
        what = f"{file}: truncated at byte {size}: tensor {cut} ends at byte {ends[cut]}"
        raise UserError(what, _COPY_AGAIN)
    return shapes


def _open(file: Path, stack: ExitStack) -> Any:
    try:
        return stack.enter_context(safe_open(str(file), framework="pt"))
    except SafetensorError as error:
        raise UserError(f"{file}: not a sound safetensors file: {error}", _COPY_AGAIN) from error


def file_digest(file: Path) -> str:
    """`sha256:...` of the bytes of a file."""
    with file.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(digests: Mapping[str, str]) -> str:
    """One digest for several files, given each one's by name: `sha256:...` of the sorted list."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def file_digests(files: Iterable[Path]) -> dict[str, str]:
    """The digest of each file by its bare name."""
    return {file.name: file_digest(file) for file in files}


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. UserError if the file is missing or holds anything else."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{file}: expected a JSON object")
    return data


def _what_to_do_without(folder: Path) -> str:
    if any(folder.glob("*.bin")) or any(folder.glob("*.pth")):
        return "pickled weights are never opened; convert them to safetensors"
    return "a checkpoint is a folder with config.json and model.safetensors"
