"""A finite set of examples as an endless stream whose whole state is one number.

Each epoch is a permutation drawn from (seed, epoch), so position 1234 always means the same example:
a resumed stage continues exactly where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openbook.data.batch import Example


class EpochStream:
    """`stream(position, count)`: the examples from `position` on, shuffled anew in every epoch."""

    def __init__(self, examples: Sequence[Example], *, seed: int) -> None:
        assert examples, "a stream needs at least one example"
        self._examples = examples
        self._seed = seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __call__(self, position: int, count: int) -> list[Example]:
        return [self._at(one) for one in range(position, position + count)]

    def _at(self, position: int) -> Example:
        epoch, offset = divmod(position, len(self._examples))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._examples))
        return self._examples[int(self._order[offset])]
