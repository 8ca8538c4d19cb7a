"""MTP: a module that looks one token further than the model before it (DeepSeek-V3 2.2).

Shape letters: B row, T position, D model width. Embedding and output head belong to the main model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from openbook.model.block import Block
from openbook.model.config import ModelConfig
from openbook.model.layers import Linear, RMSNorm
from openbook.model.moe import Routing
from openbook.model.rope import Places


class MTPModule(Block):
    """One block behind a projection that joins a token's embedding to the state before it.

    The order of the join is that of the released weights: embedding first, the reverse of equation 21.
    `norm` is filed in public checkpoints as `shared_head.norm`.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer, is_moe=config.moe is not None)
        width, eps = config.hidden_size, config.rms_norm_eps
        self.enorm = RMSNorm(width, eps)
        self.hnorm = RMSNorm(width, eps)
        self.eh_proj = Linear(2 * width, width)
        self.norm = RMSNorm(width, eps)

    def join(self, embedded_BTD: Tensor, state_BTD: Tensor) -> Tensor:
        """What the block reads: both inputs normed, side by side, projected."""
        joined: Tensor = self.eh_proj(torch.cat((self.enorm(embedded_BTD), self.hnorm(state_BTD)), dim=-1))
        return joined

    def look_ahead(
        self, embedded_BTD: Tensor, state_BTD: Tensor, places: Places, valid_BT: Tensor | None
    ) -> tuple[Tensor, list[Routing]]:
        """The next state [B, T, D], before `norm`."""
        advanced: tuple[Tensor, list[Routing]] = self(self.join(embedded_BTD, state_BTD), places, valid_BT)
        return advanced
