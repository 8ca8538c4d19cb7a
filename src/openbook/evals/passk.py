"""Several samples of one problem: pass@k and the majority vote."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """The chance that one of `k` samples is correct, estimated without bias from `num_samples`.

    1 - C(n - c, k) / C(n, k): of all ways to pick k of the n samples, the share with a correct one
    (arXiv 2107.03374, section 2.1). `pass_at_k(4, 1, 2)` is 0.5.
    """
    assert 0 <= num_correct <= num_samples and 1 <= k <= num_samples
    return 1 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def majority_vote(answers: Sequence[str]) -> str:
    """The most frequent answer; of equally frequent ones the one seen first.

    Answers are compared as stripped text; an empty one is no vote. Without any vote the answer is empty.
    `majority_vote(["7", "4", "4 ", "", "7"])` is `"7"`.
    """
    votes = Counter(answer.strip() for answer in answers if answer.strip())
    return max(votes, key=votes.__getitem__, default="")
