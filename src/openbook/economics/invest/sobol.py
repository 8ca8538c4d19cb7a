"""Scrambled Sobol' points, one named column at a time.

A column is a sequence of 2^k numbers that fills the unit interval evenly, and every few columns together fill
their cube evenly, which makes means over them exact faster than chance would. Each scramble multiplies the
column's direction numbers by a random lower triangular matrix of bits and shifts all points by random bits
(Matousek, J. Complexity 14, 1998): the points stay as even, every single one is uniform, and scrambles are
independent, so the spread between them is the standard error.

Written here because a scramble hangs on the column's name alone, so that one more input moves no other, and
because importing scipy.stats for its points would take half a second of an answer due in two. Directions are
those of Joe and Kuo, as in scipy, which a test holds these points to.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint32]

NUM_BITS = 32
TOP_BIT = np.uint32(1 << (NUM_BITS - 1))


def num_columns() -> int:
    """Columns there are direction numbers for."""
    return len(_table())


def plain_points(column: int, num_points: int) -> Floats:
    """The first 2^k points of a column without scrambling, from 0, in binary order (not Gray-code order)."""
    return np.asarray(_points(np.array(directions(column), dtype=np.uint32), num_points) / 2.0**NUM_BITS)


def scrambled_points(column: int, num_points: int, *, name: str, seed: int, scramble: int) -> Floats:
    """The first 2^k points of a column in (0, 1), scrambled by what `name`, `seed` and `scramble` spell.

    Each is the middle of its 2^-32 cell, so that none is 0 or 1.
    """
    words = _random_words(f"{seed}/{scramble}/{name}", NUM_BITS + 1)
    above = np.uint32(0xFFFFFFFF) << np.arange(NUM_BITS - 1, -1, -1, dtype=np.uint32)  # bits down to bit i
    own = np.uint32(1) << np.arange(NUM_BITS - 1, -1, -1, dtype=np.uint32)
    rows = (words[:NUM_BITS] & above) | own
    bits = np.bitwise_count(rows[:, None] & np.array(directions(column), dtype=np.uint32)[None, :]) & 1
    mixed = np.bitwise_or.reduce(bits.astype(np.uint32) * own[:, None], axis=0)
    points = _points(mixed, num_points) ^ words[NUM_BITS]
    return np.asarray((points + 0.5) * 2.0**-NUM_BITS)


@functools.cache
def directions(column: int) -> tuple[int, ...]:
    """The column's direction numbers, highest bit first."""
    polynomial, *initial = _table()[column]
    degree = polynomial.bit_length() - 1
    if degree == 0:
        return tuple(1 << (NUM_BITS - 1 - bit) for bit in range(NUM_BITS))
    found = [number << (NUM_BITS - 1 - bit) for bit, number in enumerate(initial)]
    for bit in range(degree, NUM_BITS):
        value = found[bit - degree] ^ (found[bit - degree] >> degree)
        for back in range(1, degree):
            if polynomial >> (degree - back) & 1:
                value ^= found[bit - back]
        found.append(value)
    return tuple(found)


def _points(numbers: Words, num_points: int) -> Words:
    """Point n is the exclusive or of the direction numbers that n's bits name."""
    points = np.zeros(num_points, dtype=np.uint32)
    size = 1
    for number in numbers:
        if size >= num_points:
            break
        np.bitwise_xor(points[:size], number, out=points[size : 2 * size])
        size *= 2
    return points


def _random_words(text: str, count: int) -> Words:
    """Words that `text` alone decides: PCG64 gives the same raw stream in every version of numpy."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    return (np.random.PCG64(seed).random_raw(count) >> np.uint64(32)).astype(np.uint32)


@functools.cache
def _table() -> tuple[tuple[int, ...], ...]:
    file = importlib.resources.files("openbook.economics") / "data" / "invest" / "sobol_directions.txt"
    lines = file.read_text(encoding="ascii").splitlines()
    return tuple(tuple(map(int, line.split())) for line in lines if not line.startswith("#"))
