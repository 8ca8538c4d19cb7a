"""An engine whose next token is decided by a function, and a way to drive engines to their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from openbook.engine import engine as engine_module
from openbook.engine.choose import make_pool
from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.executor import DraftRows, Ints, StepBatch
from openbook.engine.thinking import ReasoningTags
from openbook.engine.types import Completion
from openbook.kernels.native import Missing, load_native
from openbook.model.transformer import Transformer

Follow = Callable[[int, int], Tensor]
"""From a token and its position to the logits [V] behind it."""

VOCAB = 40
TAGS = ReasoningTags(open_id=30, close_id=31, closing_ids=(31, 32))


class ScriptedExecutor:
    """Answers with what `follow` says, and counts its steps and refreshs. It keeps nothing in the cache."""

    name = "scripted"

    def __init__(self, model: Transformer, config: EngineConfig, follow: Follow) -> None:
        self.pool, self.max_rows, self.follow = make_pool(model, config), config.max_tokens_per_step, follow
        self.num_steps = 0
        self.num_refreshs = 0

    def forward(self, batch: StepBatch) -> Tensor:
        assert len(batch.tokens_R) <= self.max_rows
        self.num_steps += 1
        places = zip(batch.tokens_R[batch.sampled_M], batch.positions_R[batch.sampled_M], strict=True)
        return torch.stack(
            [torch.zeros(VOCAB), *(self.follow(int(token), int(position)) for token, position in places)]
        )[1:]

    def draft(self, rows: DraftRows, num_drafts: int) -> Ints:
        return np.full((len(rows.last_M), num_drafts), -1, np.int32)

    def refresh(self) -> None:
        self.num_refreshs += 1


@pytest.fixture(params=["native", "torch"])
def decode(request: pytest.FixtureRequest) -> str:
    """Who computes; native is left out where there is no compiler for it."""
    found = load_native()
    if request.param == "native" and isinstance(found, Missing):
        pytest.skip(found.reason)
    return str(request.param)


@pytest.fixture
def scripted(make_tiny: Callable[..., Transformer], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    """`scripted(follow, stops=(1,), tags=None, decode=None, **config)` over a vocabulary of 40."""
    model = make_tiny(gqa=True, vocab_size=VOCAB)

    def make(
        follow: Follow, *, stops: tuple[int, ...] = (1,), tags: Any = None, decode: Any = None, **fields: Any
    ) -> Engine:
        config = EngineConfig(**{"num_blocks": 64, "max_running": 16} | fields)
        monkeypatch.setattr(
            engine_module, "make_executor", lambda model, config: ScriptedExecutor(model, config, follow)
        )
        return Engine(model, config, stop_token_ids=stops, tags=tags, decode=decode)

    return make


@pytest.fixture(scope="session")
def saying() -> Callable[..., Follow]:
    """`saying(*ids, prompt_length=1)`: after a prompt of that length these tokens come, and then zeros."""

    def make(*ids: int, prompt_length: int = 1) -> Follow:
        def follow(token: int, position: int) -> Tensor:
            number = position - prompt_length + 1
            logits = torch.full((VOCAB,), -20.0)
            logits[ids[number] if number < len(ids) else 0] = 20.0
            return logits

        return follow

    return make


@pytest.fixture(scope="session")
def drive() -> Callable[[Engine], dict[int, Completion]]:
    """Steps until nothing is left, watching over the blocks on the way; completions by request."""

    def drive(engine: Engine) -> dict[int, Completion]:
        done: dict[int, Completion] = {}
        tokens: dict[int, list[int]] = {}
        while engine.has_unfinished:
            for update in engine.step():
                tokens.setdefault(update.request_id, []).extend(update.token_ids)
                if update.completion is not None:
                    done[update.request_id] = update.completion
            engine.scheduler.check()
        for request_id, completion in done.items():
            assert completion.token_ids[-len(tokens[request_id]) :] == tuple(tokens[request_id])
        return done

    return drive
