"""Whatever is planned: hours inside their band, memory that fits, sensible utilisation at any size."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.layout import LayoutChoice, nearest_divisor, parse_layout
from openbook.economics.plan.plan import TrainingRequest, forecast
from openbook.model.decoders import read_decoder

FIGURES = Calibration.default()


@settings(max_examples=60, deadline=None)
@given(
    heads=st.sampled_from([8, 16, 32, 64, 128]),
    num_layers=st.integers(4, 100),
    name=st.sampled_from(["a100-40", "a100-80", "h800", "h100", "h20", "b200", "mi300x"]),
    octave=st.integers(6, 14),
    length=st.sampled_from([512, 2048, 8192, 32768]),
    tokens=st.floats(1e10, 2e13),
)
def test_a_forecast_holds_together(
    heads: int, num_layers: int, name: str, octave: int, length: int, tokens: float
) -> None:
    width = 128 * heads
    config = {
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "intermediate_size": 3 * width,
        "max_position_embeddings": length,
    }
    accelerator = find_accelerator(name)
    request = TrainingRequest(
        architecture=read_decoder(config, "a test"),
        tokens=tokens,
        accelerator=accelerator,
        sequence_length=length,
        num_devices=None if octave == 14 else 1 << (octave if num_layers * width < 200_000 else 13),
    )
    found = forecast(request, FIGURES)
    layout = found.placement.layout
    assert layout.num_devices == found.num_devices
    assert found.placement.fits
    assert 0.005 < found.mfu.share < 0.8
    assert 0 < found.hours.low < found.hours.value < found.hours.high < 6 * found.hours.value
    assert abs(sum(found.placement.time.shares().values()) - 1) < 1e-9
    peak = accelerator.peak(Precision.BF16).value
    useful = found.hours.value * found.goodput.share * 3600 * peak * found.mfu.share
    assert abs(useful / found.flops - 1) < 1e-9


@given(tp=st.integers(1, 512), pp=st.integers(1, 512), zero=st.integers(0, 3))
def test_a_layout_is_read_as_it_was_written(tp: int, pp: int, zero: int) -> None:
    assert parse_layout(f"tp={tp},pp={pp},zero={zero}") == LayoutChoice(tp=tp, pp=pp, zero=zero)


@given(number=st.integers(1, 10_000), wanted=st.integers(1, 10_000))
def test_the_nearest_divisor_divides_and_is_nearest(number: int, wanted: int) -> None:
    found = nearest_divisor(number, wanted)
    assert number % found == 0
    assert all(abs(one - wanted) >= abs(found - wanted) for one in range(1, number + 1) if number % one == 0)
