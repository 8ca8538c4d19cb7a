from __future__ import annotations

from collections.abc import Callable

import torch

from openbook.rl.batch import make_policy_batch, pack_groups
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
    torch.testing.assert_close(batch.old_logprobs_BT, expected)
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
    batches = pack_groups(groups, tokens_per_batch=10, pad_id=PAD)
    assert [batch.targets_BT.tolist() for batch in batches] == [
        [[2, 3], [7, 8]],
        [[2, 3, 4, 5], [7, 8, 7, 8]],
    ]
    advantages = [batch.advantages_B for batch in batches]
    torch.testing.assert_close(torch.cat(advantages), torch.tensor([0.2, 0.3, 0.1, 0.4]))
    assert [batch.mask_BT.sum(1).tolist() for batch in batches] == [[1, 2], [3, 4]]


def test_a_moved_batch_keeps_every_tensor(make_rollout: MakeRollout) -> None:
    batch = make_policy_batch([(make_rollout().attempt.completion, 1.0)], pad_id=PAD)
    moved = batch.to(torch.device("meta"))
    for name in ("tokens_BT", "targets_BT", "mask_BT", "valid_BT", "old_logprobs_BT", "advantages_B"):
        before, after = getattr(batch, name), getattr(moved, name)
        assert (after.device.type, after.shape, after.dtype) == ("meta", before.shape, before.dtype)
