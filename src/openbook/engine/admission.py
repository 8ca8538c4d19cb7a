"""What is refused before anything is computed, each with its reason and the mend."""

from __future__ import annotations

from collections.abc import Sequence

from openbook.engine.scheduler import Scheduler
from openbook.engine.thinking import ReasoningTags
from openbook.engine.types import SamplingParams
from openbook.errors import UserError
from openbook.model.config import ModelConfig


def refuse_bad_prompt(prompt_ids: Sequence[int], params: SamplingParams, config: ModelConfig) -> None:
    """Raises UserError for a prompt that is empty, foreign to the vocabulary, or too long."""
    if not prompt_ids:
        raise UserError("the prompt is empty", "give it at least one token")
    foreign = next((one for one in prompt_ids if not 0 <= one < config.vocab_size), None)
    if foreign is not None:
        raise UserError(f"the prompt holds token {foreign}", f"the model knows 0 to {config.vocab_size - 1}")
    if len(prompt_ids) + params.max_tokens > config.max_position_embeddings:
        raise UserError(
            f"the prompt has {len(prompt_ids)} tokens and max_tokens is {params.max_tokens}",
            f"together they may have {config.max_position_embeddings}, the model's context",
        )


def refuse_bad_params(
    params: SamplingParams, tags: ReasoningTags | None, *, has_decode: bool, vocab_size: int
) -> None:
    """Raises UserError for a stop or a budget that can never be met."""
    foreign = next((one for one in params.stop_token_ids if not 0 <= one < vocab_size), None)
    if foreign is not None:
        raise UserError(
            f"stop token {foreign} can never be sampled", f"the model knows 0 to {vocab_size - 1}"
        )
    if params.stop and not has_decode:
        raise UserError("stop texts need a tokenizer", "give the engine `decode`, or use stop_token_ids")
    if params.thinking_budget is None:
        return
    if tags is None:
        raise UserError(
            "a thinking budget needs a model that marks its thinking", "leave thinking_budget out"
        )
    least = len(tags.closing_ids) + 1
    if params.max_tokens <= least:
        raise UserError(
            f"max_tokens is {params.max_tokens}, and closing the thinking takes {least} with an answer",
            f"allow more than {least}",
        )


def refuse_too_large(num_tokens: int, scheduler: Scheduler) -> None:
    """Raises UserError for a request that would not fit the cache if it were alone."""
    if not scheduler.fits(num_tokens):
        size = scheduler.pool.num_blocks * scheduler.pool.block_size
        raise UserError(
            f"the request may grow to {num_tokens} tokens and the whole cache holds {size}",
            "lower max_tokens, or raise cache_bytes or num_blocks",
        )
