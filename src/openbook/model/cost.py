"""What a ModelConfig costs, counted exactly: parameters, cache bytes and FLOPs. No torch.

    cost = count(deepseek_v3)
    cost.parameters_total                                  671,026,419,200
    cost.training_flops_per_token(4096).total              250.45e9, causal, MTP apart

The arithmetic is that of every decoder: see `model/architecture.py`.
"""

from __future__ import annotations

from openbook.model.architecture import Architecture, architecture_of
from openbook.model.config import ModelConfig
from openbook.model.counts import AttentionCount, Flops, Parts

__all__ = ["AttentionCount", "Flops", "Parts", "count"]


def count(config: ModelConfig) -> Architecture:
    """The network that `config` describes, ready to be counted."""
    return architecture_of(config)
