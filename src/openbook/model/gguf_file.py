"""GGUF files read with care: every way in which they can be broken has an error that names file and tensor.

A file is a header and then the tensors. The header is a magic number, a version, two counts, the metadata
(typed values by name) and, for each tensor, its name, shape, type and place
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). It is read here, in one pass, because the reader
of the `gguf` library takes seconds for the hundred thousand strings of a vocabulary and its errors name no
tensor. The types and the sizes of their blocks are the library's.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from openbook.errors import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4

_COPY_AGAIN = "copy or download it again"
_NUMBERS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}
"""The `struct` letter of each type of number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufTensor:
    """Where one tensor lies. `shape` has the outermost dimension first, as torch has it."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    start: int
    """Byte of the file at which it begins."""
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufFile:
    """The header of a file: its metadata, and where its tensors lie."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Read the header. UserError for a missing, truncated or malformed file, naming file and tensor."""
        try:
            with path.open("rb") as stream:
                size = stream.seek(0, 2)
                if size == 0:
                    raise UserError(f"{path}: empty", _COPY_AGAIN)
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    return _Header(path, content, size).read()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error

    def read(self, tensor: GgufTensor) -> NDArray[np.uint8]:
        """The bytes of a tensor as they are stored, one row each along its last dimension: [N, bytes]."""
        try:
            content = np.fromfile(self.path, dtype=np.uint8, count=tensor.num_bytes, offset=tensor.start)
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}") from error
        if content.size != tensor.num_bytes:
            raise UserError(f"{self.path}: tensor {tensor.name} was cut off since the file was opened")
        return content.reshape(math.prod(tensor.shape[:-1]), -1)


class _Header:
    """A cursor that reads one thing after the other."""

    def __init__(self, path: Path, content: mmap.mmap, size: int) -> None:
        self._path, self._content, self._size, self._at = path, content, size, 0

    def read(self) -> GgufFile:
        if self._take(len(MAGIC)) != MAGIC:
            raise UserError(f"{self._path}: not a GGUF file: it does not begin with {MAGIC.decode()}")
        (version,) = self._numbers("I", 1)
        if version not in VERSIONS:
            # Read the wrong way round, the version of a big-endian file is a very large number.
            raise UserError(
                f"{self._path}: GGUF version {version}",
                f"versions {' and '.join(map(str, VERSIONS))}, little-endian, are read",
            )
        num_tensors, num_values = self._numbers("Q", 2)
        metadata = self._metadata(num_values)
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise UserError(
                f"{self._path}: general.alignment is {alignment!r}", "it has to be a power of two"
            )
        found = [self._tensor() for _ in range(num_tensors)]
        data_start = -(-self._at // alignment) * alignment
        tensors = self._checked([replace(one, start=data_start + one.start) for one in found])
        return GgufFile(path=self._path, metadata=metadata, tensors=tensors)

    def _metadata(self, num_values: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for _ in range(num_values):
            name = self._string()
            if name in metadata:
                raise UserError(f"{self._path}: {name} is given twice", _COPY_AGAIN)
            metadata[name] = self._value(name)
        return metadata

    def _value(self, name: str) -> Any:
        kind = self._kind(name)
        if kind is GGUFValueType.STRING:
            return self._string()
        if kind is not GGUFValueType.ARRAY:
            return self._numbers(_NUMBERS[kind], 1)[0]
        kind, (length,) = self._kind(name), self._numbers("Q", 1)
        if kind is GGUFValueType.ARRAY:
            raise UserError(f"{self._path}: {name} is an array of arrays", "such metadata is not read")
        if kind is GGUFValueType.STRING:
            return [self._string() for _ in range(length)]
        return list(self._numbers(_NUMBERS[kind], length))

    def _kind(self, name: str) -> GGUFValueType:
        (number,) = self._numbers("I", 1)
        try:
            return GGUFValueType(number)
        except ValueError as error:
            raise UserError(
                f"{self._path}: {name} has the unknown value type {number}", _COPY_AGAIN
            ) from error

    def _tensor(self) -> GgufTensor:
        """The tensor that is told of next; it starts as many bytes behind the header as the file says."""
        name = self._string()
        (num_dimensions,) = self._numbers("I", 1)
        if not 1 <= num_dimensions <= MAX_DIMENSIONS:
            raise UserError(f"{self._path}: tensor {name} has {num_dimensions} dimensions", _COPY_AGAIN)
        shape = tuple(reversed(self._numbers("Q", num_dimensions)))
        (number,), (offset,) = self._numbers("I", 1), self._numbers("Q", 1)
        try:
            kind = GGMLQuantizationType(number)
        except ValueError as error:
            raise UserError(
                f"{self._path}: tensor {name} has the unknown type {number}",
                "a newer `gguf` library may know it",
            ) from error
        block_size, block_bytes = GGML_QUANT_SIZES[kind]
        if shape[-1] % block_size:
            raise UserError(
                f"{self._path}: tensor {name} has rows of {shape[-1]}",
                f"rows of type {kind.name} are whole blocks of {block_size}",
            )
        num_bytes = math.prod(shape) // block_size * block_bytes
        return GgufTensor(name=name, shape=shape, type=kind, start=offset, num_bytes=num_bytes)

    def _checked(self, found: Sequence[GgufTensor]) -> dict[str, GgufTensor]:
        """The tensors by name, each once and whole."""
        tensors: dict[str, GgufTensor] = {}
        for tensor in sorted(found, key=lambda one: one.start):
            if tensor.name in tensors:
                raise UserError(f"{self._path}: tensor {tensor.name} is given twice", _COPY_AGAIN)
            end = tensor.start + tensor.num_bytes
            if end > self._size:
                what = f"{self._path}: truncated at byte {self._size}"
                raise UserError(f"{what}: tensor {tensor.name} ends at byte {end}", _COPY_AGAIN)
            tensors[tensor.name] = tensor
        return tensors

    def _string(self) -> str:
        (length,) = self._numbers("Q", 1)
        content = self._take(length)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            what = f"{self._path}: the text at byte {self._at - length} is not UTF-8"
            raise UserError(what, _COPY_AGAIN) from error

    def _numbers(self, letter: str, count: int) -> tuple[Any, ...]:
        return struct.unpack(f"<{count}{letter}", self._take(count * struct.calcsize(f"<{letter}")))

    def _take(self, num_bytes: int) -> bytes:
        end = self._at + num_bytes
        if end > self._size:
            raise UserError(f"{self._path}: truncated within its header, at byte {self._size}", _COPY_AGAIN)
        content, self._at = self._content[self._at : end], end
        return content
