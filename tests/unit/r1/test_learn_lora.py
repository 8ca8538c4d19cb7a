"""Stages that train adapters: what is sampled, saved and gone on with is the model with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from openbook.engine.engine import Engine
from openbook.engine.types import SamplingParams
from openbook.errors import Interrupted, UserError
from openbook.model.checkpoint import Checkpoint
from openbook.model.lora import AdaptedLinear, merge_lora, num_adapter_parameters
from openbook.model.lora_config import LoraConfig
from openbook.r1.fits import Load
from openbook.r1.frame import Frame, Work, stage_checkpoint, tokenizer_of
from openbook.r1.judges import rule_judge, training_problems
from openbook.r1.learn import Arena, reinforce, supervise
from openbook.rl.config import RLConfig
from openbook.rl.step import Environment
from openbook.runs.progress import Silence
from openbook.runs.run import Run
from openbook.runs.stop import StopSignal
from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.rewards import RewardConfig
from openbook.tokens.renderer import Renderer
from openbook.train.config import OptimConfig, TrainConfig

FAMILY = ChainFamily(ChainConfig(min_operations=1, max_operations=2))
ADAMW = OptimConfig(matrix_optimizer="adamw", adamw_learning_rate=1e-2)
LORA = LoraConfig(rank=2)
# Untrained models never get the form right, so the length penalty is what differs between completions.
REWARDS = RewardConfig(length=1.0, length_limit_tokens=8, length_buffer_tokens=8)
RL = RLConfig(
    num_steps=5,
    num_problems=2,
    num_generations=4,
    max_tokens=8,
    save_every=2,
    beta=0.1,
    reference_refresh_steps=3,
    bias_update_rate=0.0,
    rewards=REWARDS,
    optim=ADAMW,
    lora=LORA,
)

pytestmark = pytest.mark.usefixtures("one_thread")
Learn = Callable[[Work], Checkpoint]
MakeFrame = Callable[..., Frame]


class StopsAfter(Silence):
    """Watches, and asks for a stop once a step is done."""

    def __init__(self, step: int) -> None:
        self.stop = StopSignal()
        self._step = step

    def advance(self, step: int, metrics: Any) -> None:
        self.stop.requested = self.stop.requested or step == self._step


def reinforced(base: Checkpoint, config: RLConfig = RL, **more: Any) -> Learn:
    def learn(work: Work) -> Checkpoint:
        environment = Environment(
            draw=training_problems(FAMILY, work.frame.seed),
            scorer=rule_judge(FAMILY, config.rewards),
            renderer=Renderer.of_folder(base.folder),
            seed=work.frame.seed,
        )
        return reinforce(work, base, Arena(config=config, environment=environment, **more))

    return learn


@pytest.mark.parametrize("stopped_after", [1, 2, 3, 4])
def test_a_stopped_stage_with_adapters_arrives_where_it_would_have_anyway(
    stopped_after: int, checkpoint: Checkpoint, make_frame: MakeFrame, tmp_path: Path
) -> None:
    learn = reinforced(checkpoint)
    whole = stage_checkpoint(make_frame(folder=tmp_path / "whole"), learn)
    watcher = StopsAfter(stopped_after)
    with pytest.raises(Interrupted, match=f"stopped after step {stopped_after} of 5"):
        stage_checkpoint(make_frame(progress=watcher, stop=watcher.stop), learn)
    assert stage_checkpoint(make_frame(), learn).digest == whole.digest


def test_a_checkpoint_is_plain_and_only_adapted_matrices_have_changed(
    checkpoint: Checkpoint, make_frame: MakeFrame
) -> None:
    config = replace(RL, lora=LoraConfig(rank=2, targets=("o_proj", "down_proj")))
    frame = make_frame()
    made = stage_checkpoint(frame, reinforced(checkpoint, config))
    before, after = (load_file(one.folder / "model.safetensors") for one in (checkpoint, made))
    assert before.keys() == after.keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    adapted = {
        name
        for name in after
        if name.endswith(("o_proj.weight", "down_proj.weight"))
        and not name.startswith("model.layers.2.")  # the MTP module
        and ".experts." not in name
    }
    assert changed == adapted
    card = json.loads((frame.folder / "card.json").read_text())
    assert config.lora is not None
    assert int(card["trained_parameters"]) == num_adapter_parameters(checkpoint.config, config.lora)


def test_the_state_holds_the_adapters_and_not_what_is_frozen(
    checkpoint: Checkpoint, make_frame: MakeFrame
) -> None:
    frame = make_frame()
    stage_checkpoint(frame, reinforced(checkpoint, replace(RL, num_steps=3)))
    folder = Run.open(frame.folder).state_folder / "step-000002"
    names = load_file(folder / "model.safetensors").keys()
    assert all("lora_" in name or "e_score_correction_bias" in name for name in names), names
    assert any("lora_" in name for name in names)


@pytest.mark.parametrize("decode", ["native", "torch"])
def test_the_engine_samples_from_the_merged_weights(
    decode: Any, checkpoint: Checkpoint, make_frame: MakeFrame, tmp_path: Path
) -> None:
    """After some steps the stage's own sampler says what a fresh one says of the checkpoint written."""
    from openbook.engine.config import EngineConfig
    from openbook.engine.speaker import engine_for

    prompts, params = [[1, 5, 9], [1, 7]], SamplingParams(max_tokens=6, temperature=1.0)
    said: list[Any] = []
    frame = make_frame(folder=tmp_path / decode, machine=replace(make_frame().machine, decode=decode))

    def probe(sampler: Engine) -> dict[str, float]:
        said.append(sampler.generate(prompts, params, num_generations=2, seed=3).completions)
        return {}

    config = replace(RL, num_steps=6)  # a probe stands behind the sixth
    made = stage_checkpoint(frame, reinforced(checkpoint, config, probe=probe))
    engine_config = EngineConfig(decode=decode, deterministic=decode == "native")
    fresh = engine_for(made.load(), tokenizer_of(made), engine_config)
    again = fresh.generate(prompts, params, num_generations=2, seed=3).completions
    for ours, theirs in zip(said[-1], again, strict=True):
        assert [one.token_ids for one in ours] == [one.token_ids for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    untouched = engine_for(checkpoint.load(), tokenizer_of(checkpoint), engine_config)
    base = untouched.generate(prompts, params, num_generations=2, seed=3).completions
    assert base[0][0].logprobs != pytest.approx(said[-1][0][0].logprobs, abs=1e-3), "it learned something"


def test_supervised_training_takes_adapters_too(checkpoint: Checkpoint, make_frame: MakeFrame) -> None:
    from openbook.data.batch import Example

    example = Example(token_ids=(1, 5, 9, 4, 2), weights=(0.0, 0.0, 1.0, 1.0, 1.0))
    config = TrainConfig(num_steps=3, examples_per_step=2, optim=ADAMW, lora=LORA)
    model = checkpoint.load()

    def learn(work: Work) -> Checkpoint:
        return supervise(
            work, model, tokenizer_of(checkpoint), lambda position, count: [example] * count, config
        )

    frame = make_frame()
    made = stage_checkpoint(frame, learn)
    assert made.digest != checkpoint.digest
    losses = [row["loss"] for row in Run.open(frame.folder).metrics()]
    assert losses[-1] < losses[0]
    before, after = (load_file(one.folder / "model.safetensors") for one in (checkpoint, made))
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert not any(isinstance(module, AdaptedLinear) for module in model.modules())


def test_adapters_need_no_optimizer_for_the_rest(checkpoint: Checkpoint) -> None:
    whole = Load(model=checkpoint.config, tokens_per_batch=512).memory
    adapters = Load(model=checkpoint.config, tokens_per_batch=512, lora=LORA).memory
    num_learning = num_adapter_parameters(checkpoint.config, LORA)
    assert (adapters.gradients, adapters.optimizer) == (4 * num_learning, 8 * num_learning)
    assert adapters.weights == whole.weights + 4 * num_learning


def test_adapters_are_not_for_muon() -> None:
    with pytest.raises(UserError, match=r"matrix_optimizer is 'muon'.*set optim.matrix_optimizer"):
        replace(RL, optim=OptimConfig())
    with pytest.raises(UserError, match="trained by AdamW"):
        TrainConfig(num_steps=1, examples_per_step=1, lora=LORA)


def test_merging_a_model_without_adapters_changes_nothing(checkpoint: Checkpoint) -> None:
    model = checkpoint.load()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    merge_lora(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
