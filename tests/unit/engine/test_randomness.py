from __future__ import annotations

import numpy as np

from openbook.engine.randomness import derived_seed, mixed, uniforms

MASK = (1 << 64) - 1


def splitmix(state: int) -> int:
    """The output function as its authors write it, in whole numbers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_the_output_function_is_that_of_splitmix64() -> None:
    states = [0, 1, 0x9E3779B97F4A7C15, MASK, 123456789]
    assert mixed(np.array(states, np.uint64)).tolist() == [splitmix(state) for state in states]
    # The first output of the published generator with seed 0.
    assert splitmix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_a_number_depends_on_its_seed_and_its_place_alone() -> None:
    seeds, places = np.array([3, 9, 3, 4], np.uint64), np.array([0, 5, 7, 0], np.uint64)
    together = uniforms(seeds, places)
    for number in range(4):
        part = slice(number, number + 1)
        assert uniforms(seeds[part], places[part])[0] == together[number]
    assert len(set(together.tolist())) == 4


def test_numbers_are_even_over_the_unit_interval() -> None:
    seeds = np.repeat(np.arange(200, dtype=np.uint64), 100)
    numbers = uniforms(seeds, np.tile(np.arange(100, dtype=np.uint64), 200))
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, bins=50, range=(0, 1))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 49 + 4 * np.sqrt(2 * 49)


def test_neighbouring_seeds_and_places_are_unrelated() -> None:
    seeds, places = np.meshgrid(np.arange(200, dtype=np.uint64), np.arange(200, dtype=np.uint64))
    grid = uniforms(seeds.ravel(), places.ravel()).reshape(200, 200) - 0.5
    for shifted in (grid[:, 1:] * grid[:, :-1], grid[1:] * grid[:-1]):
        assert abs(shifted.mean()) < 4 * (1 / 12) / np.sqrt(shifted.size)


def test_seeds_of_any_size_and_sign_are_told_apart() -> None:
    wide = [derived_seed(seed, 0) for seed in (0, 1, -1, 1 << 40, (1 << 64) - 2, (1 << 70) + 5)]
    assert len(set(wide)) == 6 and all(0 <= seed <= MASK for seed in wide)
    numbered = {derived_seed(seed, number) for seed in range(30) for number in range(30)}
    assert len(numbered) == 900
