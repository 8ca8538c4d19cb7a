"""The published runs that the efficiency model is calibrated on; none other is used. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openbook.economics.accelerators import Precision
from openbook.economics.plan.fit import CalibrationRun
from openbook.model.decoders import read_decoder

V3_CONFIG: Mapping[str, Any] = {
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "topk_method": "noaux_tc",
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "num_nextn_predict_layers": 1,
    "max_position_embeddings": 163840,
    "tie_word_embeddings": False,
}


def _llama(width: int, layers: int, heads: int, kv_heads: int, inner: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }


LLAMA2_SOURCE = (
    "meta-llama/llama-models, models/llama2/MODEL_CARD.md; devices: about 2,000 (paper 2.2.1), taken as 2,048"
)


def calibration_runs() -> tuple[CalibrationRun, ...]:
    """DeepSeek-V3, Llama-2 in three sizes, TinyLlama."""
    llamas = {
        "Llama-2 7B": (_llama(4096, 32, 32, 32, 11008), 184_320),
        "Llama-2 13B": (_llama(5120, 40, 40, 40, 13824), 368_640),
        "Llama-2 70B": (_llama(8192, 80, 64, 8, 28672), 1_720_320),
    }
    return (
        CalibrationRun(
            name="DeepSeek-V3",
            architecture=read_decoder(V3_CONFIG, "DeepSeek-V3"),
            tokens=14.8e12,
            sequence_length=4096,
            accelerator="h800",
            num_devices=2048,
            precision=Precision.FP8,
            device_hours=2_664_000,
            source="DeepSeek-V3 technical report, arXiv 2412.19437, Table 1",
        ),
        *(
            CalibrationRun(
                name=name,
                architecture=read_decoder(config, name),
                tokens=2.0e12,
                sequence_length=4096,
                accelerator="a100-80",
                num_devices=2048,
                precision=Precision.BF16,
                device_hours=hours,
                source=LLAMA2_SOURCE,
            )
            for name, (config, hours) in llamas.items()
        ),
        CalibrationRun(
            name="TinyLlama 1.1B",
            architecture=read_decoder(_llama(2048, 22, 32, 4, 5632), "TinyLlama"),
            tokens=300e9,
            sequence_length=2048,
            accelerator="a100-40",
            num_devices=16,
            precision=Precision.BF16,
            device_hours=3456,
            source="jzhang38/TinyLlama README",
        ),
    )
