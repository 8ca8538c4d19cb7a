"""Optimizers: torch's Muon for the matrices of the blocks, torch's AdamW for the rest.

Muon orthogonalises the update of a matrix; embeddings, the head, norms, routers and the stacked
experts (three-dimensional, which torch's Muon does not take) are AdamW's.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from openbook.train.config import OptimConfig


def is_muon_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a hidden matrix, which Muon is meant for."""
    return parameter.ndim == 2 and not any(
        part in name for part in ("embed_tokens", "lm_head", "gate.weight")
    )


class Optimizers:
    """The optimizers of one model, stepped together, with their state as named tensors."""

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
        muon = [(n, p) for n, p in named if config.matrix_optimizer == "muon" and is_muon_matrix(n, p)]
        taken = {name for name, _ in muon}
        adamw = [(name, parameter) for name, parameter in named if name not in taken]
        self._named = dict(named)
        self._groups: list[tuple[Optimizer, float]] = []
        if muon:
            rate = config.muon_learning_rate
            made: Optimizer = Muon(
                [p for _, p in muon], lr=rate, momentum=config.momentum, weight_decay=config.weight_decay
            )
            self._groups.append((made, rate))
        if adamw:
            rate = config.adamw_learning_rate
            made = AdamW(
                [p for _, p in adamw],
                lr=rate,
                betas=(config.beta1, config.beta2),
                weight_decay=config.weight_decay,
                fused=True,
            )
            self._groups.append((made, rate))

    def step(self, share: float) -> None:
        """Update with `share` of the highest learning rates, then forget the gradients."""
        for optimizer, rate in self._groups:
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """Every tensor of the optimizers' state, named `parameter/key`."""
        return {f"{name}/{key}": value for name, key, value in self._entries()}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state_tensors` gave."""
        for optimizer, _ in self._groups:
            owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for name, parameter in self._named.items():
                if id(parameter) not in owned:
                    continue
                prefix = f"{name}/"
                for full, value in tensors.items():
                    if full.startswith(prefix):
                        optimizer.state[parameter][full.removeprefix(prefix)] = value.to(
                            parameter.device, copy=True
                        )

    def _entries(self) -> Iterator[tuple[str, str, Tensor]]:
        for optimizer, _ in self._groups:
            for name, parameter in self._named.items():
                for key, value in optimizer.state.get(parameter, {}).items():
                    yield name, key, value
