"""What is said of the machine, and when it counts as disturbed."""

from __future__ import annotations

import pytest

from openbook.runs.machine import LoadNote, Moment, now, this_machine


def note(*, before: float = 0.1, after: float = 2.0, busy: float | None = 20.0) -> LoadNote:
    """Ten seconds in which we used 20 processor-seconds, and the load on either side of them."""
    start = Moment(wall_seconds=0.0, own_seconds=5.0, busy_seconds=100.0, load=before)
    end_busy = None if busy is None else 100.0 + busy
    end = Moment(wall_seconds=10.0, own_seconds=25.0, busy_seconds=end_busy, load=after)
    return LoadNote.between(start, end, num_threads=2)


def test_our_own_threads_are_no_disturbance() -> None:
    assert not note().is_disturbed
    assert str(note()) == "2 threads, load 0.1 before and 2.0 after, others used 0.0 processors"


@pytest.mark.parametrize("before_and_after", [(2.8, 2.0), (0.1, 2.8)])
def test_a_load_above_our_threads_is_a_disturbance(before_and_after: tuple[float, float]) -> None:
    before, after = before_and_after
    disturbed = note(before=before, after=after)
    assert disturbed.is_disturbed
    assert str(disturbed).startswith("disturbed: 2 threads, load ")


def test_others_on_the_processors_are_a_disturbance_that_a_load_average_hides() -> None:
    disturbed = note(busy=26.0)
    assert disturbed.others == pytest.approx(0.6)
    assert disturbed.is_disturbed and "others used 0.6 processors" in str(disturbed)


def test_without_a_count_of_all_processors_the_load_decides_alone() -> None:
    unknown = note(busy=None)
    assert unknown.others is None and not unknown.is_disturbed
    assert "others" not in str(unknown)
    assert note(busy=None, after=3.0).is_disturbed


def test_the_machine_names_its_processor_and_torch() -> None:
    import torch

    machine = this_machine()
    assert machine.processor and machine.num_cpus >= 1
    assert machine.torch.split("+")[0] == torch.__version__.split("+")[0]


def test_clocks_run_forwards() -> None:
    first, second = now(), now()
    assert second.wall_seconds >= first.wall_seconds and second.own_seconds >= first.own_seconds
