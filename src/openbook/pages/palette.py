"""Colours by role, in a light and a dark value each: the one place where a colour is named.

The series colours start from the Okabe-Ito set, which readers with any common colour blindness
can tell apart, each shifted until it has a contrast of at least 3:1 with its background. A chart
never relies on colour alone: its lines also differ in dashes.
"""

from __future__ import annotations

LIGHT = {
    "paper": "#fbfaf7",
    "card": "#ffffff",
    "ink": "#1c1b19",
    "muted": "#65615a",
    "line": "#e2ded5",
    "good": "#00745a",
    "bad": "#b3400f",
    "series-1": "#0068a8",
    "series-2": "#cc5500",
    "series-3": "#00866a",
    "series-4": "#a9417f",
    "series-5": "#8a6d00",
    "series-6": "#5a5fc4",
}
DARK = {
    "paper": "#141518",
    "card": "#1c1e22",
    "ink": "#ecebe7",
    "muted": "#a3a19a",
    "line": "#34363c",
    "good": "#45c9a0",
    "bad": "#ff9061",
    "series-1": "#62b5f0",
    "series-2": "#ff9450",
    "series-3": "#45c9a0",
    "series-4": "#e995c8",
    "series-5": "#e3bf4a",
    "series-6": "#a5a8ff",
}
NUM_SERIES = sum(name.startswith("series-") for name in LIGHT)


def variable(name: str) -> str:
    """A CSS value that follows the reader's theme, and is the light colour where no page sets one."""
    return f"var(--{name}, {LIGHT[name]})"


def series(index: int) -> str:
    """The role of the `index`-th line or bar (0-based); after the last the first comes again."""
    return f"series-{index % NUM_SERIES + 1}"


def declarations(values: dict[str, str]) -> str:
    """The custom properties of one theme, for a CSS rule."""
    return " ".join(f"--{name}: {value};" for name, value in values.items())
