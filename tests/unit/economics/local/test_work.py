"""Amounts of work: counted by hand for small networks, and linear in what they are amounts of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openbook.economics.local.network import Network, network_of
from openbook.economics.local.stage_work import (
    Lengths,
    Part,
    num_saves,
    packed,
    policy_tokens,
    stage_amounts,
)
from openbook.economics.local.stages import Sampled, StagePlan
from openbook.economics.local.work import Batch, Term, Work, computed_prompt_tokens, training
from openbook.model.config import MLAConfig, ModelConfig, MoEConfig

BATCH = Batch(num_tokens=1000, padding=1.5, row_length=40, num_drawn=25, num_targets=500, num_passes=2)


def test_a_dense_network_is_counted_by_hand(network: Network) -> None:
    attention = 32 * 32 + 2 * 32 * 16 + 32 * 32  # q, k, v, o
    feed_forward = 3 * 32 * 64
    assert network.product_parameters == 2 * (attention + feed_forward)
    assert network.routed_parameters == 0
    assert network.head_parameters == 100 * 32
    assert network.score_flops == 2 * 2 * 4 * 16  # layers, multiply-add, heads, query and value
    assert network.muon_matrices == 2 * 7
    square = 5 * (4 * 32 * 32 * 32 + 2 * 32**3)
    narrow = 5 * (4 * 16 * 16 * 32 + 2 * 16**3)
    wide = 5 * (4 * 32 * 32 * 64 + 2 * 32**3)
    assert network.muon_flops == 2 * (2 * square + 2 * narrow + 3 * wide)


def test_modules_and_experts_are_counted_where_they_compute() -> None:
    config = ModelConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        num_nextn_predict_layers=1,
        attention=MLAConfig(
            q_lora_rank=None, kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8
        ),
        moe=MoEConfig(
            n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=16
        ),
    )
    alone, trained = network_of(config), network_of(config, with_mtp=True)
    assert alone.routed_parameters == 2 * 2 * 3 * 32 * 16  # two of three layers, two experts each
    assert trained.routed_parameters == 3 * 2 * 3 * 32 * 16
    assert trained.head_parameters == 2 * alone.head_parameters
    assert trained.launches > alone.launches
    assert trained.num_parameters == alone.num_parameters, "they are held, whether they compute or not"


def test_products_count_padding_for_all_but_routed_experts_and_logits(network: Network) -> None:
    work = training(replace(network, routed_parameters=10), BATCH).by_term()
    forward = network.product_parameters * 1500 + 10 * 1000 + network.head_parameters * 500
    assert work[Term.PRODUCTS] == pytest.approx(3 * 2 * forward)


def test_a_reference_adds_a_forward_pass_and_adapters_leave_products_out(network: Network) -> None:
    plain = training(network, BATCH).by_term()
    asked = training(network, replace(BATCH, num_reference_passes=1)).by_term()
    adapted = training(network, replace(BATCH, products_share=0.5)).by_term()
    assert asked[Term.PRODUCTS] == pytest.approx(plain[Term.PRODUCTS] * 4 / 3)
    assert adapted[Term.PRODUCTS] == pytest.approx(plain[Term.PRODUCTS] * 2 / 3)
    assert asked[Term.STATE] == plain[Term.STATE]


def test_work_adds_and_repeats_term_by_term() -> None:
    one, other = Work.of({Term.PRODUCTS: 2.0}), Work.of({Term.PRODUCTS: 1.0, Term.SAVED: 5.0})
    assert (one + other * 2).by_term() == {
        **dict.fromkeys(Term, 0.0),
        Term.PRODUCTS: 4.0,
        Term.SAVED: 10.0,
    }


def test_a_prompt_is_computed_once_but_for_latecomers() -> None:
    assert computed_prompt_tokens(num_prompts=16, num_generations=16, prompt_length=33) == 16 * 33
    assert computed_prompt_tokens(num_prompts=16, num_generations=32, prompt_length=33) > 16 * 33


def test_more_rows_take_more_passes_and_each_pads_less(example_plan: StagePlan) -> None:
    """Measured on the written corpus: 48 rows in one pass of 1.52 positions a token, 96 in two of 1.24."""
    assert example_plan.learned is not None
    learned = replace(example_plan.learned, tokens_per_batch=4096, spread=0.52)
    for num_rows, passes, padding in ((48, 1, 1.52), (96, 2, 1.24), (128, 3, 1.25), (256, 4, 1.08)):
        found = packed(learned, num_rows * 50.4, num_rows)
        assert found[0] == passes
        assert found[1] == pytest.approx(padding, rel=0.06)


def test_each_update_packs_rows_of_its_own(example_plan: StagePlan) -> None:
    assert example_plan.learned is not None
    several = replace(example_plan.learned, num_updates=4)
    assert packed(several, 8 * 50, 8)[0] == 4


def test_a_policy_trains_on_completions_and_on_prompts_by_rows(
    policy_plan: StagePlan, rollout: Sampled
) -> None:
    assert policy_plan.learned is not None
    # 256 - 20 tokens hold 7 completions of 33 less the last: two rows for 8 completions
    shared = policy_tokens(policy_plan.learned, rollout, prompt=20, completion=33)
    assert shared == 32 * 32 + 4 * 2 * 20
    alone = replace(policy_plan.learned, shares_prompts=False)
    assert policy_tokens(alone, rollout, prompt=20, completion=33) == 32 * 32 + 32 * 20


def test_a_stage_is_its_parts_and_what_follows_the_last_step_is_not_booked(policy_plan: StagePlan) -> None:
    lengths = Lengths(
        example=0.0,
        prompt={"rollout": 20.0, "probe": 20.0, "held_out": 20.0},
        completion={"rollout": 15.0, "probe": 15.0, "held_out": 18.0},
        rollout=(10.0, 20.0),
    )
    amounts = stage_amounts(policy_plan, lengths)
    assert set(amounts) == {Part.LEARNING, Part.PROBES, Part.EXAMS}
    # the curve goes on at its last value
    assert amounts[Part.LEARNING].tokens.completion == 32 * (10 + 9 * 20)
    assert amounts[Part.EXAMS].tokens.completion == 16 * 18
    assert policy_plan.learned is not None
    assert num_saves(policy_plan.learned, 10) == 2
    assert num_saves(policy_plan.learned, 8) == 1
    probes = amounts[Part.PROBES].work.by_term()[Term.SEQUENCES]
    assert probes == 4 * 8, "after steps 2, 4, 6, 8: the probe after the last step is on no line"
