"""The numbers of two short runs with fixed seeds, kept beside this file: 20 supervised steps, 5 of GRPO.

They tell a change of the mathematics, which must be meant, from one of the code alone. A change that is meant
writes them anew: OPENBOOK_REWRITE_GOLDEN=1 pytest tests/golden/test_losses.py
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from openbook.data.batch import Example
from openbook.data.loader import EpochStream
from openbook.engine.engine import Engine
from openbook.model.transformer import Transformer
from openbook.rl.config import RLConfig
from openbook.rl.step import REFERENCE, Environment, policy_step
from openbook.rl.types import Attempt, Scored
from openbook.tasks.problem import Outcome, Problem, Split, Verdict
from openbook.tasks.rewards import RewardParts
from openbook.tokens.chat import ChatTemplate
from openbook.tokens.renderer import Renderer
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.config import OptimConfig, ScheduleConfig, TrainConfig
from openbook.train.optim import Optimizers
from openbook.train.state import TrainState
from openbook.train.step import supervised_step

FOLDER = Path(__file__).parent
RELATIVE = {"adamw": 2e-4, "muon": 1e-2}
"""How far another processor or library may stray; on one machine the runs are the same bit for bit.

Weights that differ by 1e-6 move the numbers by 1e-5 under AdamW. Under Muon they move them by 1e-3, for it
orthogonalises in bf16, where the last bit of a weight can tip a rounding."""
ABSOLUTE = 2e-5

ADAMW = OptimConfig(matrix_optimizer="adamw", adamw_learning_rate=3e-3)
MUON = OptimConfig(matrix_optimizer="muon", muon_learning_rate=0.01, adamw_learning_rate=3e-3)


def compare(
    name: str, columns: Sequence[str], rows: Sequence[Mapping[str, float]], *, relative: float
) -> None:
    """Hold the rows against the file, or write the file where that is asked for."""
    path = FOLDER / name
    if os.environ.get("OPENBOOK_REWRITE_GOLDEN"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", *columns])
            for step, row in enumerate(rows, start=1):
                writer.writerow([step, *(f"{row[column]:.7g}" for column in columns)])
    with path.open(encoding="utf-8") as file:
        kept = list(csv.DictReader(file))
    assert len(kept) == len(rows)
    for expected, row in zip(kept, rows, strict=True):
        for column in columns:
            near = pytest.approx(float(expected[column]), rel=relative, abs=ABSOLUTE)
            assert row[column] == near, f"{column} at step {expected['step']}"


@pytest.mark.parametrize("optim", [ADAMW, MUON], ids=["adamw", "muon"])
def test_twenty_supervised_steps_have_the_losses_on_file(
    make_tiny: Callable[..., Transformer], one_thread: None, optim: OptimConfig
) -> None:
    examples = [
        Example(
            token_ids=tuple((7 * start + step * stride) % 40 for step in range(length)),
            weights=(0.0, *((0.5,) * 2), *((1.0,) * (length - 3))),
        )
        for start, (length, stride) in enumerate([(6, 1), (9, 3), (12, 7), (15, 2)] * 6)
    ]
    config = TrainConfig(
        num_steps=20,
        examples_per_step=8,
        tokens_per_batch=64,
        optim=optim,
        schedule=ScheduleConfig(warmup_steps=5),
    )
    model = make_tiny(seed=1, vocab_size=40)
    state = TrainState(model=model, optimizers=Optimizers(model, optim))
    step = supervised_step(EpochStream(examples, seed=2), config, pad_id=0)
    columns = ("loss", "mtp_loss", "balance_loss", "grad_norm")
    kind = optim.matrix_optimizer
    rows = [step(state).metrics for _ in range(20)]
    compare(f"pretrain_{kind}.csv", columns, rows, relative=RELATIVE[kind])


def test_five_steps_of_grpo_have_the_losses_on_file(
    make_tiny: Callable[..., Transformer], one_thread: None
) -> None:
    # Neither the template nor learned merges: their words may change without the mathematics changing.
    tokenizer = Tokenizer.train([], vocab_size=263)
    bare = ChatTemplate("<bos>{{ messages[-1].content }}", special_tokens={}, where="golden")

    def judge(attempts: Sequence[Attempt]) -> list[Scored]:
        """The share of even tokens."""
        ids = [one.completion.token_ids for one in attempts]
        return [
            Scored(
                verdict=Verdict(outcome=Outcome.WRONG, reason=""),
                reward=RewardParts(
                    parts={"even": sum(one % 2 == 0 for one in row) / len(row)}, scored=True, reason=""
                ),
            )
            for row in ids
        ]

    def draw(position: int, count: int) -> list[Problem]:
        return [
            Problem(
                id=str(index),
                family="golden",
                split=Split.TRAIN,
                question="abcdefgh"[: 1 + index % 8],
                answer="",
                difficulty=1,
            )
            for index in range(position, position + count)
        ]

    config = RLConfig(
        num_steps=5,
        num_problems=4,
        num_generations=4,
        max_tokens=12,
        num_minibatches=2,
        share_prompts=False,  # the biases of the experts follow the loads, in which each prompt counts
        beta=0.05,
        reference_refresh_steps=3,
        tokens_per_batch=64,
        optim=ADAMW,
        schedule=ScheduleConfig(warmup_steps=2, decay="none"),
    )
    model = make_tiny(seed=1, vocab_size=263)
    state = TrainState(
        model=model,
        optimizers=Optimizers(model, ADAMW),
        companions={REFERENCE: make_tiny(seed=1, vocab_size=263)},
    )
    sampler = Engine(model, stop_token_ids=(tokenizer.eos_id,))
    renderer = Renderer(tokenizer=tokenizer, template=bare)
    environment = Environment(draw=draw, scorer=judge, renderer=renderer, seed=5)
    step = policy_step(config, environment, sampler)
    columns = ("reward", "loss", "kl", "entropy", "clipped_share", "sampler_gap", "grad_norm")
    rows = [step(state).metrics for _ in range(5)]
    compare("grpo_adamw.csv", columns, rows, relative=RELATIVE["adamw"])
