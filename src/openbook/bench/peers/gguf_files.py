"""GGUF files of the same weights in other formats: what llama.cpp is given to be compared at equal bits.

A file is dequantised tensor by tensor and encoded anew with the `gguf` library; its metadata, tokenizer
included, is copied. Vectors stay in fp32, as llama.cpp's own converter leaves them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gguf

FILE_TYPES = {"BF16": "MOSTLY_BF16", "F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0", "Q4_1": "MOSTLY_Q4_1"}
"""The formats written here, and what each is called in `general.file_type`."""

_WRITTEN_BY_LIBRARY = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture")


def encoded_as(source: Path, encoding: str, folder: Path) -> Path:
    """A file in `folder` with the weights of `source` in `encoding`: found there, or written now."""
    assert encoding in FILE_TYPES
    stamp = source.stat()
    target = folder / f"{source.stem}-{stamp.st_size}-{int(stamp.st_mtime)}-as-{encoding}.gguf"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.partial")
        try:
            _encode(source, encoding, partial)
            partial.rename(target)
        finally:
            partial.unlink(missing_ok=True)
    return target


def encoding_of(source: Path) -> str:
    """The format that most matrices of a file have."""
    names = [tensor.tensor_type.name for tensor in gguf.GGUFReader(source).tensors if len(tensor.shape) > 1]
    return max(set(names), key=names.count)


def _encode(source: Path, encoding: str, target: Path) -> None:
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name not in _WRITTEN_BY_LIBRARY:
            _copy(writer, name, field, encoding)
    wanted = gguf.GGMLQuantizationType[encoding]
    encoded = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = gguf.GGMLQuantizationType.F32 if len(tensor.shape) == 1 else wanted
        encoded[tensor.name] = (kind, gguf.quants.quantize(values, kind))
        writer.add_tensor(tensor.name, encoded[tensor.name][1], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy(writer: Any, name: str, field: Any, encoding: str) -> None:
    if name == "general.file_type":
        writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[encoding]])
        return
    inner = field.types[-1] if len(field.types) > 1 else None
    writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
