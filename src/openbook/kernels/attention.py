"""Attention: a plain reference, the fused path for many queries, and the absorbed path for one query a row.

Shape letters: B row, H query head, J key-value head, G query heads to a key-value head, T query position,
S key position, Q size of a query and a key, V size of a value, K = L + R what MLA caches of a position: the
latent and the rotary key.
A boolean mask is true where a query may look.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """Boolean [T, S]: the last query stands at the last key."""
    ones_TS = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return ones_TS.tril(num_keys - num_queries)


def document_mask(documents_BT: Tensor) -> Tensor:
    """Boolean [B, 1, T, T]: causal, and only inside one's own document."""
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    return same_BTT.tril()[:, None]


def reach_mask(positions_BT: Tensor, num_keys: int) -> Tensor:
    """Boolean [B, 1, T, S]: each query looks at the cached positions up to its own."""
    keys_S = torch.arange(num_keys, device=positions_BT.device)
    return (keys_S <= positions_BT[:, :, None])[:, None]


def plain_attention(
    q_BHTQ: Tensor, k_BJSQ: Tensor, v_BJSV: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """The oracle: softmax(q k^T * scale) v, the softmax in fp32 -> [B, H, T, V]. `mask=None` means causal."""
    repeats = q_BHTQ.shape[1] // k_BJSQ.shape[1]
    k_BHSQ, v_BHSV = k_BJSQ.repeat_interleave(repeats, 1), v_BJSV.repeat_interleave(repeats, 1)
    if mask is None:
        mask = causal_mask(q_BHTQ.shape[2], k_BHSQ.shape[2], q_BHTQ.device)
    scores_BHTS = (q_BHTQ @ k_BHSQ.transpose(-1, -2)).float() * scale
    weights_BHTS = scores_BHTS.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights_BHTS.to(v_BHSV.dtype) @ v_BHSV


def attention(q_BHTQ: Tensor, k_BJSQ: Tensor, v_BJSV: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """As `plain_attention`, fused -> [B, H, T, V].

    Values narrower than keys are padded with zeros: the CPU flash kernel refuses unequal sizes and falls back
    to a path that writes every score to memory.
    """
    if _suits_products(q_BHTQ, k_BJSQ):
        return product_attention(q_BHTQ, k_BJSQ, v_BJSV, mask, scale)
    v_size, qk_size = v_BJSV.shape[-1], k_BJSQ.shape[-1]
    if v_size < qk_size:
        v_BJSV = F.pad(v_BJSV, (0, qk_size - v_size))
    out_BHTV = F.scaled_dot_product_attention(
        q_BHTQ,
        k_BJSQ,
        v_BJSV,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=q_BHTQ.shape[1] != k_BJSQ.shape[1],
    )
    return out_BHTV[..., :v_size]


def attention_of(q_BTHQ: Tensor, k_BSJQ: Tensor, v_BSJV: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """`attention` with positions before heads, as projections give them -> [B, T, H, V]."""
    out_BHTV = attention(q_BTHQ.transpose(1, 2), k_BSJQ.transpose(1, 2), v_BSJV.transpose(1, 2), mask, scale)
    return out_BHTV.transpose(1, 2)


MOST_PRODUCT_KEYS = 256
"""Up to so many keys the scores of a row stay in the processor's cache."""


def _suits_products(q_BHTQ: Tensor, k_BJSQ: Tensor) -> bool:
    """Short rows in bf16 on a CPU: there the gradient of the fused kernel takes four times as long."""
    is_short = k_BJSQ.shape[2] <= MOST_PRODUCT_KEYS
    return (
        is_short and q_BHTQ.dtype == torch.bfloat16 and q_BHTQ.device.type == "cpu" and q_BHTQ.requires_grad
    )


def product_attention(
    q_BHTQ: Tensor, k_BJSQ: Tensor, v_BJSV: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """As `plain_attention` -> [B, H, T, V], without a repeated key and with few passes over the scores."""
    num_rows, num_kv_heads = k_BJSQ.shape[:2]
    num_heads, num_queries, num_keys = q_BHTQ.shape[1], q_BHTQ.shape[2], k_BJSQ.shape[2]
    if mask is None:
        mask = causal_mask(num_queries, num_keys, q_BHTQ.device)
    bias = torch.zeros(mask.shape, dtype=q_BHTQ.dtype, device=mask.device).masked_fill(~mask, -torch.inf)
    # The query heads of a key-value head stand where queries would.
    grouped_BJxQ = (q_BHTQ * scale).reshape(num_rows, num_kv_heads, -1, q_BHTQ.shape[-1])
    scores_BHTS = (grouped_BJxQ @ k_BJSQ.transpose(-1, -2)).view(num_rows, num_heads, num_queries, num_keys)
    weights_BHTS = torch.softmax(scores_BHTS + bias, -1, dtype=torch.float32).to(v_BJSV.dtype)
    out_BJxV = weights_BHTS.view(num_rows, num_kv_heads, -1, num_keys) @ v_BJSV
    return out_BJxV.view(num_rows, num_heads, num_queries, -1)


def decode_attention(q_BHQ: Tensor, k_BSJQ: Tensor, v_BSJV: Tensor, mask_BS: Tensor, scale: float) -> Tensor:
    """One query a row against its cache -> [B, H, V].

    The query heads that share a key-value head stand where query positions would: no key is ever repeated.
    """
    num_kv_heads = k_BSJQ.shape[2]
    grouped_BJGQ = q_BHQ.view(len(q_BHQ), num_kv_heads, -1, q_BHQ.shape[-1])
    mask_B11S = mask_BS[:, None, None, :]
    out_BJGV = F.scaled_dot_product_attention(
        grouped_BJGQ, k_BSJQ.transpose(1, 2), v_BSJV.transpose(1, 2), attn_mask=mask_B11S, scale=scale
    )
    return out_BJGV.flatten(1, 2)


def absorbed_attention(q_BHK: Tensor, latent_BSK: Tensor, mask_BS: Tensor, scale: float) -> Tensor:
    """MLA for one query a row, in the latent space -> [B, H, K] (DeepSeek-V2 appendix C).

    Every head reads the same latent, as key and as value; the last R numbers of the result are the average
    rotary key, of no use and to be cut off by the caller. Reading them keeps both sizes equal, which the
    fused kernel asks for.
    """
    shared_B1SK = latent_BSK[:, None]
    out_B1HK = F.scaled_dot_product_attention(
        q_BHK[:, None], shared_B1SK, shared_B1SK, attn_mask=mask_BS[:, None, None, :], scale=scale
    )
    return out_B1HK[:, 0]
