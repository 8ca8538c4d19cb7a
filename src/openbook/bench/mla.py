"""Decode of a small DeepSeek-V3 (latent attention, experts) behind contexts of several lengths."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import torch

from openbook.bench.case import Case, Contest, Peer, Setting
from openbook.bench.contest import Line, Runner, Timing
from openbook.bench.measurement import Unit
from openbook.bench.ours import Ours, Room, Work, stored_as, weight_bytes
from openbook.bench.prompts import random_prompts
from openbook.model.config import MLAConfig, ModelConfig, MoEConfig
from openbook.model.cost import count
from openbook.model.init import initialize
from openbook.model.transformer import Transformer

CONTEXTS = (64, 1024, 4096)
NUM_TOKENS = 32

CONFIG = ModelConfig(
    vocab_size=8192,
    hidden_size=384,
    num_hidden_layers=8,
    num_attention_heads=6,
    intermediate_size=1024,
    attention=MLAConfig(
        q_lora_rank=192, kv_lora_rank=128, qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64
    ),
    moe=MoEConfig(
        n_routed_experts=32,
        n_shared_experts=1,
        num_experts_per_tok=4,
        moe_intermediate_size=128,
        n_group=4,
        topk_group=2,
    ),
    max_position_embeddings=2 * CONTEXTS[-1],
)


def random_model(config: ModelConfig) -> Transformer:
    """Weights of the initial distribution, the same each time."""
    model = Transformer(config)
    initialize(model, config, torch.Generator().manual_seed(0))
    return model.eval()


def prepare(context: int, setting: Setting, num_threads: int, stack: ExitStack) -> Contest[Timing]:
    """One token after the other behind `context` tokens; reading those is not counted."""
    model = random_model(CONFIG)
    num_new = NUM_TOKENS + 1  # the first ends the reading of the prompt
    ours = Ours(stored_as(model, "bf16"), Room(num_rows=1, num_positions=context + num_new))

    def prompt(number: int) -> list[int]:
        return random_prompts(number, num_prompts=1, length=context, vocab_size=CONFIG.vocab_size)[0]

    def run(number: int) -> Timing:
        return ours.generate(Work(prompts=[prompt(number)], max_new_tokens=num_new))[1]

    def open_peer(stack: ExitStack) -> Runner[Timing]:
        from openbook.bench.peers.transformers import TransformersPeer

        peer = stack.enter_context(TransformersPeer.open(model, torch.bfloat16))
        return lambda number: peer.continue_greedily(prompt(number), num_new)[1]

    cache_bytes = context * count(CONFIG).kv_bytes_per_token()
    num_bytes = weight_bytes(model, "bf16") + cache_bytes
    bandwidth = setting.limits.read_bandwidth(num_threads, num_bytes)
    line: Line[Timing] = Line(
        suffix="",
        unit=Unit.MILLISECONDS_PER_TOKEN,
        read=lambda timing: timing.decode_milliseconds,
        limit=1e3 * num_bytes / bandwidth,
        notes=(
            f"limit: {bandwidth / 1e9:.1f} GB/s read over {num_bytes / 1e6:.1f} MB a token: "
            "the active weights and the cache",
        ),
    )
    peer = Peer(name="transformers bf16", modules=("transformers",), open=open_peer)
    return Contest(ours=run, peers=(peer,), lines=(line,))


CASES = tuple(
    Case(
        name=f"mla-decode-{context}",
        about=f"MLA model of 8 layers and 32 experts, one sequence behind {context:,} tokens, bf16",
        num_threads=1,
        prepare=partial(prepare, context),
    )
    for context in CONTEXTS
)
