"""Every diagnosis from a run that really has the trouble: tiny models, trained in a second or two.

A base of two layers learns, supervised, to answer chains modulo 2; half of what it reads has no tags. From it
begin runs of reinforcement that are healthy, or broken on purpose in one way.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from openbook.config import dump
from openbook.data.config import CorpusConfig
from openbook.data.corpus import Corpus
from openbook.engine.speaker import engine_for
from openbook.errors import UserError
from openbook.model.moe import Gate
from openbook.model.transformer import Transformer
from openbook.r1.config import MachineConfig
from openbook.r1.frame import Frame, stage_checkpoint
from openbook.r1.judges import rule_judge, training_problems
from openbook.r1.learn import supervise
from openbook.r1.pretrain import corpus_stream
from openbook.rl.config import RLConfig
from openbook.rl.step import REFERENCE, Environment, policy_step
from openbook.rl.types import Attempt, Scored, Scorer
from openbook.runs.diagnosis import Watch
from openbook.runs.progress import Silence
from openbook.runs.run import Run
from openbook.runs.stop import StopSignal
from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.problem import Outcome, Problem, Split, Verdict
from openbook.tasks.rewards import RewardConfig, RewardParts
from openbook.tokens.renderer import Renderer
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.config import LossConfig, OptimConfig, ScheduleConfig, TrainConfig
from openbook.train.loop import LoopPlan, run_loop
from openbook.train.optim import Optimizers
from openbook.train.state import TrainState
from openbook.train.step import supervised_step

CHAINS = ChainFamily(ChainConfig(min_operations=1, max_operations=2, modulus=2, start_letters=2))
HARD_CHAINS = ChainFamily(ChainConfig(min_operations=3, max_operations=4, modulus=10, start_letters=2))
CORPUS = CorpusConfig(
    exercises=CHAINS.config,
    full_share=0.5,
    sketch_share=0.0,
    drill_share=0.0,
    worked_share=0.0,
    courtesy_share=0.0,
)
RATE = 6e-3
"""The rate of Muon at which these runs are healthy; AdamW's is a fifth of it."""

Found = dict[str, dict[str, str]]
Examine = Callable[[Path], Found]
MakeTiny = Callable[..., Transformer]


def optim(rate: float, **changed: Any) -> OptimConfig:
    return OptimConfig(muon_learning_rate=rate, adamw_learning_rate=rate / 5, **changed)


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A model to learn from reward, and where its runs go."""

    model: Transformer
    tokenizer: Tokenizer
    folder: Path

    def reinforce(
        self,
        scorer: Scorer | None = None,
        *,
        draw: Callable[[int, int], Sequence[Problem]] | None = None,
        rate: float = RATE,
        is_stale: bool = False,
        **changed: Any,
    ) -> Run:
        """A run from a copy of the model; the scorer is accuracy plus format unless another is given."""
        values: dict[str, Any] = {
            "num_steps": 24,
            "num_problems": 4,
            "num_generations": 8,
            "max_tokens": 40,
            "optim": optim(rate),
            "schedule": ScheduleConfig(warmup_steps=2, decay="none"),
        }
        config = RLConfig(**values | changed)
        model = copy.deepcopy(self.model)
        environment = Environment(
            draw=draw or training_problems(CHAINS, 0),
            scorer=scorer or rule_judge(CHAINS, RewardConfig()),
            renderer=Renderer.ours(self.tokenizer),
            seed=1,
        )
        state = TrainState(
            model=model,
            optimizers=Optimizers(model, config.optim),
            companions={REFERENCE: copy.deepcopy(model)},
        )
        generator = engine_for(copy.deepcopy(model) if is_stale else model, self.tokenizer)
        run = Run.create(
            self.folder / "run", verb="rl", stage="zero", recipe={"settings": {"rl": dump(config)}}, seed=0
        )
        return train(run, state, policy_step(config, environment, generator), config.num_steps)


def train(run: Run, state: TrainState, advance: Callable[[TrainState], Any], num_steps: int) -> Run:
    """The loop of every stage, with its metrics in a run's folder."""
    run.start()
    plan = LoopPlan(num_steps=num_steps, save_every=num_steps, state_folder=run.state_folder)
    try:
        run_loop(state, advance, plan, on_step=lambda one: run.log(one.step, one.metrics), stop=StopSignal())
    except UserError as error:
        run.fail(error.what)
    else:
        run.finish()
    return run


