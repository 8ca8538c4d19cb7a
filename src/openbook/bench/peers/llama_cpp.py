"""llama.cpp through its own C interface: nothing of Python between two tokens but the choice of the next.

    python -m openbook.bench.peers.llama_cpp FILE NUM_THREADS NUM_POSITIONS

It runs in a process of its own: it configures the tiles of AMX once a thread, and so do not all.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from openbook.bench.contest import Timing
from openbook.bench.peers.worker import serve

_UBATCH_TOKENS = 512
"""llama.cpp's default, and enough for the prompts measured here."""
_TRIAL = [1] * 32


class LlamaCpp:
    """One GGUF file in memory, with the key and value cache of one sequence."""

    def __init__(self, model: Any, context: Any) -> None:
        self._context = context
        self._vocab_size: int = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, num_threads: int, num_positions: int) -> Iterator[LlamaCpp]:
        """Load the file for as long as the block lasts. ValueError where llama.cpp refuses it."""
        with _model(path) as model:
            params = llama_cpp.llama_context_default_params()
            params.n_ctx = params.n_batch = num_positions
            params.n_ubatch = _UBATCH_TOKENS
            params.n_threads = params.n_threads_batch = num_threads
            context = llama_cpp.llama_init_from_model(model, params)
            if not context:
                raise ValueError(f"llama.cpp has no room for {num_positions} positions of {path.name}")
            try:
                yield cls(model, context)
            finally:
                llama_cpp.llama_free(context)

    def generate(self, prompt_ids: Sequence[int], num_new_tokens: int) -> tuple[list[int], Timing]:
        """Continue a prompt greedily by `num_new_tokens`, never stopping, from an empty cache."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        started = time.perf_counter()
        tokens = [self._read(prompt_ids)]
        first_seconds = time.perf_counter() - started
        while len(tokens) < num_new_tokens:
            tokens.append(self._read(tokens[-1:]))
        timing = Timing(
            num_prompt_tokens=len(prompt_ids),
            num_new_tokens=num_new_tokens,
            num_first_tokens=1,
            first_seconds=first_seconds,
            seconds=time.perf_counter() - started,
        )
        return tokens, timing

    def _read(self, token_ids: Sequence[int]) -> int:
        """Append tokens to the sequence; the likeliest one to follow."""
        array = (llama_cpp.llama_token * len(token_ids))(*token_ids)
        batch = llama_cpp.llama_batch_get_one(array, len(token_ids))
        status = llama_cpp.llama_decode(self._context, batch)
        assert status == 0, f"llama_decode returned {status}"
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, (self._vocab_size,)).argmax())


@contextmanager
def _model(path: Path) -> Iterator[Any]:
    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)  # it would tell a page of itself
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise ValueError(f"llama.cpp cannot read {path}")
    try:
        yield model
    finally:
        llama_cpp.llama_model_free(model)


def main(arguments: Sequence[str]) -> None:
    """Answer `{"prompt_ids": [...], "num_new_tokens": N}` with the new tokens and their timing."""
    path, num_threads, num_positions = arguments
    with LlamaCpp.open(Path(path), num_threads=int(num_threads), num_positions=int(num_positions)) as peer:

        def answer(question: dict[str, Any]) -> dict[str, Any]:
            tokens, timing = peer.generate(question["prompt_ids"], question["num_new_tokens"])
            return {"token_ids": tokens, "timing": asdict(timing)}

        peer.generate(_TRIAL, 2)  # where a build does not suit the processor, it dies here
        serve(answer)


if __name__ == "__main__":
    main(sys.argv[1:])
