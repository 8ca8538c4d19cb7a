"""From a config to what computes, and the reason: chosen once, written down, shown by `doctor`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from openbook.engine.config import Decode, EngineConfig
from openbook.engine.executor import Executor
from openbook.engine.native_executor import NativeExecutor
from openbook.engine.torch_executor import TorchExecutor
from openbook.errors import UserError
from openbook.kernels.native import Missing, Native, load_native
from openbook.model.cache import BLOCK_SIZE, CachePool, allocate_pool, cached_widths
from openbook.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What computes on a device: `native` kernels (then they are here), or the modules in `torch`."""

    native: Native | None
    reason: str

    @property
    def decode(self) -> Decode:
        return "torch" if self.native is None else "native"

    @property
    def name(self) -> str:
        """For a manifest: what was chosen, and which build."""
        return f"torch {torch.__version__}" if self.native is None else f"native {self.native.build}"


def choose(device: torch.device, wanted: Decode = "auto") -> Choice:
    """What is there of what is wanted. UserError for native kernels that cannot be had."""
    if wanted == "torch":
        return Choice(native=None, reason="asked for")
    if device.type != "cpu":
        found: Native | Missing = Missing(reason=f"the model is on {device.type}")
    else:
        found = load_native()
    if isinstance(found, Native):
        return Choice(native=found, reason=f"built for {found.features}")
    if wanted == "native":
        raise UserError(f"there are no native kernels: {found.reason}", "mend it, or set decode = 'torch'")
    return Choice(native=None, reason=found.reason)


def make_executor(model: Transformer, config: EngineConfig) -> Executor:
    """The executor that `config` asks for, over an empty cache. UserError if it cannot be had."""
    if config.num_drafts and not model.config.num_nextn_predict_layers:
        raise UserError("num_drafts asks for guesses ahead and the model has no MTP module", "set it to 0")
    choice = choose(model.model.norm.weight.device, config.decode)
    pool, max_rows = make_pool(model, config), config.max_tokens_per_step
    if choice.native is None:
        return TorchExecutor(model, pool, max_rows=max_rows, exact=config.deterministic)
    dtype = _packed_dtype(model, config)
    return NativeExecutor(
        choice.native,
        model,
        pool,
        max_rows=max_rows,
        dtype=dtype,
        exact=config.deterministic,
        num_drafts=config.num_drafts,
    )


def make_pool(model: Transformer, config: EngineConfig) -> CachePool:
    """Empty blocks: as many as asked for, or as are useful within `cache_bytes`."""
    weight = model.model.norm.weight
    num_layers = model.config.num_hidden_layers + (1 if config.num_drafts else 0)
    position_bytes = sum(cached_widths(model.config)) * num_layers * weight.element_size()
    affordable = config.cache_bytes // (position_bytes * BLOCK_SIZE)
    useful = config.max_running * -(-model.config.max_position_embeddings // BLOCK_SIZE)
    num_blocks = config.num_blocks or max(1, min(affordable, useful))
    return allocate_pool(
        model.config, num_blocks, device=weight.device, dtype=weight.dtype, num_layers=num_layers
    )


def _packed_dtype(model: Transformer, config: EngineConfig) -> torch.dtype:
    if config.weights != "auto":
        return torch.float32 if config.weights == "fp32" else torch.bfloat16
    return torch.bfloat16 if model.model.norm.weight.dtype == torch.bfloat16 else torch.float32
