from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from openbook.data.batch import Example
from openbook.data.loader import EpochStream
from openbook.errors import Diverged
from openbook.model.transformer import Transformer
from openbook.runs.stop import StopSignal
from openbook.train.config import LossConfig, OptimConfig, ScheduleConfig, TrainConfig
from openbook.train.loop import LoopPlan, run_loop
from openbook.train.optim import Optimizers
from openbook.train.report import StepReport
from openbook.train.state import TrainState
from openbook.train.step import Draw, clip_gradients, load_imbalance, supervised_step

CONFIG = TrainConfig(
    num_steps=30,
    examples_per_step=8,
    tokens_per_batch=64,
    optim=OptimConfig(muon_learning_rate=0.02, adamw_learning_rate=5e-3),
    schedule=ScheduleConfig(warmup_steps=3),
    loss=LossConfig(mtp_weight=0.3, balance_weight=1e-3, bias_update_rate=1e-2),
    save_every=100,
)
MakeTiny = Callable[..., Transformer]


def counting_examples() -> list[Example]:
    """Sequences that count upwards from anywhere: easy to learn, of several lengths."""
    return [
        Example(
            token_ids=tuple((start + step) % 20 for step in range(length)),
            weights=(0.0,) + (1.0,) * (length - 1),
        )
        for start in range(20)
        for length in (6, 9, 12)
    ]


def make_state(make_tiny: MakeTiny, *, seed: int = 0) -> TrainState:
    model = make_tiny(seed=seed, vocab_size=40)
    return TrainState(model=model, optimizers=Optimizers(model, CONFIG.optim))


def make_step(draw: Draw | None = None) -> Callable[[TrainState], StepReport]:
    return supervised_step(draw or EpochStream(counting_examples(), seed=3), CONFIG, pad_id=0)


def everything(state: TrainState) -> dict[str, Tensor]:
    """All tensors that a later step depends on."""
    parts = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    parts |= {f"optimizers/{name}": value for name, value in state.optimizers.state_tensors().items()}
    return {name: value.detach().clone() for name, value in parts.items()}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    different = [name for name, value in expected.items() if not torch.equal(actual[name], value)]
    assert not different


def test_the_loss_falls_and_the_report_says_what_was_done(make_tiny: MakeTiny) -> None:
    state, step = make_state(make_tiny), make_step()
    reports = [step(state) for _ in range(30)]
    losses = [report.metrics["loss"] for report in reports]
    assert losses[0] == pytest.approx(math.log(40), abs=1.5)
    assert sum(losses[-3:]) / 3 < 0.5 * losses[0]
    assert (state.step, state.position) == (30, 240)
    assert [report.step for report in reports] == list(range(1, 31))
    first = EpochStream(counting_examples(), seed=3)(0, 8)
    num_tokens = sum(len(example.token_ids) - 1 for example in first)
    assert reports[0].usage.trained_tokens == num_tokens
    assert reports[0].expert_loads.shape == (2, 4)  # one MoE layer and one MTP module, four experts
    assert reports[0].expert_loads[0].sum() == num_tokens * 2  # two experts a token
    assert reports[0].metrics["learning_rate"] == pytest.approx(0.02 / 3)
    assert reports[0].metrics["mtp_loss"] > 0 and reports[0].metrics["balance_loss"] > 0
    assert reports[0].metrics["load_max_over_mean"] > 1


def test_the_loss_of_a_report_is_the_mean_over_weighted_tokens(make_tiny: MakeTiny) -> None:
    state = make_state(make_tiny)
    examples = EpochStream(counting_examples(), seed=3)(0, 8)
    model = state.model
    assert isinstance(model, Transformer)
    total, count = 0.0, 0
    for example in examples:
        with torch.no_grad():
            hidden = model(torch.tensor([example.token_ids[:-1]])).hidden_BTD
            logprobs = torch.log_softmax(model.logits(hidden)[0], -1)
        total -= sum(float(logprobs[at, token]) for at, token in enumerate(example.token_ids[1:]))
        count += len(example.token_ids) - 1
    assert make_step()(state).metrics["loss"] == pytest.approx(total / count, rel=1e-5)


