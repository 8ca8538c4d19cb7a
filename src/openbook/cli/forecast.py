"""From the options of `openbook plan` to a forecast, as JSON has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openbook.errors import UserError, nearest

if TYPE_CHECKING:
    from openbook.economics.accelerators import Accelerator
    from openbook.economics.plan.calibration import Calibration
    from openbook.economics.plan.plan import TrainingRequest
    from openbook.economics.plan.recipe import PlanConfig
    from openbook.model.architecture import Architecture

DEFAULT_ACCELERATOR = "h100"
FIGURES = "figures."


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """The options of `openbook plan` as typed; None where one was not given."""

    tokens: float | None = None
    accelerator: str | None = None
    devices: int | None = None
    sequence_length: int | None = None
    precision: str | None = None
    layout: str = ""
    batch_tokens: float | None = None
    mfu: float | None = None
    goodput: float | None = None
    rent: float | None = None
    purchase: float | None = None
    electricity: float | None = None
    gpu_mtbf: float | None = None
    accelerators: Path | None = None
    compare: str = ""
    overrides: Sequence[str] = ()

    @property
    def asks_forecast(self) -> bool:
        """Whether anything was asked beyond counting."""
        given = (self.tokens, self.accelerator, self.devices, self.precision, self.batch_tokens, self.mfu)
        prices = (self.goodput, self.rent, self.purchase, self.electricity, self.gpu_mtbf)
        own_figures = split_overrides(self.overrides)[1]
        given_text = bool(self.layout or self.compare or own_figures or self.accelerators)
        return given_text or any(one is not None for one in (*given, *prices))


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of the source, and those of the forecast's own figures (`figures.power.mean_draw=0.6`)."""
    own = [one for one in overrides if one.strip().startswith(FIGURES)]
    return [one for one in overrides if one not in own], own


def forecast_config(
    architecture: Architecture, name: str, options: PlanOptions, today: date
) -> dict[str, Any]:
    """The forecast of one model trained once, as JSON has it. Raises UserError."""
    from openbook.economics.plan import report
    from openbook.economics.plan.cost import cost
    from openbook.economics.plan.plan import forecast

    figures = _figures(options, today)
    request = _request(architecture, options, _accelerator(options, today))
    found = forecast(request, figures)
    priced = cost(found.hours, request.accelerator, figures)
    return {
        "source": name,
        **report.counts_json(architecture, request.sequence_length),
        **report.training_json(found, priced, figures),
        "defaults": _defaults(options, found.num_devices, request),
        "missing": report.missing(request.accelerator),
        "assumptions": report.assumptions(request.accelerator, figures, today),
    }


def compare_config(
    architecture: Architecture, name: str, options: PlanOptions, today: date
) -> dict[str, Any]:
    """One run on several accelerators; one that cannot do it says why in its place."""
    results: list[dict[str, Any]] = []
    names = [options.accelerator or "", *(part.strip().lower() for part in options.compare.split(","))]
    for one in dict.fromkeys(filter(None, names)):
        try:
            results.append(
                forecast_config(architecture, name, replace(options, accelerator=one, compare=""), today)
            )
        except UserError as error:
            if "no accelerator" in str(error):
                raise
            results.append({"accelerator": one, "error": str(error)})
    if not results:
        raise UserError("--compare names no accelerator", "give names with commas: h800,h100,h20,a100-80")
    return {"source": name, "compare": results}


