"""What holds for all tests: no deadline on a shared machine, and `gpu` is skipped where there is none.

And what many of them share: a tokenizer, a network and a GGUF file small enough to be made anew for every
test. Torch is imported only by those who ask for it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig
from openbook.tokens.template import prompt, response
from openbook.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from openbook.model.transformer import Transformer

settings.register_profile("openbook", deadline=None)
settings.load_profile("openbook")

TINY = ModelConfig(
    vocab_size=320,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=48,
    attention=MLAConfig(
        q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8
    ),
    moe=MoEConfig(n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=16),
    num_nextn_predict_layers=1,
    max_position_embeddings=256,
)
TINY_GQA = replace(
    TINY,
    attention=GQAConfig(num_key_value_heads=1, head_dim=8, qk_norm=True),
    moe=None,
    num_nextn_predict_layers=0,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="torch sees no GPU"))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """About 300 tokens, learned from a few chains."""
    texts = [
        prompt(f"{x} {n}, {y} +4, {z} *2. {z}?") + response(f"{y} +4 = seven, {z} *2 = four", "4")
        for n, (x, y, z) in enumerate(("abc", "bcd", "cde", "def", "efg"))
    ]
    return Tokenizer.train(texts, vocab_size=320)


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., Transformer]:
    """`make_tiny(seed=0, gqa=False, **changed_fields)`: MLA, experts and one MTP module, or dense GQA."""
    import torch

    from openbook.model.init import initialize
    from openbook.model.transformer import Transformer

    def make(*, seed: int = 0, gqa: bool = False, **fields: Any) -> Transformer:
        config = replace(TINY_GQA if gqa else TINY, **fields)
        model = Transformer(config)
        initialize(model, config, torch.Generator().manual_seed(seed))
        return model.train()

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The order of a sum depends on the number of threads: bit-for-bit tests use one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """A real PostgreSQL server; `postgresql.new_database()` is the URL of an empty database on it."""
    module = beside("postgresql")
    require(module.binaries() is not None, module.HOW_TO_INSTALL)
    with module.server() as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real Chromium, as selenium's driver; whoever opens a page in it leaves no state behind."""
    module = beside("browser")
    require(module.programs() is not None, module.HOW_TO_INSTALL)
    with module.browser() as running:
        yield running


def beside(name: str) -> Any:
    """The module of that name in the folder of this file, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def require(is_here: bool, how_to_install: str) -> None:
    """Skip what cannot be tested on this machine, saying why; where all has to be tested, fail."""
    if is_here:
        return
    if os.environ.get("OPENBOOK_CI"):
        pytest.fail(how_to_install)
    pytest.skip(how_to_install)


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new ledger may be: the path of a SQLite file, then the URL of a PostgreSQL database."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    url: str = request.getfixturevalue("postgresql").new_database()
    return url


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def gguf_vocabulary() -> dict[str, Any]:
    """The metadata of a tokenizer of bytes, chat tokens and a thinking tag, with merges to ` a` and ` an`."""
    from tokenizers.pre_tokenizers import ByteLevel

    special, letters = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], sorted(ByteLevel.alphabet())
    tokens = [*special, "</think>", *letters, "\u0120a", "\u0120an"]
    kinds = [3, 3, 3, 4] + [1] * (len(tokens) - 4)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": ["\u0120 a", "\u0120a n"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


@pytest.fixture
def write_gguf(tmp_path: Path) -> Callable[..., Path]:
    """`write_gguf(model, kind="Q4_1", changed={...}, tensors={...})`: a dense model as llama.cpp stores it.

    Matrices are of type `kind`; `changed` metadata and `tensors` come on top, None taking one away.
    """
    import gguf

    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.o_proj": "attn_output",
        "self_attn.": "attn_",
        "mlp.": "ffn_",
        "_proj": "",
        "model.layers": "blk",
    }

    def stored_name(name: str) -> str:
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        return name

    def write(
        model: Transformer,
        *,
        kind: str = "F32",
        architecture: str = "llama",
        changed: dict[str, Any] | None = None,
        tensors: dict[str, Any] | None = None,
    ) -> Path:
        config, attention = model.config, model.config.attention
        assert isinstance(attention, GQAConfig)
        path = tmp_path / f"{architecture}-{kind}.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        metadata = {
            f"{architecture}.block_count": config.num_hidden_layers,
            f"{architecture}.context_length": config.max_position_embeddings,
            f"{architecture}.embedding_length": config.hidden_size,
            f"{architecture}.feed_forward_length": config.intermediate_size,
            f"{architecture}.attention.head_count": config.num_attention_heads,
            f"{architecture}.attention.head_count_kv": attention.num_key_value_heads,
            f"{architecture}.attention.key_length": attention.head_dim,
            f"{architecture}.attention.value_length": attention.head_dim,
            f"{architecture}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
            f"{architecture}.rope.freq_base": config.rope_theta,
            **(changed or {}),
        }
        for name, value in metadata.items():
            add_value(writer, name, value)
        for name, tensor in model.state_dict().items():
            values, stored = tensor.float().numpy(), stored_name(name)
            if architecture == "llama" and stored.split(".")[-2] in ("attn_q", "attn_k"):
                # `LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py.
                halves = values.reshape(-1, 2, attention.head_dim // 2, values.shape[1])
                values = halves.swapaxes(1, 2).reshape(values.shape)
            type_ = gguf.GGMLQuantizationType[kind if values.ndim == 2 else "F32"]
            if stored not in (tensors or {}):
                writer.add_tensor(stored, gguf.quantize(values.copy(), type_), raw_dtype=type_)
        for name, values in (tensors or {}).items():
            if values is not None:
                writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def add_value(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
        match value:
            case None:
                pass
            case bool():
                writer.add_bool(name, value)
            case int():
                writer.add_uint32(name, value)
            case float():
                writer.add_float32(name, value)
            case str():
                writer.add_string(name, value)
            case _:
                writer.add_array(name, value)

    return write
