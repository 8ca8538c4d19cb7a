"""From a recipe to what its stages will do, for a forecast of what they cost. No torch.

    stage_plans("run", config)  ->  (StagePlan("pretrain", ...), StagePlan("zero", ...), ...)

The plans mirror the stages: which network learns, which one samples, how often, for what. What a stage of a
folder was told is read from the record of its launch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openbook.config import digest
from openbook.data.config import CorpusConfig, TextConfig
from openbook.economics.local.network import Network, network_of
from openbook.economics.local.stages import Learned, Learning, Occasion, Sampled, StagePlan
from openbook.errors import UserError
from openbook.model.config import ModelConfig
from openbook.model.lora_config import LoraConfig
from openbook.model.memory import TrainingSetup, training_memory
from openbook.r1.config import (
    DistillConfig,
    ExamConfig,
    FinetuneConfig,
    PretrainConfig,
    ReinforceConfig,
    SamplingConfig,
    StoryConfig,
)
from openbook.r1.guesses import AT_ONCE, TAUGHT, example_tokens, guess_of
from openbook.r1.real_config import RealStoryConfig
from openbook.rl.config import RLConfig
from openbook.tasks.registry import FamilyConfig
from openbook.tokens.renderer import PromptConfig
from openbook.train.config import TrainConfig

NUM_PROBE_PROBLEMS = 64
PROBE_EVERY = 6
PROBLEMS_PER_CALL = 64
ADAPTED_SHARE = 0.5
"""Products of the backward pass that are left where weights are frozen: those for the inputs."""
TRACES, GENERAL, CONVERSATIONS, TEXT = "traces", "traces and replies", "conversations", "text"
SPREADS = {TRACES: 0.06, GENERAL: 0.3, CONVERSATIONS: 0.5, TEXT: 0.02}
CORPUS_SPREAD = 0.52
"""Of the written corpus: 48 of its documents in a batch have 1.52 positions a token, 96 in two have 1.24."""
ROLLOUT_SPREAD = 0.15
PAIRS_SPREAD = 0.05

BASES = {
    **{"zero": "pretrain", "cold_start": "pretrain", "reasoning_rl": "cold_start", "rejection": "pretrain"},
    **{"reward_model": "rejection", "all_scenarios": "rejection"},
    **{"distill": "student_base", "control": "student_base"},
}
"""From which stage of the story from nothing each starts."""
REAL_BASES = {"zero": "adopt", "cold_start": "adopt", "reasoning_rl": "cold_start"}

Models = Mapping[str, ModelConfig]
"""Networks that a recipe does not describe, by role: `base`, `teacher`."""


def stage_plans(verb: str, config: Any, models: Models | None = None) -> tuple[StagePlan, ...]:
    """What each stage will do, in order. Raises UserError where a network is neither described nor given."""
    known = models or {}
    match config:
        case StoryConfig():
            return _story(config)
        case RealStoryConfig():
            return _real_story(config, _given(known, "base", config.base))
        case PretrainConfig():
            return (_pretrain("pretrain", config),)
        case ReinforceConfig():
            return (_reinforce("rl", config, _given(known, "base", "--from CHECKPOINT")),)
        case FinetuneConfig():
            return (_finetune(config, _given(known, "base", "--from CHECKPOINT")),)
        case DistillConfig():
            student = _given(known, "base", "--from CHECKPOINT")
            teacher = _given(known, "teacher", "--teacher CHECKPOINT")
            return (_distill(config, student, teacher),)
    raise UserError(
        f"a recipe of {verb} that is a {type(config).__name__} has no stages that are known",
        "take a recipe that `openbook recipe list` shows",
    )


def _given(models: Models, role: str, name: str) -> ModelConfig:
    if role not in models:
        raise UserError(f"the network of the {role} is not known yet", f"name it with {name}")
    return models[role]


def _story(config: StoryConfig) -> tuple[StagePlan, ...]:
    """The ten stages of `pipeline.STAGES`."""
    model, student, exam = config.model, config.student, config.exam
    scenarios, family = config.all_scenarios, config.corpus.exercises
    base = PretrainConfig(
        machine=config.machine,
        vocab_size=config.vocab_size,
        model=model,
        corpus=config.corpus,
        train=config.pretrain,
        exam=exam,
    )

    def reinforced(
        name: str, rl: RLConfig, network: ModelConfig = model, share: float = AT_ONCE
    ) -> StagePlan:
        settings = ReinforceConfig(machine=config.machine, family=family, rl=rl, exam=exam)
        return _reinforce(name, settings, network, share)

    def taught(name: str, sampling: SamplingConfig, train: TrainConfig, **others: Any) -> StagePlan:
        return _taught(name, sampling, train, exam, family=family, **{"model": model, **others})

    alone = reinforced("control", config.control, student)
    plans = (
        _pretrain("pretrain", base),
        reinforced("zero", config.zero),
        taught("cold_start", config.cold_start.sampling, config.cold_start.train, teacher=model),
        reinforced("reasoning_rl", config.reasoning_rl, share=TAUGHT),
        taught("rejection", config.rejection.sampling, config.rejection.train, teacher=model, data=GENERAL),
        _reward_model(config),
        replace(reinforced("all_scenarios", scenarios.rl, share=TAUGHT), probe=None),
        _pretrain("student_base", replace(base, model=student, train=config.student_base)),
        replace(
            taught("distill", config.distill.sampling, config.distill.train, teacher=model, model=student),
            verb="distill",
        ),
        replace(alone, budget_of="distill", probe=None),
    )
    return tuple(replace(plan, base=BASES.get(plan.name, "")) for plan in plans)


def _real_story(config: RealStoryConfig, base: ModelConfig) -> tuple[StagePlan, ...]:
    """The four stages of `real.STAGES`."""

    def asked(prompt: PromptConfig) -> ExamConfig:
        return replace(config.exam, prompt=prompt)

    def reinforced(name: str, rl: RLConfig, prompt: PromptConfig) -> StagePlan:
        settings = ReinforceConfig(
            machine=config.machine, family=config.family, prompt=prompt, rl=rl, exam=asked(prompt)
        )
        return _reinforce(name, settings, base)

    adopted = StagePlan(
        name="adopt", verb="pretrain", learned=None, exams=_exams(asked(config.zero_prompt), network_of(base))
    )
    cold = config.cold_start
    plans = (
        adopted,
        reinforced("zero", config.zero, config.zero_prompt),
        _taught(
            "cold_start",
            cold.sampling,
            cold.train,
            asked(config.r1_prompt),
            family=config.family,
            model=base,
            teacher=base,
            asked=config.zero_prompt,
        ),
        reinforced("reasoning_rl", config.reasoning_rl, config.r1_prompt),
    )
    return tuple(replace(plan, base=REAL_BASES.get(plan.name, "")) for plan in plans)


def _pretrain(name: str, config: PretrainConfig) -> StagePlan:
    network = network_of(config.model, with_mtp=config.train.loss.mtp_weight > 0)
    match config.corpus:
        case CorpusConfig() as corpus:
            data, tokens = f"corpus {digest(corpus)}", example_tokens(corpus)
        case TextConfig() as text:
            data, tokens = TEXT, float(text.sequence_length)
    exam = config.exam
    if exam is not None:
        k = exam.base_samples
        exam = replace(exam, sampling=replace(exam.sampling, num_samples=k, k=k))
    return StagePlan(
        name=name,
        verb="pretrain",
        learned=_examples(config.train, network, data, tokens),
        exams=_exams(exam, network_of(config.model), AT_ONCE),
        memory_bytes=_memory(config.model, config.train.tokens_per_batch, config.train.lora),
        settings=_settings(config.train.num_steps, config.train.examples_per_step, network),
    )


def _finetune(config: FinetuneConfig, base: ModelConfig) -> StagePlan:
    network = network_of(base, with_mtp=config.train.loss.mtp_weight > 0)
    tokens = config.train.tokens_per_batch / 16
    return StagePlan(
        name="sft",
        verb="sft",
        learned=_examples(config.train, network, CONVERSATIONS, tokens),
        exams=_exams(config.exam, network_of(base)),
        memory_bytes=_memory(base, config.train.tokens_per_batch, config.train.lora),
        settings=_settings(config.train.num_steps, config.train.examples_per_step, network),
    )


def _distill(config: DistillConfig, student: ModelConfig, teacher: ModelConfig) -> StagePlan:
    plan = _taught(
        "distill",
        config.sampling,
        config.train,
        config.exam,
        family=config.family,
        model=student,
        teacher=teacher,
    )
    return replace(plan, verb="distill")


def _taught(
    name: str,
    sampling: SamplingConfig,
    train: TrainConfig,
    exam: ExamConfig,
    *,
    family: FamilyConfig,
    model: ModelConfig,
    teacher: ModelConfig,
    asked: PromptConfig | None = None,
    data: str = TRACES,
) -> StagePlan:
    """A supervised stage on a teacher's own answers."""
    network = network_of(model, with_mtp=train.loss.mtp_weight > 0)
    guess = guess_of(family, asked or PromptConfig(), sampling.max_tokens)
    harvest = Sampled(
        occasion=Occasion.HARVEST,
        label=Occasion.HARVEST,
        problems=digest(family),
        network=network_of(teacher),
        num_problems=sampling.num_problems,
        num_generations=sampling.num_generations,
        problems_per_call=PROBLEMS_PER_CALL,
        max_tokens=sampling.max_tokens,
        guess=guess,
    )
    return StagePlan(
        name=name,
        verb="sft",
        learned=_examples(train, network, data, guess.prompt + guess.high),
        harvest=harvest,
        exams=_exams(exam, network_of(model)),
        memory_bytes=_memory(model, train.tokens_per_batch, train.lora),
        settings=_settings(train.num_steps, train.examples_per_step, network),
    )


