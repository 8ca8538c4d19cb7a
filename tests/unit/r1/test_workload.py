"""Plans of stages: they mirror what the stages do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openbook.config import load_recipe
from openbook.economics.local.stages import Learning
from openbook.errors import UserError
from openbook.model.config import ModelConfig
from openbook.r1 import exam, learn, real, traces, workload
from openbook.r1.pipeline import STAGE_NAMES, STAGES
from openbook.r1.schemas import SCHEMAS
from openbook.r1.workload import stage_plans

RECIPES = Path(__file__).resolve().parents[3] / "recipes"


def config_of(name: str, *overrides: str) -> Any:
    return load_recipe(RECIPES / f"{name}.toml", SCHEMAS, overrides).config


def model_of_nano() -> ModelConfig:
    model: ModelConfig = config_of("run/nano").model
    return model


def test_the_stages_of_a_story_are_planned_in_their_order() -> None:
    plans = stage_plans("run", config_of("run/nano"))
    assert tuple(plan.name for plan in plans) == STAGE_NAMES
    assert [plan.verb for plan in plans] == [stage.verb for stage in STAGES]


def test_each_stage_starts_from_the_base_that_the_pipeline_gives_it() -> None:
    plans = stage_plans("run", config_of("run/nano"))
    assert {plan.name: plan.base for plan in plans} == {
        stage.name: stage.inputs.get("base", "") for stage in STAGES
    }
    plans = stage_plans("run", config_of("run/smol"), {"base": model_of_nano()})
    assert {plan.name: plan.base for plan in plans} == {
        stage.name: stage.inputs.get("base", "") for stage in real.STAGES
    }


def test_a_real_story_starts_from_a_network_that_is_given() -> None:
    config = config_of("run/smol")
    with pytest.raises(UserError, match="the network of the base is not known"):
        stage_plans("run", config)
    plans = stage_plans("run", config, {"base": model_of_nano()})
    assert tuple(plan.name for plan in plans) == real.STAGE_NAMES
    assert plans[0].learned is None and plans[0].exams


def test_numbers_that_the_stages_have_are_the_same_here() -> None:
    assert workload.NUM_PROBE_PROBLEMS == exam.NUM_PROBE_PROBLEMS
    assert workload.PROBE_EVERY == learn.PROBE_EVERY
    assert workload.PROBLEMS_PER_CALL == traces.PROBLEMS_PER_CALL


def test_a_base_is_examined_more_often_and_control_has_a_budget_and_no_probe() -> None:
    plans = {plan.name: plan for plan in stage_plans("run", config_of("run/nano"))}
    assert plans["pretrain"].exams[0].num_sequences == 500 * 16
    assert plans["zero"].exams[0].num_sequences == 500 * 4
    assert plans["control"].budget_of == "distill" and plans["control"].probe is None
    assert plans["zero"].probe is not None and plans["all_scenarios"].probe is None
    assert plans["distill"].harvest is not None
    assert plans["distill"].harvest.network != plans["distill"].exams[0].network, "the teacher samples"


def test_the_network_of_supervised_training_has_its_modules_and_that_of_a_policy_has_not() -> None:
    plans = {plan.name: plan for plan in stage_plans("run", config_of("run/nano"))}
    learned = {name: plan.learned for name, plan in plans.items() if plan.learned is not None}
    assert learned["pretrain"].network.launches > learned["zero"].network.launches
    assert learned["reward_model"].learning is Learning.PAIRS
    assert learned["reward_model"].examples_per_step == 2 * 32


@pytest.mark.parametrize("verb", ["pretrain", "rl", "sft", "distill"])
def test_each_verb_alone_is_a_plan_of_one_stage(verb: str) -> None:
    models = {"base": model_of_nano(), "teacher": model_of_nano()}
    (plan,) = stage_plans(verb, config_of(f"{verb}/tiny"), models)
    assert (plan.name, plan.verb) == (verb, verb)
    assert plan.memory_bytes > 0


def test_updates_passes_and_references_follow_the_recipe() -> None:
    config = config_of("rl/tiny", "rl.num_iterations=2", "rl.num_minibatches=4", "rl.old_logprobs=trainer")
    (plan,) = stage_plans("rl", config, {"base": model_of_nano()})
    assert plan.learned is not None
    assert (plan.learned.num_updates, plan.learned.num_iterations) == (8, 2)
    assert (
        plan.learned.num_reference_passes == 2
    )  # the reference, and the trainer's own old log-probabilities
    alone = replace(config, rl=replace(config.rl, beta=0.0, old_logprobs="sampler"))
    (plan,) = stage_plans("rl", alone, {"base": model_of_nano()})
    assert plan.learned is not None and plan.learned.num_reference_passes == 0


def test_guessed_prompts_of_chains_are_near_those_of_the_story() -> None:
    """33.5 tokens with the tokenizer of nano, measured."""
    plans = {plan.name: plan for plan in stage_plans("run", config_of("run/nano"))}
    guess = plans["zero"].exams[0].guess
    assert guess.prompt == pytest.approx(33.5, rel=0.1)
    assert guess.low < plans["pretrain"].exams[0].guess.completion < guess.completion <= guess.high
