"""In which precision a device computes: one place, so that sampling and training agree."""

from __future__ import annotations

import contextlib

import torch


def autocast(device: torch.device, precision: str = "auto") -> contextlib.AbstractContextManager[object]:
    """`fp32`, or `bf16` products over fp32 weights; `auto` is bf16 on a GPU alone.

    A processor has to be able to multiply bf16 matrices, and the model has to be wide, for bf16 to pay there.
    """
    assert precision in ("auto", "fp32", "bf16"), precision
    if precision == "bf16" or (precision == "auto" and device.type == "cuda"):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
