from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from openbook.rl.batch import cut, make_policy_batch, rows_of
from openbook.rl.types import Group, RewardedGroup, Rollout

PAD = 9
MakeRollout = Callable[..., Rollout]


def test_a_batch_marks_completion_tokens_where_they_are_predicted(make_rollout: MakeRollout) -> None:
    first = make_rollout(prompt_ids=(1, 2, 3), token_ids=(4, 5)).attempt.completion
    second = make_rollout(prompt_ids=(6,), token_ids=(7,)).attempt.completion
    batch = make_policy_batch([(first, 1.5), (second, -0.5)], pad_id=PAD)
    assert batch.tokens_BT.tolist() == [[1, 2, 3, 4], [6, 7, PAD, PAD]]
    assert batch.targets_BT.tolist() == [[2, 3, 4, 5], [7, PAD, PAD, PAD]]
    assert batch.mask_BT.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0]]
    assert batch.valid_BT.tolist() == [[True] * 4, [True, False, False, False]]
    expected = torch.tensor([[0, 0, -0.4, -0.5], [-0.7, 0, 0, 0]])
    torch.testing.assert_close(batch.sampler_logprobs_BT, expected)
    assert batch.advantages_B.tolist() == [1.5, -0.5]
    assert batch.num_tokens == 5


def test_every_completion_is_packed_once_with_its_own_advantage(make_rollout: MakeRollout) -> None:
    shapes = {(1, 2): [(3, 4, 5), (3,)], (6,): [(7, 8), (7, 8, 7, 8)]}
    groups = [
        RewardedGroup(
            group=Group(rollouts=tuple(make_rollout(prompt_ids=prompt, token_ids=ids) for ids in rows)),
            advantages=advantages,
        )
        for (prompt, rows), advantages in zip(shapes.items(), [(0.1, 0.2), (0.3, 0.4)], strict=True)
    ]
    rows = rows_of(groups)
    runs = cut([completion for completion, _ in rows], 10)
    batches = [make_policy_batch([rows[index] for index in run], pad_id=PAD) for run in runs]
    assert [batch.targets_BT.tolist() for batch in batches] == [
        [[2, 3], [7, 8]],
        [[2, 3, 4, 5], [7, 8, 7, 8]],
    ]
    advantages = [batch.advantages_B for batch in batches]
    torch.testing.assert_close(torch.cat(advantages), torch.tensor([0.2, 0.3, 0.1, 0.4]))
    assert [batch.mask_BT.sum(1).tolist() for batch in batches] == [[1, 2], [3, 4]]


def test_a_token_that_was_set_and_not_sampled_has_no_loss(make_rollout: MakeRollout) -> None:
    completion = replace(make_rollout(token_ids=(4, 5, 6)).attempt.completion, forced=(1,))
    batch = make_policy_batch([(completion, 1.0)], pad_id=PAD)
    assert batch.mask_BT.tolist() == [[1, 0, 1]]
    torch.testing.assert_close(batch.sampler_logprobs_BT, torch.tensor([[-0.4, 0.0, -0.6]]))
    assert batch.valid_BT.all()


def test_experts_stand_at_the_positions_that_they_computed(make_rollout: MakeRollout) -> None:
    long, short = (
        make_rollout(prompt_ids=(1,), token_ids=ids).attempt.completion for ids in ((2, 3, 4), (2,))
    )
    chosen = np.arange(3 * 2 * 2, dtype=np.int16).reshape(3, 2, 2) + 1
    rows = [(replace(long, experts=chosen), 0.0), (replace(short, experts=chosen[:1]), 0.0)]
    experts = make_policy_batch(rows, pad_id=PAD).experts_BTLK
    assert experts is not None and experts.dtype == torch.int16
    assert experts[0].tolist() == chosen.tolist()
    assert experts[1].tolist() == [chosen[0].tolist(), [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert make_policy_batch([rows[0], (short, 0.0)], pad_id=PAD).experts_BTLK is None


def test_a_moved_batch_keeps_every_tensor(make_rollout: MakeRollout) -> None:
    batch = make_policy_batch([(make_rollout().attempt.completion, 1.0)], pad_id=PAD)
    moved = batch.to(torch.device("meta"))
    for name in ("tokens_BT", "targets_BT", "mask_BT", "valid_BT", "sampler_logprobs_BT", "advantages_B"):
        before, after = getattr(batch, name), getattr(moved, name)
        assert (after.device.type, after.shape, after.dtype) == ("meta", before.shape, before.dtype)
