from __future__ import annotations

import pytest
import torch

from openbook.kernels.attention import (
    absorbed_attention,
    attention,
    decode_attention,
    document_mask,
    plain_attention,
    product_attention,
    reach_mask,
)
from openbook.kernels.branches import branch_mask


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_document_mask_is_causal_inside_each_document() -> None:
    mask = document_mask(torch.tensor([[4, 4, 9]]))[0, 0]
    assert mask.int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_reach_mask_ends_at_each_querys_own_position() -> None:
    mask = reach_mask(torch.tensor([[1, 2], [0, 1]]), 4)
    assert mask.shape == (2, 1, 2, 4)
    assert mask.sum(-1)[:, 0].tolist() == [[2, 3], [1, 2]]


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("v_size", [8, 5])
def test_fused_attention_equals_the_plain_one(num_kv_heads: int, v_size: int) -> None:
    q, k, v = draw(2, 4, 7, 8), draw(2, num_kv_heads, 7, 8), draw(2, num_kv_heads, 7, v_size)
    documents = document_mask(torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 2, 2, 2]]))
    for mask in (None, documents):
        torch.testing.assert_close(attention(q, k, v, mask, 0.3), plain_attention(q, k, v, mask, 0.3))


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_by_products_equals_the_plain_one(num_kv_heads: int, dtype: torch.dtype) -> None:
    branches = branch_mask(torch.tensor([[0, 0, 1, 1, 2, 2, -1], [0, 1, 1, 1, 1, 2, 3]]))
    for mask in (None, branches):
        given = [draw(2, 4, 7, 8), draw(2, num_kv_heads, 7, 8), draw(2, num_kv_heads, 7, 8)]
        inputs = [[one.clone().to(dtype).requires_grad_() for one in given] for _ in range(2)]
        out, expected = product_attention(*inputs[0], mask, 0.3), plain_attention(*inputs[1], mask, 0.3)
        exact = dtype == torch.float32
        close = {"atol": 1e-6, "rtol": 1e-5} if exact else {"atol": 3e-2, "rtol": 3e-2}
        torch.testing.assert_close(out, expected, **close)
        weights = draw(*out.shape).to(dtype)
        for result in (out, expected):
            (result * weights).sum().backward()  # type: ignore[no-untyped-call]
        for one, other in zip(*inputs, strict=True):
            torch.testing.assert_close(one.grad, other.grad, **close)


def test_a_single_query_sees_its_reach_and_no_further() -> None:
    q, k, v = draw(3, 4, 8), draw(3, 9, 2, 8), draw(3, 9, 2, 8)
    mask = reach_mask(torch.tensor([[0], [4], [8]]), 9)
    expected = plain_attention(q[:, :, None], k.transpose(1, 2), v.transpose(1, 2), mask, 0.2)[:, :, 0]
    torch.testing.assert_close(decode_attention(q, k, v, mask[:, 0, 0], 0.2), expected)
    torch.testing.assert_close(expected[0], v[0, 0].repeat_interleave(2, 0))


def test_absorbed_attention_reads_the_latent_as_key_and_value() -> None:
    q, latent = draw(3, 4, 10), draw(3, 6, 10)
    mask = reach_mask(torch.tensor([[5], [2], [3]]), 6)
    expected = plain_attention(q[:, :, None], latent[:, None], latent[:, None], mask, 0.2)[:, :, 0]
    torch.testing.assert_close(absorbed_attention(q, latent, mask[:, 0, 0], 0.2), expected)
