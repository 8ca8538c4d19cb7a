"""Supervised training on conversations: whose template, what is too long, what stays with the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbook.data.config import ConversationConfig
from openbook.errors import UserError
from openbook.model.checkpoint import Checkpoint, save_checkpoint
from openbook.r1.config import FinetuneConfig
from openbook.r1.finetune import finetune, open_lessons
from openbook.r1.frame import Frame
from openbook.runs.run import Run
from openbook.tokens.chat import ChatTemplate
from openbook.tokens.ggml import read_tokenizer
from openbook.tokens.renderer import Renderer
from openbook.train.config import OptimConfig, TrainConfig

TRAIN = TrainConfig(
    num_steps=12,
    examples_per_step=4,
    tokens_per_batch=512,
    optim=OptimConfig(muon_learning_rate=0.02, adamw_learning_rate=0.01),
)


@pytest.fixture
def foreign(make_tiny: Callable[..., Any], gguf_vocabulary: dict[str, Any], tmp_path: Path) -> Checkpoint:
    """A tiny model as public folders hold one, with a chat template of its own."""
    tokenizer = read_tokenizer(gguf_vocabulary, where="x.gguf")
    template = ChatTemplate.of_tokenizer(
        gguf_vocabulary["tokenizer.chat_template"], tokenizer, where="x.gguf"
    )
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_id") for role in ("bos", "eos", "pad")}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    return save_checkpoint(
        tmp_path / "foreign",
        make_tiny(gqa=True),
        provenance={},
        extra_files=[
            tokenizer.save(tmp_path),
            template.save(tmp_path),
            tmp_path / "tokenizer_config.json",
        ],
        token_ids=ids,
    )


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Twenty conversations of two turns."""
    file = tmp_path / "chats.jsonl"
    lines = []
    for number in range(20):
        turns = [("user", f"an {number}"), ("assistant", "yes"), ("user", "and"), ("assistant", "an end")]
        lines.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_a_model_from_elsewhere_learns_in_its_own_template_and_keeps_it(
    foreign: Checkpoint, chats: Path, make_frame: Callable[..., Frame], one_thread: None
) -> None:
    config = FinetuneConfig(train=TRAIN, data=ConversationConfig(held_out_share=0.2, held_out_every=6))
    lessons = open_lessons(chats, config, foreign)
    assert len(lessons.train) + len(lessons.held_out) == 20 and lessons.held_out
    assert not set(lessons.train) & set(lessons.held_out)
    frame = make_frame(verb="sft", stage="sft")
    checkpoint = finetune(config, frame, foreign, lessons)
    before, after = Renderer.of_folder(foreign.folder), Renderer.of_folder(checkpoint.folder)
    assert after.prompt_ids("an 1") == before.prompt_ids("an 1")
    assert after.tokenizer.stop_ids == before.tokenizer.stop_ids
    losses = [row["held_out_loss"] for row in Run.open(frame.folder).metrics() if "held_out_loss" in row]
    assert len(losses) == 2 and losses[1] < losses[0] < 6
    assert json.loads((frame.folder / "held_out.json").read_text())["loss"] == losses[1]


def test_a_conversation_that_is_too_long_is_refused_by_its_line_or_left_out(
    foreign: Checkpoint, chats: Path
) -> None:
    lines = chats.read_text().splitlines()
    lines[4] = json.dumps({"prompt": "p" * 300, "completion": "c"})
    chats.write_text("\n".join(lines))
    with pytest.raises(
        UserError, match=r"chats\.jsonl, line 5: \d+ tokens, and the model and a batch take 256"
    ):
        open_lessons(chats, FinetuneConfig(train=TRAIN), foreign)
    config = FinetuneConfig(train=TRAIN, data=ConversationConfig(too_long="skip"))
    lessons = open_lessons(chats, config, foreign)
    assert (len(lessons.train), lessons.num_skipped) == (19, 1)
    chats.write_text(lines[4])
    with pytest.raises(UserError, match=r"every conversation in .* has more than 256 tokens"):
        open_lessons(chats, config, foreign)


def test_our_own_models_learn_single_questions(checkpoint: Checkpoint, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"question": "a 3. a?", "response": "3"}\n')
    lessons = open_lessons(file, FinetuneConfig(train=TRAIN), checkpoint)
    (example,) = lessons.train
    assert lessons.tokenizer.decode(example.token_ids).endswith("User: a 3. a? Assistant: 3")
    assert not lessons.held_out
