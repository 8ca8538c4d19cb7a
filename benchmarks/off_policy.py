"""Do corrections and routing replay matter on our own mixture of experts? -> a Markdown table.

    python benchmarks/off_policy.py --from out/nano-0/01-pretrain/checkpoint
        [--seeds 0 1 2] [--steps 25] [--only NAME ...] [--out out/off_policy] [--read-only]

Each run is R1-Zero's stage of the story, `zero` of recipes/run/nano.toml, for fewer steps: the exact
baseline, then a sampler that differs from the trainer (bf16 or int4 weights, or weights published every
eighth step only), with and without what is to mend it, and 16 updates a rollout. The seed gives problems and
sampling, so that all runs of a seed begin alike. At the end the policy itself is examined by an exact sampler
on held-out problems, whoever sampled before. One process and one thread a run; CPU-seconds are those of the
training loop. What is done is kept in `results.jsonl` and not done again.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from openbook.config import load_recipe
from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.speaker import engine_for
from openbook.engine.types import Generation, SamplingParams
from openbook.evals.evaluate import Subject, evaluate
from openbook.model.checkpoint import Checkpoint
from openbook.model.transformer import Transformer
from openbook.quant.formats import WeightFormat
from openbook.quant.modules import quantize_model
from openbook.r1.config import ExamConfig, StoryConfig
from openbook.r1.exam import EXAM_SEED, exam_problems
from openbook.r1.judges import rule_judge, training_problems
from openbook.rl.config import RLConfig
from openbook.rl.step import REFERENCE, Environment, policy_step
from openbook.tasks.registry import make_family
from openbook.tokens.renderer import Renderer
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.optim import Optimizers
from openbook.train.state import TrainState

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "run" / "nano.toml"
NUM_EXAM_PROBLEMS = 256
NUM_LAST_STEPS = 5
PUBLISH_EVERY = 8
MINIBATCH_RATE_SHARE = 0.25
"""Of the learning rate where a rollout makes 16 updates: the square root of what keeps their sum the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to sample and to correct for it."""

    weights: str = "fp32"
    """The sampler's: fp32, bf16, or int4 (a quantised copy, made anew whenever weights are published)."""
    publish_every: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the recipe's RLConfig."""
    rate_share: float = 1.0


NONE = {"old_logprobs": "trainer"}
"""No correction: the ratio begins at 1, whatever the sampler thought."""
TRUNCATE = {**NONE, "importance_correction": "token_truncate"}
MASK = {**NONE, "importance_correction": "sequence_mask"}
RATIO: dict[str, Any] = {}
"""The default: the ratio is against the sampler itself, and so corrects within the clip."""
NO_REPLAY = {"routing_replay": False}
MANY = {"num_minibatches": 16, "old_logprobs": "trainer"}

ARMS: dict[str, Arm] = {
    "exact": Arm(),
    "bf16 none": Arm(weights="bf16", changes=NONE),
    "bf16 token_truncate": Arm(weights="bf16", changes=TRUNCATE),
    "bf16 sequence_mask": Arm(weights="bf16", changes=MASK),
    "bf16 none, no replay": Arm(weights="bf16", changes=NONE | NO_REPLAY),
    "int4 none": Arm(weights="int4", changes=NONE),
    "int4 ratio": Arm(weights="int4", changes=RATIO),
    "int4 token_truncate": Arm(weights="int4", changes=TRUNCATE),
    "int4 sequence_mask": Arm(weights="int4", changes=MASK),
    "int4 none, no replay": Arm(weights="int4", changes=NONE | NO_REPLAY),
    "stale none": Arm(publish_every=PUBLISH_EVERY, changes=NONE),
    "stale ratio": Arm(publish_every=PUBLISH_EVERY, changes=RATIO),
    "stale token_truncate": Arm(publish_every=PUBLISH_EVERY, changes=TRUNCATE),
    "stale sequence_mask": Arm(publish_every=PUBLISH_EVERY, changes=MASK),
    "16 minibatches, epsilon 0.2": Arm(changes=MANY, rate_share=MINIBATCH_RATE_SHARE),
    "16 minibatches, epsilon 10": Arm(changes=MANY | {"epsilon": 10.0}, rate_share=MINIBATCH_RATE_SHARE),
    "twice the rate, exact": Arm(rate_share=2.0),
    "twice the rate, stale none": Arm(publish_every=PUBLISH_EVERY, changes=NONE, rate_share=2.0),
    "twice the rate, stale token_truncate": Arm(
        publish_every=PUBLISH_EVERY, changes=TRUNCATE, rate_share=2.0
    ),
    "twice the rate, stale sequence_mask": Arm(publish_every=PUBLISH_EVERY, changes=MASK, rate_share=2.0),
    "16 minibatches at the full rate, epsilon 0.2": Arm(changes=MANY),
    "16 minibatches at the full rate, epsilon 10": Arm(changes=MANY | {"epsilon": 10.0}),
}


