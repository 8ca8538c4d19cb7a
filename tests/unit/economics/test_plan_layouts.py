"""Which layouts are looked for: short sequences, odd counts, too few devices, and how long it may take."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.layout import LayoutChoice, Recompute, candidates, parse_layout
from openbook.economics.plan.plan import TrainingForecast, TrainingRequest, forecast
from openbook.economics.plan.runs import V3_CONFIG, calibration_runs
from openbook.errors import UserError
from openbook.model.architecture import Architecture
from openbook.model.decoders import read_decoder

FIGURES = Calibration.default()
H100 = find_accelerator("h100")
V3 = read_decoder(V3_CONFIG, "V3")
RUNS = {run.name: run.architecture for run in calibration_runs()}
SMALL, LARGE = RUNS["Llama-2 7B"], RUNS["Llama-2 70B"]
EXPERTS = read_decoder(V3_CONFIG | {"n_routed_experts": 60, "num_hidden_layers": 12}, "60 experts")


def on(architecture: Architecture, num_devices: int | None, **other: object) -> TrainingForecast:
    request = TrainingRequest(
        architecture=architecture, tokens=1e12, accelerator=H100, num_devices=num_devices
    )
    return forecast(replace(request, **other), FIGURES)  # type: ignore[arg-type]


def test_short_sequences_are_passed_many_at_a_time() -> None:
    short, usual = on(SMALL, 256, sequence_length=64), on(SMALL, 256)
    assert short.placement.layout.micro_batch == 64
    assert short.mfu.share > 0.9 * usual.mfu.share


def test_experts_lie_over_what_divides_both_them_and_the_ranks() -> None:
    def ranks(num_devices: int) -> set[int]:
        found = candidates(
            EXPERTS, num_devices, LayoutChoice(tp=1, pp=1), sequence_length=4096, recomputes=[Recompute.NONE]
        )
        return {layout.ep for layout in found}

    assert ranks(1024) == {1, 4}
    assert ranks(1200) == {1, 6, 15, 60}


def test_an_odd_number_of_devices_is_not_much_worse_than_the_even_one_beside_it() -> None:
    odd, even = (on(V3, count, tokens=15e12) for count in (20_000, 20_480))
    assert odd.placement.layout.ep >= 32
    assert odd.mfu.share > 0.75 * even.mfu.share


@pytest.mark.parametrize(("architecture", "num_devices"), [(SMALL, 1), (LARGE, 5), (V3, 100)])
def test_the_number_of_devices_that_is_named_suffices_and_three_quarters_of_it_do_not(
    architecture: Architecture, num_devices: int
) -> None:
    with pytest.raises(UserError) as refused:
        on(architecture, num_devices)
    named = int(re.findall(r"--devices (\d+) with", str(refused.value))[0])
    assert on(architecture, named).placement.fits
    fewer = max(num_devices, named * 3 // 4 if named > 8 else named // 2)
    with pytest.raises(UserError, match="does not train"):
        on(architecture, fewer)


def test_a_layout_without_a_number_of_devices_takes_a_multiple_of_itself() -> None:
    found = on(LARGE, None, layout=parse_layout("tp=8,pp=5"))
    assert found.num_devices % 40 == 0
    with pytest.raises(UserError, match="tp=3: 64 heads do not divide"):
        on(LARGE, None, layout=parse_layout("tp=3"))


@pytest.mark.parametrize(
    ("name", "architecture", "precision", "num_devices"),
    [
        ("a100-40", LARGE, Precision.BF16, 1024),
        ("v100", LARGE, Precision.FP16, 1024),
        ("mi300x", V3, Precision.FP8, 512),
        ("gb300", V3, Precision.FP8, 72),
    ],
)
def test_large_models_find_a_layout_on_small_memories_and_odd_nodes(
    name: str, architecture: Architecture, precision: Precision, num_devices: int
) -> None:
    found = on(architecture, num_devices, accelerator=find_accelerator(name), precision=precision)
    assert found.placement.fits
    assert 0.1 < found.mfu.share < 0.65


def test_a_model_that_fits_nowhere_is_refused_in_time() -> None:
    start = time.process_time()
    with pytest.raises(UserError, match="shorten the sequence"):
        on(V3, None, sequence_length=10_000_000)
    assert time.process_time() - start < 1.0


def test_devices_that_wait_and_models_of_nothing_but_launches_are_warned_of() -> None:
    crowded = on(SMALL, 100_000)
    assert crowded.placement.time.shares()["bubble"] > 0.2
    assert any("fewer devices cost less" in line for line in crowded.warnings)
    assert not any("fewer devices" in line for line in on(SMALL, 512).warnings)
    tiny = {"hidden_size": 64, "vocab_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    nano = read_decoder({"model_type": "llama", "intermediate_size": 128, **tiny}, "nano")
    assert any("a lower bound" in line for line in on(nano, 1).warnings)
