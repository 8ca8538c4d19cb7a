"""Attention forward and backward on one thread of a CPU: torch's fused kernel beside products and a softmax.

    python benchmarks/attention.py

Milliseconds of CPU time, the best of five, for the heads of SmolLM2: 9 of queries, 3 of keys and values, 64
numbers each. It is what `MOST_PRODUCT_KEYS` in kernels/attention.py goes by.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from openbook.kernels.attention import product_attention

HEADS, KV_HEADS, SIZE = 9, 3, 64
SHAPES = ((24, 84), (8, 200), (6, 300), (2, 512), (2, 1024))
"""Rows and the positions of each."""

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=SIZE**-0.5, enable_gqa=True)


def products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return product_attention(q, k, v, None, SIZE**-0.5)


def milliseconds(attend: Attention, num_rows: int, num_positions: int, dtype: torch.dtype) -> float:
    """The best of five, after one that warms up."""
    times = []
    for _ in range(6):
        q, k, v = (
            torch.randn(num_rows, num_positions, heads, SIZE, dtype=dtype).transpose(1, 2).requires_grad_()
            for heads in (HEADS, KV_HEADS, KV_HEADS)
        )
        started = time.thread_time()
        attend(q, k, v).sum().backward()  # type: ignore[no-untyped-call]
        times.append(time.thread_time() - started)
    return 1000 * min(times[1:])


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'rows x positions':<18}{'dtype':<10}{'fused':>8}{'products':>10}")
    for num_rows, num_positions in SHAPES:
        for dtype in (torch.bfloat16, torch.float32):
            found = [milliseconds(attend, num_rows, num_positions, dtype) for attend in (fused, products)]
            name = str(dtype).removeprefix("torch.")
            print(f"{f'{num_rows} x {num_positions}':<18}{name:<10}{found[0]:>8.1f}{found[1]:>10.1f}")


if __name__ == "__main__":
    main()
