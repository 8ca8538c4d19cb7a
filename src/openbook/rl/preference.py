"""A reward model: the network with one number for a head, trained on pairs (DeepSeek-R1 2.3.4).

    score(question, reply) = head . hidden state at the last token
    loss = -log sigmoid(score(chosen) - score(rejected))                         (Bradley-Terry)

It judges what no rule can, and can be fooled: whoever uses it watches a measure it never sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openbook.data.batch import Example
from openbook.data.packing import make_batch
from openbook.kernels.precision import autocast
from openbook.model.transformer import Transformer
from openbook.train.config import OptimConfig, ScheduleConfig
from openbook.train.device import Stopwatch
from openbook.train.report import StepReport
from openbook.train.schedule import rate_share
from openbook.train.state import TrainState
from openbook.train.step import clip_gradients

HEAD_FILE = "reward_head.safetensors"


class RewardModel(nn.Module):
    """A trunk and a scalar head."""

    def __init__(self, trunk: Transformer) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Parameter(torch.zeros(trunk.config.hidden_size))

    def forward(self, examples: Sequence[Example], *, pad_id: int) -> Tensor:
        """The score of each example, [B]: read at its last token."""
        device = self.head.device
        # A row's inputs end one token before its example does, so one token of padding keeps the last.
        padded = [
            Example(token_ids=(*one.token_ids, pad_id), weights=(*one.weights, 0.0)) for one in examples
        ]
        batch = make_batch(padded, pad_id=pad_id).to(device)
        output = self.trunk(batch.tokens_BT, valid_BT=batch.valid_BT)
        last_B = torch.tensor([len(one.token_ids) - 1 for one in examples], device=device)
        rows_B = torch.arange(len(examples), device=device)
        scores_B: Tensor = output.hidden_BTD[rows_B, last_B].float() @ self.head
        return scores_B

    def save_head(self, folder: Path) -> Path:
        path = folder / HEAD_FILE
        save_file({"head": self.head.detach().cpu().contiguous()}, path)
        return path

    def load_head(self, folder: Path) -> None:
        with torch.no_grad():
            self.head.copy_(load_file(folder / HEAD_FILE)["head"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two tokenized replies to one question, the liked one first."""

    chosen: Example
    rejected: Example


def preference_loss(model: RewardModel, pairs: Sequence[Pair], *, pad_id: int) -> tuple[Tensor, Tensor]:
    """Mean loss, and the share of pairs in which the chosen reply scores higher."""
    scores = model([one.chosen for one in pairs] + [one.rejected for one in pairs], pad_id=pad_id)
    margin = scores[: len(pairs)] - scores[len(pairs) :]
    return -F.logsigmoid(margin).mean(), (margin > 0).float().mean()


def preference_step(
    draw: Callable[[int, int], Sequence[Pair]],
    optim: OptimConfig,
    schedule: ScheduleConfig,
    *,
    num_steps: int,
    pairs_per_step: int,
    pad_id: int,
) -> Callable[[TrainState], StepReport]:
    """The `advance` of a reward model's training."""
    watch: list[Stopwatch] = []

    def advance(state: TrainState) -> StepReport:
        model = state.model
        assert isinstance(model, RewardModel)
        device = model.head.device
        if not watch:
            watch.append(Stopwatch(device))
        pairs = draw(state.position, pairs_per_step)
        with autocast(device):
            loss, accuracy = preference_loss(model, pairs, pad_id=pad_id)
        loss.backward()  # type: ignore[no-untyped-call]
        share = rate_share(schedule, state.step, num_steps)
        grad_norm = clip_gradients(model, optim.max_grad_norm)
        if torch.isfinite(loss) and math.isfinite(grad_norm):
            state.optimizers.step(share)
        state.step += 1
        state.position += len(pairs)
        num_tokens = sum(len(one.chosen.token_ids) + len(one.rejected.token_ids) for one in pairs)
        metrics = {
            "loss": float(loss.detach()),
            "pair_accuracy": float(accuracy),
            "grad_norm": grad_norm,
            "learning_rate": optim.learning_rate * share,
        }
        return StepReport(step=state.step, metrics=metrics, usage=watch[0].lap(trained_tokens=num_tokens))

    return advance
