"""pass@k and the majority vote, against counting by hand."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import pytest

from openbook.evals.passk import majority_vote, pass_at_k


@pytest.mark.parametrize("num_samples", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_all_choices_of_k_that_hold_a_correct_one(num_samples: int) -> None:
    for num_correct in range(num_samples + 1):
        correct = [True] * num_correct + [False] * (num_samples - num_correct)
        for k in range(1, num_samples + 1):
            by_hand = fmean(any(choice) for choice in combinations(correct, k))
            assert pass_at_k(num_samples, num_correct, k) == pytest.approx(by_hand, abs=1e-12)


def test_pass_at_one_is_the_share_of_correct_samples() -> None:
    assert pass_at_k(8, 3, 1) == 3 / 8


def test_more_samples_than_were_drawn_cannot_be_asked_for() -> None:
    with pytest.raises(AssertionError):
        pass_at_k(4, 2, 5)


@pytest.mark.parametrize(
    ("answers", "choice"),
    [
        (["7", "4", "4"], "4"),
        (["7", "4"], "7"),
        (["4", "7", "7", "4"], "4"),
        (["7", " 4", "4 "], "4"),
        (["", "", "7"], "7"),
        (["", ""], ""),
        ([], ""),
    ],
)
def test_the_most_frequent_answer_wins_and_the_first_seen_of_equals(answers: list[str], choice: str) -> None:
    assert majority_vote(answers) == choice
