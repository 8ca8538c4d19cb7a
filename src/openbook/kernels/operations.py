"""The operations of a native program: the structs of native/program.cpp, field by field.

A pointer is the address of a tensor that the program keeps alive. `Rows` is a buffer of rows: where the first
one begins and how many floats lie between two.
"""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar

from torch import Tensor

from openbook.kernels.packed import PackedMatrix

OP_BYTES = 384

_Int = ctypes.c_int64
_Address = ctypes.c_void_p
_Real = ctypes.c_double
_Fields = list[tuple[str, Any]]


class Rows(ctypes.Structure):
    _fields_: ClassVar[_Fields] = [("data", _Address), ("stride", _Int)]

    @classmethod
    def of(cls, buffer: Tensor, column: int = 0) -> Rows:
        """The rows of an fp32 buffer [R, width], from `column` on."""
        return cls(data=buffer.data_ptr() + column * buffer.element_size(), stride=buffer.stride(0))


class Matrix(ctypes.Structure):
    _fields_: ClassVar[_Fields] = [
        ("format", _Int),
        ("num_outputs", _Int),
        ("num_inputs", _Int),
        ("data", _Address),
        ("scale", _Address),
        ("minimum", _Address),
    ]

    @classmethod
    def of(cls, packed: PackedMatrix) -> Matrix:
        return cls(
            format=packed.format,
            num_outputs=packed.num_outputs,
            num_inputs=packed.num_inputs,
            data=packed.data.data_ptr(),
            scale=address(packed.scale),
            minimum=address(packed.minimum),
        )


class Batch(ctypes.Structure):
    """The rows of one step: addresses of int32 arrays."""

    _fields_: ClassVar[_Fields] = [
        ("num_rows", _Int),
        ("positions", _Address),
        ("sequences", _Address),
        ("tables", _Address),
        ("table_width", _Int),
    ]


class Norm(ctypes.Structure):
    KIND = 1
    _fields_: ClassVar[_Fields] = [
        ("kind", _Int),
        ("rows_in", Rows),
        ("rows_out", Rows),
        ("size", _Int),
        ("count", _Int),
        ("weight", _Address),
        ("eps", _Real),
    ]


class Linear(ctypes.Structure):
    KIND = 2
    _fields_: ClassVar[_Fields] = [
        ("kind", _Int),
        ("rows_in", Rows),
        ("rows_out", Rows),
        ("weight", Matrix),
        ("bias", _Address),
        ("add", _Int),
        ("count", _Int),
        ("in_step", _Int),
        ("out_step", _Int),
        ("data_bytes", _Int),
        ("scale_bytes", _Int),
    ]


class Rope(ctypes.Structure):
    KIND = 3
    _fields_: ClassVar[_Fields] = [
        ("kind", _Int),
        ("rows_in", Rows),
        ("rows_out", Rows),
        ("count", _Int),
        ("in_step", _Int),
        ("out_step", _Int),
        ("pairs", _Int),
        ("is_halves", _Int),
        ("table", _Address),
        ("table_pairs", _Int),
        ("table_first", _Int),
    ]


class Store(ctypes.Structure):
    KIND = 4
    _fields_: ClassVar[_Fields] = [
        ("kind", _Int),
        ("rows_in", Rows),
        ("width", _Int),
        ("cache", _Address),
        ("is_bf16", _Int),
    ]


class Attend(ctypes.Structure):
    KIND = 5
    _fields_: ClassVar[_Fields] = [
        ("kind", _Int),
        ("queries", Rows),
        ("rows_out", Rows),
        ("num_heads", _Int),
        ("num_kv_heads", _Int),
        ("key_size", _Int),
        ("value_size", _Int),
        ("key_width", _Int),
        ("value_width", _Int),
        ("keys", _Address),
        ("values", _Address),
        ("is_bf16", _Int),
        ("scale", _Real),
    ]


class Silu(ctypes.Structure):
    KIND = 6
    _fields_: ClassVar[_Fields] = [("kind", _Int), ("rows_in", Rows), ("rows_out", Rows), ("size", _Int)]


class Route(ctypes.Structure):
    KIND = 7
    _fields_: ClassVar[_Fields] = [
        ("kind", _Int),
        ("logits", Rows),
        ("num_experts", _Int),
        ("num_choices", _Int),
        ("num_groups", _Int),
        ("num_kept_groups", _Int),
        ("is_sigmoid", _Int),
        ("is_biased", _Int),
        ("normalize", _Int),
        ("bias", _Address),
        ("factor", _Real),
        ("experts", _Address),
        ("shares", _Address),
        ("record", _Address),
        ("record_width", _Int),
        ("record_first", _Int),
    ]


class Experts(ctypes.Structure):
    KIND = 8
    _fields_: ClassVar[_Fields] = [
        ("kind", _Int),
        ("rows_in", Rows),
        ("rows_out", Rows),
        ("num_experts", _Int),
        ("num_choices", _Int),
        ("width", _Int),
        ("inner", _Int),
        ("gate_up", Matrix),
        ("down", Matrix),
        ("gate_up_bytes", _Int),
        ("gate_up_scale_bytes", _Int),
        ("down_bytes", _Int),
        ("down_scale_bytes", _Int),
        ("experts", _Address),
        ("shares", _Address),
        ("place", _Address),
        ("source", _Address),
        ("starts", _Address),
        ("sent", _Address),
        ("hidden", _Address),
        ("back", _Address),
    ]


Operation = Norm | Linear | Rope | Store | Attend | Silu | Route | Experts


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's data begins; None is the null pointer."""
    return None if tensor is None else tensor.data_ptr()


def step_bytes(stacked: Tensor | None) -> int:
    """Bytes from one of several stacked tensors to the next."""
    return 0 if stacked is None else stacked.stride(0) * stacked.element_size()


def encode(operations: list[Operation]) -> ctypes.Array[ctypes.c_char]:
    """The operations one behind the other, each with its kind and padded to the size of the largest."""
    program = ctypes.create_string_buffer(max(1, len(operations)) * OP_BYTES)
    for number, operation in enumerate(operations):
        operation.kind = type(operation).KIND
        data = bytes(operation)
        assert len(data) <= OP_BYTES, type(operation)
        ctypes.memmove(ctypes.addressof(program) + number * OP_BYTES, data, len(data))
    return program
