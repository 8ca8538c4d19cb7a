"""Transformer: the decoder, for training, scoring and sampling alike.

Shape letters: B row, T position, D model width, V vocabulary, L layer with routed experts, E expert.
Rows are padded on the right, so causal attention never sees padding and needs no mask for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openbook.model.block import Block
from openbook.model.cache import Cache, allocate
from openbook.model.config import ModelConfig
from openbook.model.layers import Embedding, Linear, RMSNorm
from openbook.model.moe import Gate, MixtureOfExperts, Routing
from openbook.model.mtp import MTPModule
from openbook.model.rope import CachedPlaces, Rotary, place, place_behind, place_next


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOutput:
    """What one pass over whole rows gives."""

    hidden_BTD: Tensor
    """After the final norm: what the head reads."""
    trunk_BTD: Tensor
    """Before the final norm: what the MTP modules continue from."""
    expert_loads_LE: Tensor
    """Valid tokens that each expert of each MoE layer got, int64; [0, 0] for a dense model."""
    balance_loss: Tensor
    """Scalar: sequence-wise balance loss summed over MoE layers, not yet times alpha; 0 for a dense model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MTPOutput:
    """What the MTP modules give, one entry a depth."""

    hidden: list[Tensor]
    """Entry j is [B, T - j - 1, D] after the module's norm; its position i predicts token i + j + 2."""
    expert_loads_LE: Tensor
    """As in ModelOutput, one row a module."""
    balance_loss: Tensor


class Trunk(nn.Module):
    """Embedding, blocks and final norm: what public checkpoints file under `model.`"""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, layer, is_moe=config.is_moe_layer(layer))
            for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def blocks(self) -> Iterable[Block]:
        """The layers, in order and typed."""
        return cast("Iterable[Block]", self.layers)


