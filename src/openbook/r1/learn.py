"""The two ways a stage learns, each a thin frame around the one training loop.

supervise   examples -> checkpoint         pretraining, cold start, rejection sampling, distillation
reinforce   problems and a judge -> checkpoint         zero, reasoning RL, RL for all scenarios, control
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from openbook.engine.engine import Engine
from openbook.model.checkpoint import Checkpoint
from openbook.model.lora import add_lora, merge_lora
from openbook.model.lora_config import LoraConfig
from openbook.model.transformer import Transformer
from openbook.r1.fits import Load, require_fit
from openbook.r1.frame import Work
from openbook.rl.config import RLConfig
from openbook.rl.step import REFERENCE, Environment, policy_step
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.config import TrainConfig
from openbook.train.loop import LoopPlan, run_loop
from openbook.train.optim import Optimizers
from openbook.train.report import StepReport
from openbook.train.state import TrainState
from openbook.train.step import Draw, supervised_step


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """What is measured of a model that learns, every so many steps and after the last."""

    every: int
    measure: Callable[[Transformer], Mapping[str, float]]


def supervise(
    work: Work,
    model: Transformer,
    tokenizer: Tokenizer,
    draw: Draw,
    config: TrainConfig,
    *,
    watch: Watch | None = None,
) -> Checkpoint:
    """Train on examples drawn from a stream, from where the stage stands, and save the result."""
    load = Load(model=model.config, tokens_per_batch=config.tokens_per_batch, lora=config.lora)
    require_fit(load, work.frame.device)
    _adapt(work, model.train(), config.lora)
    state = TrainState(model=model, optimizers=Optimizers(model, config.optim))
    step = supervised_step(draw, config, pad_id=tokenizer.pad_id)

    def advance(state: TrainState) -> StepReport:
        report = step(state)
        if watch is None or (report.step % watch.every and report.step < config.num_steps):
            return report
        return replace(report, metrics={**report.metrics, **watch.measure(model)})

    advance_to_end(work, state, advance, num_steps=config.num_steps, save_every=config.save_every)
    merge_lora(model)
    return work.save(model, tokenizer, state.step)


PROBE_EVERY = 6
"""Steps between two probes of a policy on its way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arena:
    """What reinforcement needs besides a model: its settings, its problems and judge, when to stop early."""

    config: RLConfig
    environment: Environment
    budget_device_microseconds: int = 0
    """Stop once the stage has held its device this long; 0 sets no limit."""
    probe: Callable[[Engine], Mapping[str, float]] = lambda _: {}
    """More metrics, measured every `PROBE_EVERY` steps: a small examination on the way."""


def reinforce(work: Work, start: Checkpoint, arena: Arena) -> Checkpoint:
    """Train by reward from a checkpoint; nothing supervised happens in between (DeepSeek-R1 2.2)."""
    config, tokenizer = arena.config, arena.environment.renderer.tokenizer
    copies = 1 if config.beta else 0
    work.keep_companions(start)
    load = Load(
        model=start.config,
        tokens_per_batch=config.tokens_per_batch,
        num_companions=copies,
        lora=config.lora,
    )
    require_fit(load, work.frame.device)
    model = work.frame.learner(start).train()
    _adapt(work, model, config.lora)
    companions = {REFERENCE: work.frame.learner(start)} if config.beta else {}
    state = TrainState(model=model, optimizers=Optimizers(model, config.optim), companions=companions)
    engine = work.engine(model, tokenizer, return_experts=config.routing_replay)
    step = policy_step(config, arena.environment, engine)

    def advance(state: TrainState) -> StepReport:
        report = step(state)
        if report.step % PROBE_EVERY:
            return report
        engine.publish(report.step)
        return replace(report, metrics={**report.metrics, **arena.probe(engine)})

    limit = arena.budget_device_microseconds
    within_budget = None if not limit else lambda: work.device_microseconds < limit
    advance_to_end(
        work, state, advance, num_steps=config.num_steps, save_every=config.save_every, go_on=within_budget
    )
    merge_lora(model)
    return work.save(model, tokenizer, state.step)


def _adapt(work: Work, model: Transformer, lora: LoraConfig | None) -> None:
    """Freeze a model and put adapters into it, if a stage is to train those."""
    if lora is not None:
        trained = add_lora(model, lora, torch.Generator().manual_seed(work.frame.seed))
        work.card["trained_parameters"] = str(trained)


def advance_to_end(
    work: Work,
    state: TrainState,
    advance: Callable[[TrainState], StepReport],
    *,
    num_steps: int,
    save_every: int,
    go_on: Callable[[], bool] | None = None,
) -> None:
    """The loop from the last saved state on; what came after it is forgotten, but was paid."""
    state.load(work.run.state_folder)
    work.go_back(state.step)
    work.frame.progress.start(work.frame.stage, num_steps)
    plan = LoopPlan(num_steps=num_steps, save_every=save_every, state_folder=work.run.state_folder)
    run_loop(state, advance, plan, on_step=work.on_step, stop=work.frame.stop, go_on=go_on)