@dataclass(kw_only=True)
class Sampler:
    """A PolicyGenerator over a copy of the policy, in the weights and at the age that an arm asks for."""

    model: Transformer
    tokenizer: Tokenizer
    arm: Arm
    returns_experts: bool
    engine: Engine | None = None

    def publish(self, version: int) -> None:
        if version % self.arm.publish_every == 0:
            self.engine = self._engine()
            self.engine.publish(version)

    def _engine(self) -> Engine:
        kind = self.arm.weights
        model = copy.deepcopy(self.model) if kind != "int4" else quantize_model(self.model, WeightFormat.INT4)
        config = EngineConfig(
            decode="native",
            deterministic=True,
            weights="bf16" if kind == "bf16" else "auto",
            return_experts=self.returns_experts,
        )
        return engine_for(model.eval(), self.tokenizer, config)

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, num_generations: int, seed: int
    ) -> Generation:
        assert self.engine is not None, "publish comes first"
        return self.engine.generate(prompts, params, num_generations=num_generations, seed=seed)


def story() -> StoryConfig:
    config = load_recipe(RECIPE, {"run": StoryConfig}).config
    assert isinstance(config, StoryConfig)
    return config


def config_of(arm: Arm, zero: RLConfig, num_steps: int) -> RLConfig:
    optim = replace(
        zero.optim,
        muon_learning_rate=zero.optim.muon_learning_rate * arm.rate_share,
        adamw_learning_rate=zero.optim.adamw_learning_rate * arm.rate_share,
    )
    return replace(zero, num_steps=num_steps, optim=optim, **arm.changes)


