"""The forecast of our own recipes on the machine at hand, and how it compares with what they took.

Before a run it is written into the run's folder, after it the two are shown side by side. A forecast that
cannot be made stops no work: a line says why.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openbook.errors import UserError

if TYPE_CHECKING:
    from openbook.cli.launch import Launch
    from openbook.config import Recipe
    from openbook.economics.local.forecast import Estimate, Forecast, Price, Setting
    from openbook.economics.local.settlement import Settlement
    from openbook.ledger.prices import PricePlan
    from openbook.runs.machine_profile import MachineProfile
    from openbook.runs.run import Run

GPU_FOLDER = Path("/proc/driver/nvidia/gpus")
MOST_ABOVE = 2
"""How far above a run the folder of its work may lie: a stage set aside lies two below it."""


def outlook(
    recipe: Recipe,
    inputs: Mapping[str, Path] | None = None,
    *,
    roots: Sequence[Path] | None = None,
    leave_out: Path | None = None,
    prices: PricePlan | None = None,
) -> Forecast:
    """What a recipe will take here, from the machine's profile and the past runs below `roots`.

    Raises UserError where too little is known: no profile and no run, or no network to start from.
    """
    from openbook.cli.shelf import OUT
    from openbook.economics.local.forecast import basis_of, forecast
    from openbook.r1.past import past_runs
    from openbook.r1.starts import read_start, started
    from openbook.r1.workload import stage_plans

    plans = stage_plans(recipe.verb, recipe.config, _models(recipe, inputs or {}))
    if inputs and "base" in inputs:
        plans = started(plans, read_start(inputs["base"]))
    setting = setting_of(recipe.config.machine)
    past = past_runs(roots if roots is not None else [OUT], leave_out=leave_out)
    basis = basis_of(_profile(), past, setting)
    return forecast(plans, past, basis, _price(prices, setting.device))


def planned(
    recipe: Recipe, inputs: Mapping[str, Path] | None = None, *, insists: bool = False
) -> Forecast | None:
    """The forecast of a recipe for whoever only looks; None, with a line on stderr, where there is none.

    Raises that line as a UserError for whoever `insists`.
    """
    try:
        return outlook(recipe, inputs)
    except UserError as error:
        if insists:
            raise
        print(f"no forecast: {error}", file=sys.stderr)
        return None


def setting_of(machine: Any) -> Setting:
    """The host, the device and the threads that a recipe's `[machine]` comes to here."""
    from openbook.economics.local.forecast import Setting

    threads = machine.num_threads or int(os.environ.get("OMP_NUM_THREADS") or 0) or _num_processors()
    device = "cpu" if machine.device == "cpu" else _gpu_name() or "cpu"
    return Setting(host=platform.node(), device=device, num_threads=threads)


def outlook_json(found: Forecast) -> dict[str, Any]:
    """The forecast as plain values."""
    from openbook.economics.local.forecast_file import forecast_to_json

    return forecast_to_json(found, datetime.now(UTC))


def print_outlook(found: Forecast) -> None:
    """By stage: steps, tokens, times and dollars, each time with its 80 % band."""
    from openbook.cli.render import print_table
    from openbook.units import show_bytes, show_count

    columns = ("stage", "steps", "trained", "sampled", "CPU time", "80 % band", "device", "cost", "memory")
    rows = [
        (
            stage.name,
            str(stage.num_steps or "-"),
            show_count(stage.tokens["trained"].value),
            show_count(stage.tokens["completion"].value),
            *_times(stage.cpu_seconds, stage.device_seconds, stage.usd),
            show_bytes(stage.peak_memory_bytes.value),
        )
        for stage in found.stages
    ]
    trained, sampled = (found.tokens(kind).value for kind in ("trained", "completion"))
    total = (
        "total",
        "",
        show_count(trained),
        show_count(sampled),
        *_times(found.cpu_seconds, found.device_seconds, found.usd),
        show_bytes(max((stage.peak_memory_bytes.value for stage in found.stages), default=0)),
    )
    print_table(columns, [*rows, total], right=columns[1:])
    price = found.price
    print(
        f"\nfrom {found.basis.rests_on}; {found.basis.setting.num_threads} threads of "
        f"{found.basis.setting.device}; ${price.usd_per_device_hour:g} a device hour "
        f"({price.source}, {price.valid_from})"
    )


