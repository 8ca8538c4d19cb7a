from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from openbook.rl.sampling import Sample, sample_groups
from openbook.rl.types import Group, Rollout
from openbook.runs.usage import Usage
from openbook.tasks.problem import Outcome

MakeRollout = Callable[..., Rollout]


@pytest.fixture
def stream(make_rollout: MakeRollout) -> Callable[[str], tuple[Sample, list[tuple[int, int, int]]]]:
    """A stream of groups from a text: `+` has a signal, `-` has none; and the calls made to it."""

    def make(text: str) -> tuple[Sample, list[tuple[int, int, int]]]:
        calls: list[tuple[int, int, int]] = []

        def group(index: int) -> Group:
            rewards = (1.0, 0.0) if text[index] == "+" else (1.0, 1.0)
            return Group(
                rollouts=tuple(
                    make_rollout(prompt_ids=(index,), parts={"accuracy": reward}) for reward in rewards
                )
            )

        def sample(start: int, count: int, number: int) -> tuple[list[Group], Usage]:
            calls.append((start, count, number))
            return [group(index) for index in range(start, start + count)], Usage(completion_tokens=count)

        return sample, calls

    return make


def numbers(groups: tuple[Group, ...]) -> list[int]:
    def prompts() -> Iterator[int]:
        for group in groups:
            yield group.rollouts[0].attempt.completion.prompt_ids[0]

    return list(prompts())


def test_without_dynamic_sampling_what_comes_is_taken_in_its_order(stream: Callable[..., tuple]) -> None:
    sample, calls = stream("-+-+")
    sampled = sample_groups(sample, num_problems=4, max_batches=1)
    assert numbers(sampled.groups) == numbers(sampled.drawn) == [0, 1, 2, 3]
    assert calls == [(0, 4, 0)] and sampled.usage == Usage(completion_tokens=4)


def test_groups_without_a_signal_are_replaced_until_the_batch_is_full(stream: Callable[..., tuple]) -> None:
    sample, calls = stream("-+-+" + "--+-" + "++++")
    sampled = sample_groups(sample, num_problems=4, max_batches=10)
    # 2 of 4 had a signal, so 2 * 4 / 2 = 4 more; then 1 was missing at 3 of 8, so 3.
    assert calls == [(0, 4, 0), (4, 4, 1), (8, 3, 2)]
    assert numbers(sampled.groups) == [1, 3, 6, 8]
    assert numbers(sampled.drawn) == list(range(11)) and sampled.num_batches == 3
    assert sampled.usage == Usage(completion_tokens=11)


def test_a_full_batch_asks_for_no_more(stream: Callable[..., tuple]) -> None:
    sample, calls = stream("++++")
    assert numbers(sample_groups(sample, num_problems=4, max_batches=10).groups) == [0, 1, 2, 3]
    assert len(calls) == 1


def test_at_the_bound_the_batch_is_filled_with_what_has_no_signal(stream: Callable[..., tuple]) -> None:
    sample, _ = stream("----" + "--+-" + "-+--")
    sampled = sample_groups(sample, num_problems=4, max_batches=3)
    assert numbers(sampled.groups) == [0, 1, 6, 9] and sampled.num_batches == 3


def test_unscored_completions_give_no_signal(make_rollout: MakeRollout) -> None:
    group = Group(
        rollouts=(
            make_rollout(parts={"accuracy": 1.0}),
            make_rollout(outcome=Outcome.CRASHED),
            make_rollout(outcome=Outcome.TIMED_OUT),
        )
    )
    sampled = sample_groups(lambda *_: ([group], Usage()), num_problems=1, max_batches=4)
    assert len(sampled.drawn) == 4
