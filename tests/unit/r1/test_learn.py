"""The two ways a stage learns: stopped and gone on with, they arrive where they would have anyway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openbook.data.corpus import Document
from openbook.data.loader import EpochStream
from openbook.errors import Interrupted
from openbook.model.checkpoint import Checkpoint
from openbook.r1.frame import Frame, Work, stage_checkpoint, tokenizer_of
from openbook.r1.judges import rule_judge, training_problems
from openbook.r1.learn import PROBE_EVERY, Arena, reinforce, supervise
from openbook.r1.traces import to_examples
from openbook.rl.config import RLConfig
from openbook.rl.step import Environment
from openbook.runs.progress import Silence
from openbook.runs.run import Run
from openbook.runs.stop import StopSignal
from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.rewards import RewardConfig
from openbook.tokens.renderer import Renderer
from openbook.tokens.template import response
from openbook.train.config import TrainConfig

FAMILY = ChainFamily(ChainConfig(min_operations=1, max_operations=2))
TRAIN = TrainConfig(num_steps=5, examples_per_step=4, save_every=2)
# Untrained models never get the form right, so the length penalty is what differs between completions.
REWARDS = RewardConfig(length=1.0, length_limit_tokens=8, length_buffer_tokens=8)
RL = RLConfig(num_steps=5, num_problems=2, num_generations=4, max_tokens=8, save_every=2, rewards=REWARDS)

pytestmark = pytest.mark.usefixtures("one_thread")
Learn = Callable[[Work], Checkpoint]
MakeFrame = Callable[..., Frame]


class StopsAfter(Silence):
    """Watches, and asks for a stop once a step is done."""

    def __init__(self, step: int) -> None:
        self.stop = StopSignal()
        self._step = step

    def advance(self, step: int, metrics: Mapping[str, float]) -> None:
        self.stop.requested = self.stop.requested or step == self._step


def supervised(base: Checkpoint) -> Learn:
    tokenizer = tokenizer_of(base)
    documents = [Document(question=f"a {n}. a?", response=response("", str(n))) for n in range(6)]

    def learn(work: Work) -> Checkpoint:
        stream = EpochStream(to_examples(documents, Renderer.ours(tokenizer)), seed=work.frame.seed)
        return supervise(work, base.load(), tokenizer, stream, TRAIN)

    return learn


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


@pytest.mark.parametrize("way", [supervised, reinforced])
@pytest.mark.parametrize("stopped_after", [1, 2, 3, 4])
def test_a_stopped_stage_arrives_where_it_would_have_anyway(
    way: Callable[[Checkpoint], Learn],
    stopped_after: int,
    checkpoint: Checkpoint,
    make_frame: MakeFrame,
    tmp_path: Path,
) -> None:
    learn = way(checkpoint)
    whole = stage_checkpoint(make_frame(folder=tmp_path / "whole"), learn)
    assert whole.digest != checkpoint.digest, "it learned something"

    watcher = StopsAfter(stopped_after)
    with pytest.raises(Interrupted, match=f"stopped after step {stopped_after} of 5"):
        stage_checkpoint(make_frame(progress=watcher, stop=watcher.stop), learn)
    frame = make_frame()
    assert stage_checkpoint(frame, learn).digest == whole.digest
    run = Run.open(frame.folder)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5]
    assert [row["attempt"] for row in run.metrics()] == [1] * stopped_after + [2] * (5 - stopped_after)


def test_a_stop_in_the_last_step_stops_nothing(checkpoint: Checkpoint, make_frame: MakeFrame) -> None:
    watcher = StopsAfter(TRAIN.num_steps)
    stage_checkpoint(make_frame(progress=watcher, stop=watcher.stop), supervised(checkpoint))


def test_a_budget_of_device_time_ends_reinforcement_after_the_step_that_spends_it(
    checkpoint: Checkpoint, make_frame: MakeFrame
) -> None:
    frame = make_frame()
    made = stage_checkpoint(frame, reinforced(checkpoint, budget_device_microseconds=1))
    assert [row["step"] for row in Run.open(frame.folder).metrics()] == [1]
    assert made.provenance["step"] == 1


def test_a_policy_is_probed_now_and_then(checkpoint: Checkpoint, make_frame: MakeFrame) -> None:
    frame = make_frame()
    long = replace(RL, num_steps=PROBE_EVERY * 2 + 1)
    versions = []

    def probe(sampler: Any) -> Mapping[str, float]:
        versions.append(sampler.version)
        return {"eval_pass_at_1": 0.5}

    stage_checkpoint(frame, reinforced(checkpoint, long, probe=probe))
    probed = [row["step"] for row in Run.open(frame.folder).metrics() if "eval_pass_at_1" in row]
    assert probed == [PROBE_EVERY, PROBE_EVERY * 2]
    assert len(versions) == 2


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_reference_is_kept_only_where_there_is_something_to_compare(
    beta: float, checkpoint: Checkpoint, make_frame: MakeFrame
) -> None:
    frame = make_frame()
    stage_checkpoint(frame, reinforced(checkpoint, replace(RL, beta=beta, num_steps=3)))
    names = {path.name for path in Run.open(frame.folder).state_folder.glob("step-000002/*")}
    assert ("reference.safetensors" in names) == bool(beta)
    assert "model.safetensors" in names
