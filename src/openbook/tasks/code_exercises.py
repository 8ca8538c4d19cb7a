"""The exercises of the code family: what is asked, a solution in Python, and what its inputs look like.

    sum_divisible(xs, *, k)   with k = 3   ->   "the sum of the numbers in xs that are divisible by 3"

A solution is an ordinary function whose keyword-only arguments are the dials of the exercise. It makes the
expected outputs, and its source with the dials filled in (`solution_text`) is the sealed answer: one
text, so that what is asked and what is tested cannot drift apart. Sources are read from this file.
"""

from __future__ import annotations

import inspect
import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Dials: TypeAlias = Mapping[str, Any]
Draw: TypeAlias = Callable[[random.Random, Dials], Any]
"""One argument of a call, as a JSON value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exercise:
    """One kind of exercise. `statement` goes on after "... that returns", with the dials in braces."""

    level: int
    solution: Callable[..., Any]
    statement: str
    dials: Callable[[random.Random], dict[str, Any]]
    arguments: Sequence[Draw]

    @property
    def name(self) -> str:
        return self.solution.__name__

    @property
    def signature(self) -> str:
        """Such as `sum_divisible(xs)`: what a caller writes."""
        return f"{self.name}({', '.join(_positional(self.solution))})"


def solution_text(exercise: Exercise, dials: Dials) -> str:
    """The source of an exercise's solution, its dials set at the top of its body.

    Example: `def sum_divisible(xs):\\n    k = 3\\n    return sum(x for x in xs if x % k == 0)`
    """
    _, _, body = inspect.getsource(exercise.solution).partition("\n")
    values = "".join(f"    {name} = {value!r}\n" for name, value in dials.items())
    return f"def {exercise.signature}:\n{values}{body}".rstrip()


def _positional(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]


def sum_divisible(xs: list[int], *, k: int) -> int:
    return sum(x for x in xs if x % k == 0)


def count_above(xs: list[int], *, k: int) -> int:
    return sum(x > k for x in xs)


def join_copies(text: str, *, k: int, between: str) -> str:
    return between.join([text] * k)


def every_nth(xs: list[int], *, k: int, start: int) -> list[int]:
    return xs[start::k]


def scale_and_shift(xs: list[int], *, k: int, c: int) -> list[int]:
    return [k * x + c for x in xs]


def swap_letters(text: str, *, a: str, b: str) -> str:
    return "".join(b if c == a else a if c == b else c for c in text)


def clamp_all(xs: list[int], *, low: int, high: int) -> list[int]:
    return [min(max(x, low), high) for x in xs]


def digit_sum_times(n: int, *, k: int) -> int:
    return k * sum(int(digit) for digit in str(n))


def rotate_left(xs: list[int], *, k: int) -> list[int]:
    return [xs[(i + k) % len(xs)] for i in range(len(xs))]


def longest_word(text: str, *, k: int) -> str:
    return max((word for word in text.split() if len(word) <= k), key=len, default="")


def count_letters(text: str, *, letters: str) -> int:
    return sum(c in letters for c in text)


def count_pairs(xs: list[int], *, total: int) -> int:
    return sum(xs[i] + xs[j] == total for i in range(len(xs)) for j in range(i))


def shift_letters(text: str, *, k: int) -> str:
    return "".join(chr((ord(c) - ord("a") + k) % 26 + ord("a")) if c != " " else c for c in text)


def long_runs(text: str, *, k: int, skip: str) -> list[list[Any]]:
    runs: list[list[Any]] = []
    for c in text:
        if runs and runs[-1][0] == c:
            runs[-1][1] += 1
        else:
            runs.append([c, 1])
    return [run for run in runs if run[1] >= k and run[0] != skip]


def window_maxima(xs: list[int], *, k: int, c: int) -> list[int]:
    return [max(xs[i : i + k]) + c for i in range(len(xs) - k + 1)]


def to_base(n: int, *, base: int, width: int) -> str:
    digits = ""
    while n:
        n, digit = divmod(n, base)
        digits = str(digit) + digits
    return digits.rjust(width, "0")


def group_by_remainder(xs: list[int], *, k: int, low: int) -> list[list[int]]:
    return [[x for x in xs if x > low and x % k == remainder] for remainder in range(k)]


def kth_largest(xs: list[int], *, k: int, limit: int) -> int | None:
    different = sorted({x for x in xs if x < limit}, reverse=True)
    return different[k - 1] if len(different) >= k else None


def deepest(text: str, *, opening: str, closing: str) -> int:
    depth = most = 0
    for c in text:
        depth += (c == opening) - (c == closing)
        if depth < 0:
            return -1
        most = max(most, depth)
    return most if depth == 0 else -1


def _numbers(low: int, high: int, most: int = 8) -> Draw:
    return lambda rng, dials: [rng.randint(low, high) for _ in range(rng.randint(0, most))]


def _number(high: int) -> Draw:
    return lambda rng, dials: rng.choice((rng.randrange(10), rng.randrange(high)))


def _letters(alphabet: str, most: int = 10) -> Draw:
    return lambda rng, dials: "".join(rng.choice(alphabet) for _ in range(rng.randint(0, most)))


def _runs(rng: random.Random, dials: Dials) -> str:
    letters = (*"abcdef", dials["skip"])
    return "".join(rng.choice(letters) * rng.randint(1, dials["k"] + 2) for _ in range(rng.randint(0, 5)))


def _words(rng: random.Random, dials: Dials) -> str:
    words = ("".join(rng.choice("abcdeinorst") for _ in range(rng.randint(1, 8))) for _ in range(6))
    return " ".join(list(words)[: rng.randint(0, 6)])


def _swappable(rng: random.Random, dials: Dials) -> str:
    letters: str = dials["a"] + dials["b"]
    return "".join(rng.choice(letters + "xyz") for _ in range(rng.randint(0, 10)))


def _brackets(rng: random.Random, dials: Dials) -> str:
    """Balanced about half of the time, which random brackets would rarely be."""
    opening, closing = str(dials["opening"]), str(dials["closing"])
    text = rng.choice(("", opening + closing, "x"))
    for _ in range(rng.randint(0, 4)):
        text = rng.choice((opening + text + closing, text + rng.choice((opening + closing, "x"))))
    return text + rng.choice(("", "", opening, closing))


def _two_letters(rng: random.Random) -> list[str]:
    return rng.sample(string.ascii_lowercase[:20], 2)


EXERCISES: Sequence[Exercise] = (
    Exercise(
        level=1,
        solution=sum_divisible,
        statement="the sum of the numbers in the list xs that are divisible by {k}",
        dials=lambda rng: {"k": rng.randint(2, 9)},
        arguments=[_numbers(-20, 40)],
    ),
    Exercise(
        level=1,
        solution=count_above,
        statement="how many numbers in the list xs are greater than {k}",
        dials=lambda rng: {"k": rng.randint(-5, 20)},
        arguments=[_numbers(-15, 30)],
    ),
    Exercise(
        level=1,
        solution=join_copies,
        statement="{k} copies of the string text, joined by {between!r}",
        dials=lambda rng: {"k": rng.randint(2, 6), "between": rng.choice("-+,.:/_")},
        arguments=[_letters("abcxyz", 5)],
    ),
    Exercise(
        level=1,
        solution=every_nth,
        statement="a list of every {k}th item of the list xs, beginning with the one at index {start}",
        dials=lambda rng: {"k": rng.randint(4, 9), "start": rng.randint(0, 4)},
        arguments=[_numbers(0, 50, 20)],
    ),
    Exercise(
        level=1,
        solution=scale_and_shift,
        statement="a list of the numbers in the list xs, each multiplied by {k} and then increased by {c}",
        dials=lambda rng: {"k": rng.randint(2, 9), "c": rng.randint(1, 9)},
        arguments=[_numbers(-20, 20)],
    ),
    Exercise(
        level=1,
        solution=swap_letters,
        statement="the string text with every {a!r} replaced by {b!r} and every {b!r} by {a!r}",
        dials=lambda rng: dict(zip("ab", _two_letters(rng), strict=True)),
        arguments=[_swappable],
    ),
    Exercise(
        level=2,
        solution=clamp_all,
        statement=(
            "a list of the numbers in the list xs, those below {low} replaced by {low} and those above {high}"
            " by {high}"
        ),
        dials=lambda rng: {"low": rng.randint(-9, 0), "high": rng.randint(5, 15)},
        arguments=[_numbers(-20, 30)],
    ),
    Exercise(
        level=2,
        solution=digit_sum_times,
        statement="{k} times the sum of the decimal digits of the number n, which is at least 0",
        dials=lambda rng: {"k": rng.randint(2, 30)},
        arguments=[_number(10**6)],
    ),
    Exercise(
        level=2,
        solution=rotate_left,
        statement=(
            "the list xs rotated by {k} to the left: each step moves the first item to the end;"
            " an empty list stays empty"
        ),
        dials=lambda rng: {"k": rng.randint(1, 12)},
        arguments=[_numbers(0, 9)],
    ),
    Exercise(
        level=2,
        solution=longest_word,
        statement=(
            "the longest word of the string text that has at most {k} letters, the first of them if there are"
            " several, and '' if there is none; words are separated by spaces"
        ),
        dials=lambda rng: {"k": rng.randint(2, 7)},
        arguments=[_words],
    ),
    Exercise(
        level=2,
        solution=count_letters,
        statement="how many characters of the string text are among {letters!r}",
        dials=lambda rng: {"letters": "".join(sorted(rng.sample("abcdeinorst", rng.randint(2, 4))))},
        arguments=[_words],
    ),
    Exercise(
        level=2,
        solution=count_pairs,
        statement="how many pairs of items at different places of the list xs have the sum {total}",
        dials=lambda rng: {"total": rng.randint(4, 24)},
        arguments=[
            lambda rng, dials: [rng.randint(0, dials["total"] // 2 + 3) for _ in range(rng.randint(0, 9))]
        ],
    ),
    Exercise(
        level=2,
        solution=shift_letters,
        statement=(
            "the string text, of lowercase letters and spaces, with each letter moved on by {k} in the"
            " alphabet, a following z; spaces stay"
        ),
        dials=lambda rng: {"k": rng.randint(1, 25)},
        arguments=[_letters(string.ascii_lowercase + "   ")],
    ),
    Exercise(
        level=3,
        solution=long_runs,
        statement=(
            "a list of [character, length] for each run of equal characters in the string text that is at"
            " least {k} long, in order, runs of {skip!r} left out"
        ),
        dials=lambda rng: {"k": rng.randint(1, 4), "skip": rng.choice("abcdef")},
        arguments=[_runs],
    ),
    Exercise(
        level=3,
        solution=window_maxima,
        statement=(
            "a list of the largest of each {k} consecutive numbers of the list xs, increased by {c}; it is"
            " empty if xs has fewer than {k}"
        ),
        dials=lambda rng: {"k": rng.randint(2, 5), "c": rng.randint(1, 20)},
        arguments=[_numbers(0, 99, 10)],
    ),
    Exercise(
        level=3,
        solution=to_base,
        statement=(
            "the number n, which is at least 0, written in base {base}, as a string of digits with zeros in"
            " front up to a length of {width}"
        ),
        dials=lambda rng: {"base": rng.randint(2, 9), "width": rng.randint(2, 9)},
        arguments=[_number(3000)],
    ),
    Exercise(
        level=3,
        solution=group_by_remainder,
        statement=(
            "a list of {k} lists: the numbers of the list xs above {low} that leave remainder 0 when divided"
            " by {k}, those above {low} that leave 1, and so on, each in the order of xs"
        ),
        dials=lambda rng: {"k": rng.randint(2, 6), "low": rng.randint(0, 15)},
        arguments=[_numbers(0, 50)],
    ),
    Exercise(
        level=3,
        solution=kth_largest,
        statement=(
            "number {k} of the different numbers below {limit} in the list xs, counted from the largest down,"
            " or None if there are fewer"
        ),
        dials=lambda rng: {"k": rng.randint(2, 4), "limit": rng.randint(8, 30)},
        arguments=[lambda rng, dials: [rng.randint(0, dials["limit"] + 5) for _ in range(rng.randint(0, 9))]],
    ),
    Exercise(
        level=3,
        solution=deepest,
        statement=(
            "how deep the string text is nested, where {opening!r} opens and {closing!r} closes, or -1 if"
            " they are not balanced; other characters do not matter"
        ),
        dials=lambda rng: dict(zip(("opening", "closing"), rng.sample("()[]{}<>/|", 2), strict=True)),
        arguments=[_brackets],
    ),
)