def train_once(name: str, start: Path, seed: int, num_steps: int) -> dict[str, Any]:
    """One run in this process, examined at its end."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    settings, arm = story(), ARMS[name]
    config = config_of(arm, settings.zero, num_steps)
    checkpoint = Checkpoint.open(start)
    renderer = Renderer.of_folder(start, settings.exam.prompt)
    family = make_family(settings.exam.family)
    environment = Environment(
        draw=training_problems(family, seed),
        scorer=rule_judge(family, config.rewards),
        renderer=renderer,
        seed=seed,
    )
    model = checkpoint.load().train()
    companions = {REFERENCE: checkpoint.load()} if config.beta else {}
    state = TrainState(model=model, optimizers=Optimizers(model, config.optim), companions=companions)
    sampler = Sampler(
        model=model, tokenizer=renderer.tokenizer, arm=arm, returns_experts=config.routing_replay
    )
    advance = policy_step(config, environment, sampler)
    began, began_cpu, rows = time.perf_counter(), time.process_time(), []
    for _ in range(num_steps):
        rows.append(advance(state).metrics)
        shown = {key: round(rows[-1][key], 4) for key in ("accuracy", "sampler_gap", "entropy")}
        print(f"{name}, seed {seed}, step {state.step}: {shown}", file=sys.stderr, flush=True)
    return {
        "arm": name,
        "seed": seed,
        "steps": num_steps,
        "cpu_seconds": time.process_time() - began_cpu,
        "seconds": time.perf_counter() - began,
        "held_out": held_out(model, renderer, settings.exam),
        "last_accuracy": statistics.fmean(row["accuracy"] for row in rows[-NUM_LAST_STEPS:]),
        "first_gap": rows[0]["sampler_gap"],
        **{key: statistics.fmean(row[key] for row in rows) for key in MEANS},
        "accuracy": [row["accuracy"] for row in rows],
    }


MEANS = ("sampler_gap", "importance_weight_mean", "clipped_share", "dropped_share", "entropy")
"""Metrics that are kept as their means over the steps."""


def held_out(model: Transformer, renderer: Renderer, exam: ExamConfig) -> float:
    """pass@1 of the policy as the trainer has it, sampled at temperature 1."""
    family = make_family(exam.family)
    engine = engine_for(model.eval(), renderer.tokenizer, EngineConfig(decode="native", deterministic=True))
    card, _ = evaluate(
        engine,
        renderer,
        family,
        problems=exam_problems(family, NUM_EXAM_PROBLEMS),
        subject=Subject(stage="off_policy", checkpoint_digest="", suite="held_out"),
        config=exam.sampling,
        seed=EXAM_SEED,
    )
    return card.pass_at_1.value


def run_once(name: str, start: Path, out: Path, seed: int, num_steps: int) -> None:
    """One run in a process of its own, unless it is among the results already."""
    key = {"arm": name, "seed": seed, "steps": num_steps}
    if any(key.items() <= result.items() for result in results(out)):
        return
    command = [sys.executable, __file__, "--from", str(start), "--steps", str(num_steps)]
    command += ["--seeds", str(seed), "--only", name, "--here"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(done.stdout.strip().splitlines()[-1] + "\n")


def results(out: Path) -> list[dict[str, Any]]:
    path = out / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: means and standard errors over the seeds; the difference pairs the seeds with `exact`."""
    columns = ("", "steps", "seeds", "held out, %", "points against exact", "last 5 steps, %", "all steps, %")
    columns += ("gap, first step", "gap, mean", "mean weight", "clipped, %", "entropy", "CPU-s")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for steps in sorted({one["steps"] for one in found}):
        same = [one for one in found if one["steps"] == steps]
        exact = {one["seed"]: one["held_out"] for one in same if one["arm"] == "exact"}
        for name in ARMS:
            runs = [one for one in same if one["arm"] == name]
            if runs:
                lines.append("| " + " | ".join(row(name, runs, exact)) + " |")
    return "\n".join(lines)


def row(name: str, runs: list[dict[str, Any]], exact: Mapping[int, float]) -> list[str]:
    paired = [100 * (one["held_out"] - exact[one["seed"]]) for one in runs if one["seed"] in exact]
    return [
        name,
        str(runs[0]["steps"]),
        str(len(runs)),
        mean_and_error([100 * one["held_out"] for one in runs]),
        "" if name == "exact" or not paired else mean_and_error(paired),
        mean_and_error([100 * one["last_accuracy"] for one in runs]),
        mean_and_error([100 * statistics.fmean(one["accuracy"]) for one in runs]),
        f"{statistics.fmean(one['first_gap'] for one in runs):.2g}",
        f"{statistics.fmean(one['sampler_gap'] for one in runs):.2g}",
        f"{statistics.fmean(one['importance_weight_mean'] for one in runs):.3f}",
        f"{100 * statistics.fmean(one['clipped_share'] for one in runs):.2f}",
        f"{statistics.fmean(one['entropy'] for one in runs):.2f}",
        mean_and_error([one["cpu_seconds"] for one in runs]),
    ]


def mean_and_error(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f}"
    return f"{statistics.fmean(values):.1f} +- {statistics.stdev(values) / len(values) ** 0.5:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="start", type=Path, help="the base: a checkpoint of the nano recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--only", choices=list(ARMS), nargs="+", default=list(ARMS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("out/off_policy"))
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.read_only and arguments.start is None:
        parser.error("--from CHECKPOINT is needed to train")
    if arguments.here:
        (name,), (seed,) = arguments.only, arguments.seeds
        print(json.dumps(train_once(name, arguments.start, seed, arguments.steps)))
        return
    for seed in [] if arguments.read_only else arguments.seeds:
        for name in arguments.only:
            run_once(name, arguments.start, arguments.out, seed, arguments.steps)
    print(table(results(arguments.out)))


if __name__ == "__main__":
    main()
