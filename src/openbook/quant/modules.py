"""Modules that hold a quantised matrix where a Transformer has a plain one, and how they get there.

They compute by dequantising: the plain reference, for any device. `stored` is what a kernel reads instead.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openbook.kernels.experts import ExpertWeights, routed_experts
from openbook.model.layers import Embedding, Linear
from openbook.model.moe import RoutedExperts
from openbook.model.transformer import Transformer
from openbook.quant.formats import WeightFormat, format_of
from openbook.quant.weight import QuantizedWeight, quantize

Choose = Callable[[str, Tensor], QuantizedWeight | None]
"""From a parameter and its name (`model.layers.0.mlp.experts.up_proj`) to its stored form; None leaves it."""


class QuantizedMatrix(nn.Module):
    """One matrix, or a stack of experts', in its stored form: buffers that are moved but never cast.

    `weight` is the matrix dequantised, in the dtype that the module was last cast to.
    """

    parameter: ClassVar = ""
    """What the name of the plain parameter has behind that of the module."""

    _like: Tensor

    def __init__(self, stored: QuantizedWeight, dtype: torch.dtype) -> None:
        super().__init__()
        self._kind = type(stored)
        for name, part in stored.parts().items():
            self.register_buffer(name, part)
        self.register_buffer("_like", torch.empty(0, dtype=dtype), persistent=False)

    @property
    def stored(self) -> QuantizedWeight:
        """The parts, as they are stored."""
        return self._kind(**{name: self.get_buffer(name) for name in self._kind.suffixes})

    @property
    def weight(self) -> Tensor:
        return self.stored.dequantize(self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """In which the module computes."""
        return self._like.dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the parts with the module, and keeps their bits and their types."""
        before = self.stored.parts()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, part in before.items():
            device = self.get_buffer(name).device
            self._buffers[name] = part if part.device == device else part.to(device)
        return self


class QuantizedLinear(QuantizedMatrix):
    """Replaces `Linear`."""

    parameter: ClassVar = ".weight"

    def __init__(self, stored: QuantizedWeight, plain: Linear) -> None:
        super().__init__(stored, plain.weight.dtype)
        self.out_features, self.in_features = stored.shape
        self.bias = copy.deepcopy(plain.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class QuantizedEmbedding(QuantizedMatrix):
    """Replaces `Embedding`, and serves as the output head where the two are tied."""

    parameter: ClassVar = ".weight"

    def __init__(self, stored: QuantizedWeight, plain: Embedding) -> None:
        super().__init__(stored, plain.weight.dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.stored.dequantize_rows(tokens, self.dtype)


class QuantizedExperts(nn.Module):
    """Replaces `RoutedExperts`; each of the three stacks [E, N, K] may be of another format."""

    def __init__(
        self, gate_proj: QuantizedMatrix, up_proj: QuantizedMatrix, down_proj: QuantizedMatrix
    ) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = gate_proj, up_proj, down_proj

    def forward(self, x_ND: Tensor, experts_NK: Tensor, shares_NK: Tensor) -> tuple[Tensor, Tensor]:
        gate_EID, up_EID, down_EDI = (
            matrix.weight.to(x_ND.dtype) for matrix in (self.gate_proj, self.up_proj, self.down_proj)
        )
        weights = ExpertWeights(gate_EID=gate_EID, up_EID=up_EID, down_EDI=down_EDI)
        return routed_experts(x_ND, weights, experts_NK, shares_NK)


def quantize_model(model: Transformer, wanted: WeightFormat) -> Transformer:
    """A new model whose matrices are stored as `wanted`, or as `format_of` sends them elsewhere.

    Quantised are the matrices of attention, feed-forward networks, experts and MTP modules, the embedding and
    the head; norms, biases and the weights of gates are copied. UserError naming the tensor that cannot be.
    """

    def choose(name: str, weight: Tensor) -> QuantizedWeight:
        return quantize(weight, format_of(wanted, name, weight.shape[-1]), name=name)

    return replace_matrices(model, choose)


def replace_matrices(model: Transformer, choose: Choose) -> Transformer:
    """A new model with the stored forms that `choose` gives, and copies of all else."""
    replaced: dict[int, nn.Module] = {}
    for name, module in model.named_modules():
        quantized = _quantized(name, module, choose)
        if quantized is not None:
            replaced[id(module)] = quantized.train(module.training)
    # What a deep copy has copied already it takes from this table.
    return copy.deepcopy(model, replaced)


def named_matrices(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Every matrix of a plain model that is quantised, the experts of a layer as one stack [E, N, K]."""
    for name, module in model.named_modules():
        if isinstance(module, RoutedExperts):
            yield from ((f"{name}.{matrix}", weight) for matrix, weight in module.named_parameters())
        elif isinstance(module, Linear | Embedding):
            yield f"{name}.weight", module.weight


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPart:
    """One tensor of one quantised matrix of a model."""

    parameter: str
    """The name that the matrix would have if it were plain."""
    suffix: str
    tensor: Tensor


def stored_parts(model: Transformer) -> dict[str, StoredPart]:
    """The parts of all quantised matrices, by their name in the state dict."""
    parts = {}
    for name, module in model.named_modules():
        if isinstance(module, QuantizedMatrix):
            stored = module.stored
            for part, tensor in stored.parts().items():
                parts[f"{name}.{part}"] = StoredPart(
                    parameter=name + module.parameter, suffix=stored.suffixes[part], tensor=tensor
                )
    return parts


def plain_state(model: Transformer) -> dict[str, Tensor]:
    """The state dict without the parts of quantised matrices."""
    parts = stored_parts(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in parts}


def _quantized(name: str, module: nn.Module, choose: Choose) -> nn.Module | None:
    """The module to put in the place of `module`, or None."""
    if isinstance(module, RoutedExperts):
        return _quantized_experts(name, module, choose)
    if not isinstance(module, Linear | Embedding):
        return None
    stored = choose(f"{name}.weight", module.weight.detach())
    if stored is None:
        return None
    if isinstance(module, Linear):
        return QuantizedLinear(stored, module)
    return QuantizedEmbedding(stored, module)


def _quantized_experts(name: str, experts: RoutedExperts, choose: Choose) -> QuantizedExperts | None:
    """All three stacks or none: one without a form of its own would have to be a parameter among buffers."""
    matrices = []
    for matrix in ("gate_proj", "up_proj", "down_proj"):
        plain = experts.get_parameter(matrix).detach()
        stored = choose(f"{name}.{matrix}", plain)
        if stored is None:
            return None
        matrices.append(QuantizedMatrix(stored, plain.dtype))
    return QuantizedExperts(*matrices)
