"""A small network, a plan with rollouts, and a run on disk that followed it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from openbook.economics.local.network import Network, network_of
from openbook.economics.local.stages import Guess, Learned, Learning, Occasion, Sampled, StagePlan
from openbook.model.config import GQAConfig, ModelConfig
from openbook.runs.machine_profile import MachineProfile, ProductRate, ReadRate, ShapeClass
from openbook.runs.run import Run
from openbook.runs.usage import Usage

SMALL = ModelConfig(
    vocab_size=100,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    attention=GQAConfig(num_key_value_heads=2, head_dim=8),
)


@pytest.fixture
def network() -> Network:
    return network_of(SMALL)


@pytest.fixture
def rollout(network: Network) -> Sampled:
    return sampled(network, Occasion.ROLLOUT, num_problems=4, num_generations=8)


@pytest.fixture
def policy_plan(network: Network, rollout: Sampled) -> StagePlan:
    """Reinforcement of 10 steps of 32 completions, probed at every second, saved at every fourth."""
    learned = Learned(
        learning=Learning.REWARD,
        network=network,
        num_steps=10,
        examples_per_step=32,
        tokens_per_batch=1024,
        save_every=4,
        data="sums",
        guess_example_tokens=0.0,
        spread=0.1,
        num_reference_passes=1,
        shares_prompts=True,
    )
    return StagePlan(
        name="zero",
        verb="rl",
        learned=learned,
        rollout=rollout,
        probe=sampled(network, Occasion.PROBE, num_problems=4, num_generations=2),
        probe_every=2,
        exams=(sampled(network, Occasion.EXAM, num_problems=8, num_generations=2, label="held_out"),),
        settings={"num_steps": 10, "examples_per_step": 32, "num_parameters": network.num_parameters},
    )


@pytest.fixture
def example_plan(network: Network) -> StagePlan:
    """Supervised training of 6 steps of 8 examples."""
    learned = Learned(
        learning=Learning.EXAMPLES,
        network=network,
        num_steps=6,
        examples_per_step=8,
        tokens_per_batch=1024,
        save_every=100,
        data="corpus a",
        guess_example_tokens=50.0,
        spread=0.5,
    )
    return StagePlan(
        name="pretrain",
        verb="pretrain",
        learned=learned,
        settings={"num_steps": 6, "examples_per_step": 8, "num_parameters": network.num_parameters},
    )


def sampled(
    network: Network, occasion: Occasion, *, num_problems: int, num_generations: int, label: str = ""
) -> Sampled:
    return Sampled(
        occasion=occasion,
        label=label or str(occasion),
        problems="sums",
        network=network,
        num_problems=num_problems,
        num_generations=num_generations,
        problems_per_call=4,
        max_tokens=64,
        guess=Guess(prompt=20.0, completion=24.0, low=8.0, high=32.0),
    )


def step_usage(*, completion: int, trained: int, seconds: float = 0.5) -> Usage:
    return Usage(
        prompt_tokens=80,
        cached_tokens=560,
        completion_tokens=completion,
        trained_tokens=trained,
        device_microseconds=round(seconds * 1e6),
        cpu_microseconds=round(seconds * 1e6),
        peak_memory_bytes=600_000_000,
    )


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[str], Run]:
    """A run of ten steps of reinforcement and an exam of two calls, on disk."""

    def make(name: str) -> Run:
        run = Run.create(tmp_path / name, verb="rl", stage="zero", recipe={"settings": {}}, seed=0)
        run.start(device="cpu")
        for step in range(1, 11):
            run.record(step_usage(completion=32 * (10 + step), trained=32 * (9 + step) + 120))
            metrics = {"loss": 0.0}
            if step % 2 == 0:
                metrics["eval_mean_completion_tokens"] = 10.0 + step
            run.log(step, metrics)
        for _ in range(2):
            run.record(step_usage(completion=8 * 18, trained=0, seconds=0.1))
        run.finish()
        return run

    return make


def round_profile(*, factor: float = 1.0) -> MachineProfile:
    """A machine of round numbers, `factor` times as fast."""
    products = tuple(
        ProductRate(
            dtype="fp32",
            shape_class=shape,
            num_threads=threads,
            num_rows=8,
            width_in=8,
            width_out=8,
            flops_per_second=factor * rate * threads,
        )
        for shape, rate in ((ShapeClass.SQUARE, 2e11), (ShapeClass.SKINNY, 1e11), (ShapeClass.FEW_ROWS, 5e10))
        for threads in (1, 2)
    )
    return MachineProfile(
        measured_on=date(2026, 11, 24),
        processor="a processor",
        num_cpus=2,
        memory_bytes=None,
        torch="2",
        products=products,
        reads=(ReadRate(num_threads=1, bytes_per_second=factor * 1e10),),
        dispatch_microseconds=2.0 / factor,
        gradient_microseconds=5.0 / factor,
        load="",
        is_disturbed=False,
    )


@pytest.fixture
def make_profile() -> Callable[..., MachineProfile]:
    return round_profile
