"""The same weights give the same logits in our Transformer and in the `transformers` library, both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openbook.model.checkpoint import Checkpoint, save_checkpoint
from openbook.model.config import ModelConfig
from openbook.model.init import initialize
from openbook.model.public import from_public
from openbook.model.transformer import Transformer

transformers = pytest.importorskip("transformers", reason="a test dependency: `pip install openbook[test]`")

VOCAB_SIZE = 96
NUM_PROMPT_TOKENS = 24
NUM_CONTINUED_TOKENS = 16

SMALL = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 500.0,
    "hidden_act": "silu",
}
MLA = {
    "num_key_value_heads": 4,
    "q_lora_rank": None,
    "kv_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 12,
}
EXPERTS = {
    "first_k_dense_replace": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 16,
    "routed_scaling_factor": 2.5,
}
# Of these sizes some frequencies stay, some are stretched and one lies on the ramp between.
YARN = {
    "type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 2.0,
    "beta_slow": 0.5,
}
DEEPSEEK_YARN = YARN | {"mscale": 1.0, "mscale_all_dim": 0.7}

ONE_GROUP = {"n_group": 1, "topk_group": 1}
FOUR_GROUPS = {"n_group": 4, "topk_group": 2}

V3 = SMALL | MLA | EXPERTS | ONE_GROUP | {"model_type": "deepseek_v3", "norm_topk_prob": True}
V2 = SMALL | MLA | EXPERTS | {"model_type": "deepseek_v2", "norm_topk_prob": False, "topk_method": "greedy"}
DENSE = SMALL | {"num_key_value_heads": 2, "tie_word_embeddings": False}

PUBLIC_CONFIGS = {
    "v3": V3,
    "v3 with query compression": V3 | {"q_lora_rank": 32},
    "v3 in four groups": V3 | FOUR_GROUPS,
    "v3 in four groups with query compression": V3 | FOUR_GROUPS | {"q_lora_rank": 32},
    "v3 with yarn": V3 | {"rope_scaling": DEEPSEEK_YARN},
    "v3 with yarn and query compression": V3 | {"rope_scaling": DEEPSEEK_YARN, "q_lora_rank": 32},
    "v3 with yarn in four groups": V3 | FOUR_GROUPS | {"rope_scaling": DEEPSEEK_YARN},
    "v3 with all of them": V3 | FOUR_GROUPS | {"rope_scaling": DEEPSEEK_YARN, "q_lora_rank": 32},
    "v3 without experts": V3 | {"first_k_dense_replace": 3},
    "v3 with biases": V3 | {"q_lora_rank": 32, "attention_bias": True},
    "v2": V2,
    "v2 in four groups": V2 | FOUR_GROUPS | {"topk_method": "group_limited_greedy", "q_lora_rank": 32},
    "llama": DENSE | {"model_type": "llama"},
    "llama, tied": DENSE | {"model_type": "llama", "tie_word_embeddings": True},
    "llama with yarn": DENSE | {"model_type": "llama", "rope_scaling": YARN},
    "llama with yarn and a factor": DENSE
    | {"model_type": "llama", "rope_scaling": YARN | {"attention_factor": 1.5}},
    "llama with deepseek's yarn": DENSE | {"model_type": "llama", "rope_scaling": DEEPSEEK_YARN},
    "qwen3": DENSE | {"model_type": "qwen3", "head_dim": 32},
    "qwen3, tied": DENSE | {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True},
    "qwen2": DENSE | {"model_type": "qwen2"},
}


@pytest.fixture(autouse=True)
def quiet_transformers() -> Iterator[None]:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    yield


@pytest.fixture(params=PUBLIC_CONFIGS.values(), ids=list(PUBLIC_CONFIGS))
def public(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def test_a_checkpoint_of_transformers_gives_the_same_logits_and_continuation(
    public: dict[str, Any], tmp_path: Path
) -> None:
    theirs = their_model(public)
    theirs.save_pretrained(tmp_path)
    ours = Checkpoint.open(tmp_path).load()
    assert_same_behaviour(ours, theirs)


def test_a_checkpoint_of_ours_loads_completely_in_transformers_with_the_same_logits(
    public: dict[str, Any], tmp_path: Path
) -> None:
    ours = our_model(from_public(public))
    save_checkpoint(tmp_path / "ours", ours, provenance={})
    theirs, loading = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert type(theirs).__name__.lower().startswith(public["model_type"].replace("_", ""))
    assert not any(loading.values()), loading
    assert_same_behaviour(ours, theirs)


def test_transformers_skips_our_mtp_layer_and_keeps_the_rest(tmp_path: Path) -> None:
    ours = our_model(from_public(V3 | {"num_nextn_predict_layers": 1}))
    save_checkpoint(tmp_path / "ours", ours, provenance={})
    theirs, loading = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert all(name.startswith("model.layers.3.") for name in loading["unexpected_keys"])
    assert_same_behaviour(ours, theirs)


def test_the_token_ids_we_write_are_those_that_transformers_stops_at(tmp_path: Path) -> None:
    ours = our_model(from_public(DENSE | {"model_type": "llama"}))
    save_checkpoint(tmp_path / "told", ours, provenance={}, token_ids={"bos_token_id": 5, "eos_token_id": 7})
    save_checkpoint(tmp_path / "untold", ours, provenance={})
    told = transformers.AutoConfig.from_pretrained(tmp_path / "told")
    untold = transformers.AutoConfig.from_pretrained(tmp_path / "untold")
    assert (told.bos_token_id, told.eos_token_id, told.pad_token_id) == (5, 7, None)
    assert untold.eos_token_id is None


def their_model(public: dict[str, Any]) -> Any:
    config = transformers.AutoConfig.for_model(**public)
    model = transformers.AutoModelForCausalLM.from_config(config)
    randomise(model)
    return model.eval()


def our_model(config: ModelConfig) -> Transformer:
    model = Transformer(config)
    initialize(model, config, torch.Generator().manual_seed(0))
    randomise(model)
    return model.eval()


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Weights large enough to tell apart any two ways of computing; balancing biases positive."""
    generator = torch.Generator().manual_seed(1)

    def normal(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator)

    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            around = 1.0 if "norm" in name else 0.0
            parameter.copy_(around + 0.3 * normal(parameter))
        else:
            deviation = 1.0 if "embed" in name else 1.5 * parameter.shape[-1] ** -0.5
            parameter.copy_(deviation * normal(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(normal(buffer).abs() * 0.2)


@torch.no_grad()
def assert_same_behaviour(ours: Transformer, theirs: Any) -> None:
    prompt = torch.randint(VOCAB_SIZE, (2, NUM_PROMPT_TOKENS), generator=torch.Generator().manual_seed(2))
    our_logits = ours.logits(ours(prompt).hidden_BTD)
    their_logits = theirs(prompt).logits
    assert their_logits.std() > 0.5
    assert (our_logits - their_logits).abs().max() < 1e-4
    continued_by_us = continue_greedily(lambda tokens: ours.logits(ours(tokens).hidden_BTD), prompt)
    continued_by_them = continue_greedily(lambda tokens: theirs(tokens).logits, prompt)
    assert torch.equal(continued_by_us, continued_by_them)


def continue_greedily(logits_of: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    for _ in range(NUM_CONTINUED_TOKENS):
        tokens = torch.cat((tokens, logits_of(tokens)[:, -1:].argmax(-1)), dim=1)
    return tokens
