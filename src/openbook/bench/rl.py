"""`openbook bench rl`: a step of GRPO beside TRL's, on the same weights, prompts, lengths and optimizer."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from openbook.bench.case import Case, Contest, Peer, Setting
from openbook.bench.contest import Line, Runner
from openbook.bench.flops import flops_of
from openbook.bench.measurement import Unit
from openbook.bench.mla import random_model
from openbook.bench.peers.worker import Worker
from openbook.bench.rl_timing import StepTiming
from openbook.bench.rl_work import MODEL_FOLDER, Options, RLWork
from openbook.model.checkpoint import save_checkpoint
from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig
from openbook.model.cost import count
from openbook.model.gguf import GgufCheckpoint
from openbook.model.transformer import Transformer

DENSE_1M = ModelConfig(
    vocab_size=600,
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=512,
    attention=GQAConfig(num_key_value_heads=2, head_dim=32, qk_norm=True),
    tie_word_embeddings=True,
    max_position_embeddings=256,
)
DENSE_9M = replace(
    DENSE_1M,
    vocab_size=6000,
    hidden_size=256,
    num_hidden_layers=8,
    num_attention_heads=8,
    intermediate_size=1024,
    attention=GQAConfig(num_key_value_heads=4, head_dim=32, qk_norm=True),
)
MOE_2M = ModelConfig(
    vocab_size=896,
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=384,
    attention=MLAConfig(
        q_lora_rank=None, kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32
    ),
    moe=MoEConfig(n_routed_experts=16, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=64),
    max_position_embeddings=256,
)

ALL = Options()
TAKEN_AWAY: dict[str, Options] = {
    "openbook without bf16 in sampling": replace(ALL, bf16_sampling=False),
    "openbook without bf16 in training": replace(ALL, bf16_training=False),
    "openbook without shared prompts in sampling": replace(ALL, shared_prompts=False),
    "openbook without shared prompts in training": replace(ALL, shared_prompts_in_training=False),
    "openbook, deterministic": replace(ALL, deterministic=True),
    "openbook with its defaults": replace(ALL, deterministic=True, bf16_sampling=False, bf16_training=False),
    "openbook with none of these": Options(
        bf16_sampling=False,
        bf16_training=False,
        shared_prompts=False,
        shared_prompts_in_training=False,
        skip_zero_advantages=False,
    ),
}
OF_EXPERTS = {"openbook without routing replay": replace(ALL, routing_replay=False)}
ABOUT = {
    "trl": "a GRPO step",
    "options": "ours without each of its options",
    "ties": "half of the groups tie",
}
TRL_WAYS = {"TRL tuned": "tuned", "TRL tuned, bf16": "tuned-bf16", "TRL defaults": "defaults"}
"""What a peer is called here, and in `peers.trl`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A folder with a piece of work and its model, where contestants run in processes of their own."""

    folder: Path
    work: RLWork
    config: ModelConfig
    num_threads: int

    def ours(self, options: Options, stack: ExitStack) -> Runner[StepTiming]:
        return self._run("openbook", "openbook.bench.rl_ours", json.dumps(asdict(options)), stack)

    def our_peers(self, variants: dict[str, Options]) -> tuple[Peer[StepTiming], ...]:
        """Ours once more, each without something."""
        return tuple(
            Peer(name=name, modules=(), open=partial(self.ours, options))
            for name, options in variants.items()
        )

    def trl_peers(self, names: Iterable[str]) -> tuple[Peer[StepTiming], ...]:
        modules = ("trl", "datasets", "accelerate")
        return tuple(
            Peer(
                name=name,
                modules=modules,
                open=partial(self._run, name, "openbook.bench.peers.trl", TRL_WAYS[name]),
                extra="trl",
            )
            for name in names
        )

    def _run(self, name: str, module: str, how: str, stack: ExitStack) -> Runner[StepTiming]:
        started = time.perf_counter()
        worker = stack.enter_context(Worker.start(name, module, str(self.folder), how, str(self.num_threads)))
        startup_seconds = time.perf_counter() - started

        def run(number: int) -> StepTiming:
            return replace(StepTiming(**worker.ask(round=number)), startup_seconds=startup_seconds)

        return run


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model, and how many completions of how many prompts a step of it samples."""

    name: str
    about: str
    load: Callable[[Setting], Transformer]
    num_problems: int
    num_generations: int
    most_variants: int = len(TAKEN_AWAY) + len(OF_EXPERTS)
    """So many variants of ours are in memory beside ours."""

    def stage(self, setting: Setting, num_threads: int, stack: ExitStack, *, half_tie: bool = False) -> Stage:
        """Write down the work and the weights, for as long as the stack lasts."""
        model = self.load(setting)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="openbook-bench-")))
        work = RLWork(
            vocab_size=model.config.vocab_size,
            num_problems=self.num_problems,
            num_generations=self.num_generations,
            num_rounds=setting.repeats + 1,
            half_tie=half_tie,
        )
        work.save(folder)
        save_checkpoint(folder / MODEL_FOLDER, model, provenance={})
        return Stage(folder=folder, work=work, config=model.config, num_threads=num_threads)


