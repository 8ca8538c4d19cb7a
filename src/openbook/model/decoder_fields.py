"""A public `config.json` under one set of names, with errors that name the field. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openbook.errors import UserError

Flag = bool | str
"""A fact of a family, or the name of the field that says it; `not NAME` where the field says the opposite."""

_OTHER_NAMES = {
    "vocab_size": ("padded_vocab_size", "n_vocab"),
    "hidden_size": ("n_embd", "n_embed", "d_model", "model_dim", "dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers", "num_transformer_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads", "attention_heads", "encoder_attention_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_kv_heads", "n_head_kv", "kv_n_heads", "multi_query_group_num"),
    "head_dim": ("kv_channels", "attention_head_dim"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size", "inner_hidden_size", "d_ff", "dff"),
    "max_position_embeddings": ("n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts"),
    "num_experts_per_tok": (
        "moe_topk",
        "moe_k",
        "moe_top_k",
        "num_experts_per_token",
        "num_selected_experts",
    ),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "expert_intermediate_size"),
    "n_shared_experts": ("num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    "shared_intermediate_size": (
        "shared_expert_intermediate_size",
        "moe_shared_expert_intermediate_size",
    ),
    "first_k_dense_replace": ("num_dense_layers",),
    "sliding_window": ("window_size",),
    "sliding_window_pattern": ("_sliding_window_pattern", "global_attn_every_n_layers"),
    "num_nextn_predict_layers": ("num_mtp_layers", "num_mtp_modules", "mtp_num_layers"),
}
"""What other families call the same number. A file that uses our name is taken at that."""

_NESTED = ("attn_config", "ffn_config")
LARGEST = 10**12
"""No field of a decoder counts more."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The values of one decoder. A field that is null is there and says nothing."""

    values: Mapping[str, Any]
    where: str

    def number(self, name: str) -> int | None:
        """A positive whole number, or None where the field is absent or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, list | tuple):
            value = self._same(name, value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"{self.where}: {name} = {value!r} has to be a whole number")
        if value < 0:
            raise UserError(f"{self.where}: {name} = {value} has to be 0 or more")
        if value > LARGEST:
            raise UserError(f"{self.where}: {name} = {value:.6g} is more than any decoder has")
        return value

    def get(self, name: str, default: int) -> int:
        value = self.number(name)
        return default if value is None else value

    def need(self, name: str) -> int:
        """A number that has to be there and not be 0. Raises UserError by the field's name."""
        value = self.number(name)
        if value is None:
            others = ", ".join(_OTHER_NAMES.get(name, ()))
            mend = " ".join(f"a {self.values.get('model_type') or ''} configuration has to give it".split())
            raise UserError(f"{self.where}: {name} is missing", mend + (f" (or {others})" if others else ""))
        if value == 0:
            raise UserError(f"{self.where}: {name} = 0 has to be positive")
        return value

    def flag(self, flag: Flag) -> bool:
        if isinstance(flag, bool):
            return flag
        name = flag.removeprefix("not ")
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise UserError(f"{self.where}: {name} = {value!r} has to be true or false")
        return bool(value) != (name != flag)

    def items(self, name: str) -> list[Any] | None:
        """A list, or None where the field is absent, null or empty."""
        value = self.values.get(name)
        if value is None or value == []:
            return None
        if not isinstance(value, list | tuple):
            raise UserError(f"{self.where}: {name} = {value!r} has to be a list")
        return list(value)

    def _same(self, name: str, value: list[Any] | tuple[Any, ...]) -> Any:
        """The one value of a list that has one for each layer."""
        if len({repr(item) for item in value}) != 1:
            raise UserError(
                f"{self.where}: {name} differs from layer to layer", "such a network is not counted yet"
            )
        return value[0]


def rename(public: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `public` under our names; nested parts of one network are laid flat."""
    values: dict[str, Any] = {}
    for part in _NESTED:
        if isinstance(public.get(part), Mapping):
            values |= public[part]
    values |= {name: value for name, value in public.items() if name not in _NESTED}
    for name, others in _OTHER_NAMES.items():
        for other in others:
            if values.get(name) is None and other in values:
                values[name] = values[other]
    return values