def forecast_recipe(plan: PlanConfig, path: Path, options: PlanOptions, today: date) -> dict[str, Any]:
    """All stages of a plan recipe and their sum. Options stand over the recipe's own values."""
    from openbook.economics.accelerators import Precision
    from openbook.economics.plan import report
    from openbook.economics.plan.recipe import TrainingStage
    from openbook.economics.plan.stages import Workplace, forecast_stages, total

    asked = replace(
        options,
        accelerator=plan.accelerator if options.accelerator is None else options.accelerator,
        rent=plan.rent_usd_per_hour if options.rent is None else options.rent,
        purchase=plan.purchase_usd if options.purchase is None else options.purchase,
    )
    _refuse_stage_options(options)
    figures = _figures(asked, today, plan.figures)
    accelerator = _accelerator(asked, today)
    if options.mfu is not None:
        stages = [replace(s, mfu=options.mfu) if isinstance(s, TrainingStage) else s for s in plan.stages]
        plan = replace(plan, stages=tuple(stages))
    at = Workplace(
        architecture=_read_beside(plan.model, path),
        accelerator=accelerator,
        precision=plan.precision if options.precision is None else Precision(_precision(options.precision)),
        num_devices=plan.devices if options.devices is None else options.devices,
        figures=figures,
        read_model=lambda name: _read_beside(name, path),
    )
    found = forecast_stages(plan, at)
    hours, priced = total(found, accelerator, figures)
    return {
        "source": str(path),
        **report.counts_json(at.architecture, 4096),
        "accelerator": accelerator.name,
        **report.together_json(found),
        "gpu_hours": hours.value,
        "gpu_hours_low": hours.low,
        "gpu_hours_high": hours.high,
        **report.cost_json(priced),
        "other_usd": sum(stage.other_usd for stage in found),
        "stages": [report.stage_json(stage, figures) for stage in found],
        "missing": report.missing(accelerator),
        "assumptions": report.assumptions(accelerator, figures, today),
    }


def _refuse_stage_options(options: PlanOptions) -> None:
    """A recipe's stages say these themselves. Raises UserError for one that would change nothing."""
    for option, value in (
        ("--tokens", options.tokens),
        ("--sequence-length", options.sequence_length),
        ("--batch-tokens", options.batch_tokens),
        ("--layout", options.layout or None),
    ):
        if value is not None:
            raise UserError(f"{option} has no stage to go to", "change the stage in the recipe")
    if options.goodput is not None:
        raise UserError(
            "--goodput is of one run, and a recipe has several", "say --gpu-mtbf, or --set figures.goodput"
        )
    if options.compare:
        raise UserError(
            "--compare sets one run of a config.json side by side", "give the recipe --accelerator instead"
        )


def read_architecture(path: Path, overrides: Sequence[str]) -> Architecture:
    """The public config.json at `path`, or in the folder `path`, with overrides on top."""
    import json

    from openbook.config import merge, read_overrides
    from openbook.model.decoders import read_decoder

    if path.is_dir():
        path = path / "config.json"
    try:
        public = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}", "name a config.json or a recipe") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not JSON ({error})", "name a config.json or a recipe") from error
    if not isinstance(public, Mapping):
        raise UserError(f"{path} holds no object", "name a public config.json")
    found = read_decoder(merge(public, read_overrides(overrides)), str(path))
    for one in overrides:
        key = one.partition("=")[0].strip()
        if not _has(public, key) and not _is_read(public, [*overrides, f"{key}=?"], found):
            raise UserError(
                f"--set {key}: {path} has no such field and none is read", nearest(key, list(public))
            )
    return found


def _has(public: Mapping[str, Any], key: str) -> bool:
    place: Any = public
    for part in key.split("."):
        if not isinstance(place, Mapping) or part not in place:
            return False
        place = place[part]
    return True


def _is_read(public: Mapping[str, Any], overrides: Sequence[str], found: Architecture) -> bool:
    """Whether overrides with a value that no field can have are refused or make another network."""
    from openbook.config import merge, read_overrides
    from openbook.model.decoders import read_decoder

    try:
        return read_decoder(merge(public, read_overrides(overrides))) != found
    except UserError:
        return True


def _read_beside(name: str, recipe: Path) -> Architecture:
    beside = recipe.parent / name
    return read_architecture(beside if beside.exists() else Path(name), [])


