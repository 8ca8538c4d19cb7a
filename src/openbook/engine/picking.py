"""From the logits of a step to tokens: the native way for plain rows, the reference for all others.

Shape letters: M row that is sampled from, V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openbook.engine.distribution import penalized, sample, shaped_logprobs, top_logprobs
from openbook.engine.plan import Chunk
from openbook.engine.randomness import uniforms
from openbook.engine.request import Request
from openbook.kernels.native import Native


@dataclass(slots=True)  # not frozen, which would double the cost of what is made for each token
class Pick:
    """A place to sample at: a row of the logits, whose it is, and which guesses stand before it.

    `chunk` is what was computed for it; None for a sibling, which starts from its leader's logits.
    """

    request: Request
    chunk: Chunk | None
    row: int
    drafts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Picked:
    """A token for each pick, -1 where the logits are no numbers, with its log-probability."""

    tokens: list[int]
    logprobs: list[float]
    top_logprobs: dict[int, tuple[tuple[int, float], ...]]
    """By the number of the pick, where asked for."""


def pick_tokens(logits_MV: Tensor, picks: Sequence[Pick], native: Native | None) -> Picked:
    """One token for each pick. A sequence's t-th token meets its own t-th uniform number, come what may."""
    seeds = np.array([pick.request.seed for pick in picks], dtype=np.uint64)
    places = np.array([len(pick.request.token_ids) + len(pick.drafts) for pick in picks], dtype=np.uint64)
    uniform = uniforms(seeds, places)
    banned = {
        number: ids
        for number, pick in enumerate(picks)
        if not pick.request.is_plain and (ids := pick.request.banned_ids(pick.drafts))
    }
    special = [
        number
        for number, pick in enumerate(picks)
        if native is None
        or not (pick.request.is_plain or (pick.request.params.is_plain and number not in banned))
    ]
    rows = np.array([pick.row for pick in picks])
    tokens, logprobs = np.empty(len(picks), np.int32), np.empty(len(picks), np.float32)
    if native is not None and len(special) < len(picks):
        temperatures = np.array([pick.request.params.temperature for pick in picks], np.float32)
        is_all = len(rows) == len(logits_MV) and bool((rows == np.arange(len(rows))).all())
        wanted = logits_MV if is_all else logits_MV[torch.from_numpy(rows)]
        tokens, logprobs = native_sample(native, wanted.contiguous(), temperatures, uniform)
    tops = {}
    for number in special:
        pick = picks[number]
        shaped_V = _shaped(logits_MV[pick.row], pick, banned.get(number, frozenset()))
        token, logprob = sample(
            shaped_V[None], torch.from_numpy(uniform[number : number + 1]).to(shaped_V.device)
        )
        tokens[number], logprobs[number] = int(token), float(logprob)
        if pick.request.params.num_top_logprobs:
            tops[number] = top_logprobs(shaped_V, pick.request.params.num_top_logprobs)
    return Picked(tokens=tokens.tolist(), logprobs=logprobs.tolist(), top_logprobs=tops)


def _shaped(logits_V: Tensor, pick: Pick, banned: frozenset[int]) -> Tensor:
    request, params = pick.request, pick.request.params
    if params.has_penalty:
        said = [*request.token_ids, *pick.drafts]
        logits_V = penalized(logits_V, params, request.prompt_ids, said)
    if banned:
        places = torch.tensor(sorted(banned), device=logits_V.device)
        logits_V = logits_V.index_fill(0, places, -torch.inf)
    return shaped_logprobs(logits_V, params)


def native_sample(
    native: Native,
    logits_MV: Tensor,
    temperatures_M: NDArray[np.float32],
    uniform_M: NDArray[np.float64],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """A token for each row, -1 where the logits are no numbers, and its log-probability."""
    tokens, logprobs = np.empty(len(logits_MV), np.int32), np.empty(len(logits_MV), np.float32)
    native.library.openbook_sample(
        ctypes.c_void_p(logits_MV.data_ptr()),
        ctypes.c_int64(logits_MV.shape[1]),
        ctypes.c_int64(len(logits_MV)),
        ctypes.c_void_p(temperatures_M.ctypes.data),
        ctypes.c_void_p(uniform_M.ctypes.data),
        ctypes.c_void_p(tokens.ctypes.data),
        ctypes.c_void_p(logprobs.ctypes.data),
        ctypes.c_int64(torch.get_num_threads()),
    )
    return tokens, logprobs
