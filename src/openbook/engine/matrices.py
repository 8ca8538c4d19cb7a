"""From a module's matrices to packed ones: plain ones in the precision asked for, quantised ones as they are.

Shape letters: N output, K input, H head, L latent, k part of a key without position, V value, E expert, I
inner width, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openbook.kernels.packed import PackedMatrix, pack_bf16, pack_fp32, pack_int4, pack_int8, stack_packed
from openbook.model.mla import MultiHeadLatentAttention
from openbook.model.moe import RoutedExperts
from openbook.quant.modules import QuantizedExperts, QuantizedMatrix
from openbook.quant.weight import Fp8Weight, Int4Weight, Int8Weight, QuantizedWeight

MatrixSource = Tensor | QuantizedWeight
"""A matrix [N, K], or experts' [E, N, K]: plain, or in fewer bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Packer:
    """Packs plain matrices as fp32 or as bf16, and int8 and int4 as they are stored."""

    dtype: torch.dtype

    def pack(self, sources: Sequence[MatrixSource]) -> PackedMatrix:
        """Matrices of one input on top of each other. All plain, or all in one format."""
        joined = join(sources)
        match joined:
            case Int8Weight(codes=codes, scale=scale):
                return pack_int8(codes, scale)
            case Int4Weight(packed=packed, scale=scale, minimum=minimum):
                return pack_int4(packed, scale, minimum)
            case Tensor():
                return self.pack_plain(joined)
            case _:
                return self.pack_plain(joined.dequantize(self.dtype))

    def pack_plain(self, weight_NK: Tensor) -> PackedMatrix:
        return pack_bf16(weight_NK) if self.dtype == torch.bfloat16 else pack_fp32(weight_NK)

    def pack_stack(self, stacks: Sequence[MatrixSource]) -> PackedMatrix:
        """For each expert, its matrices out of `stacks` on top of each other."""
        return stack_packed(
            [self.pack([_one(stack, e) for stack in stacks]) for e in range(stacks[0].shape[0])]
        )


def matrix_of(module: nn.Module) -> MatrixSource:
    """The matrix of a linear layer or an embedding, as the module holds it."""
    if isinstance(module, QuantizedMatrix):
        return module.stored
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def join(sources: Sequence[MatrixSource]) -> MatrixSource:
    """Matrices of one input on top of each other; in fp8 or of several formats, as plain fp32."""
    first = sources[0]
    if len(sources) == 1:
        return first
    # Rows of fp8 share factors by blocks of 128, which need not end where a matrix does.
    by_rows = isinstance(first, QuantizedWeight) and not isinstance(first, Fp8Weight)
    if by_rows and all(type(one) is type(first) for one in sources):
        parts = [one.parts() for one in sources if isinstance(one, QuantizedWeight)]
        return type(first)(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    return torch.cat([plain(one) for one in sources])


def plain(source: MatrixSource) -> Tensor:
    """The matrix itself, dequantised where it is not plain."""
    return source.dequantize() if isinstance(source, QuantizedWeight) else source


def absorbed(attention: MultiHeadLatentAttention) -> tuple[Tensor, Tensor]:
    """`kv_b_proj` as it is used in the latent space: to keys [H, L, k] and to values [H, V, L]."""
    mla = attention.mla
    expand = plain(matrix_of(attention.kv_b_proj)).view(attention.num_heads, -1, mla.kv_lora_rank)
    to_key_HkL, to_value_HVL = expand.split_with_sizes((mla.qk_nope_head_dim, mla.v_head_dim), dim=1)
    return to_key_HkL.transpose(1, 2), to_value_HVL


def expert_stacks(
    experts: RoutedExperts | QuantizedExperts,
) -> tuple[MatrixSource, MatrixSource, MatrixSource]:
    """Gate and up [E, I, D] and down [E, D, I]."""
    if isinstance(experts, QuantizedExperts):
        return experts.gate_proj.stored, experts.up_proj.stored, experts.down_proj.stored
    return experts.gate_proj.detach(), experts.up_proj.detach(), experts.down_proj.detach()


def _one(stack: MatrixSource, index: int) -> MatrixSource:
    return stack.map(lambda part: part[index]) if isinstance(stack, QuantizedWeight) else stack[index]