def judge(reward: Callable[[Attempt, bool], float | Outcome]) -> Scorer:
    """A judge of chains that pays `reward(attempt, is_right)`; an Outcome instead of a number is no score."""

    def score(attempts: Sequence[Attempt]) -> list[Scored]:
        results = []
        for one in attempts:
            verdict = CHAINS.verify(one.problem, one.parsed.answer)
            paid = reward(one, verdict.correct)
            if isinstance(paid, Outcome):
                verdict = Verdict(outcome=paid, reason="")
                parts = RewardParts(parts={}, scored=False, reason=str(paid))
            else:
                parts = RewardParts(parts={"own": paid}, scored=True, reason="")
            results.append(Scored(verdict=verdict, reward=parts))
        return results

    return score


def num_tokens(attempt: Attempt) -> int:
    return len(attempt.completion.token_ids)


def warned(run: Run) -> dict[str, int]:
    """What the progress view would have warned of, and at which step."""
    watch, said = Watch(), dict[str, int]()
    for row in run.metrics():
        metrics = {name: value for name, value in row.items() if name not in ("step", "time", "attempt")}
        said |= {one.name: int(row["step"]) for one in watch.see(int(row["step"]), metrics)}
    return said


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read(
    model: Transformer, tokenizer: Tokenizer, config: TrainConfig, run: Run, *, untagged_share: float = 0.5
) -> Run:
    """A model reads the corpus, supervised."""
    draw = corpus_stream(Corpus(replace(CORPUS, untagged_share=untagged_share), seed=0), tokenizer)
    state = TrainState(model=model, optimizers=Optimizers(model, config.optim))
    return train(run, state, supervised_step(draw, config, pad_id=tokenizer.pad_id), config.num_steps)


def reading(num_steps: int, rate: float = 0.02) -> TrainConfig:
    return TrainConfig(
        num_steps=num_steps,
        examples_per_step=16,
        optim=OptimConfig(muon_learning_rate=rate, adamw_learning_rate=rate / 2),
        schedule=ScheduleConfig(warmup_steps=5),
    )


@pytest.fixture(scope="module")
def base(
    make_tiny: MakeTiny, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Transformer, Run]:
    """The base, and the run that made it."""
    model = make_tiny(gqa=True)
    run = Run.create(
        tmp_path_factory.mktemp("base") / "run", verb="pretrain", stage="pretrain", recipe={}, seed=0
    )
    return model, read(model, tokenizer, reading(60), run)


@pytest.fixture
def patient(base: tuple[Transformer, Run], tokenizer: Tokenizer, tmp_path: Path) -> Patient:
    """One that has the format to learn."""
    return Patient(model=base[0], tokenizer=tokenizer, folder=tmp_path)


