"""Does it fit? Too much is refused before anything is computed, its parts named and the nearest that fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from openbook.errors import UserError
from openbook.model.config import ModelConfig
from openbook.model.lora import num_adapter_parameters
from openbook.model.lora_config import LoraConfig
from openbook.model.memory import TrainingMemory, TrainingSetup, training_memory

SHARE_OF_FREE_MEMORY = 0.9
"""What a stage may take of the memory that is free when it begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What a stage would hold in memory: a model in training, and further copies of its weights."""

    model: ModelConfig
    tokens_per_batch: int
    num_companions: int = 0
    lora: LoraConfig | None = None
    """Adapters, which alone have gradients and an optimizer."""

    @property
    def memory(self) -> TrainingMemory:
        setup = TrainingSetup(num_tokens=self.tokens_per_batch)
        training = training_memory(self.model, setup)
        memory = replace(training, weights=training.weights * (1 + self.num_companions))
        if self.lora is None:
            return memory
        num_learning = num_adapter_parameters(self.model, self.lora)
        return replace(
            memory,
            weights=memory.weights + num_learning * setup.weight_bytes,
            gradients=num_learning * setup.gradient_bytes,
            optimizer=num_learning * setup.optimizer_bytes,
        )


def require_fit(load: Load, device: torch.device) -> None:
    """Raise UserError unless the load fits into what `device` has free."""
    available_bytes = int(SHARE_OF_FREE_MEMORY * free_bytes(device))
    try:
        load.memory.check_fits(available_bytes)
    except UserError as error:
        fitting = next((mend for mend, one in _smaller(load) if one.memory.total <= available_bytes), "")
        raise UserError(error.what, fitting or error.mend) from None


def _smaller(load: Load) -> Iterator[tuple[str, Load]]:
    """Ever smaller loads, each with what to change: first the batch, then the depth, then the width."""
    tokens = load.tokens_per_batch
    while tokens > 512:
        tokens //= 2
        yield f"tokens_per_batch = {tokens} fits", replace(load, tokens_per_batch=tokens)
    small = replace(load, tokens_per_batch=tokens)
    layers = load.model.num_hidden_layers
    while layers > 1:
        layers //= 2
        model = replace(load.model, num_hidden_layers=layers)
        yield (
            f"num_hidden_layers = {layers} with tokens_per_batch = {tokens} fits",
            replace(small, model=model),
        )
    width = load.model.hidden_size
    while width > 64:
        width //= 2
        model = replace(load.model, num_hidden_layers=1, hidden_size=width)
        yield f"num_hidden_layers = 1 and hidden_size = {width} fits", replace(small, model=model)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be taken: of the GPU, or of this machine within the limits of its group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        available = min(available, int(text) - int(used.read_text()))
    return available
