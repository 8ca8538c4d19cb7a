"""What training asks of a device for one token: products, scores and bytes, before any layout. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from openbook.model.architecture import Architecture
from openbook.model.shapes import (
    DenseFeedForward,
    ExpertFeedForward,
    GroupedAttention,
    Layer,
    LayerGroup,
    causal_pairs,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """`times` products of a token's row with a matrix of `rows` x `columns`."""

    rows: int
    columns: int
    times: float = 1.0
    num_experts: int = 0
    """Over how many experts the tokens spread; 0 is a dense product."""
    is_head: bool = False

    @property
    def elements(self) -> float:
        return self.times * self.rows * self.columns


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerWork:
    """One kind of layer: its products, scores and bytes, and how many there are."""

    num_layers: int
    products: tuple[Product, ...]
    score_flops: float
    """Forward FLOPs of causal attention for one token, at half."""
    num_heads: int
    head_dim: float
    inner_width: float
    """Activation outputs of the feed-forward network for one token."""
    cache_elements: int = 0
    """Of keys and values: what ranks that share a sequence pass around."""
    num_experts_per_tok: int = 0
    num_experts: int = 0


@lru_cache(maxsize=64)
def layer_works(architecture: Architecture, sequence_length: int) -> tuple[LayerWork, ...]:
    """The work of each kind of layer, those of multi-token prediction included: they train too."""
    works = []
    groups = list(architecture.groups)
    if architecture.mtp_layer is not None:
        groups.append(LayerGroup(layer=architecture.mtp_layer, num_layers=architecture.num_mtp_modules))
    for group in groups:
        layer, attention = group.layer, group.layer.attention
        pairs = causal_pairs(sequence_length, attention.window, is_chunked=attention.is_chunked)
        feed = layer.feed_forward
        works.append(
            LayerWork(
                num_layers=group.num_layers,
                products=tuple(_products(layer, architecture.hidden_size)),
                score_flops=attention.num_heads * attention.score_dims * pairs / sequence_length,
                num_heads=attention.num_heads,
                head_dim=attention.score_dims / 2,
                inner_width=_inner_width(layer),
                cache_elements=attention.cache_elements,
                num_experts_per_tok=feed.num_experts_per_tok if isinstance(feed, ExpertFeedForward) else 0,
                num_experts=feed.num_experts if isinstance(feed, ExpertFeedForward) else 0,
            )
        )
    return tuple(works)


def head_product(architecture: Architecture) -> Product:
    """The output head, once more for each module of multi-token prediction."""
    return Product(
        rows=architecture.embedding_size or architecture.hidden_size,
        columns=architecture.vocab_size,
        times=1 + architecture.num_mtp_modules,
        is_head=True,
    )


def _products(layer: Layer, width: int) -> Iterator[Product]:
    attention, feed = layer.attention, layer.feed_forward
    if isinstance(attention, GroupedAttention):
        query = attention.num_heads * attention.head_dim
        value = attention.num_heads * (attention.score_dims - attention.head_dim)
        yield Product(rows=width, columns=query + attention.cache_elements + attention.gate_width)
        yield Product(rows=value, columns=width)
    else:
        query = attention.num_heads * (attention.qk_nope_head_dim + attention.qk_rope_head_dim)
        rank = attention.q_lora_rank
        if rank is None:
            yield Product(rows=width, columns=query)
        else:
            yield Product(rows=width, columns=rank)
            yield Product(rows=rank, columns=query)
        yield Product(rows=width, columns=attention.cache_elements)
        expanded = attention.num_heads * (attention.qk_nope_head_dim + attention.v_head_dim)
        yield Product(rows=attention.kv_lora_rank, columns=expanded)
        yield Product(rows=attention.num_heads * attention.v_head_dim, columns=width)
    if isinstance(feed, DenseFeedForward):
        yield from _feed(width, feed.intermediate_size, feed.num_matrices)
    else:
        yield from _feed(
            width, feed.intermediate_size, feed.num_matrices, feed.num_experts_per_tok, feed.num_experts
        )
        if feed.shared_intermediate_size:
            yield from _feed(width, feed.shared_intermediate_size, feed.num_matrices)
        yield Product(rows=width, columns=feed.num_experts)


def _feed(width: int, inner: int, num_matrices: int, times: int = 1, experts: int = 0) -> Iterator[Product]:
    yield Product(rows=width, columns=(num_matrices - 1) * inner, times=times, num_experts=experts)
    yield Product(rows=inner, columns=width, times=times, num_experts=experts)


def _inner_width(layer: Layer) -> float:
    feed = layer.feed_forward
    if isinstance(feed, DenseFeedForward):
        return feed.intermediate_size
    return feed.num_experts_per_tok * feed.intermediate_size + feed.shared_intermediate_size