def test_two_runs_are_the_same_bit_for_bit(make_tiny: MakeTiny, one_thread: None) -> None:
    def run() -> tuple[list[float], dict[str, Tensor]]:
        state, step = make_state(make_tiny), make_step()
        return [step(state).metrics["loss"] for _ in range(6)], everything(state)

    (losses, tensors), (losses_again, tensors_again) = run(), run()
    assert losses == losses_again
    assert_same(tensors_again, tensors)


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    make_tiny: MakeTiny, one_thread: None, tmp_path: Path
) -> None:
    straight, step = make_state(make_tiny), make_step()
    losses = [step(straight).metrics["loss"] for _ in range(8)]

    interrupted, step = make_state(make_tiny), make_step()
    for _ in range(5):
        step(interrupted)
    interrupted.save(tmp_path)
    resumed, step = make_state(make_tiny, seed=9), make_step()
    assert resumed.load(tmp_path)
    assert [step(resumed).metrics["loss"] for _ in range(3)] == losses[5:]
    assert_same(everything(resumed), everything(straight))
    assert (resumed.step, resumed.position) == (straight.step, straight.position)


def heavy_from(position: int) -> Draw:
    """The stream, with a weight that makes the loss no number from `position` on."""
    stream = EpochStream(counting_examples(), seed=3)

    def draw(start: int, count: int) -> list[Example]:
        examples = stream(start, count)
        if start < position:
            return examples
        return [replace(one, weights=(math.inf,) * len(one.weights)) for one in examples]

    return draw


def test_a_loss_that_is_no_number_updates_nothing_and_keeps_the_last_good_state(
    make_tiny: MakeTiny, one_thread: None, tmp_path: Path
) -> None:
    state = make_state(make_tiny)
    plan = LoopPlan(num_steps=30, save_every=2, state_folder=tmp_path)
    snapshots: list[dict[str, Tensor]] = []
    with pytest.raises(Diverged, match="loss became nan at step 4"):
        run_loop(
            state,
            make_step(heavy_from(24)),
            plan,
            on_step=lambda _: snapshots.append(everything(state)),
            stop=StopSignal(),
        )
    assert len(snapshots) == 3
    assert_same(everything(state), snapshots[2])
    resumed = make_state(make_tiny, seed=9)
    resumed.load(tmp_path)
    assert (resumed.step, resumed.position) == (2, 16)
    assert_same(everything(resumed), snapshots[1])


def test_a_gradient_that_is_no_number_updates_nothing_though_the_loss_is_finite(
    make_tiny: MakeTiny, tmp_path: Path
) -> None:
    state, step = make_state(make_tiny), make_step()
    step(state)
    before = everything(state)
    next(state.model.parameters()).register_hook(lambda gradient: gradient * math.nan)
    plan = LoopPlan(num_steps=30, save_every=1, state_folder=tmp_path)
    with pytest.raises(Diverged, match="grad_norm became nan at step 2"):
        run_loop(state, step, plan, on_step=lambda _: None, stop=StopSignal())
    assert_same(everything(state), before)


def test_biases_move_against_the_load(make_tiny: MakeTiny) -> None:
    state, step = make_state(make_tiny), make_step()
    loads = step(state).expert_loads[0]
    bias = state.model.state_dict()["model.layers.1.mlp.gate.e_score_correction_bias"]
    assert set(loads) != {loads.mean()}
    assert bias.tolist() == pytest.approx(
        [0.01 * math.copysign(load != loads.mean(), loads.mean() - load) for load in loads]
    )


def test_gradients_are_cut_to_the_norm_that_was_asked_for() -> None:
    model = torch.nn.Linear(1, 2, bias=False)
    model.weight.grad = torch.tensor([[3.0], [4.0]])
    assert clip_gradients(model, 0.0) == pytest.approx(5.0)
    assert model.weight.grad.tolist() == [[3.0], [4.0]]
    assert clip_gradients(model, 1.0) == pytest.approx(5.0)
    assert model.weight.grad.flatten().tolist() == pytest.approx([0.6, 0.8], rel=1e-5)


def test_load_imbalance_is_the_largest_load_over_the_mean_one() -> None:
    assert load_imbalance(torch.tensor([[4, 4, 4, 4], [8, 4, 2, 2]])) == pytest.approx((1 + 2) / 2)
    assert load_imbalance(torch.zeros(0, 0)) == 0.0
