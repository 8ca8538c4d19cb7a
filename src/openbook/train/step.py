"""One supervised optimizer step: examples -> batches -> gradients -> update -> StepReport."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from openbook.data.batch import Example
from openbook.data.packing import pack
from openbook.kernels.precision import autocast
from openbook.model.transformer import Transformer
from openbook.train.config import TrainConfig
from openbook.train.device import Stopwatch
from openbook.train.losses import supervised_loss
from openbook.train.report import StepReport
from openbook.train.schedule import rate_share
from openbook.train.state import TrainState

Draw = Callable[[int, int], Sequence[Example]]
"""`draw(position, count)`: the `count` examples of a stream from `position` on."""


def supervised_step(draw: Draw, config: TrainConfig, *, pad_id: int) -> Callable[[TrainState], StepReport]:
    """The `advance` of pretraining, supervised fine-tuning and distillation."""
    watch: list[Stopwatch] = []

    def advance(state: TrainState) -> StepReport:
        model = state.model
        assert isinstance(model, Transformer)
        device = next(model.parameters()).device
        if not watch:
            watch.append(Stopwatch(device))
        examples = draw(state.position, config.examples_per_step)
        batches = pack(examples, tokens_per_batch=config.tokens_per_batch, pad_id=pad_id)
        step_weight = sum(float(batch.weights_BT.sum()) for batch in batches)
        sums = torch.zeros(3)
        loads: Tensor | None = None
        for batch in batches:
            with autocast(device, config.precision):
                parts = supervised_loss(model, batch.to(device), config.loss, step_weight=step_weight)
            parts.total.backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([parts.next_token, parts.mtp, parts.balance]).cpu()
            loads = parts.expert_loads_LE if loads is None else loads + parts.expert_loads_LE
        assert loads is not None
        share = rate_share(config.schedule, state.step, config.num_steps)
        grad_norm = clip_gradients(model, config.optim.max_grad_norm)
        if torch.isfinite(sums).all() and math.isfinite(grad_norm):
            state.optimizers.step(share)
            model.update_expert_biases(loads, config.loss.bias_update_rate)
        state.step += 1
        state.position += len(examples)
        num_tokens = sum(batch.num_tokens for batch in batches)
        usage = watch[0].lap(trained_tokens=num_tokens)
        metrics = {
            "loss": float(sums[0]),
            "mtp_loss": float(sums[1]),
            "balance_loss": float(sums[2]),
            "grad_norm": grad_norm,
            "learning_rate": config.optim.learning_rate * share,
            "tokens_per_second": num_tokens / max(1e-9, usage.device_microseconds / 1e6),
            "load_max_over_mean": load_imbalance(loads),
        }
        return StepReport(step=state.step, metrics=metrics, usage=usage, expert_loads=loads.cpu().numpy())

    return advance


def clip_gradients(model: nn.Module, max_norm: float) -> float:
    """Scale gradients to at most `max_norm` (0: leave them) and return the norm before."""
    bound = max_norm if max_norm > 0 else float("inf")
    return float(nn.utils.clip_grad_norm_(model.parameters(), bound))


def load_imbalance(loads_LE: Tensor) -> float:
    """Largest expert load over the mean one, averaged over layers; 1 is perfect, 0 means no experts."""
    if loads_LE.numel() == 0:
        return 0.0
    loads = loads_LE.float()
    return float((loads.amax(1) / loads.mean(1).clamp(min=1e-9)).mean())
