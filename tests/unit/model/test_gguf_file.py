"""GGUF files: what is in them, and every way in which they can be broken."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from openbook.errors import UserError
from openbook.model.gguf_file import GgufFile

MATRIX = np.arange(64, dtype=np.float32).reshape(2, 32)
VECTOR = np.array([1.5, -2.5], dtype=np.float16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a value of every sort, a quantised matrix and a plain vector."""
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("name", "\u03a9 and \u6570")
    writer.add_uint8("small", 200)
    writer.add_int64("large", -(1 << 40))
    writer.add_float64("half", 0.5)
    writer.add_bool("yes", True)
    writer.add_array("texts", ["a", "", "\u00e9"])
    writer.add_array("numbers", [3, -4, 5])
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("matrix", gguf.quantize(MATRIX, kind), raw_dtype=kind)
    writer.add_tensor("vector", VECTOR)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def change(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1 and len(old) == len(new)
    path.write_bytes(content.replace(old, new))


def test_values_of_every_sort_are_read(path: Path) -> None:
    metadata = GgufFile.open(path).metadata
    assert metadata["general.architecture"] == "llama"
    assert (metadata["name"], metadata["texts"]) == ("\u03a9 and \u6570", ["a", "", "\u00e9"])
    assert (metadata["small"], metadata["large"], metadata["half"]) == (200, -(1 << 40), 0.5)
    assert metadata["yes"] is True and metadata["numbers"] == [3, -4, 5]


def test_tensors_have_their_shape_type_and_bytes(path: Path) -> None:
    file = GgufFile.open(path)
    matrix, vector = file.tensors["matrix"], file.tensors["vector"]
    assert (matrix.shape, matrix.type.name) == ((2, 32), "Q8_0")
    assert np.array_equal(file.read(matrix), gguf.quantize(MATRIX, matrix.type))
    assert (vector.shape, vector.type.name) == ((2,), "F16")
    assert np.array_equal(file.read(vector).view(np.float16)[0], VECTOR)


def test_we_read_what_the_library_reads(path: Path) -> None:
    file, reader = GgufFile.open(path), gguf.GGUFReader(path)
    theirs = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert file.metadata == theirs
    places = {tensor.name: (tensor.data_offset, tensor.n_bytes) for tensor in reader.tensors}
    assert {one.name: (one.start, one.num_bytes) for one in file.tensors.values()} == places


def test_a_file_cut_off_anywhere_is_one_clear_line(path: Path, tmp_path: Path) -> None:
    content, cut = path.read_bytes(), tmp_path / "cut.gguf"
    # Behind the last tensor there is padding, which may go.
    end = max(one.start + one.num_bytes for one in GgufFile.open(path).tensors.values())
    for size in range(end):
        cut.write_bytes(content[:size])
        with pytest.raises(UserError, match=r"cut\.gguf: (truncated|empty)"):
            GgufFile.open(cut)


def test_a_tensor_that_is_cut_off_is_named(path: Path, tmp_path: Path) -> None:
    file, cut = GgufFile.open(path), tmp_path / "cut.gguf"
    cut.write_bytes(path.read_bytes()[: file.tensors["matrix"].start + 10])
    with pytest.raises(UserError, match="tensor matrix ends at byte"):
        GgufFile.open(cut)


def test_a_file_that_shrank_since_it_was_opened_is_named(path: Path) -> None:
    file = GgufFile.open(path)
    path.write_bytes(path.read_bytes()[: file.tensors["vector"].start])
    with pytest.raises(UserError, match="tensor vector was cut off"):
        file.read(file.tensors["vector"])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"GGUF", b"GGML", "not a GGUF file"),
        (struct.pack("<4sI", b"GGUF", 3), struct.pack("<4sI", b"GGUF", 1), "GGUF version 1"),
        (struct.pack("<4sI", b"GGUF", 3), struct.pack(">4sI", b"GGUF", 3), "version 50331648"),
        (b"yes" + struct.pack("<I", 7), b"yes" + struct.pack("<I", 77), "yes has the unknown value type 77"),
        (
            b"texts" + struct.pack("<II", 9, 8),
            b"texts" + struct.pack("<II", 9, 9),
            "texts is an array of arrays",
        ),
        (b"small" + struct.pack("<I", 0), b"large" + struct.pack("<I", 0), "large is given twice"),
        ("\u03a9".encode(), b"\xff\xff", "is not UTF-8"),
        (struct.pack("<QQI", 32, 2, 8), struct.pack("<QQI", 32, 2, 999), "matrix has the unknown type 999"),
        (struct.pack("<QQI", 32, 2, 8), struct.pack("<QQI", 31, 2, 8), "matrix has rows of 31"),
        (b"matrix" + struct.pack("<I", 2), b"matrix" + struct.pack("<I", 9), "matrix has 9 dimensions"),
        (b"matrix", b"vector", "vector is given twice"),
    ],
)
def test_damage_is_told_by_its_name(path: Path, old: bytes, new: bytes, told: str) -> None:
    change(path, old, new)
    with pytest.raises(UserError, match=told) as error:
        GgufFile.open(path)
    assert str(path) in error.value.what


def test_lengths_that_no_file_can_have_end_at_once(path: Path) -> None:
    change(path, b"numbers" + struct.pack("<IIQ", 9, 5, 3), b"numbers" + struct.pack("<IIQ", 9, 5, 1 << 62))
    with pytest.raises(UserError, match="truncated within its header"):
        GgufFile.open(path)


@pytest.mark.parametrize("alignment", [0, 3])
def test_an_alignment_that_is_no_power_of_two_is_refused(tmp_path: Path, alignment: int) -> None:
    path = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("general.alignment", alignment)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match=f"general.alignment is {alignment}"):
        GgufFile.open(path)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        GgufFile.open(tmp_path / "none.gguf")
    with pytest.raises(UserError, match="directory"):
        GgufFile.open(tmp_path)


def test_the_alignment_of_the_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "wide.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(256)
    writer.add_tensor("vector", VECTOR)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile.open(path)
    assert file.tensors["vector"].start % 256 == 0
    assert np.array_equal(file.read(file.tensors["vector"]).view(np.float16)[0], VECTOR)
