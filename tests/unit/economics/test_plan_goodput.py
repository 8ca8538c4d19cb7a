"""Failures, pipeline bubbles, and utilisations that must not be mixed."""

from __future__ import annotations

import pytest

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.goodput import ChunkTimes, Schedule, bubble_seconds, bubble_share, goodput
from openbook.economics.plan.utilisation import Utilisation, reference_peak, require_same
from openbook.errors import UserError
from openbook.model.counts import AttentionCount


def test_at_2048_devices_95_3_percent_of_the_time_trains() -> None:
    found = goodput(2048, 50_700, checkpoint=1 / 60, restart=0.25)
    assert found.mtbf_hours == pytest.approx(24.8, abs=0.05)
    assert found.interval_hours == pytest.approx(0.91, abs=0.005)
    assert found.share == pytest.approx(0.953, abs=0.0005)


def test_the_default_leaves_over_90_percent_to_16384_devices_as_published() -> None:
    figures = Calibration.default()
    found = goodput(
        16_384,
        figures["goodput.device_mtbf"],
        checkpoint=figures["goodput.checkpoint"],
        restart=figures["goodput.restart"],
    )
    assert 0.90 < found.share < 0.92


def test_the_interval_is_the_best_one() -> None:
    best = goodput(1000, 50_000, checkpoint=0.02, restart=0.1)

    def share(interval: float) -> float:
        return 1 - 0.02 / interval - interval / (2 * best.mtbf_hours) - 0.1 / best.mtbf_hours

    assert share(best.interval_hours) == pytest.approx(best.share)
    assert share(best.interval_hours * 1.2) < best.share > share(best.interval_hours * 0.8)


def test_a_run_that_fails_faster_than_it_restarts_is_refused() -> None:
    with pytest.raises(UserError, match="faster than the run restarts"):
        goodput(100_000, 1000, checkpoint=0.02, restart=0.25)


def test_bubbles_are_those_of_the_papers_table() -> None:
    times = ChunkTimes(forward=1.0, backward=2.0, backward_weights=1.0, overlapped=2.5)
    assert bubble_seconds(Schedule.ONE_F_ONE_B, 16, times) == 15 * (1 + 2)
    assert bubble_seconds(Schedule.ZB1P, 16, times) == 15 * (1 + 2 - 2)
    assert bubble_seconds(Schedule.DUALPIPE, 16, times) == 7 * (2.5 + 2 - 3)
    assert bubble_share(Schedule.ONE_F_ONE_B, 4, 8) == pytest.approx(3 / 8)
    assert bubble_share(Schedule.ONE_F_ONE_B, 1, 8) == 0


def test_utilisations_over_different_peaks_or_conventions_are_refused_with_the_reason() -> None:
    bf16 = Utilisation(share=0.3906, peak=Precision.BF16)
    fp8 = Utilisation(share=0.1953, peak=Precision.FP8)
    full = Utilisation(share=0.4385, peak=Precision.BF16, counted=AttentionCount.FULL)
    with pytest.raises(UserError, match="bf16 peak cannot be compared with one over the fp8 peak"):
        bf16.over(fp8)
    with pytest.raises(UserError, match="causal attention cannot be compared with one with full"):
        require_same(bf16, full)
    assert bf16.over(Utilisation(share=0.1953, peak=Precision.BF16)) == pytest.approx(2.0)
    with pytest.raises(UserError, match="is none"):
        Utilisation(share=1.2, peak=Precision.BF16)


def test_an_mfu_is_stated_over_bf16_and_on_a_v100_over_fp16() -> None:
    assert reference_peak(find_accelerator("h800")) == (Precision.BF16, 989.5e12)
    assert reference_peak(find_accelerator("v100")) == (Precision.FP16, 125e12)
