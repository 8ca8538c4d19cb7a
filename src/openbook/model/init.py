"""Initial weights (DeepSeek-V3 4.2)."""

from __future__ import annotations

import torch
from torch import nn

from openbook.model.config import ModelConfig
from openbook.model.layers import RMSNorm


@torch.no_grad()
def initialize(model: nn.Module, config: ModelConfig, generator: torch.Generator) -> None:
    """Normal(0, config.initial_std) for every matrix, ones for norms, zeros for biases.

    Drawn in fp32 on the generator's device in the order of the parameters, then copied: the same seed gives
    the same model on every device, rounded to its dtype.
    """
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if isinstance(module, RMSNorm):
                parameter.fill_(1.0)
            elif parameter.ndim == 1:
                parameter.zero_()
            else:
                draw = torch.empty(parameter.shape, device=generator.device)
                parameter.copy_(draw.normal_(0.0, config.initial_std, generator=generator))
        for buffer in module.buffers(recurse=False):
            buffer.zero_()
