"""Examples to batches: sorted by length into rows of similar length, so that little is padding.

Each example keeps a row of its own: nothing attends across documents, which supervised stages of
DeepSeek-V3 ensure with a mask (5.1) and short documents get for free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from openbook.data.batch import Batch, Example
from openbook.errors import UserError


def pack(examples: Sequence[Example], *, tokens_per_batch: int, pad_id: int) -> list[Batch]:
    """Batches of at most `tokens_per_batch` positions (padding included) that hold every example once."""
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].token_ids))
    return [
        make_batch([examples[index] for index in rows], pad_id=pad_id)
        for rows in group_by_length(
            [len(examples[index].token_ids) for index in order], order, tokens_per_batch
        )
    ]


def group_by_length(
    lengths: Sequence[int], order: Sequence[int], tokens_per_batch: int
) -> Iterator[list[int]]:
    """Cut `order` (indices by rising length) into runs whose padded size fits `tokens_per_batch`."""
    rows: list[int] = []
    for length, index in zip(lengths, order, strict=True):
        if length > tokens_per_batch:
            raise UserError(
                f"an example has {length} tokens and a batch holds {tokens_per_batch}",
                "raise tokens_per_batch or shorten the example",
            )
        if rows and (len(rows) + 1) * length > tokens_per_batch:
            yield rows
            rows = []
        rows.append(index)
    if rows:
        yield rows


def make_batch(examples: Sequence[Example], *, pad_id: int) -> Batch:
    """Rows of one batch, right-padded to the longest: `token_ids[:-1]` predicts `token_ids[1:]`."""
    width = max(len(example.token_ids) for example in examples)
    tokens = np.full((len(examples), width), pad_id, dtype=np.int64)
    weights = np.zeros((len(examples), width), dtype=np.float32)
    valid = np.zeros((len(examples), width), dtype=bool)
    for row, example in enumerate(examples):
        length = len(example.token_ids)
        tokens[row, :length] = example.token_ids
        weights[row, :length] = example.weights
        valid[row, : length - 1] = True
    return Batch(
        tokens_BT=torch.from_numpy(tokens[:, :-1].copy()),
        targets_BT=torch.from_numpy(tokens[:, 1:].copy()),
        weights_BT=torch.from_numpy(weights[:, 1:].copy()),
        valid_BT=torch.from_numpy(valid[:, :-1].copy()),
    )