Prepare = Callable[[Subject, Setting, int, ExitStack], Contest[StepTiming]]


def prepare_against_trl(
    subject: Subject, setting: Setting, num_threads: int, stack: ExitStack
) -> Contest[StepTiming]:
    """Ours with all its options beside TRL tuned, in fp32 and in bf16, and with its defaults."""
    stage = subject.stage(setting, num_threads, stack)
    return Contest(
        ours=stage.ours(ALL, stack),
        peers=stage.trl_peers(TRL_WAYS),
        lines=(*rate_lines(stage, setting), *FOOTPRINT_LINES),
    )


def prepare_options(
    subject: Subject, setting: Setting, num_threads: int, stack: ExitStack, *, first: int = 0
) -> Contest[StepTiming]:
    """Ours with all its options beside ours without each of them, as many from `first` on as go at once."""
    stage = subject.stage(setting, num_threads, stack)
    variants = TAKEN_AWAY if stage.config.moe is None else TAKEN_AWAY | OF_EXPERTS
    chosen = dict(list(variants.items())[first : first + subject.most_variants])
    return Contest(
        ours=stage.ours(ALL, stack), peers=stage.our_peers(chosen), lines=rate_lines(stage, setting)
    )


def prepare_ties(
    subject: Subject, setting: Setting, num_threads: int, stack: ExitStack
) -> Contest[StepTiming]:
    """Half of the groups teach nothing, which only ours leaves out of the update."""
    stage = subject.stage(setting, num_threads, stack, half_tie=True)
    without = {"openbook without skipping": replace(ALL, skip_zero_advantages=False)}
    return Contest(
        ours=stage.ours(ALL, stack),
        peers=(*stage.our_peers(without), *stage.trl_peers(["TRL tuned"])),
        lines=rate_lines(stage, setting)[:2],
    )


def rate_lines(stage: Stage, setting: Setting) -> tuple[Line[StepTiming], ...]:
    """Tokens a second of a whole step, by the wall and by the processor, and of sampling alone."""
    rates = {
        name: setting.limits.gemm_rate(stage.num_threads, dtype)
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))
    }
    dtype = max(rates, key=lambda name: rates[name])
    sampling, training = sampling_flops(stage), training_flops(stage)
    num_new = stage.work.num_new_tokens
    whole = num_new * rates[dtype] / (sampling + training)
    note = (
        f"limit: {rates[dtype] / 1e9:.0f} GFLOP/s {dtype}; a new token takes {sampling / num_new / 1e6:.2f} "
        f"MFLOP to sample and {training / num_new / 1e6:.2f} to learn from, each prompt read once"
    )
    unit = Unit.TOKENS_PER_SECOND
    return (
        Line(suffix="", unit=unit, read=lambda one: one.rate, limit=whole, notes=(note,)),
        Line(
            suffix="-cpu",
            unit=Unit.TOKENS_PER_CPU_SECOND,
            read=lambda one: one.cpu_rate,
            limit=whole / stage.num_threads,
        ),
        Line(
            suffix="-sampling",
            unit=unit,
            read=lambda one: one.sampling_rate,
            limit=num_new * rates[dtype] / sampling,
            notes=("sampling alone, publishing the new weights included",),
        ),
    )


