"""Who goes to which expert and what comes back: the native way against the gate and the plain loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from openbook.kernels import operations as ops
from openbook.kernels.experts import ExpertWeights, looped_experts, plan_dispatch
from openbook.kernels.packed import PackedMatrix, pack_bf16, pack_fp32, stack_packed
from openbook.model.cache import BLOCK_SIZE
from openbook.model.config import MoEConfig
from openbook.model.moe import Gate

Draw = Callable[..., Tensor]
Run = Callable[..., None]
MakePlaces = Callable[..., Any]

GATES = {
    "softmax, greedy": {"scoring_func": "softmax", "topk_method": "greedy", "norm_topk_prob": False},
    "softmax, limited to groups": {
        "scoring_func": "softmax",
        "topk_method": "group_limited_greedy",
        "n_group": 4,
        "topk_group": 2,
        "norm_topk_prob": False,
        "routed_scaling_factor": 16.0,
    },
    "sigmoid, biased": {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "routed_scaling_factor": 2.5},
    "sigmoid, biased, limited to groups": {
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "n_group": 4,
        "topk_group": 2,
    },
    "groups of one": {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_group": 12, "topk_group": 5},
}
NUM_EXPERTS, NUM_CHOICES, NUM_ROWS = 12, 3, 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Routed:
    """What a routing gave: [R, K] both, and what it noted beside the cache [n, 16, layers, K]."""

    experts: Tensor
    shares: Tensor
    record: Tensor


def gate(name: str, draw: Draw, **changed: object) -> Gate:
    moe = MoEConfig(
        n_routed_experts=NUM_EXPERTS,
        n_shared_experts=0,
        num_experts_per_tok=NUM_CHOICES,
        moe_intermediate_size=8,
        **GATES[name] | changed,  # type: ignore[arg-type]
    )
    made = Gate(6, moe)
    with torch.no_grad():
        made.weight.copy_(draw(NUM_EXPERTS, 6))
    return made


def routed(run: Run, made: Gate, logits: Tensor, places: Any) -> Routed:
    moe, num_rows = made.moe, len(logits)
    is_biased, is_limited = moe.topk_method == "noaux_tc", moe.topk_method != "greedy"
    experts = torch.full((num_rows, NUM_CHOICES), -1, dtype=torch.int32)
    shares = torch.full((num_rows, NUM_CHOICES), torch.nan)
    record = torch.full((int(places.tables.max()) + 1, BLOCK_SIZE, 3, NUM_CHOICES), -1, dtype=torch.int16)
    route = ops.Route(
        logits=ops.Rows.of(logits),
        num_experts=NUM_EXPERTS,
        num_choices=NUM_CHOICES,
        num_groups=moe.n_group if is_limited else 1,
        num_kept_groups=moe.topk_group if is_limited else 1,
        is_sigmoid=int(moe.scoring_func == "sigmoid"),
        is_biased=int(is_biased),
        normalize=int(moe.norm_topk_prob),
        bias=made.e_score_correction_bias.data_ptr() if is_biased else None,
        factor=moe.routed_scaling_factor,
        experts=experts.data_ptr(),
        shares=shares.data_ptr(),
        record=record.data_ptr(),
        record_width=3 * NUM_CHOICES,
        record_first=NUM_CHOICES,
    )
    run([route], places, num_threads=2)
    return Routed(experts=experts, shares=shares, record=record)


@pytest.mark.parametrize("bias", [0.0, -3.0], ids=["some bias", "negative bias"])
@pytest.mark.parametrize("name", GATES)
def test_the_gate_chooses_the_same_experts_with_the_same_shares(
    name: str, bias: float, run: Run, draw: Draw, make_places: MakePlaces
) -> None:
    made = gate(name, draw)
    if made.moe.topk_method == "noaux_tc":
        made.e_score_correction_bias.copy_(0.5 * draw(NUM_EXPERTS) + bias)
    x = draw(NUM_ROWS, 6)
    with torch.no_grad():
        logits = x @ made.weight.T
        expected, shares = made.choose(made.scores(x))
    found = routed(run, made, logits.contiguous(), make_places((NUM_ROWS,), (NUM_ROWS,)))
    order, expected_order = found.experts.argsort(-1), expected.argsort(-1)
    assert torch.equal(found.experts.gather(1, order).long(), expected.gather(1, expected_order))
    torch.testing.assert_close(found.shares.gather(1, order), shares.gather(1, expected_order))
    assert len(found.experts.unique()) > 4, "a gate that always chooses alike would hide a mistake"


def test_what_was_chosen_is_noted_at_the_place_of_the_token_and_of_the_layer(
    run: Run, draw: Draw, make_places: MakePlaces
) -> None:
    made, places = gate("sigmoid, biased", draw), make_places((40, 3), (20, 1))
    found = routed(run, made, draw(21, NUM_EXPERTS), places)
    for row in range(21):
        position, sequence = int(places.positions[row]), int(places.sequences[row])
        block = int(places.tables[sequence, position // BLOCK_SIZE])
        slot = found.record[block, position % BLOCK_SIZE]
        assert slot[1].tolist() == found.experts[row].tolist()
        assert (slot[[0, 2]] == -1).all()
    assert int((found.record[:, :, 1] >= 0).sum()) == 21 * NUM_CHOICES


def test_equal_scores_go_to_the_first_experts(run: Run, draw: Draw, make_places: MakePlaces) -> None:
    made = gate("sigmoid, biased", draw)
    found = routed(run, made, torch.zeros(2, NUM_EXPERTS), make_places((2,), (2,)))
    assert found.experts.tolist() == [[0, 1, 2]] * 2
    torch.testing.assert_close(found.shares, torch.full((2, 3), 2.5 / 3))


def test_logits_that_are_no_numbers_choose_experts_that_exist(
    run: Run, draw: Draw, make_places: MakePlaces
) -> None:
    for name in GATES:
        logits = draw(3, NUM_EXPERTS)
        logits[1] = torch.nan
        found = routed(run, gate(name, draw), logits, make_places((3,), (3,)))
        assert ((found.experts >= 0) & (found.experts < NUM_EXPERTS)).all()
        assert found.shares[1].isnan().all() and found.shares[[0, 2]].isfinite().all()


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """The experts of a layer, plain and packed, gate on top of up."""

    weights: ExpertWeights
    gate_up: PackedMatrix
    down: PackedMatrix


def layer(
    pack: Callable[[Tensor], PackedMatrix], num_experts: int, inner: int, width: int, draw: Draw
) -> Layer:
    gate_EID, up_EID, down_EDI = (
        draw(num_experts, inner, width),
        draw(num_experts, inner, width),
        draw(num_experts, width, inner),
    )
    gate_up = [pack(torch.cat(pair)) for pair in zip(gate_EID, up_EID, strict=True)]
    return Layer(
        weights=ExpertWeights(gate_EID=gate_EID, up_EID=up_EID, down_EDI=down_EDI),
        gate_up=stack_packed(gate_up),
        down=stack_packed([pack(one) for one in down_EDI]),
    )


def mixed(
    run: Run,
    made: Layer,
    rows: Tensor,
    experts: Tensor,
    shares: Tensor,
    *,
    exact: bool = True,
    num_threads: int = 1,
) -> Tensor:
    """What the experts add to rows of ones."""
    num_rows, width = rows.shape
    num_experts, inner = made.weights.gate_EID.shape[:2]
    num_choices, out = experts.shape[1], torch.ones(num_rows, width)
    copies = num_rows * num_choices
    kept = {
        "place": torch.zeros(copies, dtype=torch.int32),
        "source": torch.zeros(copies, dtype=torch.int32),
        "starts": torch.zeros(num_experts + 1, dtype=torch.int32),
        "sent": torch.zeros(copies, width),
        "hidden": torch.zeros(copies, 2 * inner),
        "back": torch.zeros(copies, width),
    }
    operation = ops.Experts(
        rows_in=ops.Rows.of(rows),
        rows_out=ops.Rows.of(out),
        num_experts=num_experts,
        num_choices=num_choices,
        width=width,
        inner=inner,
        gate_up=ops.Matrix.of(made.gate_up),
        down=ops.Matrix.of(made.down),
        gate_up_bytes=ops.step_bytes(made.gate_up.data),
        gate_up_scale_bytes=ops.step_bytes(made.gate_up.scale),
        down_bytes=ops.step_bytes(made.down.data),
        down_scale_bytes=ops.step_bytes(made.down.scale),
        experts=experts.data_ptr(),
        shares=shares.data_ptr(),
        **{name: tensor.data_ptr() for name, tensor in kept.items()},
    )
    run([operation], num_rows, exact=exact, num_threads=num_threads)
    return out - 1


def make_routing(num_rows: int, num_experts: int, num_choices: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(num_rows, num_experts, generator=generator)
    scores[:, 1] = -1  # expert 1 gets nothing
    return scores.topk(num_choices).indices.int(), torch.rand(num_rows, num_choices, generator=generator)


def by_loop(made: Layer, rows: Tensor, experts: Tensor, shares: Tensor) -> Tensor:
    dispatch = plan_dispatch(experts.long(), len(made.weights.gate_EID))
    sorted_shares = shares.flatten()[dispatch.order_M]
    back = looped_experts(rows[dispatch.source_M], sorted_shares, made.weights, dispatch.counts_E)
    return back[dispatch.place_NK].sum(1)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("num_rows", [1, 2, 17, 60])
def test_experts_give_the_weighted_sum_of_the_plain_loop(
    num_rows: int, num_threads: int, run: Run, draw: Draw
) -> None:
    made = layer(pack_fp32, 5, 20, 33, draw)
    rows, (experts, shares) = draw(num_rows, 33), make_routing(num_rows, 5, 2)
    found = mixed(run, made, rows, experts, shares, num_threads=num_threads)
    torch.testing.assert_close(found, by_loop(made, rows, experts, shares), atol=2e-4, rtol=2e-4)


def test_all_rows_may_go_to_one_expert(run: Run, draw: Draw) -> None:
    made, rows = layer(pack_fp32, 4, 8, 16, draw), draw(30, 16)
    experts, shares = torch.full((30, 1), 3, dtype=torch.int32), torch.ones(30, 1)
    found = mixed(run, made, rows, experts, shares, num_threads=2)
    torch.testing.assert_close(found, by_loop(made, rows, experts, shares), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pack", [pack_fp32, pack_bf16])
def test_a_rows_mixture_has_the_same_bits_alone_and_among_others(
    pack: Callable[[Tensor], PackedMatrix], run: Run, draw: Draw
) -> None:
    made = layer(pack, 5, 24, 40, draw)
    rows, (experts, shares) = draw(40, 40), make_routing(40, 5, 2)
    together = mixed(run, made, rows, experts, shares, num_threads=2)
    for row in range(40):
        part = slice(row, row + 1)
        alone = mixed(run, made, rows[part], experts[part].contiguous(), shares[part].contiguous())
        assert torch.equal(alone[0], together[row]), row


def test_experts_in_bf16_are_near_on_tiles_as_well(run: Run, draw: Draw) -> None:
    made = layer(pack_bf16, 3, 32, 64, draw)
    rows, (experts, shares) = draw(60, 64), make_routing(60, 3, 2)
    expected = by_loop(made, rows, experts, shares)
    for exact in (True, False):
        found = mixed(run, made, rows, experts, shares, exact=exact)
        assert (found - expected).square().mean().sqrt() < 0.01 * expected.square().mean().sqrt()
