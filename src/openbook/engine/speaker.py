"""An engine that knows its tokenizer: what ends a completion, what marks thinking, how ids read as text."""

from __future__ import annotations

from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.thinking import ReasoningTags
from openbook.model.transformer import Transformer
from openbook.tokens.tokenizer import Tokenizer


def engine_for(model: Transformer, tokenizer: Tokenizer, config: EngineConfig | None = None) -> Engine:
    """The engine of a model that was trained with this tokenizer."""
    return Engine(
        model,
        config,
        stop_token_ids=tokenizer.stop_ids,
        tags=reasoning_tags(tokenizer),
        decode=tokenizer.decode,
    )


def reasoning_tags(tokenizer: Tokenizer) -> ReasoningTags | None:
    """The tags of our template; None for a tokenizer that lacks them."""
    if not tokenizer.has_tags:
        return None
    open_id, close_id, answer_id, end_id = (
        tokenizer.token_id(tag) for tag in ("<think>", "</think>", "<answer>", "</answer>")
    )
    return ReasoningTags(
        open_id=open_id, close_id=close_id, closing_ids=(close_id, answer_id), empty_ids=(end_id,)
    )
