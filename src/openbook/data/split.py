"""Train or held out, by a hash of the text: the same text is on the same side in every run and every file."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from openbook.errors import UserError


def hash_of(text: bytes) -> int:
    """The first 64 bits of the SHA-256 of a text."""
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def split(hashes_N: NDArray[np.uint64], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of the training documents in order, and of the held-out ones by rising hash.

    Held out is what hashes below `share` of all hashes; with few documents, at least the one of the smallest
    hash. So seeds do not matter, and the first few held-out documents are a fair sample of all. Raises
    UserError when nothing is left to train on.
    """
    assert len(hashes_N)
    smallest = hashes_N.min()
    limit = max(int(share * 2**64) - 1, int(smallest)) if share else -1
    is_held_out_N = hashes_N <= np.uint64(limit) if limit >= 0 else np.zeros(len(hashes_N), dtype=bool)
    train_N, held_out_N = np.flatnonzero(~is_held_out_N), np.flatnonzero(is_held_out_N)
    if not len(train_N):
        raise UserError(
            f"all {len(hashes_N)} documents are held out, and none is left to train on",
            "give more documents, or set held_out_share = 0",
        )
    return train_N, held_out_N[np.argsort(hashes_N[held_out_N], kind="stable")]
