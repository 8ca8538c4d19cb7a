"""What a device holds while it trains: the fact sheet's bytes."""

from __future__ import annotations

import pytest

from openbook.economics.accelerators import Precision
from openbook.economics.plan.goodput import Schedule
from openbook.economics.plan.layout import Layout, Recompute
from openbook.economics.plan.memory import (
    DEEPSEEK_V3,
    MIXED,
    MIXED_FP32_GRADIENTS,
    TrainingShape,
    layer_activation_bytes,
    local_parameters,
    state_bytes,
    training_memory,
)
from openbook.economics.plan.runs import V3_CONFIG
from openbook.model.architecture import Architecture
from openbook.model.decoders import read_decoder
from openbook.model.shapes import DenseFeedForward, GroupedAttention, Layer, LayerGroup

V3 = read_decoder(V3_CONFIG, "V3")


def plain(width: int, heads: int, layers: int) -> Architecture:
    layer = Layer(
        attention=GroupedAttention(num_heads=heads, num_kv_heads=heads, head_dim=width // heads),
        feed_forward=DenseFeedForward(intermediate_size=4 * width, num_matrices=2),
        num_norm_elements=2 * width,
    )
    return Architecture(
        model_type="gpt2",
        vocab_size=50_000,
        hidden_size=width,
        groups=(LayerGroup(layer=layer, num_layers=layers),),
        tie_word_embeddings=True,
    )


def test_a_parameter_takes_sixteen_eighteen_or_thirteen_bytes() -> None:
    assert [MIXED.total, MIXED_FP32_GRADIENTS.total, DEEPSEEK_V3.total] == [16, 18, 13]
    assert state_bytes(Precision.BF16) is MIXED
    assert state_bytes(Precision.FP8) is DEEPSEEK_V3
    assert state_bytes(Precision.FP32).total == 16


def test_v3_takes_8_72_terabytes_and_4_26_gigabytes_spread_over_its_devices() -> None:
    whole = V3.parameters_total * DEEPSEEK_V3.total
    assert whole == pytest.approx(8.72e12, rel=1e-3)
    spread = training_memory(
        V3, TrainingShape(sequence_length=4096, precision=Precision.FP8), Layout(dp=2048, zero=3, ep=64)
    )
    held = spread.gradients + spread.optimizer
    assert held == pytest.approx(whole / 2048 * 12 / 13, rel=1e-3)
    assert whole / 2048 == pytest.approx(4.26e9, rel=1e-3)


@pytest.mark.parametrize(("zero", "divided"), [(1, (1, 1, 8)), (2, (1, 8, 8)), (3, (8, 8, 8))])
def test_each_stage_of_zero_divides_one_more_part_over_data_parallel(
    zero: int, divided: tuple[int, int, int]
) -> None:
    model, shape = plain(1024, 16, 24), TrainingShape(sequence_length=128, precision=Precision.BF16)
    found = training_memory(model, shape, Layout(dp=8, zero=zero))
    size = model.parameters_total
    weights = 2 * size / divided[0] + (4 * size / 24 if zero == 3 else 0)  # and two layers at work
    assert found.weights == pytest.approx(weights)
    assert found.gradients == pytest.approx(2 * size / divided[1])
    assert found.optimizer == pytest.approx(12 * size / divided[2])


def test_experts_divide_by_ep_and_pp_and_the_rest_by_tp_and_pp() -> None:
    dense, experts = local_parameters(V3, Layout(tp=2, pp=1, ep=64, dp=64))
    assert experts == pytest.approx(V3.parameters.experts / 64)
    assert dense == pytest.approx((V3.parameters_total - V3.parameters.experts) / 2)


def test_activations_of_a_plain_layer_are_s_b_d_times_34_and_the_scores() -> None:
    width, heads, length = 1024, 16, 2048
    layer = plain(width, heads, 1).groups[0].layer
    unfused = TrainingShape(sequence_length=length, precision=Precision.BF16, fused_attention=False)
    fused = TrainingShape(sequence_length=length, precision=Precision.BF16)
    assert layer_activation_bytes(layer, width, unfused) == width * 34 + 5 * heads * length
    assert layer_activation_bytes(layer, width, fused) == width * 34
    assert layer_activation_bytes(layer, width, unfused, Recompute.FULL) == 2 * width
    selective = layer_activation_bytes(layer, width, unfused, Recompute.SELECTIVE)
    assert 2 * width < selective < 34 * width


def test_tensor_parallel_with_sequence_parallel_divides_the_activations() -> None:
    model, shape = plain(1024, 16, 8), TrainingShape(sequence_length=2048, precision=Precision.BF16)
    whole = training_memory(model, shape, Layout())
    split = training_memory(model, shape, Layout(tp=4))
    assert split.activations == pytest.approx(whole.activations / 4)
    assert whole.activations == 34 * 1024 * 2048 * 8
    assert whole.logits == 2048 * 50_000 * 4 * 2.5


def test_dualpipe_holds_weights_twice_and_one_more_micro_batch() -> None:
    model, shape = plain(1024, 16, 8), TrainingShape(sequence_length=512, precision=Precision.BF16)
    usual = training_memory(model, shape, Layout(pp=4))
    twice = training_memory(model, shape, Layout(pp=4, schedule=Schedule.DUALPIPE))
    assert twice.weights == 2 * usual.weights
    assert twice.activations == pytest.approx(usual.activations * 5 / 4)


def test_the_parts_add_up_to_the_total() -> None:
    found = training_memory(
        V3, TrainingShape(sequence_length=4096, precision=Precision.FP8), Layout(pp=16, ep=64, dp=128)
    )
    assert sum(found.parts().values()) == pytest.approx(found.total)
    assert set(found.parts()) == {"weights", "gradients", "optimizer", "activations", "cache", "logits"}
