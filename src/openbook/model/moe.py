"""DeepSeekMoE: who goes to which expert, and the mixture (DeepSeek-V3 2.1.2, equations 12 to 20).

Shape letters: B row, T position, N token (of all rows, valid ones only), D model width, E expert, K chosen
experts, G group of experts, e expert of a group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openbook.kernels.experts import ExpertWeights, routed_experts
from openbook.model.config import ModelConfig, MoEConfig
from openbook.model.layers import SwiGLU


@dataclass(frozen=True, kw_only=True, slots=True)
class Routing:
    """What one MoE layer did with one batch."""

    loads_E: Tensor
    """Valid tokens that each expert got, int64."""
    balance_loss: Tensor
    """Scalar, fp32: the sequence-wise balance loss, not yet times alpha."""


class Gate(nn.Module):
    """Scores every expert for every token, and chooses. In fp32 at least: near ties decide who computes."""

    e_score_correction_bias: Tensor

    def __init__(self, hidden_size: int, moe: MoEConfig) -> None:
        super().__init__()
        self.moe = moe
        self.weight = nn.Parameter(torch.empty(moe.n_routed_experts, hidden_size))
        if moe.topk_method == "noaux_tc":
            self.register_buffer(
                "e_score_correction_bias", torch.zeros(moe.n_routed_experts, dtype=torch.float32)
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the bias with the module, but never lets a cast to bf16 round it."""
        before = self._buffers.get("e_score_correction_bias")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        after = self._buffers.get("e_score_correction_bias")
        if before is not None and after is not None and after.dtype != torch.float32:
            kept = after.float() if before.is_meta else before.to(after.device)
            self._buffers["e_score_correction_bias"] = kept
        return self

    def scores(self, x: Tensor) -> Tensor:
        """Affinity of each token [..., D] to each expert [..., E], in fp32 at least."""
        precision = torch.promote_types(x.dtype, torch.float32)
        logits = F.linear(x.to(precision), self.weight.to(precision))
        return logits.sigmoid() if self.moe.scoring_func == "sigmoid" else logits.softmax(-1)

    def choose(self, scores_NE: Tensor, given_NK: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The experts of each token [N, K] and their shares [N, K], which carry the gradient to the gate.

        `given_NK` are experts chosen before, by a sampler, whose shares are wanted now (routing replay).
        """
        if given_NK is None:
            with torch.no_grad():
                wanted_NE = self._preferences(scores_NE)
                experts_NK = wanted_NE.topk(self.moe.num_experts_per_tok, sorted=False).indices
        else:
            experts_NK = given_NK.long()
        shares_NK = scores_NE.gather(-1, experts_NK)
        if self.moe.norm_topk_prob:
            shares_NK = shares_NK / (shares_NK.sum(-1, keepdim=True) + 1e-20)
        return experts_NK, shares_NK * self.moe.routed_scaling_factor

    def _preferences(self, scores_NE: Tensor) -> Tensor:
        """What the choice looks at: biased scores, -inf in the groups that lost."""
        moe = self.moe
        biased = moe.topk_method == "noaux_tc"
        preferences_NE = scores_NE + self.e_score_correction_bias if biased else scores_NE
        if moe.topk_method == "greedy" or moe.topk_group == moe.n_group:
            return preferences_NE
        grouped_NGe = preferences_NE.view(-1, moe.n_group, moe.n_routed_experts // moe.n_group)
        rank_NG = (
            grouped_NGe.topk(min(2, grouped_NGe.shape[-1])).values.sum(-1) if biased else grouped_NGe.amax(-1)
        )
        kept_NG = torch.zeros_like(rank_NG, dtype=torch.bool)
        kept_NG.scatter_(-1, rank_NG.topk(moe.topk_group, sorted=False).indices, True)
        # Not zero: with negative biases a zero would win against the experts of the kept groups.
        masked_NE: Tensor = grouped_NGe.masked_fill(~kept_NG[..., None], -torch.inf).flatten(1)
        return masked_NE


class RoutedExperts(nn.Module):
    """The stacked matrices of all routed experts of a layer."""

    def __init__(self, hidden_size: int, moe: MoEConfig) -> None:
        super().__init__()
        num_experts, inner_size = moe.n_routed_experts, moe.moe_intermediate_size
        self.gate_proj = nn.Parameter(torch.empty(num_experts, inner_size, hidden_size))
        self.up_proj = nn.Parameter(torch.empty(num_experts, inner_size, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(num_experts, hidden_size, inner_size))

    def forward(self, x_ND: Tensor, experts_NK: Tensor, shares_NK: Tensor) -> tuple[Tensor, Tensor]:
        # Grouped products take one dtype and know nothing of autocast: the weights follow the tokens. On a
        # CPU it is the other way round, for there these products are four times slower in bf16 than in fp32.
        if x_ND.device.type == "cpu":
            x_ND = x_ND.to(self.gate_proj.dtype)
        gate_EID, up_EID, down_EDI = (
            w.to(x_ND.dtype) for w in (self.gate_proj, self.up_proj, self.down_proj)
        )
        weights = ExpertWeights(gate_EID=gate_EID, up_EID=up_EID, down_EDI=down_EDI)
        return routed_experts(x_ND, weights, experts_NK, shares_NK)


class MixtureOfExperts(nn.Module):
    """Shared experts that see every token, and routed ones that see a few each."""

    def __init__(self, config: ModelConfig, moe: MoEConfig) -> None:
        super().__init__()
        self.moe = moe
        self.gate = Gate(config.hidden_size, moe)
        self.experts = RoutedExperts(config.hidden_size, moe)
        if moe.n_shared_experts > 0:
            inner_size = moe.n_shared_experts * moe.moe_intermediate_size
            self.shared_experts = SwiGLU(config.hidden_size, inner_size)

    def forward(
        self, x_BTD: Tensor, valid_BT: Tensor | None, given_BTK: Tensor | None = None
    ) -> tuple[Tensor, Routing]:
        """The mixture [B, T, D]; padding (where `valid_BT` is false) meets no expert and gets zeros."""
        scores_BTE = self.gate.scores(x_BTD)
        x_ND, scores_NE = x_BTD.flatten(0, 1), scores_BTE.flatten(0, 1)
        given_NK = None if given_BTK is None else given_BTK.flatten(0, 1)
        if valid_BT is None:
            mixed_ND, loads_E, _ = self._mix(x_ND, scores_NE, given_NK)
        else:
            places_N = valid_BT.flatten().nonzero().squeeze(-1)
            given_nK = None if given_NK is None else given_NK[places_N]
            kept_ND, loads_E, _ = self._mix(x_ND[places_N], scores_NE[places_N], given_nK)
            mixed_ND = kept_ND.new_zeros(x_ND.shape).index_copy(0, places_N, kept_ND)
        mixed_BTD = mixed_ND.view_as(x_BTD)
        loss = sequence_balance_loss(scores_BTE, valid_BT, self.moe.num_experts_per_tok)
        return mixed_BTD, Routing(loads_E=loads_E, balance_loss=loss)

    def forward_cached(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """The mixture [B, T, D] and the chosen experts [B, T, K], for sampling."""
        x_ND = x_BTD.flatten(0, 1)
        mixed_ND, _, experts_NK = self._mix(x_ND, self.gate.scores(x_ND))
        return mixed_ND.view_as(x_BTD), experts_NK.view(*x_BTD.shape[:2], -1)

    def _mix(
        self, x_ND: Tensor, scores_NE: Tensor, given_NK: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture [N, D], the tokens of each expert [E], and who was chosen [N, K]."""
        experts_NK, shares_NK = self.gate.choose(scores_NE, given_NK)
        mixed_ND, loads_E = self.experts(x_ND, experts_NK, shares_NK)
        if self.moe.n_shared_experts > 0:
            mixed_ND = mixed_ND + self.shared_experts(x_ND)
        return mixed_ND, loads_E, experts_NK


def sequence_balance_loss(scores_BTE: Tensor, valid_BT: Tensor | None, num_choices: int) -> Tensor:
    """Mean over rows of sum_e f_e P_e (DeepSeek-V3 equations 17 to 20, without alpha); empty rows count not.

    f_e is E / K times the share of the row's tokens that rank expert e among their K best by unbiased score;
    P_e is the row's mean of the scores scaled to sum to one. A perfectly even row gives 1.
    """
    num_experts = scores_BTE.shape[-1]
    shares_BTE = scores_BTE / (scores_BTE.sum(-1, keepdim=True) + 1e-20)
    with torch.no_grad():
        best_BTK = scores_BTE.topk(num_choices, sorted=False).indices
        ranked_BTE = torch.zeros_like(scores_BTE).scatter_(-1, best_BTK, 1.0)
        if valid_BT is None:
            valid_BT = scores_BTE.new_ones(scores_BTE.shape[:2], dtype=torch.bool)
        weight_BT1 = valid_BT[..., None].to(scores_BTE.dtype)
        num_tokens_B1 = weight_BT1.sum(1)
        fractions_BE = (ranked_BTE * weight_BT1).sum(1) / num_tokens_B1.clamp_min(1)
        fractions_BE *= num_experts / num_choices
    means_BE = (shares_BTE * weight_BT1).sum(1) / num_tokens_B1.clamp_min(1)
    num_rows = (num_tokens_B1 > 0).sum().clamp_min(1)
    return (fractions_BE * means_BE).sum() / num_rows
