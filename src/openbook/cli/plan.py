"""`openbook plan`: what a model, a run or a story of stages costs, before anything is computed."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openbook.cli.options import AcceleratorFile, Json, Overrides
from openbook.cli.plan_options import (
    AcceleratorName,
    BatchTokens,
    Compare,
    Devices,
    Electricity,
    GoodputShare,
    GpuMtbf,
    LayoutText,
    Mfu,
    PrecisionName,
    Purchase,
    Rent,
    SequenceLength,
    Source,
    Tokens,
)

if TYPE_CHECKING:
    from openbook.cli.forecast import PlanOptions
    from openbook.cli.launch import Launch
    from openbook.config import Recipe
    from openbook.model.config import ModelConfig

BF16_BYTES = 2
THIS = "this"
"""The machine at hand, among accelerators."""


def plan(
    source: Source,
    tokens: Tokens = None,
    accelerator: AcceleratorName = None,
    devices: Devices = None,
    sequence_length: SequenceLength = None,
    precision: PrecisionName = None,
    layout: LayoutText = "",
    batch_tokens: BatchTokens = None,
    mfu: Mfu = None,
    goodput: GoodputShare = None,
    gpu_mtbf: GpuMtbf = None,
    rent: Rent = None,
    purchase: Purchase = None,
    electricity: Electricity = None,
    accelerators: AcceleratorFile = None,
    compare: Compare = "",
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Forecast memory, hours, energy and dollars of a run, with a band; without options count the model.

    The source is a public config.json, a plan recipe of several stages, or a recipe of another verb,
    whose models are all counted. `--set figures.NAME=VALUE` replaces any figure that the forecast takes
    as given.
    """
    from openbook.cli.forecast import PlanOptions

    options = PlanOptions(
        tokens=tokens,
        accelerator=accelerator,
        devices=devices,
        sequence_length=sequence_length,
        precision=precision,
        layout=layout,
        batch_tokens=batch_tokens,
        mfu=mfu,
        goodput=goodput,
        rent=rent,
        purchase=purchase,
        electricity=electricity,
        gpu_mtbf=gpu_mtbf,
        accelerators=accelerators,
        compare=compare,
        overrides=tuple(overrides or ()),
    )
    path = Path(source)
    if path.is_dir() or path.suffix == ".json":
        _plan_config(path, options, as_json)
    else:
        _plan_recipe(source, options, as_json)


def _plan_config(path: Path, options: PlanOptions, as_json: bool) -> None:
    from openbook.cli import forecast, plan_text
    from openbook.cli.render import print_json

    of_model, _ = forecast.split_overrides(options.overrides)
    architecture = forecast.read_architecture(path, of_model)
    name = path.parent.name if path.name == "config.json" else path.name if path.is_dir() else path.stem
    today = datetime.now(UTC).date()
    if not options.asks_forecast:
        from openbook.economics.plan.report import counts_json

        length = options.sequence_length or forecast.default_length(architecture)
        counts = counts_json(architecture, length)
        if as_json:
            warned = {"warnings": list(architecture.warnings)}
            print_json({"source": str(path), **counts, **warned, "models": {name: counts}})
            return
        print_counts({name: counts}, length)
        for warning in architecture.warnings:
            print(f"warning: {warning}")
        return
    if options.compare:
        compared = forecast.compare_config(architecture, str(path), options, today)
        print_json(compared) if as_json else plan_text.print_comparison(compared)
        return
    found = forecast.forecast_config(architecture, str(path), options, today)
    print_json(found) if as_json else plan_text.print_forecast_of(found)


def _plan_recipe(source: str, options: PlanOptions, as_json: bool) -> None:
    from openbook.cli import forecast, plan_text
    from openbook.cli.render import print_json
    from openbook.cli.shelf import find_recipe

    path = find_recipe(source)
    if recipe_verb(path) == "plan":
        from openbook.config import load_recipe
        from openbook.economics.plan.recipe import PlanConfig

        of_recipe, _ = forecast.split_overrides(options.overrides)
        recipe = load_recipe(path, {"plan": PlanConfig}, of_recipe)
        found = forecast.forecast_recipe(recipe.config, path, options, datetime.now(UTC).date())
        print_json(found) if as_json else plan_text.print_recipe_forecast(found)
        return
    others = dataclasses.replace(options, accelerator=None)
    if options.accelerator not in (None, THIS) or others.asks_forecast:
        from openbook.errors import UserError

        raise UserError(
            f"{source} is a recipe of verb {recipe_verb(path)!r}, which is forecast on this machine alone",
            "forecast a config.json or a plan recipe, or leave the options out but --accelerator this",
        )
    from openbook.cli import outlook

    length = options.sequence_length or 4096
    recipe = _recipe(path, list(options.overrides))
    counts = {key: counted(model, length) for key, model in find_models(recipe.config)}
    here = outlook.planned(recipe, insists=options.accelerator == THIS)
    if as_json:
        expected = None if here is None else outlook.outlook_json(here)
        print_json({"source": source, **next(iter(counts.values())), "models": counts, "forecast": expected})
        return
    print_counts(counts, length)
    if here is not None:
        print()
        outlook.print_outlook(here)


def recipe_verb(path: Path) -> str:
    """The verb on the first line of a recipe, or nothing: what is wrong with it is told by who reads it."""
    try:
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        return str(tomllib.loads(first).get("verb", ""))
    except (OSError, ValueError):
        return ""


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
    """What `--dry-run` says: the resolved recipe on stdout as JSON, what its models cost, the forecast."""
    from openbook.cli import outlook
    from openbook.cli.render import print_json
    from openbook.config import dump

    recipe = launch.recipe
    models = dict(find_models(recipe.config))
    here = outlook.planned(recipe, launch.inputs)
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
            "forecast": None if here is None else outlook.outlook_json(here),
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


def _recipe(path: Path, overrides: list[str]) -> Recipe:
    """A recipe that describes a model. Raises UserError for one that does not."""
    from openbook.config import load_recipe
    from openbook.errors import UserError
    from openbook.r1.schemas import SCHEMAS

    recipe = load_recipe(path, SCHEMAS, overrides)
    if not any(find_models(recipe.config)):
        raise UserError(
            f"{recipe.path} describes no model",
            f"`openbook {recipe.verb} {recipe.name} --from CHECKPOINT --dry-run` forecasts it",
        )
    return recipe
