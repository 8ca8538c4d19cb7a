"""Our reinforcement learning as a contestant, in a process of its own as its peers are.

    python -m openbook.bench.rl_ours FOLDER OPTIONS NUM_THREADS

FOLDER holds the work and the model, OPTIONS is JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import openbook
from openbook.bench.peers.worker import serve
from openbook.bench.rl_timing import StepTiming, StepWatch, installed_bytes
from openbook.bench.rl_work import (
    BETAS,
    LEARNING_RATE,
    MAX_GRAD_NORM,
    MODEL_FOLDER,
    Options,
    RLWork,
    text_of,
    word_tokenizer,
)
from openbook.engine.config import EngineConfig
from openbook.engine.speaker import engine_for
from openbook.engine.types import Generation, PolicyGenerator, SamplingParams
from openbook.model.checkpoint import Checkpoint
from openbook.model.transformer import Transformer
from openbook.rl.config import RLConfig
from openbook.rl.step import Environment, policy_step
from openbook.rl.types import Attempt, Scored
from openbook.runs.usage import Usage
from openbook.tasks.problem import Outcome, Problem, Split, Verdict
from openbook.tasks.rewards import RewardParts
from openbook.tokens.chat import Message
from openbook.tokens.renderer import Renderer
from openbook.tokens.special import SpecialIds
from openbook.tokens.template import Parsed
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.config import OptimConfig, ScheduleConfig
from openbook.train.device import keep_freed_memory
from openbook.train.optim import Optimizers
from openbook.train.state import TrainState

_POSITIONS_A_BATCH = 16384
"""More than a step of the benchmark has, so that it is one batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainTemplate:
    """The question as it is behind what begins a text, and the reply as it is."""

    bos_token: str = ""

    def render(self, messages: Sequence[Message]) -> str:
        return self.bos_token + messages[-1].content

    def parse(self, text: str) -> Parsed:
        return Parsed(thinking="", answer=text, well_formed=True, reason="")


class TimedSampler:
    """A sampler whose time is taken; without `shared_prompts` each completion reads its prompt itself."""

    def __init__(self, sampler: PolicyGenerator, watch: StepWatch, *, shared_prompts: bool) -> None:
        self._sampler, self._watch, self._shared_prompts = sampler, watch, shared_prompts

    def publish(self, version: int) -> None:
        with self._watch.sampling():
            self._sampler.publish(version)

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, num_generations: int, seed: int
    ) -> Generation:
        with self._watch.sampling():
            if self._shared_prompts:
                return self._sampler.generate(prompts, params, num_generations=num_generations, seed=seed)
            alone = [prompt for prompt in prompts for _ in range(num_generations)]
            generation = self._sampler.generate(alone, params, num_generations=1, seed=seed)
        flat = [completions[0] for completions in generation.completions]
        starts = range(0, len(flat), num_generations)
        groups = tuple(tuple(flat[start : start + num_generations]) for start in starts)
        return Generation(completions=groups, usage=sum((one.usage for one in flat), Usage()))


class OurTrainer:
    """A model with its optimizer, sampler and environment: `step` makes one step of the work."""

    def __init__(self, model: Transformer, work: RLWork, options: Options) -> None:
        self._work = work
        self._watch = StepWatch()
        config = rl_config(work, options)
        tokenizer = our_tokenizer(work.vocab_size)
        engine = engine_for(model, tokenizer, engine_config(work, options))
        sampler = TimedSampler(engine, self._watch, shared_prompts=options.shared_prompts)
        environment = Environment(
            draw=lambda position, count: self._problems(position // count - 1),
            scorer=self._score,
            renderer=Renderer(tokenizer=tokenizer, template=PlainTemplate()),
            seed=0,
        )
        self._advance = policy_step(config, environment, sampler)
        self._state = TrainState(model=model.train(), optimizers=Optimizers(model, config.optim))

    def step(self) -> StepTiming:
        """The next round: the first is the one that warms up."""
        self._watch.start()
        self._advance(self._state)
        return self._watch.stop(self._work.num_new_tokens)

    def _problems(self, round_number: int) -> list[Problem]:
        return [
            Problem(
                id=f"bench/{round_number}/{number}",
                family="bench",
                split=Split.TRAIN,
                question=text_of(prompt),
                answer="",
                difficulty=1,
                facts={"number": number},
            )
            for number, prompt in enumerate(self._work.prompts(round_number))
        ]

    def _score(self, attempts: Sequence[Attempt]) -> list[Scored]:
        return [self._score_one(attempt) for attempt in attempts]

    def _score_one(self, attempt: Attempt) -> Scored:
        assert len(attempt.completion.token_ids) == self._work.max_tokens
        number = attempt.problem.facts["number"]
        assert isinstance(number, int)
        (reward,) = self._work.rewards(number, [attempt.completion.token_ids])
        return Scored(
            verdict=Verdict(outcome=Outcome.CORRECT if reward > 0.5 else Outcome.WRONG, reason=""),
            reward=RewardParts(parts={"bench": reward}, scored=True, reason=""),
        )


def our_tokenizer(vocab_size: int) -> Tokenizer:
    """The words of the work as our Tokenizer; what ends a text is behind the vocabulary."""
    ids = SpecialIds(pad_id=0, bos_id=vocab_size, eos_id=vocab_size, stop_ids=(vocab_size,), adds_bos=False)
    return Tokenizer(word_tokenizer(vocab_size), ids)


def rl_config(work: RLWork, options: Options) -> RLConfig:
    """GRPO without a reference, by AdamW at a constant rate: what the peers are told too."""
    return RLConfig(
        num_steps=work.num_rounds,
        num_problems=work.num_problems,
        num_generations=work.num_generations,
        max_tokens=work.max_tokens,
        beta=0.0,
        reference_refresh_steps=0,
        balance_weight=0.0,
        bias_update_rate=0.0,
        skip_zero_advantages=options.skip_zero_advantages,
        share_prompts=options.shared_prompts_in_training,
        precision="bf16" if options.bf16_training else "fp32",
        routing_replay=options.routing_replay,
        optim=OptimConfig(
            matrix_optimizer="adamw",
            adamw_learning_rate=LEARNING_RATE,
            beta1=BETAS[0],
            beta2=BETAS[1],
            max_grad_norm=MAX_GRAD_NORM,
        ),
        schedule=ScheduleConfig(warmup_steps=0, decay="none"),
        tokens_per_batch=_POSITIONS_A_BATCH,
    )


def engine_config(work: RLWork, options: Options) -> EngineConfig:
    return EngineConfig(
        max_running=work.num_completions,
        weights="bf16" if options.bf16_sampling else "fp32",
        prefix_caching=options.shared_prompts,
        deterministic=options.deterministic,
        return_experts=options.routing_replay,
    )


def main(arguments: Sequence[str]) -> None:
    """Answer every question with the timing of one step."""
    folder, options, num_threads = Path(arguments[0]), Options(**json.loads(arguments[1])), int(arguments[2])
    torch.set_num_threads(num_threads)
    keep_freed_memory()  # as every stage of a run
    trainer = OurTrainer(Checkpoint.open(folder / MODEL_FOLDER).load(), RLWork.load(folder), options)
    size = installed_bytes("openbook", folders=[Path(openbook.__file__).parent])

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        return {**asdict(trainer.step()), "installed_bytes": size}

    serve(answer)


if __name__ == "__main__":
    main(sys.argv[1:])
