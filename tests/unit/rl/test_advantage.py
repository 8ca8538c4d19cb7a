from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from openbook.rl.advantage import advantages, has_signal, with_advantages
from openbook.rl.objective import ObjectiveConfig
from openbook.rl.types import Group, RewardedGroup, Rollout
from openbook.tasks.problem import Outcome

MakeRollout = Callable[..., Rollout]


GRPO = ObjectiveConfig()


def group_advantages(rewards: Sequence[float | None], config: ObjectiveConfig = GRPO) -> list[float]:
    return advantages([rewards], config)[0]


def group_of(make_rollout: MakeRollout, *rewards: float | None) -> Group:
    """A group with these rewards; None was not scored."""
    rollouts = [
        make_rollout(outcome=Outcome.TIMED_OUT)
        if reward is None
        else make_rollout(parts={"accuracy": reward})
        for reward in rewards
    ]
    return Group(rollouts=tuple(rollouts))


def rewarded(make_rollout: MakeRollout, *rewards: float | None) -> RewardedGroup:
    return with_advantages([group_of(make_rollout, *rewards)], GRPO)[0]


def test_one_right_among_four_stands_out_by_the_sample_deviation() -> None:
    # mean 1/4, sample deviation 1/2: 0.75 / 0.5001 and -0.25 / 0.5001
    expected = [0.75 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001]
    assert group_advantages([1.0, 0.0, 0.0, 0.0]) == pytest.approx(expected, rel=1e-12)
    assert group_advantages([1.0, 0.0, 0.0, 0.0]) == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-3)


def test_advantages_add_up_to_nothing_and_scale_does_not_matter_much() -> None:
    small, large = group_advantages([0.1, 0.7, 0.2]), group_advantages([1.0, 7.0, 2.0])
    assert sum(small) == pytest.approx(0, abs=1e-12)
    assert small == pytest.approx(large, rel=1e-3)


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3, 2.075])
@pytest.mark.parametrize("count", [2, 3, 7, 16])
def test_equal_rewards_teach_nothing_whatever_their_mean_rounds_to(
    make_rollout: MakeRollout, reward: float, count: int
) -> None:
    assert group_advantages([reward] * count) == [0.0] * count
    assert not has_signal(group_of(make_rollout, *[reward] * count))


def test_a_lone_reward_and_none_have_nothing_to_be_compared_with() -> None:
    assert group_advantages([]) == []
    assert group_advantages([3.0]) == [0.0]


def test_a_rollout_without_a_score_gets_nothing_and_sways_no_one(make_rollout: MakeRollout) -> None:
    with_gaps = rewarded(make_rollout, None, 1.0, 0.0, None, 0.0, 0.0)
    expected = group_advantages([1.0, 0.0, 0.0, 0.0])
    assert with_gaps.advantages == (0.0, expected[0], expected[1], 0.0, expected[2], expected[3])
    assert has_signal(with_gaps.group)


def test_a_group_in_which_one_or_none_was_scored_has_no_signal(make_rollout: MakeRollout) -> None:
    assert rewarded(make_rollout, None, 1.0, None).advantages == (0.0, 0.0, 0.0)
    assert rewarded(make_rollout, None, None).advantages == (0.0, 0.0)
    assert not has_signal(group_of(make_rollout, None, 1.0, None))


def test_leave_one_out_compares_with_the_others_alone() -> None:
    config = ObjectiveConfig(baseline="leave_one_out", scale_rewards="none")
    assert group_advantages([1.0, 0.0, None, 0.5], config) == pytest.approx([0.75, -0.75, 0.0, 0.0])
    scaled = group_advantages([1.0, 0.0, None, 0.5], ObjectiveConfig(baseline="leave_one_out"))
    assert scaled == pytest.approx([0.75 / 0.5001, -0.75 / 0.5001, 0.0, 0.0])


def test_without_a_scale_the_mean_alone_is_taken_off() -> None:
    config = ObjectiveConfig(scale_rewards="none")
    assert group_advantages([1.0, 0.0, 0.0, 0.0], config) == [0.75, -0.25, -0.25, -0.25]


def test_the_scale_of_a_batch_is_that_of_all_its_scored_rewards() -> None:
    config = ObjectiveConfig(scale_rewards="batch", advantage_epsilon=0.0)
    # All rewards: 0, 2, 1, 1, 1; mean 1, sample variance 2 / 4.
    first, second = advantages([[0.0, 2.0, None], [1.0, 1.0, 1.0]], config)
    assert first == pytest.approx([-(2**0.5), 2**0.5, 0.0])
    assert second == [0.0, 0.0, 0.0]


def test_a_penalty_comes_off_the_reward_before_the_comparison(make_rollout: MakeRollout) -> None:
    group = group_of(make_rollout, 1.0, 1.0, None)
    config = ObjectiveConfig(scale_rewards="none")
    (with_penalty,) = with_advantages([group], config, [[0.5, 0.1, 9.0]])
    assert with_penalty.advantages == pytest.approx((-0.2, 0.2, 0.0))


def test_a_group_needs_an_advantage_for_each_rollout(make_rollout: MakeRollout) -> None:
    with pytest.raises(AssertionError):
        RewardedGroup(group=Group(rollouts=(make_rollout(),)), advantages=(0.0, 0.0))
