"""Our engine behind the runner that a contest asks for."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from openbook.bench.contest import Timing
from openbook.engine.config import EngineConfig
from openbook.engine.engine import BURST_TOKENS, Engine
from openbook.engine.types import SamplingParams
from openbook.model.cache import BLOCK_SIZE
from openbook.model.config import ModelConfig
from openbook.model.transformer import Transformer
from openbook.quant.formats import find_format, format_of, matrix_bytes
from openbook.quant.modules import named_matrices, quantize_model

Weights = Literal["fp32", "bf16", "int8", "int4"]
"""In what the matrices are stored; beside all but fp32, cache and norms are bf16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What an engine is made for: how many sequences run at once, and how long they get."""

    num_rows: int
    num_positions: int
    deterministic: bool = False
    num_drafts: int = 0
    """Tokens that the model's own MTP module guesses ahead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is asked for in one round."""

    prompts: Sequence[Sequence[int]]
    max_new_tokens: int
    temperature: float = 0.0
    num_generations: int = 1
    seed: int = 0


class Ours:
    """An engine that is timed. Without stop tokens every sequence gets all the tokens asked for."""

    def __init__(self, model: Transformer, room: Room, *, stop_token_ids: Sequence[int] = ()) -> None:
        blocks_a_row = -(-room.num_positions // BLOCK_SIZE) + 1
        config = EngineConfig(
            max_running=room.num_rows,
            max_tokens_per_step=max(EngineConfig().max_tokens_per_step, room.num_rows),
            # Twice what one round needs, so that what the last round left behind need not go at once.
            num_blocks=2 * room.num_rows * blocks_a_row,
            deterministic=room.deterministic,
            num_drafts=room.num_drafts,
        )
        self._engine = Engine(model, config, stop_token_ids=stop_token_ids)

    def generate(self, work: Work) -> tuple[list[list[int]], Timing]:
        """The new tokens of each sequence, those of one prompt side by side, and how long they took."""
        engine = self._engine
        started = time.perf_counter()
        tokens: dict[int, list[int]] = {number: [] for number in self._submit(work)}
        without_token, first, num_first = set(tokens), started, 0
        while engine.has_unfinished:
            updates = engine.step(BURST_TOKENS)
            if without_token:
                without_token -= {update.request_id for update in updates}
                first = time.perf_counter()
                num_first += sum(len(update.token_ids) for update in updates)
            for update in updates:
                tokens[update.request_id] += update.token_ids
        timing = Timing(
            num_prompt_tokens=sum(map(len, work.prompts)),
            num_new_tokens=sum(map(len, tokens.values())),
            num_first_tokens=num_first,
            first_seconds=first - started,
            seconds=time.perf_counter() - started,
        )
        return list(tokens.values()), timing

    def _submit(self, work: Work) -> list[int]:
        """Queue all sequences, those behind the first of a prompt waiting for it to read that."""
        numbers: list[int] = []
        for prompt in work.prompts:
            leader = None
            for _ in range(work.num_generations):
                params = SamplingParams(
                    max_tokens=work.max_new_tokens,
                    temperature=work.temperature,
                    seed=work.seed * 1_000_000 + len(numbers),
                )
                numbers.append(self._engine.submit(prompt, params, leader_id=leader))
                leader = numbers[-1] if leader is None else leader
        return numbers


def stored_as(model: Transformer, weights: Weights) -> Transformer:
    """A copy of an fp32 model with its matrices in another format."""
    if weights == "fp32":
        return copy.deepcopy(model)
    if weights == "bf16":
        return copy.deepcopy(model).to(torch.bfloat16)
    return quantize_model(model, find_format(weights)).to(torch.bfloat16)


def weight_bytes(model: Transformer, weights: Weights) -> int:
    """Bytes that making one token reads of a plain model stored as `weights`: of the experts, those chosen.

    The MTP modules are left out. Of an embedding that is not the output head too, one row is read.
    """
    matrices = {name for name, _ in named_matrices(model)}
    total = 0.0
    for name, parameter in model.named_parameters():
        num_bytes = 4 * parameter.numel()
        if name in matrices and weights != "fp32":
            num_columns = parameter.shape[-1]
            stored = format_of(find_format(weights), name, num_columns)
            num_bytes = matrix_bytes(stored, parameter.numel() // num_columns, num_columns)
        total += _share_read(model.config, name) * num_bytes
    return round(total)


def _share_read(config: ModelConfig, name: str) -> float:
    if name.startswith("mtp."):
        return 0.0
    if name == "model.embed_tokens.weight" and not config.tie_word_embeddings:
        return 1 / config.vocab_size
    if ".experts." in name:
        assert config.moe is not None
        return config.moe.num_experts_per_tok / config.moe.n_routed_experts
    return 1.0
