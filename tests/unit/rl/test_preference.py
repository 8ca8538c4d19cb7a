from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from openbook.data.batch import Example
from openbook.errors import Diverged
from openbook.model.transformer import Transformer
from openbook.rl.preference import Pair, RewardModel, preference_loss, preference_step
from openbook.runs.stop import StopSignal
from openbook.train.config import OptimConfig, ScheduleConfig
from openbook.train.loop import LoopPlan, run_loop
from openbook.train.optim import Optimizers
from openbook.train.report import StepReport
from openbook.train.state import TrainState

OPTIM = OptimConfig(muon_learning_rate=0.01, adamw_learning_rate=5e-3)
MakeTiny = Callable[..., Transformer]


def example(*token_ids: int) -> Example:
    return Example(token_ids=token_ids, weights=(1.0,) * len(token_ids))


def make_model(make_tiny: MakeTiny, seed: int = 0) -> RewardModel:
    model = RewardModel(make_tiny(seed=seed, vocab_size=40))
    with torch.no_grad():
        model.head.copy_(torch.linspace(-1, 1, len(model.head)))
    return model


def kind_pairs(count: int = 24) -> list[Pair]:
    """The liked reply has a 7 somewhere in the middle, the other an 8; all else is random."""
    generator = torch.Generator().manual_seed(2)
    pairs = []
    for _ in range(count):
        length = int(torch.randint(3, 8, (1,), generator=generator))
        ids = torch.randint(10, 40, (2, length), generator=generator).tolist()
        pairs.append(
            Pair(chosen=example(*ids[0][:2], 7, *ids[0][2:]), rejected=example(*ids[1][:2], 8, *ids[1][2:]))
        )
    return pairs


def make_step(pairs: list[Pair], pairs_per_step: int = 8) -> Callable[[TrainState], StepReport]:
    def draw(position: int, count: int) -> list[Pair]:
        return [pairs[index % len(pairs)] for index in range(position, position + count)]

    schedule = ScheduleConfig(warmup_steps=2)
    return preference_step(draw, OPTIM, schedule, num_steps=40, pairs_per_step=pairs_per_step, pad_id=0)


def test_a_score_is_read_at_the_last_token_whatever_stands_beside_it(make_tiny: MakeTiny) -> None:
    model = make_model(make_tiny)
    replies = [example(5, 6, 7), example(8, 9), example(10, 11, 12, 13, 14)]
    with torch.no_grad():
        together = model(replies, pad_id=0)
        for row, one in enumerate(replies):
            hidden = model.trunk(torch.tensor([one.token_ids])).hidden_BTD[0, -1]
            assert float(together[row]) == pytest.approx(float(hidden @ model.head), abs=1e-5)
            assert float(model([one], pad_id=33)[0]) == pytest.approx(float(together[row]), abs=1e-5)


def test_the_loss_is_bradley_terry_by_hand(make_tiny: MakeTiny) -> None:
    model = make_model(make_tiny)
    pairs = kind_pairs(5)
    with torch.no_grad():
        loss, accuracy = preference_loss(model, pairs, pad_id=0)
        margins = [
            float(model([pair.chosen], pad_id=0)[0] - model([pair.rejected], pad_id=0)[0]) for pair in pairs
        ]
    by_hand = [math.log(1 + math.exp(-margin)) for margin in margins]
    assert float(loss) == pytest.approx(sum(by_hand) / 5, abs=1e-5)
    assert float(accuracy) == pytest.approx(sum(margin > 0 for margin in margins) / 5)
    assert 0 < float(accuracy) < 1


def test_a_new_head_prefers_nothing(make_tiny: MakeTiny) -> None:
    loss, accuracy = preference_loss(RewardModel(make_tiny(vocab_size=40)), kind_pairs(4), pad_id=0)
    assert float(loss.detach()) == pytest.approx(math.log(2))
    assert float(accuracy) == 0.0


def test_preferences_are_learned_from_pairs(make_tiny: MakeTiny) -> None:
    pairs = kind_pairs()
    model = RewardModel(make_tiny(vocab_size=40))
    state = TrainState(model=model, optimizers=Optimizers(model, OPTIM))
    step = make_step(pairs)
    reports = [step(state) for _ in range(40)]
    with torch.no_grad():
        _, accuracy = preference_loss(model, pairs, pad_id=0)
    assert float(accuracy) > 0.9
    assert reports[-1].metrics["loss"] < 0.3 < reports[0].metrics["loss"]
    assert reports[-1].metrics["pair_accuracy"] > 0.9
    assert (state.step, state.position) == (40, 320)
    tokens = sum(len(pair.chosen.token_ids) + len(pair.rejected.token_ids) for pair in pairs[:8])
    assert reports[0].usage.trained_tokens == tokens


def test_a_saved_head_scores_as_before(make_tiny: MakeTiny, tmp_path: Path) -> None:
    model = make_model(make_tiny)
    assert model.save_head(tmp_path) == tmp_path / "reward_head.safetensors"
    other = RewardModel(model.trunk)
    other.load_head(tmp_path)
    assert torch.equal(other.head, model.head)
    assert other.head.requires_grad


def test_a_gradient_that_is_no_number_updates_nothing(make_tiny: MakeTiny, tmp_path: Path) -> None:
    model = make_model(make_tiny)
    state = TrainState(model=model, optimizers=Optimizers(model, OPTIM))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.head.register_hook(lambda gradient: gradient * math.inf)
    plan = LoopPlan(num_steps=40, save_every=1, state_folder=tmp_path)
    with pytest.raises(Diverged, match="grad_norm became"):
        run_loop(state, make_step(kind_pairs()), plan, on_step=lambda _: None, stop=StopSignal())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