class Transformer(nn.Module):
    """A decoder of the DeepSeek-V3 family (MLA, MoE, MTP) or of the Llama and Qwen family (GQA), by config.

    Made with empty weights: fill them with `init.initialize` or from a checkpoint before use.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self.mtp = nn.ModuleList(
            MTPModule(config, config.num_hidden_layers + depth)
            for depth in range(config.num_nextn_predict_layers)
        )
        self._rotary = Rotary(config)

    def mtp_modules(self) -> Iterable[MTPModule]:
        """The MTP modules, in order and typed."""
        return cast("Iterable[MTPModule]", self.mtp)

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        valid_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        branches_BT: Tensor | None = None,
        experts_BTLK: Tensor | None = None,
    ) -> ModelOutput:
        """Reads whole rows.

        `valid_BT` (bool) keeps padding out of the experts, their loads and the balance loss. `documents_BT`
        (int) hides packed documents from each other. `branches_BT` (int) hides the branches 1, 2, ... of a
        row from each other, but not the trunk, 0, from them. `positions_BT` (int) overrides 0..T-1.
        `experts_BTLK` (int, by MoE layer) replays what a sampler's gates chose.
        """
        places = place(
            self._rotary,
            tokens_BT,
            documents_BT=documents_BT,
            positions_BT=positions_BT,
            branches_BT=branches_BT,
        )
        x_BTD: Tensor = self.model.embed_tokens(tokens_BT)
        routings: list[Routing] = []
        for block in self.model.blocks():
            x_BTD, routing = block(x_BTD, places, valid_BT, experts_BTLK)
            routings += routing
        loads_LE, balance_loss = gather_routings(routings, x_BTD)
        return ModelOutput(
            hidden_BTD=self.model.norm(x_BTD),
            trunk_BTD=x_BTD,
            expert_loads_LE=loads_LE,
            balance_loss=balance_loss,
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """The output head: [..., D] -> [..., V], in the dtype of `hidden`."""
        head = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        return F.linear(hidden, head.weight)

    def mtp_forward(
        self,
        trunk_BTD: Tensor,
        tokens_BT: Tensor,
        *,
        valid_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
    ) -> MTPOutput:
        """Looks further ahead, module after module (DeepSeek-V3 2.2).

        Module j (from 0) joins its predecessor's state at position i with the embedding of token i + j + 1.
        So it has T - j - 1 positions, and position i predicts token i + j + 2 through the shared `logits`.
        """
        hidden, routings = [], []
        for depth, module in enumerate(self.mtp_modules(), start=1):
            trunk_BTD = trunk_BTD[:, :-1]
            ahead_BT, num_positions = tokens_BT[:, depth:], trunk_BTD.shape[1]
            places = place(
                self._rotary,
                ahead_BT,
                documents_BT=None if documents_BT is None else documents_BT[:, :num_positions],
                positions_BT=None if positions_BT is None else positions_BT[:, :num_positions],
            )
            valid = None if valid_BT is None else valid_BT[:, depth:]
            embedded_BTD = self.model.embed_tokens(ahead_BT)
            trunk_BTD, routing = module.look_ahead(embedded_BTD, trunk_BTD, places, valid)
            routings += routing
            hidden.append(module.norm(trunk_BTD))
        loads_LE, balance_loss = gather_routings(routings, trunk_BTD)
        return MTPOutput(hidden=hidden, expert_loads_LE=loads_LE, balance_loss=balance_loss)

    def mtp_hidden(
        self,
        trunk_BTD: Tensor,
        tokens_BT: Tensor,
        *,
        valid_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
    ) -> list[Tensor]:
        """The hidden states of `mtp_forward` alone: entry j, position i predicts token i + j + 2."""
        return self.mtp_forward(
            trunk_BTD, tokens_BT, valid_BT=valid_BT, documents_BT=documents_BT, positions_BT=positions_BT
        ).hidden

    @torch.no_grad()
    def update_expert_biases(self, loads_LE: Tensor, rate: float) -> None:
        """b += rate * sign(mean load - load), layer by layer (DeepSeek-V3 2.1.2).

        `loads_LE` are a whole step's loads: a row for each MoE layer, then, if wanted, for each MTP module.
        """
        gates = [module for module in self.modules() if isinstance(module, Gate)]
        num_main = len(gates) - sum(isinstance(module.mlp, MixtureOfExperts) for module in self.mtp_modules())
        assert len(loads_LE) in (num_main, len(gates)), (loads_LE.shape, num_main, len(gates))
        for gate, loads_E in zip(gates, loads_LE, strict=False):
            loads_E = loads_E.float()
            gate.e_score_correction_bias += rate * (loads_E.mean() - loads_E).sign()

    def new_cache(self, batch_size: int, capacity: int) -> Cache:
        """An empty cache with room for `capacity` positions a row, in the device and dtype of the weights."""
        weight = self.model.embed_tokens.weight
        return allocate(self.config, batch_size, capacity, device=weight.device, dtype=weight.dtype)

    def rotations(self, num_positions: int) -> Tensor:
        """The rotations of the first positions, on the CPU: complex [T, 1, P]."""
        return self._rotary.running(num_positions, torch.device("cpu"))

    def forward_cached(self, tokens_BT: Tensor, cache: Cache, lengths_B: Tensor) -> Tensor:
        """As `trunk_cached`, after the final norm."""
        hidden: Tensor = self.model.norm(self.trunk_cached(tokens_BT, cache, lengths_B))
        return hidden

    def trunk_cached(self, tokens_BT: Tensor, cache: Cache, lengths_B: Tensor) -> Tensor:
        """Continues cached rows -> [B, T, D] before the final norm; meant for no_grad.

        Token t of row b stands at position lengths_B[b] + t, is written to the cache there, and sees every
        position up to its own. A row shorter than T may carry any tokens behind its end: what they write lies
        beyond its length and is overwritten later. AssertionError where a row would pass the capacity.
        """
        places = place_behind(self._rotary, tokens_BT, lengths_B, cache.capacity)
        return self._through_blocks(tokens_BT, places, cache)

    def trunk_next(self, tokens_B1: Tensor, cache: Cache, lengths_B: Tensor) -> Tensor:
        """As `trunk_cached` for one token a row, in shapes that do not depend on the lengths -> [B, 1, D]."""
        return self._through_blocks(tokens_B1, place_next(self._rotary, lengths_B, cache.capacity), cache)

    def _through_blocks(self, tokens_BT: Tensor, places: CachedPlaces, cache: Cache) -> Tensor:
        x_BTD: Tensor = self.model.embed_tokens(tokens_BT)
        for block in self.model.blocks():
            x_BTD = block.forward_cached(x_BTD, places, cache)
        return x_BTD

    def mtp_cached(
        self, trunk_BTD: Tensor, next_BT: Tensor, cache: Cache, lengths_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The first MTP module over cached rows: its state [B, T, D], and what the head reads [B, T, D].

        `trunk_BTD` are states before the final norm at positions lengths_B + 0..T-1, `next_BT` the tokens
        behind each. Its keys stand in the cache layer behind the main ones.
        """
        module = next(iter(self.mtp_modules()))
        places = place_behind(self._rotary, next_BT, lengths_B, cache.capacity)
        joined_BTD = module.join(self.model.embed_tokens(next_BT), trunk_BTD)
        ahead_BTD = module.forward_cached(joined_BTD, places, cache)
        return ahead_BTD, module.norm(ahead_BTD)


def gather_routings(routings: list[Routing], x: Tensor) -> tuple[Tensor, Tensor]:
    """Loads stacked [L, E] and balance losses summed; [0, 0] and 0 where no layer routes."""
    if not routings:
        return torch.zeros(0, 0, dtype=torch.int64, device=x.device), torch.zeros((), device=x.device)
    loss = torch.stack([routing.balance_loss for routing in routings]).sum()
    return torch.stack([routing.loads_E for routing in routings]), loss
