"""Rows that share a prompt: a trunk that is read once, and the group's completions as its branches.

    prompt | completion 1 | completion 2 | ...        positions P, P+1, ... begin anew in each branch

A branch sees the trunk and itself, so each completion gets the log-probabilities that a row of its own would
give it, and the prompt is neither computed nor differentiated G times. The last token of a completion is only
ever predicted and has no place here.

Shape legend: R rows, T positions in them, B completions, S positions in a completion's own row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openbook.engine.types import Completion

MOST_ROW_TOKENS = 1024
"""About so many positions make a row: with longer ones a batch is cut too coarsely."""
PADDING = -1
"""The branch of what is no token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedRows:
    """The same tokens as a batch of completions, each prompt once a row."""

    tokens_RT: Tensor
    branches_RT: Tensor
    """0 is the trunk."""
    positions_RT: Tensor
    experts_RTLK: Tensor | None
    places_BS: Tensor
    """Where what predicts token s + 1 of a completion's own row stands, in R x T counted as one; else 0."""

    @property
    def valid_RT(self) -> Tensor:
        return self.branches_RT != PADDING

    def to(self, device: torch.device) -> SharedRows:
        return SharedRows(
            tokens_RT=self.tokens_RT.to(device),
            branches_RT=self.branches_RT.to(device),
            positions_RT=self.positions_RT.to(device),
            experts_RTLK=None if self.experts_RTLK is None else self.experts_RTLK.to(device),
            places_BS=self.places_BS.to(device),
        )


def cut_shared(completions: Sequence[Completion], tokens_per_batch: int) -> Iterator[list[list[int]]]:
    """Their indices in batches of rows; those of a row have one prompt."""
    rows = sorted(plan_rows(completions), key=lambda row: row_length(completions, row))
    batch: list[list[int]] = []
    for row in rows:
        if batch and (len(batch) + 1) * row_length(completions, row) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def plan_rows(completions: Sequence[Completion]) -> list[list[int]]:
    """Every completion once, beside others of its prompt and of similar length."""
    members: dict[tuple[int, ...], list[int]] = {}
    for index, completion in enumerate(completions):
        members.setdefault(completion.prompt_ids, []).append(index)
    return [row for indices in members.values() for row in _even_rows(completions, indices)]


def _even_rows(completions: Sequence[Completion], indices: list[int]) -> Iterator[list[int]]:
    """The completions of one prompt by length, in as few rows as hold them and all about as long."""
    indices = sorted(indices, key=lambda index: len(completions[index].token_ids))
    prompt = len(completions[indices[0]].prompt_ids)
    ends = np.cumsum([len(completions[index].token_ids) - 1 for index in indices])
    num_rows = min(max(-(-int(ends[-1]) // max(MOST_ROW_TOKENS - prompt, 1)), 1), len(indices))
    middles = ends - np.diff(ends, prepend=0) / 2
    numbers = np.minimum(middles * num_rows // max(ends[-1], 1), num_rows - 1)
    for number in range(num_rows):
        row = [index for index, its_number in zip(indices, numbers, strict=True) if its_number == number]
        if row:
            yield row


def row_length(completions: Sequence[Completion], row: Sequence[int]) -> int:
    """Positions of a row: its prompt and all but the last token of each completion."""
    branches = sum(len(completions[index].token_ids) - 1 for index in row)
    return len(completions[row[0]].prompt_ids) + branches


def share_prompts(completions: Sequence[Completion], sizes: Sequence[int], *, pad_id: int) -> SharedRows:
    """The rows of `completions`, of which the first `sizes[0]` make the first row, and so on."""
    ends = np.cumsum(sizes).tolist()
    rows = [list(range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
    width = max(row_length(completions, row) for row in rows)
    own_width = max(len(one.prompt_ids) + len(one.token_ids) for one in completions) - 1
    tokens = np.full((len(rows), width), pad_id, np.int64)
    branches = np.full((len(rows), width), PADDING, np.int64)
    positions = np.zeros((len(rows), width), np.int64)
    places = np.zeros((len(completions), own_width), np.int64)
    known = [one.experts for one in completions if one.experts is not None]
    replays = len(known) == len(completions)
    experts = np.zeros((len(rows), width, *known[0].shape[1:]), np.int16) if replays else None
    for number, row in enumerate(rows):
        prompt = completions[row[0]].prompt_ids
        length = len(prompt)
        tokens[number, :length], branches[number, :length] = prompt, 0
        positions[number, :length] = np.arange(length)
        start = length
        for branch, index in enumerate(row, start=1):
            completion = completions[index]
            assert completion.prompt_ids == prompt, "a row has one prompt"
            end = start + len(completion.token_ids) - 1
            tokens[number, start:end], branches[number, start:end] = completion.token_ids[:-1], branch
            positions[number, start:end] = np.arange(length, length + end - start)
            # The first token is predicted by the last of the prompt, the others by the one before them.
            first = number * width
            places[index, length - 1] = first + length - 1
            places[index, length : length + end - start] = np.arange(first + start, first + end)
            if experts is not None and completion.experts is not None:
                experts[number, :length] = completion.experts[:length]
                experts[number, start:end] = completion.experts[length:]
            start = end
    return SharedRows(
        tokens_RT=torch.from_numpy(tokens),
        branches_RT=torch.from_numpy(branches),
        positions_RT=torch.from_numpy(positions),
        experts_RTLK=None if experts is None else torch.from_numpy(experts),
        places_BS=torch.from_numpy(places),
    )