@pytest.fixture(scope="module")
def schooled(
    make_tiny: MakeTiny, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Transformer:
    model = make_tiny(gqa=True)
    folder = tmp_path_factory.mktemp("schooled") / "run"
    run = Run.create(folder, verb="pretrain", stage="pretrain", recipe={}, seed=0)
    read(model, tokenizer, reading(60), run, untagged_share=0.05)
    return model


@pytest.fixture
def thinker(schooled: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> Patient:
    """One that thinks in half of its answers, keeps to the format and is right half of the time."""
    return Patient(model=schooled, tokenizer=tokenizer, folder=tmp_path)


@pytest.fixture
def examine(inside: Callable[..., Any]) -> Examine:
    """What `openbook doctor` says of a run's folder, by name."""

    def call(folder: Path) -> Found:
        answer = inside("doctor", folder, "--json")
        assert answer.code == 0, answer.err
        (examined,) = json.loads(answer.out)
        return {one["name"]: one for one in examined["diagnoses"]}

    return call


def troubles(found: Found) -> set[str]:
    return {name for name, one in found.items() if one["severity"] != "note"}


def test_a_healthy_run_raises_nothing_and_says_why_its_loss_is_zero(
    patient: Patient, examine: Examine
) -> None:
    run = patient.reinforce()
    rows = run.metrics()
    assert sum(row["reward"] for row in rows[-5:]) > 1.3 * sum(row["reward"] for row in rows[:3]) * 5 / 3
    found = examine(run.folder)
    assert not troubles(found) and not warned(run)
    assert found["loss_zero"]["severity"] == "note" and abs(rows[-1]["loss"]) < 0.01 < rows[-1]["grad_norm"]


def test_a_base_that_learns_to_read_raises_nothing(base: tuple[Transformer, Run], examine: Examine) -> None:
    assert not troubles(examine(base[1].folder)) and not warned(base[1])


def test_a_learning_rate_that_is_too_high_collapses_the_policy(patient: Patient, examine: Examine) -> None:
    run = patient.reinforce(rate=30 * RATE)
    found = examine(run.folder)
    assert found["rate_too_high"]["severity"] == found["collapse"]["severity"] == "fault"
    assert f"at its highest {30 * RATE:.3g}" in found["rate_too_high"]["mend"]
    assert warned(run)["collapse"] <= 20, "while there is something to save"
    assert run.metrics()[-1]["reward"] < 0.1


def test_problems_that_become_impossible_look_like_a_collapse_with_calm_updates(
    thinker: Patient, examine: Examine
) -> None:
    def draw(position: int, count: int) -> list[Problem]:
        family = CHAINS if position < 48 else HARD_CHAINS
        return [family.problem(0, Split.TRAIN, index) for index in range(position, position + count)]

    found = examine(thinker.reinforce(judge(lambda one, right: float(right)), draw=draw, rate=1e-3).folder)
    assert "rate_too_high" not in found
    assert "looks healthy" in found["collapse"]["evidence"] and "problems" in found["collapse"]["mend"]


def test_a_reward_that_sinks_below_its_start_is_no_collapse_yet(thinker: Patient, examine: Examine) -> None:
    def stricter(one: Attempt, right: bool) -> float:
        return one.parsed.well_formed * (1.0 if int(one.problem.id.rpartition("/")[2]) < 48 else 0.65)

    found = examine(thinker.reinforce(judge(stricter), rate=1e-4).folder)
    assert troubles(found) == {"reward_below_start"}


@pytest.mark.parametrize(
    ("paid", "name", "severity"),
    [(Outcome.WRONG, "all_wrong", "fault"), (Outcome.CORRECT, "all_right", "note")],
)
def test_groups_without_variance_are_told_apart(
    paid: Outcome, name: str, severity: str, patient: Patient, examine: Examine
) -> None:
    def verify(attempts: Sequence[Attempt]) -> list[Scored]:
        reward = RewardParts(parts={"accuracy": float(paid is Outcome.CORRECT)}, scored=True, reason="")
        return [Scored(verdict=Verdict(outcome=paid, reason=""), reward=reward) for _ in attempts]

    run = patient.reinforce(verify, num_steps=8)
    found = examine(run.folder)
    assert found[name]["severity"] == severity and "loss_zero" not in found
    assert found[name]["evidence"].startswith("zero_variance_groups 100%")
    assert run.metrics()[-1]["grad_norm"] == 0.0


def test_completions_that_earn_alike_though_some_are_right_are_named(
    thinker: Patient, examine: Examine
) -> None:
    found = examine(thinker.reinforce(judge(lambda one, right: 1.0), num_steps=8).folder)
    assert found["all_alike"]["severity"] == "fault"


def test_a_sampler_that_keeps_old_weights_is_found_out(patient: Patient, examine: Examine) -> None:
    run = patient.reinforce(is_stale=True)
    found = examine(run.folder)
    assert found["sampler_mismatch"]["severity"] == "fault"
    assert "drifts away" in found["sampler_mismatch"]["what"]
    assert run.metrics()[0]["sampler_gap"] < 1e-4, "at first both have the same weights"
    assert "sampler_mismatch" in warned(run)


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.CRASHED, Outcome.UNSCORABLE])
def test_rewards_that_do_not_come_are_told_apart(
    outcome: Outcome, patient: Patient, examine: Examine
) -> None:
    scorer = judge(lambda one, right: outcome if num_tokens(one) % 3 == 0 else 1.0 * right)
    run = patient.reinforce(scorer, num_steps=12)
    found = examine(run.folder)["unscored"]
    assert run.metrics()[-1]["unscored_share"] > 0.05
    if f"unscored_{outcome}" in run.metrics()[-1]:
        assert f": {outcome} " in found["evidence"]


