"""An engine that knows its tokenizer: what ends a completion, what marks thinking, how ids read as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.thinking import ReasoningTags
from openbook.model.checkpoint import Checkpoint
from openbook.model.transformer import Transformer
from openbook.tokens.chat import ChatTemplate, R1Template, Template
from openbook.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from openbook.model.gguf import GgufCheckpoint


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


def read_texts(checkpoint: Checkpoint | GgufCheckpoint) -> tuple[Tokenizer, Template | None]:
    """The tokenizer and the template of a checkpoint. Raises UserError.

    The R1 template is for what we trained ourselves: a checkpoint with a provenance, or with our tokenizer.
    """
    template: Template | None
    if isinstance(checkpoint, Checkpoint):
        tokenizer = Tokenizer.load(checkpoint.folder)
        template = ChatTemplate.load(checkpoint.folder)
        if template is None and (checkpoint.provenance or tokenizer.has_tags):
            template = R1Template(bos_token=tokenizer.token(tokenizer.bos_id))
        return tokenizer, template
    from openbook.tokens.ggml import read_tokenizer

    where, source = str(checkpoint.file.path), checkpoint.metadata.get("tokenizer.chat_template")
    tokenizer = read_tokenizer(checkpoint.metadata, where=where)
    template = None if source is None else ChatTemplate.of_tokenizer(str(source), tokenizer, where=where)
    return tokenizer, template
