"""`openbook plan`: what a model costs, counted before anything is computed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbook.cli.options import Json, Overrides

if TYPE_CHECKING:
    from openbook.cli.launch import Launch
    from openbook.model.config import ModelConfig

BF16_BYTES = 2


def plan(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|CONFIG", help="A recipe, a public config.json, or a folder that holds one."
        ),
    ],
    sequence_length: Annotated[
        int, typer.Option("--sequence-length", min=1, metavar="N", help="Tokens of a training sequence.")
    ] = 4096,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Count parameters, cache bytes and FLOPs before computing.

    The source is a recipe, whose models are all counted, or a public config.json.
    """
    from openbook.cli.render import print_json

    models = _models(source, overrides or [])
    counts = {key: counted(model, sequence_length) for key, model in models.items()}
    if as_json:
        main = next(iter(counts.values()))
        print_json({"source": source, **main, "models": counts})
        return
    print_counts(counts, sequence_length)


def counted(model: ModelConfig, sequence_length: int) -> dict[str, int]:
    """The counts of one model: MTP modules apart, causal attention at half, the cache in bf16."""
    from openbook.model.cost import count

    cost = count(model)
    return {
        "sequence_length": sequence_length,
        "parameters_total": cost.parameters_total,
        "parameters_active": cost.parameters_active,
        "parameters_mtp": cost.mtp.total,
        "weight_bytes": cost.parameters_total * BF16_BYTES,
        "kv_bytes_per_token": cost.kv_bytes_per_token(BF16_BYTES),
        "flops_per_token": cost.training_flops_per_token(sequence_length).total,
        "flops_per_token_forward": cost.forward_flops_per_token(sequence_length).total,
    }


def print_counts(counts: Mapping[str, Mapping[str, int]], sequence_length: int) -> None:
    """One column for each model, the exact number beside the readable one when there is room."""
    from openbook.cli.render import print_table
    from openbook.units import show_bytes, show_count

    def exact(value: int) -> str:
        return f"{show_count(value)} ({value:,})" if len(counts) == 1 and value >= 1000 else show_count(value)

    rows = {
        "parameters, all": ("parameters_total", exact),
        "parameters, active per token": ("parameters_active", exact),
        "parameters of MTP modules, apart": ("parameters_mtp", exact),
        "weights in bf16": ("weight_bytes", show_bytes),
        "cache per token in bf16": ("kv_bytes_per_token", lambda value: f"{value:,} B"),
        "FLOPs per token, training": ("flops_per_token", exact),
        "FLOPs per token, forward": ("flops_per_token_forward", exact),
    }
    lines = [[label, *(show(one[key]) for one in counts.values())] for label, (key, show) in rows.items()]
    print_table(["count", *counts], lines, right=counts)
    print(
        f"\nsequences of {sequence_length:,} tokens, causal attention at half; MTP modules not in the FLOPs"
    )


def print_forecast(launch: Launch) -> None:
    """What `--dry-run` says: the resolved recipe on stdout as JSON, and what its models cost."""
    from openbook.cli.render import print_json
    from openbook.config import dump

    recipe = launch.recipe
    models = dict(find_models(recipe.config))
    print_json(
        {
            "verb": recipe.verb,
            "recipe": recipe.name,
            "digest": recipe.digest,
            "out": launch.out,
            "seed": launch.seed,
            "inputs": launch.inputs,
            "models": {key: counted(model, model.max_position_embeddings) for key, model in models.items()},
            "config": dump(recipe.config),
        }
    )


def find_models(config: Any, key: str = "") -> Iterator[tuple[str, ModelConfig]]:
    """Every model inside a recipe's config with its dotted key, in order."""
    from openbook.model.config import ModelConfig

    if isinstance(config, ModelConfig):
        yield key, config
    elif dataclasses.is_dataclass(config):
        for field in dataclasses.fields(config):
            yield from find_models(getattr(config, field.name), f"{key}.{field.name}".lstrip("."))
    elif isinstance(config, Mapping):
        for name, item in config.items():
            yield from find_models(item, f"{key}.{name}".lstrip("."))
    elif isinstance(config, tuple):
        for index, item in enumerate(config):
            yield from find_models(item, f"{key}[{index}]")


def _models(source: str, overrides: list[str]) -> dict[str, ModelConfig]:
    from openbook.errors import UserError

    path = Path(source)
    if path.is_dir():
        path = path / "config.json"
    if path.suffix == ".json":
        return {path.parent.name if path.name == "config.json" else path.stem: _read_public(path, overrides)}
    from openbook.cli.shelf import find_recipe
    from openbook.config import load_recipe
    from openbook.r1.schemas import SCHEMAS

    recipe = load_recipe(find_recipe(source), SCHEMAS, overrides)
    models = dict(find_models(recipe.config))
    if not models:
        raise UserError(f"{recipe.path} describes no model", "name a recipe that does, or a config.json")
    return models


def _read_public(path: Path, overrides: list[str]) -> ModelConfig:
    from openbook.config import merge, read_overrides
    from openbook.errors import UserError
    from openbook.model.public import from_public

    try:
        public = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}", "name a config.json or a recipe") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not JSON ({error})", "name a config.json or a recipe") from error
    return from_public(merge(public, read_overrides(overrides)), where=str(path))