def foresee(launch: Launch) -> None:
    """Write the forecast of work that begins into its folder, and say it in a line on stderr."""
    from openbook.economics.local.forecast_file import FORECAST_FILE, write_forecast
    from openbook.units import show_seconds

    if (launch.out / FORECAST_FILE).exists():
        return  # of the first start: what is resumed is held against that
    try:
        found = outlook(launch.recipe, launch.inputs, roots=_roots(launch.out), leave_out=launch.out)
        write_forecast(launch.out, found, datetime.now(UTC))
    except UserError as error:
        print(f"no forecast: {error}", file=sys.stderr)
        return
    device = found.device_seconds
    print(
        f"forecast: {show_seconds(device.value)} "
        f"({show_seconds(device.low)} to {show_seconds(device.high)}), {_usd(found.usd.value)}, "
        f"from {found.basis.rests_on}",
        file=sys.stderr,
    )


def settled(folder: Path, prices: PricePlan | None = None) -> Settlement | None:
    """The forecast in `folder` against the runs below it; None where none was made. Raises UserError."""
    from openbook.ledger.prices import PricePlan
    from openbook.r1.settled import settled_folder

    return settled_folder(folder, prices or PricePlan.default())


def say_settled(folder: Path) -> None:
    """Forecast and actual side by side, on stderr, after a run."""
    from openbook.pages.tables import text_table
    from openbook.r1.settled import settlement_sentence, settlement_table

    try:
        found = settled(folder)
    except UserError as error:
        print(f"forecast not compared: {error}", file=sys.stderr)
        return
    if found is None or not found.stages:
        return
    print(text_table(settlement_table(found)), file=sys.stderr)
    print(settlement_sentence(found), file=sys.stderr)


def compare_forecasts(runs: Sequence[Run], prices: PricePlan, *, as_json: bool) -> dict[str, Any]:
    """Of each folder whose work was forecast the comparison as plain values; printed unless `as_json`."""
    from openbook.economics.local.forecast_file import FORECAST_FILE
    from openbook.economics.local.settlement import settlement_to_json
    from openbook.pages.tables import text_table
    from openbook.r1.settled import settlement_sentence, settlement_table

    places = {place: None for run in runs for place in (run.folder, *run.folder.parents[:MOST_ABOVE])}
    compared: dict[str, Any] = {}
    for folder in places:
        if not (folder / FORECAST_FILE).is_file():
            continue
        try:
            found = settled(folder, prices)
        except UserError as error:
            print(f"{folder}: forecast not compared: {error}", file=sys.stderr)
            continue
        if found is None or not found.stages:
            continue
        compared[str(folder)] = settlement_to_json(found)
        if not as_json:
            print(f"\nforecast and actual of {folder}\n")
            print(text_table(settlement_table(found)))
            print(f"\n{settlement_sentence(found)}")
    return compared


def _times(cpu: Estimate, device: Estimate, usd: Estimate) -> tuple[str, str, str, str]:
    from openbook.units import show_seconds

    band = f"{show_seconds(cpu.low)} to {show_seconds(cpu.high)}"
    return show_seconds(cpu.value), band, show_seconds(device.value), _usd(usd.value)


def _usd(value: float) -> str:
    from openbook.units import show_usd, to_nano_usd

    return show_usd(to_nano_usd(Decimal(repr(value))))


def _roots(out: Path) -> list[Path]:
    """Where past runs lie: the usual folder, and the one in which the new one will."""
    from openbook.cli.shelf import OUT

    places = {place.resolve(): place for place in (OUT, out.parent) if place.is_dir()}
    return list(places.values())


def _profile() -> MachineProfile | None:
    from openbook.runs.machine_profile import load_profile, profile_path

    return load_profile() if profile_path().exists() else None


def _price(prices: PricePlan | None, device: str) -> Price:
    from openbook.economics.local.forecast import Price
    from openbook.ledger.prices import PricePlan

    plan = prices or PricePlan.default()
    line = plan.price(plan.resource_of(device), datetime.now(UTC).date())
    return Price(usd_per_device_hour=float(line.price_usd), source=line.source, valid_from=line.valid_from)


def _models(recipe: Recipe, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """The networks that a recipe starts from: of the checkpoints given, or of the base that it names."""
    from openbook.r1.starts import read_model

    found = {role: model for role, path in inputs.items() if (model := read_model(path)) is not None}
    base = getattr(recipe.config, "base", None)
    if isinstance(base, str) and "base" not in found:
        from openbook.cli.shelf import open_checkpoint

        found["base"] = open_checkpoint(Path(base)).config
    return found


def _num_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpu_name() -> str:
    """The name of the first GPU as its driver has it; "" where there is none. Asking torch would load it."""
    for path in sorted(GPU_FOLDER.glob("*/information")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return ""
