"""From a plan of the scheduler to the arrays of a step, and the accounts of what a request consumed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openbook.engine.executor import StepBatch
from openbook.engine.plan import Chunk
from openbook.engine.request import Request
from openbook.runs.usage import Usage


def step_batch(chunks: Sequence[Chunk]) -> StepBatch:
    """The tokens of `chunks`, and the rows to sample from: those of each last chunk with its drafts."""
    counts = [chunk.count for chunk in chunks]
    starts = np.array([chunk.start for chunk in chunks], np.int32)
    ends = np.cumsum(counts)
    sequences = np.repeat(np.arange(len(chunks), dtype=np.int32), counts)
    positions = np.arange(ends[-1], dtype=np.int32) - np.repeat(
        (ends - counts - starts).astype(np.int32), counts
    )
    tokens: list[int] = []
    for chunk in chunks:
        if chunk.count == 1:  # nearly all of them, nearly always
            tokens.append(chunk.sequence.token_ids[chunk.start])
        else:
            tokens += chunk.token_ids
    held = [chunk.sequence.blocks for chunk in chunks]
    width = max(map(len, held))
    filling = [0] * width
    tables = np.array([blocks + filling[len(blocks) :] for blocks in held], np.int32)
    sampled = [
        row
        for chunk, end in zip(chunks, ends.tolist(), strict=True)
        if chunk.is_last
        for row in range(end - chunk.num_drafts - 1, end)
    ]
    return StepBatch(
        tokens_R=np.array(tokens, np.int32),
        positions_R=positions,
        sequences_R=sequences,
        tables_Sn=tables,
        sampled_M=np.array(sampled, np.int64),
    )


def usage_of(request: Request) -> Usage:
    """What a request has consumed so far, each token under its kind."""
    sequence = request.sequence
    return Usage(
        prompt_tokens=sequence.num_computed_prompt_tokens,
        cached_tokens=sequence.num_cached_tokens,
        completion_tokens=len(request.token_ids),
        thinking_tokens=0 if request.thinking is None else request.thinking.num_tokens,
        rejected_tokens=request.num_rejected,
        recomputed_tokens=sequence.num_recomputed_tokens,
    )
