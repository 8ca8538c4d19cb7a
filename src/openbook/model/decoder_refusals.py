"""What is no decoder of attention layers, and the line that says so. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openbook.errors import UserError

_ENCODERS = """
albert bert big_bird camembert canine clip convbert data2vec-text deberta deberta-v2 distilbert
electra ernie esm eurobert flaubert funnel ibert layoutlm layoutlmv3 longformer megatron-bert mobilebert
modernbert mpnet mra nezha nomic_bert nystromformer rembert roberta roberta-prelayernorm roc_bert roformer
siglip splinter squeezebert vit xlm xlm-roberta xlm-roberta-xl xmod yoso
"""

_ENCODER_DECODERS = """
bart bigbird_pegasus blenderbot blenderbot-small encoder-decoder fsmt led longt5 m2m_100 marian mbart mt5 mvp
nllb-moe pegasus pegasus_x plbart prophetnet seamless_m4t speech_to_text switch_transformers t5 t5gemma
t5gemma2 umt5 whisper
"""

_STATES = """
bailing_hybrid bamba falcon_h1 falcon_mamba jamba kimi_linear lfm2 lfm2_moe lfm3 mamba mamba2
minimax nemotron_h olmo_hybrid plamo2 qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_next
recurrent_gemma rwkv rwkv5 rwkv7 stripedhyena xlstm zamba zamba2
"""

_STATE_FIELDS = ("mamba_d_state", "mamba_d_conv", "ssm_cfg", "ssm_state_size", "linear_conv_kernel_dim")

_UNUSUAL = {
    "arctic": "it has a dense network beside its experts",
    "blt": "it is three networks over bytes",
    "deepseek_v4": "its attention compresses its keys",
    "diffllama": "its attention is a difference of two",
    "gemma3n": "its layers share caches and have tables of their own",
    "gemma3n_text": "its layers share caches and have tables of their own",
    "gemma4": "its layers share caches and have tables of their own",
    "gemma4_text": "its layers share caches and have tables of their own",
    "jetmoe": "its attention is a mixture of experts too",
    "longcat_flash": "its experts may be empty and each layer has two attentions",
    "nemotron-nas": "each of its layers has its own shape",
    "openelm": "each of its layers has its own shape",
    "reformer": "its attention hashes",
    "xlnet": "it predicts in any order",
}


def refuse_others(public: Mapping[str, Any], where: str) -> None:
    """Raise UserError where `public` describes no decoder that can be counted."""
    model_type = str(public.get("model_type") or "")
    mend = "openbook plan counts decoders: name the config.json of one"
    if model_type in _ENCODER_DECODERS.split() or public.get("is_encoder_decoder") is True:
        raise UserError(f"{where}: {model_type or 'this'} is an encoder with a decoder", mend)
    is_masked = "MaskedLM" in str(public.get("architectures"))
    if model_type in _ENCODERS.split() or is_masked:
        raise UserError(f"{where}: {model_type or 'this'} is an encoder, which generates nothing", mend)
    has_state = any(public.get(name) is not None for name in _STATE_FIELDS)
    if model_type in _STATES.split() or (has_state and not _all_attention(public)):
        raise UserError(
            f"{where}: {model_type or 'this'} has layers of state instead of attention",
            "they are not counted yet; only attention layers are",
        )
    if model_type in _UNUSUAL:
        raise UserError(f"{where}: {model_type} is not counted yet", _UNUSUAL[model_type])


def _all_attention(public: Mapping[str, Any]) -> bool:
    """Whether a family of both kinds says that this one has attention alone (Granite 4.0 1B)."""
    kinds = public.get("layer_types")
    return isinstance(kinds, list) and bool(kinds) and set(kinds) <= {"attention", "full_attention"}