def _reinforce(name: str, config: ReinforceConfig, model: ModelConfig, share: float = AT_ONCE) -> StagePlan:
    rl, network = config.rl, network_of(model)
    asks_trainer = rl.old_logprobs == "trainer"
    learned = Learned(
        learning=Learning.REWARD,
        network=network,
        num_steps=rl.num_steps,
        examples_per_step=rl.num_problems * rl.num_generations,
        tokens_per_batch=rl.tokens_per_batch,
        save_every=rl.save_every,
        data=digest(config.family),
        guess_example_tokens=0.0,
        spread=ROLLOUT_SPREAD,
        num_updates=rl.num_iterations * rl.num_minibatches,
        num_iterations=rl.num_iterations,
        num_reference_passes=int(rl.beta > 0) + int(asks_trainer),
        products_share=1.0 if rl.lora is None else ADAPTED_SHARE,
        shares_prompts=rl.share_prompts,
    )
    rollout = Sampled(
        occasion=Occasion.ROLLOUT,
        label=Occasion.ROLLOUT,
        problems=digest(config.family),
        network=network,
        num_problems=rl.num_problems,
        num_generations=rl.num_generations,
        problems_per_call=rl.num_problems,
        max_tokens=rl.max_tokens,
        guess=guess_of(config.family, config.prompt, rl.max_tokens, share),
    )
    exams = _exams(config.exam, network)
    num_probed = min(NUM_PROBE_PROBLEMS, exams[0].num_problems)
    probe = replace(exams[0], occasion=Occasion.PROBE, label=Occasion.PROBE, num_problems=num_probed)
    return StagePlan(
        name=name,
        verb="rl",
        learned=learned,
        rollout=rollout,
        probe=probe,
        probe_every=PROBE_EVERY,
        exams=exams,
        memory_bytes=_memory(model, rl.tokens_per_batch, rl.lora) * (2 if rl.beta and rl.lora else 1),
        settings=_settings(rl.num_steps, learned.examples_per_step, network),
    )


