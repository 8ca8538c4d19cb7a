"""What this machine can do at most, measured: reading memory, multiplying matrices, starting an operation.

Each figure is the best of several tries and of several ways, because a limit is what nothing passes:
a disturbance makes a try slower, never faster.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from openbook.runs.machine import free_memory_bytes

NUM_TRIES = 7
_BEYOND_CACHE = 2
"""A buffer this many times the last cache is read from memory."""
_MOST_OF_FREE_MEMORY = 0.25
_UNKNOWN_CACHE_BYTES = 64 << 20
_LEAST_BYTES = 1 << 20
_GEMM_SIZES = (1024, 2048)
_LEAST_TRY_SECONDS = 2e-3
"""A try of something short repeats it for so long."""
_NUM_OPERATIONS = 500
"""Operations in a row whose starting is measured."""


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
        return max(self._read_rate(num_threads, size) for size in sizes)

    def gemm_rate(self, num_threads: int, dtype: torch.dtype) -> float:
        """Floating-point operations a second of a large square product in `dtype`."""
        return max(self.product_rate(num_threads, dtype, (size, size, size)) for size in _GEMM_SIZES)

    def product_rate(self, num_threads: int, dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
        """Floating-point operations a second of a product of `shape`: rows, width in, width out."""
        key = ("product", num_threads, shape, dtype)
        return self._once(key, num_threads, lambda: _best_product(shape, dtype, self._num_tries))

    def dispatch_seconds(self, *, with_gradient: bool) -> float:
        """Seconds that torch takes to start an operation on a single number, on one thread.

        `with_gradient` records the operation and runs its backward pass as well.
        """
        start = _record_and_run_back if with_gradient else _run_forward
        key = ("dispatch", with_gradient)
        return self._once(key, 1, lambda: _fastest(start, self._num_tries) / _NUM_OPERATIONS)

    def _read_rate(self, num_threads: int, num_bytes: int) -> float:
        key = ("read", num_threads, num_bytes)
        return self._once(key, num_threads, lambda: _best_read(num_threads, num_bytes, self._num_tries))

    def _once(self, key: tuple[object, ...], num_threads: int, measure: Callable[[], float]) -> float:
        if key not in self._known:
            with torch_threads(num_threads):
                self._known[key] = measure()
        return self._known[key]


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


def _best_product(shape: tuple[int, int, int], dtype: torch.dtype, num_tries: int) -> float:
    num_rows, width_in, width_out = shape
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(num_rows, width_in, generator=generator).to(dtype)
    # Linear layers hold their matrix transposed; that form is the one which is multiplied here.
    matrix = torch.randn(width_out, width_in, generator=generator).to(dtype)

    def multiply() -> object:
        return torch.nn.functional.linear(rows, matrix)

    once = _fastest(multiply, 2)
    repeats = max(1, int(_LEAST_TRY_SECONDS / once))
    seconds = _fastest(lambda: [multiply() for _ in range(repeats)], num_tries) / repeats
    return 2 * num_rows * width_in * width_out / min(seconds, once)


def _run_forward() -> None:
    number = torch.zeros(1)
    with torch.no_grad():
        for _ in range(_NUM_OPERATIONS):
            number = number + 1.0


def _record_and_run_back() -> None:
    number = torch.zeros(1, requires_grad=True)
    for _ in range(_NUM_OPERATIONS):
        number = number * 1.0
    torch.autograd.backward(number)


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
    return free_memory_bytes() or unknown
