"""The nano cases: a checkpoint answers problems of its story, random weights continue random prompts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from openbook.bench.case import Setting
from openbook.bench.nano import NUM_PROBLEMS, prepare_speculation, read_nano
from openbook.cli.shelf import find_recipe
from openbook.model.checkpoint import save_checkpoint
from openbook.model.transformer import Transformer
from openbook.tokens.tokenizer import Tokenizer


@pytest.fixture
def setting() -> Setting:
    return Setting(find_smollm2=Path, nano_recipe=find_recipe("nano", "run"), cache_folder=Path())


@pytest.fixture
def trained(
    setting: Setting, make_tiny: Callable[..., Transformer], tokenizer: Tokenizer, tmp_path: Path
) -> Setting:
    """As if `tiny` had come out of the story."""
    model = make_tiny(vocab_size=tokenizer.vocab_size)
    save_checkpoint(tmp_path / "model", model, provenance={}, extra_files=[tokenizer.save(tmp_path)])
    return replace(setting, checkpoint=tmp_path / "model")


def test_a_checkpoint_gets_problems_of_the_story_and_stops(trained: Setting, tokenizer: Tokenizer) -> None:
    nano = read_nano(trained)
    assert nano.stop_token_id == tokenizer.eos_id and nano.max_tokens == 72
    prompts = nano.prompts(0)
    assert len(prompts) == NUM_PROBLEMS and len({tuple(prompt) for prompt in prompts}) == NUM_PROBLEMS
    assert all(prompt[0] == tokenizer.bos_id for prompt in prompts)
    assert prompts == nano.prompts(0) and not any(prompt in prompts for prompt in nano.prompts(-1))


def test_random_weights_never_stop(setting: Setting) -> None:
    nano = read_nano(setting)
    assert nano.stop_token_id is None
    assert nano.model.config.hidden_size == 128
    assert [len(prompt) for prompt in nano.prompts(3)] == [40] * NUM_PROBLEMS


def test_drafts_compete_with_the_same_engine_without_them(trained: Setting) -> None:
    with ExitStack() as stack:
        contest = prepare_speculation(trained, 1, stack)
        (plain,) = contest.peers
        assert plain.name == "openbook without drafts" and plain.missing() is None
        drafting, without = contest.ours(0), plain.open(stack)(0)
    assert drafting.num_new_tokens == without.num_new_tokens > 16, "the same answers to 16 problems"
    assert drafting.num_prompt_tokens == without.num_prompt_tokens
