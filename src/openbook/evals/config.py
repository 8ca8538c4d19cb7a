"""EvalConfig: how a checkpoint is examined."""

from __future__ import annotations

from openbook.config import config
from openbook.tasks.words import Language


@config
class EvalConfig:
    """How to examine. The paper averages over 4 to 64 samples, by the size of the set (DeepSeek-R1 3)."""

    num_problems: int = 500
    """How many problems to draw; 500 leave an interval of about 4 points either side."""
    num_samples: int = 4
    """Completions of each problem."""
    k: int | None = None
    """Samples for pass@k and the majority vote; none is all of them."""
    temperature: float = 1.0
    max_tokens: int = 256
    batch_size: int = 64
    """Problems in one call of the generator."""
    language_target: Language = Language.ENGLISH
    """The language in which number words are counted as consistent."""

    def __post_init__(self) -> None:
        if min(self.num_problems, self.num_samples, self.max_tokens, self.batch_size) < 1:
            raise ValueError("num_problems, num_samples, max_tokens and batch_size must be at least 1")
        if self.k is not None and not 1 <= self.k <= self.num_samples:
            raise ValueError(f"k must be 1 to num_samples ({self.num_samples}), not {self.k}")
        if self.temperature < 0:
            raise ValueError("temperature must not be negative")
