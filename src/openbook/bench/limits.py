"""What this machine can do at most, measured: reading memory and multiplying matrices.

Each figure is the best of several tries and of several ways, because a limit is what nothing passes:
a disturbance makes a try slower, never faster.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from openbook.model.config import ModelConfig
from openbook.model.cost import count

NUM_TRIES = 7
_BEYOND_CACHE = 2
"""A buffer this many times the last cache is read from memory."""
_MOST_OF_FREE_MEMORY = 0.25
_UNKNOWN_CACHE_BYTES = 64 << 20
_LEAST_BYTES = 1 << 20
_GEMM_SIZES = (1024, 2048)


class Limits:
    """The limits of this machine, each measured when it is first asked for."""

    def __init__(self, num_tries: int = NUM_TRIES) -> None:
        self._num_tries = num_tries
        self._known: dict[tuple[object, ...], float] = {}

    def read_bandwidth(self, num_threads: int, num_bytes: int) -> float:
        """Bytes a second at which `num_bytes` can be read over and over.

        The better of two buffers: one beyond the last cache, and one of `num_bytes`, which the caches
        may hold from one reading to the next.
        """
        sizes = {beyond_cache_bytes(), max(num_bytes, _LEAST_BYTES)}
        return max(self._measure(("read", num_threads, size), num_threads) for size in sizes)

    def gemm_rate(self, num_threads: int, dtype: torch.dtype) -> float:
        """Floating-point operations a second of a large square product in `dtype`."""
        return max(self._measure(("gemm", num_threads, size, dtype), num_threads) for size in _GEMM_SIZES)

    def _measure(self, what: tuple[object, ...], num_threads: int) -> float:
        if what not in self._known:
            with torch_threads(num_threads):
                if what[0] == "read":
                    assert isinstance(what[2], int)
                    self._known[what] = _best_read(num_threads, what[2], self._num_tries)
                else:
                    assert isinstance(what[2], int) and isinstance(what[3], torch.dtype)
                    self._known[what] = _best_gemm(what[2], what[3], self._num_tries)
        return self._known[what]


@contextmanager
def torch_threads(num_threads: int) -> Iterator[None]:
    """Give torch `num_threads` threads, and back what it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _best_read(num_threads: int, num_bytes: int, num_tries: int) -> float:
    """Searching for a byte that is not there, summing, and matrix times vector: whichever reads fastest."""
    num_columns = 1024
    num_rows = num_bytes // (4 * num_columns)
    buffer = torch.zeros(num_rows, num_columns)
    vector = torch.zeros(num_columns)
    seconds = min(
        _fastest(lambda: buffer.sum(), num_tries),
        _fastest(lambda: buffer @ vector, num_tries),
        _fastest_search(buffer, num_threads, num_tries),
    )
    return buffer.nbytes / seconds


def _fastest_search(buffer: torch.Tensor, num_threads: int, num_tries: int) -> float:
    """The C library's memchr over one share of the buffer a thread: it reads and does nothing else."""
    memchr = ctypes.CDLL(None).memchr
    memchr.restype = ctypes.c_void_p
    memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    share = buffer.nbytes // num_threads
    starts = [buffer.data_ptr() + thread * share for thread in range(num_threads)]
    with ThreadPoolExecutor(num_threads) as pool:
        return _fastest(lambda: list(pool.map(lambda start: memchr(start, 1, share), starts)), num_tries)


def _best_gemm(size: int, dtype: torch.dtype, num_tries: int) -> float:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(size, size, generator=generator).to(dtype) for _ in range(2))
    # Linear layers hold their matrix transposed; that form is the one which is multiplied here.
    return 2 * size**3 / _fastest(lambda: torch.nn.functional.linear(one, other), num_tries)


def _fastest(work: Callable[[], object], num_tries: int) -> float:
    best = float("inf")
    for _ in range(num_tries):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def beyond_cache_bytes() -> int:
    """The size of a buffer that the last cache does not hold, if so much memory can be spared."""
    wanted = _BEYOND_CACHE * last_cache_bytes()
    return int(min(wanted, _MOST_OF_FREE_MEMORY * _free_bytes(wanted)))


def last_cache_bytes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """The size of the largest cache of the first processor; 64 MiB where the system does not tell."""
    sizes = [_cache_bytes(path) for path in folder.glob("index*/size")]
    return max(sizes, default=_UNKNOWN_CACHE_BYTES)


def _cache_bytes(path: Path) -> int:
    """`32768K` or `32M` as the kernel writes it."""
    text = path.read_text(encoding="ascii").strip()
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)


def _free_bytes(unknown: int) -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return unknown


def flops_of(config: ModelConfig, *, num_prompt_tokens: int, num_new_tokens: int, context: int) -> int:
    """Floating-point operations to read prompts and to make new tokens at a mean context of `context`.

    Every prompt token goes through the layers, but only the new tokens need the output head.
    """
    cost = count(config)
    whole = cost.forward_flops_per_token(2 * context).total  # causal: a mean context of half the length
    head = 2 * config.vocab_size * config.hidden_size
    return num_prompt_tokens * (whole - head) + num_new_tokens * whole