def test_a_reward_for_length_explodes_it_and_is_no_way_to_be_right(
    patient: Patient, examine: Examine
) -> None:
    run = patient.reinforce(judge(lambda one, right: right + 0.1 * num_tokens(one)), rate=1e-2, max_tokens=60)
    found = examine(run.folder)
    assert {"length_explosion", "reward_hacking", "truncation"} <= troubles(found)
    assert "reward_own rises" in found["reward_hacking"]["evidence"] and "collapse" not in found
    assert {"length_explosion", "reward_hacking"} <= warned(run).keys()


def test_a_reward_for_silence_ends_thinking(thinker: Patient, examine: Examine) -> None:
    run = thinker.reinforce(judge(lambda one, right: -0.1 * num_tokens(one)))
    assert "length_collapse" in troubles(examine(run.folder))


def test_a_reward_for_new_words_explodes_entropy_and_runs_away_from_the_reference(
    patient: Patient, examine: Examine
) -> None:
    scorer = judge(lambda one, right: len(set(one.completion.token_ids)) / 10)
    found = examine(patient.reinforce(scorer, rate=2e-2, num_steps=28).folder)
    assert {"entropy_explosion", "kl_runaway"} <= troubles(found)


def test_a_reward_for_one_answer_ends_all_variety(thinker: Patient, examine: Examine) -> None:
    scorer = judge(lambda one, right: float(one.parsed.answer == "1" and num_tokens(one) < 9))
    found = examine(thinker.reinforce(scorer, rate=2e-2, num_steps=60).folder)
    assert "entropy_collapse" in troubles(found)
    assert "accuracy" in found["entropy_collapse"]["evidence"]


def test_completions_that_are_cut_off_and_masked_are_named(thinker: Patient, examine: Examine) -> None:
    found = examine(thinker.reinforce(max_tokens=5, mask_truncated_completions=True, num_steps=8).folder)
    assert {"truncation", "dropped"} <= troubles(found)
    assert found["truncation"]["evidence"].endswith("at max_tokens 5")


def test_gradients_that_are_always_clipped_are_a_note(patient: Patient, examine: Examine) -> None:
    run = patient.reinforce(optim=optim(RATE, max_grad_norm=0.01))
    assert examine(run.folder)["always_clipped"]["severity"] == "note"


@pytest.mark.parametrize(
    ("rate", "names"),
    [(10.0, {"loss_rising"}), (1e3, {"loss_rising", "no_gradient"}), (1e30, {"diverged"})],
)
def test_supervised_training_at_too_high_a_rate_rises_dies_or_diverges(
    rate: float,
    names: set[str],
    base: tuple[Transformer, Run],
    tokenizer: Tokenizer,
    tmp_path: Path,
    examine: Examine,
) -> None:
    run = Run.create(tmp_path / "run", verb="sft", stage="cold_start", recipe={}, seed=0)
    read(copy.deepcopy(base[0]), tokenizer, reading(40, rate), run)
    assert run.status == ("failed" if "diverged" in names else "done")
    assert troubles(examine(run.folder)) == names
    assert names == {"diverged"} or names <= warned(run).keys()


@pytest.mark.parametrize(
    ("biases", "name"), [({1: -10.0}, "dead_experts"), ({1: 10.0, 2: 5.0}, "router_imbalance")]
)
def test_a_router_that_leans_is_found_out(
    biases: dict[int, float],
    name: str,
    make_tiny: MakeTiny,
    tokenizer: Tokenizer,
    tmp_path: Path,
    examine: Examine,
) -> None:
    model = make_tiny()
    for part in model.modules():
        if isinstance(part, Gate):
            for expert, bias in biases.items():
                part.e_score_correction_bias[expert] = bias
    frame = Frame(
        folder=tmp_path / "run",
        verb="pretrain",
        stage="pretrain",
        seed=0,
        recipe={},
        parents=[],
        machine=MachineConfig(device="cpu", num_threads=1),
        progress=Silence(),
        stop=StopSignal(),
    )
    config = replace(reading(60), examples_per_step=4, loss=LossConfig(bias_update_rate=0.0))
    draw = corpus_stream(Corpus(CORPUS, seed=0), tokenizer)
    stage_checkpoint(frame, lambda work: supervise(work, model, tokenizer, draw, config))
    found = examine(frame.folder)
    assert name in troubles(found)
    assert name != "dead_experts" or found[name]["evidence"] == "MoE layer 0: 1 of 4; MoE layer 1: 1 of 4"
