from __future__ import annotations

import math

import pytest
import torch

from openbook.rl.correction import importance_weights, off_policy_mask, top_entropy_mask
from openbook.rl.objective import Correction, ObjectiveConfig

SAMPLER = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, -1.0, 0.0]])
LOG_W = torch.tensor([[math.log(4.0), math.log(0.5), 0.0], [math.log(0.25), math.log(2.0), 5.0]])
MASK = torch.tensor([[1.0, 1, 1], [1, 1, 0]])


def weights_of(kind: Correction, **fields: float) -> list[list[float]]:
    config = ObjectiveConfig(importance_correction=kind, old_logprobs="trainer", **fields)
    weights = importance_weights(SAMPLER + LOG_W, SAMPLER, MASK, config)
    assert weights is not None
    return weights.tolist()


# By token 4, 1/2, 1 and 1/4, 2; by sequence 2 and 1/2.
@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("token_truncate", {}, [[2.0, 0.5, 1.0], [0.25, 2.0, 1.0]]),
        ("token_mask", {}, [[0.0, 0.5, 1.0], [0.25, 2.0, 1.0]]),
        ("token_mask", {"importance_cap": 5.0, "importance_floor": 0.5}, [[4.0, 0.5, 1.0], [0.0, 2.0, 1.0]]),
        ("sequence_truncate", {"importance_cap": 1.5}, [[1.5], [0.5]]),
        ("sequence_truncate", {"importance_floor": 0.75}, [[2.0], [0.75]]),
        ("sequence_mask", {}, [[2.0], [0.5]]),
        ("sequence_mask", {"importance_cap": 1.5}, [[0.0], [0.5]]),
    ],
)
def test_weights_by_hand(kind: Correction, fields: dict[str, float], expected: list[list[float]]) -> None:
    actual = weights_of(kind, **fields)
    assert [pytest.approx(row) for row in expected] == actual


def test_without_a_correction_there_are_no_weights() -> None:
    assert importance_weights(SAMPLER + LOG_W, SAMPLER, MASK, ObjectiveConfig()) is None


def test_a_bad_sequence_that_the_policy_has_left_is_not_pushed_further() -> None:
    sampler = torch.zeros(4, 2)
    logprobs = torch.tensor([[-1.0, -2.0], [-1.0, -2.0], [-0.1, -0.1], [-1.0, 9.0]])
    mask = torch.tensor([[1.0, 1], [1, 1], [1, 1], [1, 0]])
    advantages = torch.tensor([[-1.0], [1.0], [-1.0], [-1.0]])
    kept = off_policy_mask(logprobs, sampler, advantages, mask, 0.9)
    assert kept.tolist() == [[0.0], [1.0], [1.0], [0.0]]
    assert off_policy_mask(logprobs, sampler, advantages, mask, None).tolist() == [[1.0]] * 4


def test_the_top_tokens_are_those_at_or_above_the_quantile() -> None:
    entropy = torch.tensor([[0.1, 0.9, 0.5], [0.7, 3.0, 0.3]])
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 1]])
    assert top_entropy_mask(entropy, mask, 0.5).tolist() == [[0, 1, 1], [1, 0, 0]]
    assert top_entropy_mask(entropy, mask, 1.0).tolist() == mask.tolist()
    assert top_entropy_mask(entropy, 0 * mask, 0.5).tolist() == (0 * mask).tolist()
