"""transformers on the same weights: exported by our own public checkpoint, loaded from the folder, offline.

Shape letters: B row, T position.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from openbook.bench.contest import Timing
from openbook.model.checkpoint import save_checkpoint
from openbook.model.transformer import Transformer


class TransformersPeer:
    """A causal language model of the library, in evaluation mode, with its own cache."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    @contextmanager
    def open(cls, model: Transformer, dtype: torch.dtype) -> Iterator[TransformersPeer]:
        """The weights of `model` in the library's network, in `dtype`, for as long as the block lasts."""
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        with tempfile.TemporaryDirectory(prefix="openbook-bench-") as folder:
            save_checkpoint(Path(folder) / "model", model, provenance={})
            theirs = transformers.AutoModelForCausalLM.from_pretrained(
                Path(folder) / "model", dtype=dtype, local_files_only=True
            )
        yield cls(theirs.eval())

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        num_generations: int = 1,
        stop_token_id: int | None = None,
    ) -> tuple[list[list[int]], Timing]:
        """Sample at temperature 1 with the library's own `generate`, all rows at once.

        The new tokens of each row, its stop token included, and nothing behind it. Prompts are padded on
        the left, as the library wants it. Without a stop token every row gets `max_new_tokens`.
        """
        tokens_BT, mask_BT = _padded(prompts)
        watch = _Watch()
        started = time.perf_counter()
        rows_BT = self._model.generate(
            tokens_BT,
            attention_mask=mask_BT,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max_new_tokens,
            min_new_tokens=None if stop_token_id is not None else max_new_tokens,
            eos_token_id=stop_token_id,
            pad_token_id=0 if stop_token_id is None else stop_token_id,
            num_return_sequences=num_generations,
            stopping_criteria=transformers.StoppingCriteriaList([watch]),
        )
        seconds = time.perf_counter() - started
        new = [_until(row, stop_token_id) for row in rows_BT[:, tokens_BT.shape[1] :].tolist()]
        timing = Timing(
            num_prompt_tokens=sum(map(len, prompts)),
            num_new_tokens=sum(map(len, new)),
            num_first_tokens=len(new),
            first_seconds=watch.first - started,
            seconds=seconds,
        )
        return new, timing

    @torch.inference_mode()
    def continue_greedily(self, prompt_ids: Sequence[int], num_new_tokens: int) -> tuple[list[int], Timing]:
        """Continue one prompt greedily, calling the network alone: `generate` only adds to it."""
        cache = transformers.DynamicCache(config=self._model.config)
        started = time.perf_counter()
        tokens = [self._read(prompt_ids, cache)]
        first_seconds = time.perf_counter() - started
        while len(tokens) < num_new_tokens:
            tokens.append(self._read(tokens[-1:], cache))
        timing = Timing(
            num_prompt_tokens=len(prompt_ids),
            num_new_tokens=num_new_tokens,
            num_first_tokens=1,
            first_seconds=first_seconds,
            seconds=time.perf_counter() - started,
        )
        return tokens, timing

    def _read(self, token_ids: Sequence[int], cache: Any) -> int:
        """Append tokens to the cached sequence; the likeliest one to follow."""
        output = self._model(
            torch.tensor([list(token_ids)]), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return int(output.logits[0, -1].argmax())


class _Watch(transformers.StoppingCriteria):  # type: ignore[misc]  # the library is not typed for us
    """Stops nothing, and notes when it was asked first: every row has its first token then."""

    def __init__(self) -> None:
        self.first = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        self.first = self.first or time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _padded(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts [B, T] padded on the left, and the mask of what is no padding."""
    width = max(map(len, prompts))
    tokens_BT = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask_BT = torch.zeros(len(prompts), width, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask_BT[row, width - len(prompt) :] = 1
    return tokens_BT, mask_BT


def _until(token_ids: list[int], stop_token_id: int | None) -> list[int]:
    if stop_token_id is None or stop_token_id not in token_ids:
        return token_ids
    return token_ids[: token_ids.index(stop_token_id) + 1]