def _reward_model(config: StoryConfig) -> StagePlan:
    settings = config.all_scenarios.reward_model
    network = network_of(config.model)
    num_rows = 2 * settings.pairs_per_step
    guess = guess_of(config.all_scenarios.courtesy, PromptConfig(), 64)
    learned = Learned(
        learning=Learning.PAIRS,
        network=network,
        num_steps=settings.num_steps,
        examples_per_step=num_rows,
        tokens_per_batch=1 << 30,  # a step's pairs are one batch
        save_every=settings.num_steps,
        data=digest(config.all_scenarios.courtesy),
        guess_example_tokens=guess.prompt + guess.completion,
        spread=PAIRS_SPREAD,
    )
    return StagePlan(
        name="reward_model",
        verb="sft",
        learned=learned,
        memory_bytes=_memory(config.model, num_rows * 40, None),
        settings=_settings(settings.num_steps, num_rows, network),
    )


def _examples(train: TrainConfig, network: Network, data: str, guess_tokens: float) -> Learned:
    return Learned(
        learning=Learning.EXAMPLES,
        network=network,
        num_steps=train.num_steps,
        examples_per_step=train.examples_per_step,
        tokens_per_batch=train.tokens_per_batch,
        save_every=train.save_every,
        data=data,
        guess_example_tokens=guess_tokens,
        spread=SPREADS.get(data, CORPUS_SPREAD),
        products_share=1.0 if train.lora is None else ADAPTED_SHARE,
    )


def _exams(exam: ExamConfig | None, network: Network, share: float = TAUGHT) -> tuple[Sampled, ...]:
    if exam is None:
        return ()
    suites = {"held_out": exam.family, "harder": exam.harder, **exam.others}
    sampling = exam.sampling
    return tuple(
        Sampled(
            occasion=Occasion.EXAM,
            label=label,
            problems=digest(family),
            network=network,
            num_problems=sampling.num_problems,
            num_generations=sampling.num_samples,
            problems_per_call=sampling.batch_size,
            max_tokens=sampling.max_tokens,
            guess=guess_of(family, exam.prompt, sampling.max_tokens, share),
        )
        for label, family in suites.items()
        if family is not None
    )


def _memory(model: ModelConfig, tokens_per_batch: int, lora: LoraConfig | None) -> int:
    """Of the largest step; adapters have hardly any gradients and optimizer state."""
    memory = training_memory(model, TrainingSetup(num_tokens=tokens_per_batch))
    return memory.total if lora is None else memory.weights + memory.activations + memory.logits


def _settings(num_steps: int, examples_per_step: int, network: Network) -> dict[str, int]:
    return {
        "num_steps": num_steps,
        "examples_per_step": examples_per_step,
        "num_parameters": network.num_parameters,
    }
