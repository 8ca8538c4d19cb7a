"""A command that runs inside the test, and a small story on disk for it to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from openbook.cli.app import main
from openbook.runs.run import Run
from openbook.runs.usage import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def openbook(capsys: pytest.CaptureFixture[str]) -> Command:
    """Call the command line: `openbook("runs", "list")`."""

    def call(*words: str | Path) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        printed = capsys.readouterr()
        code = end.value.code
        return Answer(code=code if isinstance(code, int) else 0, out=printed.out, err=printed.err)

    return call


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a run that is done and one that failed, 3600 device-seconds each."""
    for stage in ("pretrain", "zero"):
        run = Run.create(tmp_path / stage, verb="run", stage=stage, recipe={"stage": stage}, seed=7)
        run.start(device="cpu")
        run.record(Usage(trained_tokens=1000, device_microseconds=3_600_000_000))
        run.log(1, {"loss": 2.5})
        if stage == "zero":
            run.fail("the loss became nan")
        else:
            run.finish()
    return tmp_path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained model with its tokenizer."""
    import torch

    from openbook.model.checkpoint import save_checkpoint
    from openbook.model.config import GQAConfig, ModelConfig
    from openbook.model.init import initialize
    from openbook.model.transformer import Transformer
    from openbook.tokens.template import prompt, response
    from openbook.tokens.tokenizer import Tokenizer

    folder = tmp_path_factory.mktemp("model")
    texts = [prompt(f"a = {digit}. a?") + response(f"a = {digit}", str(digit)) for digit in range(10)]
    tokenizer = Tokenizer.train(texts, vocab_size=280)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=160,
        attention=GQAConfig(num_key_value_heads=1, head_dim=8),
    )
    model = Transformer(config)
    initialize(model, config, torch.Generator().manual_seed(0))
    place = folder / "tiny"
    save_checkpoint(
        place, model, provenance={"run_id": "run-1", "stage": "zero"}, extra_files=[tokenizer.save(folder)]
    )
    return place
