"""Arena: large pieces of memory for weights that are read from end to end at every step.

On huge pages where the system grants them: with pages of 4 KiB a processor looks up thousands of addresses a
token.
"""

from __future__ import annotations

import ctypes
import mmap

import torch
from torch import Tensor

CHUNK_BYTES = 64 << 20
HUGE_PAGE_BYTES = 2 << 20
_LINE_BYTES = 64


class Arena:
    """Hands out tensors side by side; they live as long as the arena or any of them is held."""

    def __init__(self) -> None:
        self._chunks: list[Tensor] = []
        self._number, self._used = 0, 0

    def copy(self, tensor: Tensor) -> Tensor:
        """The same numbers in the arena, beginning at a line of the cache."""
        flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
        while self._number < len(self._chunks) and not self._has_room(len(flat)):
            self._number, self._used = self._number + 1, 0
        if self._number == len(self._chunks):
            self._chunks.append(_huge(max(CHUNK_BYTES, len(flat))))
        place = self._chunks[self._number][self._used : self._used + len(flat)]
        self._used += -(-len(flat) // _LINE_BYTES) * _LINE_BYTES
        return place.copy_(flat).view(tensor.dtype).view(tensor.shape)

    def begin_anew(self) -> None:
        """From here on the same memory is handed out again: what was handed out is overwritten."""
        self._number, self._used = 0, 0

    def _has_room(self, num_bytes: int) -> bool:
        return self._used + num_bytes <= len(self._chunks[self._number])


def _huge(num_bytes: int) -> Tensor:
    """Fresh memory that begins at a huge page, and the wish that it be made of them."""
    raw = torch.empty(num_bytes + HUGE_PAGE_BYTES, dtype=torch.uint8)
    chunk = raw[-raw.data_ptr() % HUGE_PAGE_BYTES :][:num_bytes]
    if hasattr(mmap, "MADV_HUGEPAGE"):
        libc = ctypes.CDLL(None, use_errno=True)
        # A wish: where it is not granted the memory is as good, and nothing has to be done about it.
        libc.madvise(ctypes.c_void_p(chunk.data_ptr()), ctypes.c_size_t(num_bytes), mmap.MADV_HUGEPAGE)
    return chunk