def _request(architecture: Architecture, options: PlanOptions, accelerator: Accelerator) -> TrainingRequest:
    from openbook.economics.accelerators import Precision
    from openbook.economics.plan.layout import parse_layout
    from openbook.economics.plan.plan import TOKENS_PER_PARAMETER, TrainingRequest
    from openbook.economics.plan.utilisation import Utilisation, reference_peak

    mfu = options.mfu
    precision = str(reference_peak(accelerator)[0]) if options.precision is None else options.precision
    return TrainingRequest(
        architecture=architecture,
        tokens=TOKENS_PER_PARAMETER * architecture.parameters_active
        if options.tokens is None
        else options.tokens,
        accelerator=accelerator,
        precision=Precision(_precision(precision)),
        sequence_length=options.sequence_length or default_length(architecture),
        num_devices=options.devices,
        layout=parse_layout(options.layout),
        batch_tokens=options.batch_tokens,
        mfu=None if mfu is None else Utilisation(share=mfu, peak=reference_peak(accelerator)[0]),
        goodput=options.goodput,
    )


def default_length(architecture: Architecture) -> int:
    """4,096, or the positions that the model has when they are fewer."""
    return min(4096, architecture.max_position_embeddings or 4096)


def _precision(text: str) -> str:
    from openbook.economics.accelerators import Precision

    known = [str(one) for one in Precision]
    if text.lower() not in known:
        raise UserError(f"there is no precision {text!r}", nearest(text.lower(), known))
    return text.lower()


def _accelerator(options: PlanOptions, today: date) -> Accelerator:
    from openbook.economics.accelerators import THIS, find_accelerator, with_file

    if options.accelerator == THIS:
        from openbook.economics.host import this_machine

        return this_machine(today=today)
    name = DEFAULT_ACCELERATOR if options.accelerator is None else options.accelerator
    found = find_accelerator(name, with_file(options.accelerators))
    if options.rent is not None:
        found = found.at_rent(options.rent, today=today)
    return found if options.purchase is None else found.at_purchase(options.purchase, today=today)


def _figures(
    options: PlanOptions, today: date, recipe: Mapping[str, Mapping[str, float]] | None = None
) -> Calibration:
    """The packaged figures, then the recipe's, then those of the command line."""
    from openbook.config import read_overrides
    from openbook.economics.plan.calibration import Calibration

    figures = Calibration.default().changed(_flat(recipe or {}), "the recipe")
    given = read_overrides(split_overrides(options.overrides)[1]).get("figures", {})
    figures = figures.changed(_flat(given), "--set of the user", date=today)
    named = {"power.usd_per_kwh": options.electricity, "goodput.device_mtbf": options.gpu_mtbf}
    said = {name: value for name, value in named.items() if value is not None}
    return figures.changed(said, "an option of the user", date=today)


def _flat(tables: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for section, entries in tables.items():
        if not isinstance(entries, Mapping):
            raise UserError(f"figures.{section}: not of the form figures.section.name=number")
        for name, value in entries.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"figures.{section}.{name}: not a number: {value!r}")
            found[f"{section}.{name}"] = float(value)
    return found


def _defaults(options: PlanOptions, num_devices: int, request: TrainingRequest) -> list[str]:
    """What was not said and so taken, a line each."""
    from openbook.economics.plan.plan import MAX_DAYS, TOKENS_PER_PARAMETER

    lines = []
    if options.tokens is None:
        lines.append(f"--tokens: {TOKENS_PER_PARAMETER} for each active parameter, {request.tokens:.4g}")
    if options.accelerator is None:
        lines.append(f"--accelerator: {request.accelerator.name}")
    if options.devices is None:
        lines.append(
            f"--devices: {num_devices}, nodes doubled until they hold it and end within {MAX_DAYS:g} days"
        )
    if options.sequence_length is None:
        lines.append(f"--sequence-length: {request.sequence_length}")
    if options.precision is None:
        lines.append(f"--precision: {request.precision}")
    return lines
