"""LoRA: low-rank adapters beside frozen matrices (Hu et al. 2021, arXiv 2106.09685).

    weight_NK = frozen_NK + alpha / rank * B_Nr @ A_rK        A gaussian, B zero: at first nothing is changed

In training, the products x A^T and (x A^T) B^T stand beside the frozen matrix's own, so that the gradient of
the whole is never computed; whoever reads `weight`, such as the engine that packs it, gets the sum.

Shape letters: N output, K input, r rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openbook.errors import UserError
from openbook.model.config import ModelConfig
from openbook.model.layers import Linear
from openbook.model.lora_config import LoraConfig
from openbook.model.transformer import Transformer


class AdaptedLinear(nn.Module):
    """A linear layer whose matrix is frozen, with an adapter that learns."""

    def __init__(self, plain: Linear, chosen: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        num_outputs, num_inputs = plain.weight.shape
        self.scale = chosen.alpha / chosen.rank
        self.frozen_NK = nn.Parameter(plain.weight.detach(), requires_grad=False)
        self.bias = plain.bias
        drawn_rK = torch.empty(chosen.rank, num_inputs, device=generator.device)
        drawn_rK.normal_(0.0, 1 / math.sqrt(num_inputs), generator=generator)
        self.lora_A_rK = nn.Parameter(drawn_rK.to(plain.weight))
        self.lora_B_Nr = nn.Parameter(plain.weight.new_zeros(num_outputs, chosen.rank))

    @property
    def weight(self) -> Tensor:
        """The matrix with its adapter, [N, K]."""
        return torch.add(self.frozen_NK, self.lora_B_Nr @ self.lora_A_rK, alpha=self.scale)

    def forward(self, x: Tensor) -> Tensor:
        adapted = F.linear(F.linear(x, self.lora_A_rK), self.lora_B_Nr)
        return torch.add(F.linear(x, self.frozen_NK, self.bias), adapted, alpha=self.scale)


def add_lora(model: Transformer, chosen: LoraConfig, generator: torch.Generator) -> int:
    """Freeze `model`, put adapters into its blocks and return the number of parameters that now learn.

    In place. MTP modules get none; the biases that balance experts are no parameters, and go on moving.
    Raises UserError if the rank is larger than a matrix, or the model has none of those chosen.
    """
    found = list(_chosen_matrices(model, chosen))
    for name, _, _, plain in found:
        _refuse_rank(chosen.rank, name, plain)
    if not found:
        has = sorted({name.rpartition(".")[2] for name, _, _, _ in _matrices(model)})
        raise UserError(
            f"lora.targets: the model has none of {', '.join(chosen.targets)}", f"it has {', '.join(has)}"
        )
    model.requires_grad_(False)
    for _, parent, child, plain in found:
        setattr(parent, child, AdaptedLinear(plain, chosen, generator))
    return num_trained(model)


def num_trained(model: nn.Module) -> int:
    """How many parameters of a model learn."""
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


@torch.no_grad()
def merge_lora(model: Transformer) -> None:
    """Put plain matrices in the place of adapted ones, in place, and let every weight learn again."""
    for parent in list(model.modules()):
        for child, module in list(parent.named_children()):
            if isinstance(module, AdaptedLinear):
                num_outputs, num_inputs = module.frozen_NK.shape
                with torch.device("meta"):
                    plain = Linear(num_inputs, num_outputs)
                plain.weight, plain.bias = nn.Parameter(module.weight), module.bias
                setattr(parent, child, plain)
    model.requires_grad_(True)


@torch.no_grad()
def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The `state_dict` that a model would have if its adapters were merged; its own if it has none."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, AdaptedLinear):
            for own in ("frozen_NK", "lora_A_rK", "lora_B_Nr"):
                del state[f"{name}.{own}"]
            state[f"{name}.weight"] = module.weight
    return state


def num_adapter_parameters(model: ModelConfig, chosen: LoraConfig) -> int:
    """What `add_lora` would return, from the shapes alone."""
    with torch.device("meta"):
        shapes = Transformer(model)
    return sum(chosen.rank * sum(plain.weight.shape) for _, _, _, plain in _chosen_matrices(shapes, chosen))


Found = tuple[str, nn.Module, str, Linear]
"""A matrix: its full name, where it is, its name there, and itself."""


def _chosen_matrices(model: Transformer, chosen: LoraConfig) -> Iterator[Found]:
    return (found for found in _matrices(model) if found[2] in chosen.targets)


def _matrices(model: Transformer) -> Iterator[Found]:
    for name, parent in model.model.named_modules():
        for child, module in parent.named_children():
            if isinstance(module, Linear):
                yield f"{name}.{child}", parent, child, module


def _refuse_rank(rank: int, name: str, plain: Linear) -> None:
    num_outputs, num_inputs = plain.weight.shape
    smaller = min(num_outputs, num_inputs)
    if rank > smaller:
        raise UserError(
            f"lora.rank is {rank}, and {name} is {num_outputs} x {num_inputs}",
            f"a rank of at most {smaller}, or targets without {name.rpartition('.')[2]}",
        )
