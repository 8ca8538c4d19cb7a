"""EngineConfig: how an engine runs a model. No torch."""

from __future__ import annotations

from typing import Literal

from openbook.config import config, require_at_least

Decode = Literal["auto", "native", "torch"]
Weights = Literal["auto", "fp32", "bf16"]


@config
class EngineConfig:
    """Sizes and choices of one engine."""

    max_running: int = 256
    """Sequences that are sampled at once; more wait their turn."""
    max_tokens_per_step: int = 1024
    """Tokens computed in one step, prompts included; at least `max_running`."""
    chunk_tokens: int = 512
    """A longer prompt is computed in pieces of this size, beside the tokens of others."""
    num_blocks: int = 0
    """Blocks of 16 positions in the cache; 0: what `max_running` contexts need, within `cache_bytes`."""
    cache_bytes: int = 1 << 30
    prefix_caching: bool = True
    """Keep the blocks of ended sequences until their room is needed, for prompts that begin alike."""
    deterministic: bool = False
    """A sequence's tokens depend on its prompt, its parameters and the weights alone, to the bit."""
    decode: Decode = "auto"
    """`native` kernels, or the modules in `torch`; `auto` takes native on a CPU with a compiler."""
    weights: Weights = "auto"
    """In what plain matrices are held by the native path; `auto` is what the model has. Quantised stay so."""
    return_experts: bool = False
    """Completions carry what the gates chose, for routing replay."""
    num_drafts: int = 0
    """Tokens guessed ahead by the model's own MTP module in each step; 0 does without."""

    def __post_init__(self) -> None:
        require_at_least(
            1,
            max_running=self.max_running,
            max_tokens_per_step=self.max_tokens_per_step,
            chunk_tokens=self.chunk_tokens,
        )
        require_at_least(0, num_blocks=self.num_blocks, num_drafts=self.num_drafts)
        if self.max_tokens_per_step < self.max_running:
            raise ValueError(
                f"max_tokens_per_step is {self.max_tokens_per_step}; {self.max_running} running "
                "sequences need one each"
            )
