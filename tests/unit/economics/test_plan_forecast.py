"""The forecast of a run: published figures, the calibration, and what must not be."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib import resources

import pytest

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.plan.band import band
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.cost import cost, depreciation_usd, energy, programme_band, programme_multipliers
from openbook.economics.plan.fit import fit, leave_one_out, predict
from openbook.economics.plan.layout import LayoutChoice, parse_layout
from openbook.economics.plan.plan import TrainingForecast, TrainingRequest, forecast
from openbook.economics.plan.runs import V3_CONFIG, calibration_runs
from openbook.economics.plan.utilisation import Utilisation
from openbook.errors import UserError
from openbook.model.decoders import read_decoder

FIGURES = Calibration.default()
H800 = find_accelerator("h800")
V3 = read_decoder(V3_CONFIG, "V3")
SMALL = calibration_runs()[-1].architecture


def v3_at(mfu: float | None, **other: object) -> TrainingForecast:
    request = TrainingRequest(
        architecture=V3,
        tokens=14.8e12,
        accelerator=H800,
        precision=Precision.FP8,
        num_devices=2048,
        mfu=None if mfu is None else Utilisation(share=mfu, peak=Precision.BF16),
    )
    return forecast(replace(request, **other), FIGURES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mfu", "hours"), [(0.3906, 2.664e6), (0.39, 2.668e6), (0.35, 2.973e6), (0.45, 2.312e6)]
)
def test_v3_takes_the_published_hours_at_the_published_utilisation(mfu: float, hours: float) -> None:
    found = v3_at(mfu)
    assert found.hours.value == pytest.approx(hours, rel=2e-4)
    assert found.flops == pytest.approx(3.7067e24, rel=1e-4)
    assert found.hours.low < found.hours.value < found.hours.high


def test_v3_costs_5_328_million_at_two_dollars() -> None:
    priced = cost(v3_at(0.39061).hours, H800, FIGURES)
    assert priced.rent is not None
    assert priced.rent.value == pytest.approx(5.328e6, rel=2e-4)


def test_the_context_extension_needs_a_utilisation_of_24_7_percent() -> None:
    flops = 62.9e9 * sum(V3.training_flops_per_token(length).total for length in (32_768, 131_072))
    assert flops == pytest.approx(1.049e23, rel=1e-3)
    assert flops / (119e3 * 3600 * 989.5e12) == pytest.approx(0.247, abs=5e-4)


def test_hours_are_flops_over_peak_utilisation_and_goodput() -> None:
    found = v3_at(None)
    expected = found.flops / (989.5e12 * found.mfu.share * 3600) / found.goodput.share
    assert found.hours.value == pytest.approx(expected)
    assert found.goodput.share < 1
    assert v3_at(0.4).goodput.share == 1, "a given MFU is of published hours, lost ones included"
    assert v3_at(0.4, goodput=0.9).hours.value == pytest.approx(v3_at(0.4).hours.value / 0.9)


def test_v3_left_out_of_the_calibration_is_forecast_within_15_percent() -> None:
    left_out = leave_one_out(calibration_runs(), FIGURES)
    assert abs(left_out["DeepSeek-V3"].error) < 0.15
    assert max(abs(one.error) for one in left_out.values()) < 0.2


def test_the_packaged_figures_are_those_that_the_calibration_finds() -> None:
    fitted = fit(calibration_runs(), FIGURES)
    for name in ("fitted.overhead", "fitted.scale_exponent"):
        assert FIGURES[name] == pytest.approx(fitted[name], rel=1e-2)


def test_every_calibration_run_lies_in_its_own_band() -> None:
    for run in calibration_runs():
        found = band(predict(run, FIGURES).hours, FIGURES["spread.base"])
        assert found.low < run.device_hours < found.high


def test_every_figure_says_what_it_means_and_who_says_so() -> None:
    text = resources.files("openbook.economics").joinpath("data/calibration.toml").read_text(encoding="utf-8")
    used = {
        entry["source"]
        for table in tomllib.loads(text).values()
        for entry in table.values()
        if "meaning" in entry
    }
    assert used <= set(tomllib.loads(text)["sources"])
    assert all(figure.note and figure.source for figure in FIGURES.figures.values())


def test_the_share_of_the_final_run_multiplies_5_87_million_into_8_8_to_58_7() -> None:
    least, most = programme_multipliers(FIGURES)
    assert (least, most) == (pytest.approx(1.4925, rel=1e-3), pytest.approx(10))
    found = programme_band(band(5.87e6, 0.0), FIGURES)
    assert found.low == pytest.approx(8.8e6, rel=5e-3)
    assert found.high == pytest.approx(58.7e6, rel=1e-3)


def test_the_hours_wear_1_59_million_off_owned_servers() -> None:
    worn = depreciation_usd(2.788e6, 51e6 / 2048, 5)
    assert worn == pytest.approx(1.59e6, rel=5e-3)
    assert worn / 2.788e6 == pytest.approx(0.569, abs=1e-3)


def test_energy_says_what_it_includes() -> None:
    found = energy(1000.0, H800, FIGURES)
    assert found.devices_kwh == pytest.approx(1000 * 0.7 * 0.75)
    assert found.all_in_kwh == pytest.approx(1730)
    a100 = energy(1000.0, find_accelerator("a100-80"), FIGURES)
    assert a100.all_in_kwh == pytest.approx(1000 * 0.4 * 0.75 * 1.74)
    assert a100.all_in_watts is not None and "TDP" in a100.all_in_watts.source


def test_more_devices_longer_sequences_and_other_machines_are_less_sure() -> None:
    def width(**changes: object) -> float:
        request = TrainingRequest(
            architecture=SMALL, tokens=1e12, accelerator=find_accelerator("a100-80"), num_devices=64,
            sequence_length=2048,
        )  # fmt: skip
        found = forecast(replace(request, **changes), FIGURES).hours  # type: ignore[arg-type]
        return found.high / found.low

    usual = width()
    assert 1.5 < usual < 2
    assert width(num_devices=16_384) > usual
    assert width(sequence_length=16_384) > usual
    assert width(accelerator=find_accelerator("mi300x")) > usual
    assert width(accelerator=find_accelerator("v100"), precision=Precision.FP16) > usual


@pytest.mark.parametrize("num_devices", [8, 64, 512, 4096])
def test_utilisation_falls_with_the_number_of_devices_and_stays_sensible(num_devices: int) -> None:
    request = TrainingRequest(
        architecture=SMALL, tokens=1e12, accelerator=find_accelerator("a100-80"), num_devices=num_devices
    )
    here = forecast(request, FIGURES).mfu.share
    more = forecast(replace(request, num_devices=2 * num_devices), FIGURES).mfu.share
    assert 0.1 < more < here < 0.65


def test_the_parts_of_the_time_add_up() -> None:
    time = v3_at(None).placement.time
    assert sum(time.shares().values()) == pytest.approx(1)
    assert min(time.shares().values()) >= 0


def test_fp8_is_faster_than_bf16_and_counted_over_the_same_peak() -> None:
    fp8, bf16 = v3_at(None), v3_at(None, precision=Precision.BF16)
    assert fp8.hours.value < bf16.hours.value
    assert fp8.mfu.over(bf16.mfu) > 1.2


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ("tp=3", "2,048 devices do not divide"),
        ("tp=2048", "128 heads do not divide"),
        ("pp=64", "the model has 61 layers"),
        ("ep=7", "256 experts do not divide"),
        ("zero=5", "ZeRO has stages 0 to 3"),
    ],
)
def test_impossible_layouts_are_named(layout: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        v3_at(None, layout=parse_layout(layout))


def test_a_layout_that_does_not_fit_names_the_nearest_that_does() -> None:
    with pytest.raises(UserError, match=r"does not fit.*the nearest that fits: tp=\d+,pp=1,"):
        v3_at(None, layout=LayoutChoice(pp=1, zero=0))


def test_too_few_devices_name_how_many_it_takes() -> None:
    with pytest.raises(UserError, match=r"the nearest that fits: --devices \d+ with"):
        v3_at(None, num_devices=16)


def test_a_layout_is_read_part_by_part() -> None:
    assert parse_layout("tp=8, pp=4,recompute=full") == replace(
        LayoutChoice(tp=8, pp=4), recompute=parse_layout("recompute=full").recompute
    )
    for text in ("tp", "tp=x", "tp=0", "tp=2,tp=4", "micro_batch=0", "dp=4", "banana=1", "recompute=some"):
        with pytest.raises(UserError, match="--layout"):
            parse_layout(text)


def test_longer_than_the_positions_warns() -> None:
    request = TrainingRequest(
        architecture=SMALL, tokens=1e12, accelerator=H800, num_devices=64, sequence_length=8192
    )
    assert any("exceed the model's" in line for line in forecast(request, FIGURES).warnings)


@pytest.mark.parametrize("changes", [{"tokens": 0}, {"tokens": -1}, {"num_devices": 0}, {"goodput": 1.5}])
def test_counts_that_are_none_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UserError):
        v3_at(None, **changes)


def test_unknown_or_negative_figures_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean"):
        FIGURES.changed({"power.mean_drew": 0.5}, "a test")
    with pytest.raises(UserError, match="at least 0"):
        FIGURES.changed({"power.usd_per_kwh": -1}, "a test")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("kernels.memory_share", 0, "divided by"),
        ("ownership.life_years", 0, "divided by"),
        ("kernels.memory_share", 1.5, "at most 1"),
        ("fitted.scale_exponent", 300, "at most 1"),
        ("communication.overlap_sms", 1, "below 1"),
        ("spread.base", 600, "at most 5"),
        ("power.mean_draw", 1e300, "below"),
        ("programme.final_share_low", 0.9, "above programme.final_share_high"),
    ],
)
def test_figures_that_nothing_could_be_computed_with_are_refused(
    name: str, value: float, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        FIGURES.changed({name: value}, "a test")