def sampling_flops(stage: Stage) -> int:
    """Floating-point operations to sample a step's completions, the prompt of a group read once."""
    work = stage.work
    return flops_of(
        stage.config,
        num_prompt_tokens=work.num_problems * work.prompt_tokens,
        num_new_tokens=work.num_new_tokens,
        context=work.prompt_tokens + work.max_tokens // 2,
    )


def training_flops(stage: Stage) -> int:
    """Those of forward and backward, which is twice the forward; nothing is computed twice."""
    return 3 * sampling_flops(stage)


FOOTPRINT_LINES: tuple[Line[StepTiming], ...] = (
    Line(
        suffix="-start",
        unit=Unit.SECONDS,
        read=lambda one: one.startup_seconds,
        notes=("from the start of a process to its first step: imports, weights, trainer",),
    ),
    Line(
        suffix="-memory",
        unit=Unit.MEGABYTES,
        read=lambda one: one.peak_bytes / 1e6,
        notes=("the most that the process held",),
    ),
    Line(
        suffix="-installed",
        unit=Unit.MEGABYTES,
        read=lambda one: one.installed_bytes / 1e6,
        notes=("files of the package and of all that it requires, torch in both",),
    ),
)


def _random(config: ModelConfig) -> Callable[[Setting], Transformer]:
    return lambda setting: random_model(config)


def _millions(config: ModelConfig) -> str:
    return f"{count(config).parameters_total / 1e6:.2f}M"


SUBJECTS = (
    Subject(
        name="dense-1m",
        about=f"dense Qwen3 of {_millions(DENSE_1M)}, 4 prompts x 16 completions",
        load=_random(DENSE_1M),
        num_problems=4,
        num_generations=16,
    ),
    Subject(
        name="dense-9m",
        about=f"dense Qwen3 of {_millions(DENSE_9M)}, 2 prompts x 8 completions",
        load=_random(DENSE_9M),
        num_problems=2,
        num_generations=8,
    ),
    Subject(
        name="moe-2m",
        about=f"DeepSeek-V3 of {_millions(MOE_2M)}, 16 experts, 2 prompts x 8 completions",
        load=_random(MOE_2M),
        num_problems=2,
        num_generations=8,
    ),
    Subject(
        name="smollm2",
        about="SmolLM2-135M-Instruct, 2 prompts x 8 completions",
        load=lambda setting: GgufCheckpoint.open(setting.find_smollm2()).load(),
        num_problems=2,
        num_generations=8,
        most_variants=3,
    ),
)


def _cases(subject: Subject) -> Iterator[Case]:
    """Beside TRL; without each option, in as many cases as memory asks for; with ties."""
    starts = range(0, len(TAKEN_AWAY), subject.most_variants)
    prepared: dict[str, Prepare] = {"trl": prepare_against_trl}
    for number, first in enumerate(starts, start=1):
        name = "options" if len(starts) == 1 else f"options-{number}"
        prepared[name] = partial(prepare_options, first=first)
    prepared["ties"] = prepare_ties
    for name, prepare in prepared.items():
        yield Case(
            name=f"{subject.name}-{name}",
            about=f"{subject.about} of 64 tokens behind 32: {ABOUT[name.partition('-')[0]]}",
            num_threads=1,
            prepare=partial(prepare, subject),
        )


CASES: tuple[Case, ...] = tuple(case for subject in SUBJECTS for case in _cases(subject))
