"""In which precision a device computes: one place, so that sampling and training agree."""

from __future__ import annotations

import contextlib

import torch


def autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bf16 products over fp32 weights on a GPU; plain fp32 on a CPU, where bf16 is no faster at our sizes."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()
