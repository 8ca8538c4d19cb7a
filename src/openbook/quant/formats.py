"""The forms in which a matrix can be stored: names, bytes, stated errors. No torch.

    format   w^ =                                          stored beside the codes
    bf16     the nearest bfloat16                          nothing
    int8     scale[n] * code[n, k], code -127..127         one fp32 scale an output channel
    int4     scale[n, g] * code[n, k] + minimum[n, g]      fp16 scale and minimum a group of 32 along k
    fp8      scale_inv[n / 128, k / 128] * code[n, k]      one fp32 factor a block of 128 x 128, code e4m3

A matrix is [N, K]: N outputs, K inputs. Two codes of int4 share a byte: the low half is that of even k, the
high half that of odd k. It holds every Q4_1 tensor of llama.cpp without loss. fp8 is the stored form of
DeepSeek-V3 (3.3.2; its repository, README_WEIGHTS), whose factor is called inverse and multiplies.
"""

from __future__ import annotations

from enum import StrEnum

from openbook.errors import UserError, nearest

GROUP_SIZE = 32
"""Inputs that share a scale and a minimum in int4."""

BLOCK_SIZE = 128
"""Rows and columns that share a factor in fp8."""

_BF16_MAX = 3.3895313892515355e38

INT8_MAX = 127
INT4_MAX = 15
E4M3_MAX = 448.0


class WeightFormat(StrEnum):
    """How a matrix is stored."""

    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"
    FP8 = "fp8"


ERROR_BOUNDS = {
    WeightFormat.BF16: "2^-8 |w|",
    WeightFormat.INT8: "scale / 2",
    WeightFormat.INT4: "scale / 2",
    WeightFormat.FP8: "2^-4 |w|, and scale * 2^-10 for the smallest",
}
"""Most that one element can be off, |w - w^|, in exact arithmetic.

fp32 arithmetic adds what `QuantizedWeight.error_bound` counts exactly. The fp16 of int4 add nothing:
minimum is rounded down and scale up, so that a group always reaches from its least to its greatest.
"""

LARGEST = {
    WeightFormat.BF16: _BF16_MAX,
    WeightFormat.INT8: _BF16_MAX,
    WeightFormat.INT4: 65504.0,
    WeightFormat.FP8: _BF16_MAX,
}
"""The largest magnitude that a format takes; int4 keeps its minimum in fp16."""


def find_format(name: str, *, where: str = "") -> WeightFormat:
    """The format of that name. UserError, from `where` on, naming the nearest where there is none."""
    known = [one.value for one in WeightFormat]
    if name not in known:
        raise UserError(f"{where}: unknown weight format {name!r}".removeprefix(": "), nearest(name, known))
    return WeightFormat(name)


def can_hold(stored: WeightFormat, num_columns: int) -> bool:
    """Whether a matrix with so many inputs can be stored so: int4 takes whole groups alone."""
    return stored is not WeightFormat.INT4 or num_columns % GROUP_SIZE == 0


def format_of(wanted: WeightFormat, name: str, num_columns: int) -> WeightFormat:
    """What the matrix called `name` is stored as in a model of format `wanted`: that, or bf16.

    int4 leaves out matrices whose inputs do not make whole groups. fp8 leaves out the tables and the joint of
    the MTP modules, as the published checkpoints do, so that their loaders find what they expect.
    """
    is_left_out = wanted is WeightFormat.FP8 and name.removesuffix(".weight").endswith(_NEVER_FP8)
    return wanted if can_hold(wanted, num_columns) and not is_left_out else WeightFormat.BF16


_NEVER_FP8 = ("embed_tokens", "lm_head", "eh_proj")


def matrix_bytes(stored: WeightFormat, num_rows: int, num_columns: int) -> int:
    """Bytes of one matrix [N, K] with its scales."""
    num_weights = num_rows * num_columns
    match stored:
        case WeightFormat.BF16:
            return 2 * num_weights
        case WeightFormat.INT8:
            return num_weights + 4 * num_rows
        case WeightFormat.INT4:
            assert can_hold(stored, num_columns), "whole groups; others stay in bf16"
            return num_weights // 2 + 4 * (num_weights // GROUP_SIZE)
        case WeightFormat.FP8:
            return num_weights + 4 * num_blocks(num_rows) * num_blocks(num_columns)


def num_blocks(size: int) -> int:
    """Blocks of fp8 along a side; the last may be a part of one."""
    return -(-size // BLOCK_SIZE)
