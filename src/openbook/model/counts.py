"""What a count of a network is made of: parameters by part, and FLOPs under a named convention. No torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum


class AttentionCount(StrEnum):
    """How many of the s x s scores a FLOP count pays for.

    `causal` counts the half that a causal kernel computes, `full` all of them. A utilisation
    is only comparable with another that names the same one. Of a sliding window or a chunk,
    `causal` counts what lies inside it and `full` twice that: the band on both sides.
    """

    CAUSAL = "causal"
    FULL = "full"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Numbers of parameters by part; they add up to `total`.

    `embedding` and `positions` are tables that are looked up, `norms` and `biases` hold every
    vector of the network, all others are matrices. `head` is 0 when the embedding is used
    twice; `eh_proj` is the matrix by which an MTP module joins its inputs; `projections` lie
    between an embedding of another width and the layers (OPT-350M).
    """

    embedding: int = 0
    positions: int = 0
    projections: int = 0
    attention: int = 0
    dense_ffn: int = 0
    experts: int = 0
    shared_experts: int = 0
    router: int = 0
    eh_proj: int = 0
    head: int = 0
    norms: int = 0
    biases: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def matrices(self) -> int:
        """Parameters that take part in a matrix product: no table look-up, no norm, no bias."""
        return self.total - self.embedding - self.positions - self.norms - self.biases

    def __add__(self, other: Parts) -> Parts:
        return Parts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __mul__(self, times: int) -> Parts:
        return Parts(**{f.name: getattr(self, f.name) * times for f in fields(self)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Flops:
    """FLOPs of one token, a multiply-add being two, with the convention that attention was counted by."""

    matmul: int
    attention: int
    counted: AttentionCount

    @property
    def total(self) -> int:
        return self.matmul + self.attention

    def __mul__(self, times: int) -> Flops:
        return Flops(matmul=self.matmul * times, attention=self.attention * times, counted=self.counted)
