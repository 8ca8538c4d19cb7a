"""The nano story's model: its rollouts, and decode with and without drafts of its own MTP module."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import cast

import torch

from openbook.bench.case import Case, Contest, Peer, Setting
from openbook.bench.contest import Line, Runner, Timing
from openbook.bench.flops import flops_of
from openbook.bench.measurement import Unit
from openbook.bench.mla import random_model
from openbook.bench.ours import Ours, Room, Work
from openbook.bench.prompts import random_prompts
from openbook.config import load_recipe
from openbook.model.checkpoint import Checkpoint
from openbook.model.transformer import Transformer
from openbook.r1.config import StoryConfig
from openbook.r1.schemas import SCHEMAS
from openbook.tasks.problem import Split
from openbook.tasks.registry import make_family
from openbook.tokens.renderer import Renderer

NUM_PROBLEMS, NUM_SAMPLES = 16, 16
RANDOM_PROMPT = 40
NUM_DRAFTS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Nano:
    """The model, the prompts of a round, and how long its answers get."""

    model: Transformer
    prompts: Callable[[int], list[list[int]]]
    stop_token_id: int | None
    """None for random weights: they would stop anywhere, so they never do."""
    max_tokens: int


def read_nano(setting: Setting) -> Nano:
    """The checkpoint with problems of its story, or random weights with random prompts."""
    story = cast(StoryConfig, load_recipe(setting.nano_recipe, SCHEMAS).config)
    if setting.checkpoint is None:
        return Nano(
            model=random_model(story.model),
            prompts=lambda number: random_prompts(
                number, num_prompts=NUM_PROBLEMS, length=RANDOM_PROMPT, vocab_size=story.vocab_size
            ),
            stop_token_id=None,
            max_tokens=story.zero.max_tokens,
        )
    checkpoint = Checkpoint.open(setting.checkpoint)
    renderer = Renderer.of_folder(checkpoint.folder)
    family = make_family(story.exam.family)

    def prompts(number: int) -> list[list[int]]:
        problems = [
            family.problem(number + 1, Split.TRAIN, index) for index in range(NUM_PROBLEMS)
        ]  # the round that warms up is -1
        return [renderer.prompt_ids(problem.question) for problem in problems]

    return Nano(
        model=checkpoint.load(),
        prompts=prompts,
        stop_token_id=renderer.tokenizer.eos_id,
        max_tokens=story.zero.max_tokens,
    )


def prepare_rollouts(setting: Setting, num_threads: int, stack: ExitStack) -> Contest[Timing]:
    """Groups of 16 answers to 16 problems in fp32 and independent of each other, as RL samples them."""
    nano = read_nano(setting)
    stops = () if nano.stop_token_id is None else (nano.stop_token_id,)
    num_rows = NUM_PROBLEMS * NUM_SAMPLES
    longest = max(map(len, nano.prompts(0)))
    room = Room(num_rows=num_rows, num_positions=2 * longest + nano.max_tokens, deterministic=True)
    ours = Ours(nano.model, room, stop_token_ids=stops)

    def run(number: int) -> Timing:
        work = Work(
            prompts=nano.prompts(number),
            max_new_tokens=nano.max_tokens,
            temperature=1.0,
            num_generations=NUM_SAMPLES,
            seed=number,
        )
        return ours.generate(work)[1]

    def open_peer(stack: ExitStack) -> Runner[Timing]:
        from openbook.bench.peers.transformers import TransformersPeer

        peer = stack.enter_context(TransformersPeer.open(nano.model, torch.float32))
        return lambda number: peer.generate(
            nano.prompts(number),
            max_new_tokens=nano.max_tokens,
            num_generations=NUM_SAMPLES,
            stop_token_id=nano.stop_token_id,
        )[1]

    peer = Peer(name="transformers fp32", modules=("transformers",), open=open_peer)
    return Contest(ours=run, peers=(peer,), lines=(_rollout_line(nano, setting, num_threads),))


def _rollout_line(nano: Nano, setting: Setting, num_threads: int) -> Line[Timing]:
    """All of a rollout, each prompt read once, against the rate of fp32 products."""
    num_prompt = sum(map(len, nano.prompts(0)))
    num_new = NUM_PROBLEMS * NUM_SAMPLES * nano.max_tokens
    flops = flops_of(
        nano.model.config,
        num_prompt_tokens=num_prompt,
        num_new_tokens=num_new,
        context=num_prompt // NUM_PROBLEMS + nano.max_tokens // 2,
    )
    rate = setting.limits.gemm_rate(num_threads, torch.float32)
    of_what = "random weights, no stops" if setting.checkpoint is None else "problems and stops of the story"
    return Line(
        suffix="",
        unit=Unit.TOKENS_PER_SECOND,
        read=lambda timing: timing.whole_rate,
        limit=num_new * rate / flops,
        notes=(
            f"{of_what}; limit: {rate / 1e9:.0f} GFLOP/s fp32, {flops / num_new / 1e6:.2f} MFLOP a token",
        ),
    )


def prepare_speculation(setting: Setting, num_threads: int, stack: ExitStack) -> Contest[Timing]:
    """Problems one after the other, greedy, with drafts of the MTP module against the same without."""
    nano = read_nano(setting)
    stops = () if nano.stop_token_id is None else (nano.stop_token_id,)
    longest = max(map(len, nano.prompts(0)))
    room = Room(num_rows=1, num_positions=2 * longest + nano.max_tokens)
    drafting = Ours(nano.model, replace(room, num_drafts=NUM_DRAFTS), stop_token_ids=stops)

    def runner(ours: Ours) -> Runner[Timing]:
        return lambda number: ours.generate(
            Work(prompts=nano.prompts(number), max_new_tokens=nano.max_tokens)
        )[1]

    plain = Peer(
        name="openbook without drafts",
        modules=(),
        open=lambda stack: runner(Ours(nano.model, room, stop_token_ids=stops)),
    )
    notes = ("random weights: drafts are hardly ever accepted",) if setting.checkpoint is None else ()
    line: Line[Timing] = Line(
        suffix="",
        unit=Unit.TOKENS_PER_SECOND,
        read=lambda timing: timing.whole_rate,
        notes=notes,
    )
    return Contest(ours=runner(drafting), peers=(plain,), lines=(line,))


CASES = (
    Case(
        name="nano-rollouts",
        about=f"the nano story's rollouts: {NUM_PROBLEMS} problems, {NUM_SAMPLES} samples of each",
        num_threads=2,
        prepare=prepare_rollouts,
    ),
    Case(
        name="speculation",
        about="nano, one sequence, greedy, with drafts of its own MTP module",
        num_threads=1,
        prepare=prepare_speculation,
    ),
)
