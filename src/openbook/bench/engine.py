"""`openbook bench engine`: the engine beside llama.cpp and transformers."""

from __future__ import annotations

from openbook.bench import mla, nano, smollm2
from openbook.bench.case import Case

CASES: tuple[Case, ...] = (*smollm2.CASES, *mla.CASES, *nano.CASES)
