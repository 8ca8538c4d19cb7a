"""A forecast as text: what, how long and how much first; then memory, then what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openbook.cli.render import print_pairs, print_table
from openbook.units import show_bytes, show_count

METHOD_NAMES = {
    "rent": "rent",
    "own": "own and depreciate",
    "programme": "whole programme",
}
PART_NAMES = {
    "products": "matrix products",
    "attention": "attention",
    "elementwise": "norms, activations, logits",
    "recompute": "recomputation",
    "tensor_parallel": "tensor-parallel exchange",
    "expert_parallel": "expert exchange",
    "bubble": "pipeline bubble",
    "data_parallel": "gradients and weights",
    "overhead": "everything else (fitted)",
}


def print_forecast_of(found: Mapping[str, Any], *, with_assumptions: bool = True) -> None:
    """One model trained once."""
    print_pairs(
        {
            "model": f"{show_count(found['parameters_total'])} parameters, "
            f"{show_count(found['parameters_active'])} active per token",
            "run": f"{show_count(found['tokens'])} tokens in sequences of {found['sequence_length']:,} on "
            f"{found['devices']:,} x {found['accelerator']} in {found['precision']}",
            "FLOPs": f"{found['flops_per_token'] / 1e9:,.2f} G a token (causal), {found['flops']:.3e} in all",
            "MFU": _mfu(found),
            "device-hours": f"{hours(found['gpu_hours'])}   80 %: {hours(found['gpu_hours_low'])} to "
            f"{hours(found['gpu_hours_high'])}",
            "days": f"{found['days']:,.1f}   80 %: {found['days_low']:,.1f} to {found['days_high']:,.1f}",
            "goodput": _goodput(found),
            "energy": _energy(found),
        }
    )
    print()
    print_costs(found)
    _print_layout(found)
    _print_parts(found["mfu_parts"])
    if found["warnings"]:
        print()
    for warning in found["warnings"]:
        print(f"warning: {warning}")
    print_rest(found, with_assumptions=with_assumptions)


def print_recipe_forecast(found: Mapping[str, Any]) -> None:
    """All stages of a recipe and their sum."""
    print_pairs(
        {
            "model": f"{show_count(found['parameters_total'])} parameters, "
            f"{show_count(found['parameters_active'])} active per token",
            "accelerator": found["accelerator"],
            "MFU": "no training"
            if found["mfu"] is None
            else f"{found['mfu']:.1%} of the {found['mfu_peak']} peak, causal attention (all training)",
            "device-hours": f"{hours(found['gpu_hours'])}   80 %: {hours(found['gpu_hours_low'])} to "
            f"{hours(found['gpu_hours_high'])}",
        }
    )
    print()
    rows = [
        [
            stage["name"],
            hours(stage["gpu_hours"]),
            f"{hours(stage['gpu_hours_low'])} to {hours(stage['gpu_hours_high'])}",
            usd(stage["cost_usd"]),
            _stage_note(stage),
        ]
        for stage in found["stages"]
    ]
    rows.append(
        [
            "all",
            hours(found["gpu_hours"]),
            f"{hours(found['gpu_hours_low'])} to {hours(found['gpu_hours_high'])}",
            usd(found["cost_usd"]),
            "",
        ]
    )
    print_table(["stage", "hours", "80 %", "rent", "by part"], rows, right=["hours", "80 %", "rent"])
    print()
    print_costs(found)
    if found["other_usd"]:
        print(f"beside the devices (verifier hosts): {usd(found['other_usd'])}")
    warned = {
        warning for stage in found["stages"] for warning in stage.get("training", {}).get("warnings", ())
    }
    for warning in sorted(warned):
        print(f"warning: {warning}")
    print_rest(found)


def print_comparison(found: Mapping[str, Any]) -> None:
    """One run on several accelerators, a column each."""
    shown = found["compare"]
    good = [one for one in shown if "error" not in one]
    if good:
        first = good[0]
        print(
            f"{show_count(first['tokens'])} tokens in sequences of {first['sequence_length']:,}, "
            f"{show_count(first['parameters_active'])} parameters active\n"
        )
        names = [one["accelerator"] for one in good]
        rows = [[label, *(show(one) for one in good)] for label, show in _COMPARED]
        print_table(["", *names], rows, right=names)
    for one in shown:
        if "error" in one:
            print(f"\n{one['accelerator']}: {one['error']}")
    told = {
        line: [o["accelerator"] for o in good if line in o["warnings"]]
        for o in good
        for line in o["warnings"]
    }
    unknown = [
        f"{one['accelerator']}: not known, supplied by {line}" for one in good for line in one["missing"]
    ]
    warned = [f"warning ({', '.join(names)}): {line}" for line, names in told.items()]
    if unknown or warned:
        print("\n" + "\n".join([*warned, *unknown]))


def print_costs(found: Mapping[str, Any]) -> None:
    """Dollars by method, each labelled."""
    rows = [
        [METHOD_NAMES[method], usd(one["usd"]), _range(one), one["what"]]
        for method, one in found["cost"].items()
    ]
    print_table(["method", "dollars", "80 %", "what it is"], rows, right=["dollars", "80 %"])


def print_rest(found: Mapping[str, Any], *, with_assumptions: bool = True) -> None:
    """Defaults, gaps, and every assumption with its source."""
    if found.get("defaults") or found["missing"]:
        print()
    for line in found.get("defaults", ()):
        print(f"default: {line}")
    for line in found["missing"]:
        print(f"not known, supplied by {line}")
    if not with_assumptions:
        return
    print()
    rows = [
        [
            one["name"] + (" (stale)" if one["stale"] else ""),
            f"{one['value']:.4g} {one['unit']}",
            one["date"],
            one["mark"],
            _short(one["source"]),
        ]
        for one in found["assumptions"]
    ]
    print_table(["assumption", "value", "date", "mark", "source"], rows, right=["value"])
    if any(one["stale"] for one in found["assumptions"]):
        print("\nstale: older than a year; replace it by its option or by --set figures.NAME=VALUE")


def hours(value: float) -> str:
    """`2.664M h`, `147.3K h`, `312 h`."""
    for size, unit in ((1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{value / size:.4g}{unit} h"
    return f"{value:.3g} h"


def usd(value: float | None) -> str:
    """`$5.328M`, `$294.7K`, `$12.50`; a dash where no price is known."""
    if value is None:
        return "-"
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"${value / size:.4g}{unit}"
    return f"${value:.2f}"


_COMPARED = (
    ("devices", lambda one: f"{one['devices']:,}"),
    ("precision", lambda one: one["precision"]),
    ("MFU", lambda one: f"{one['mfu']:.1%}"),
    ("over", lambda one: one["mfu_peak"]),
    ("device-hours", lambda one: hours(one["gpu_hours"])),
    ("  80 %", lambda one: f"{hours(one['gpu_hours_low'])} to {hours(one['gpu_hours_high'])}"),
    ("days", lambda one: f"{one['days']:,.1f}"),
    ("rent", lambda one: usd(one["cost"]["rent"]["usd"])),
    ("own and depreciate", lambda one: usd(one["cost"]["own"]["usd"])),
    ("whole programme", lambda one: usd(one["cost"]["programme"]["usd"])),
    ("energy, all in", lambda one: _mwh(one["energy_kwh"]["all_in"])),
    ("memory a device", lambda one: show_bytes(one["memory"]["total_bytes"])),
)


def _mfu(found: Mapping[str, Any]) -> str:
    said = "given, lost time included" if found["mfu_given"] else "forecast"
    return f"{found['mfu']:.1%} of the {found['mfu_peak']} peak, causal attention ({said})"


def _goodput(found: Mapping[str, Any]) -> str:
    if found["mfu_given"] and found["goodput"] == 1:
        return "inside the MFU that was given"
    between = found["hours_between_failures"]
    return f"{found['goodput']:.1%} (a failure every {between:,.1f} h)"


def _energy(found: Mapping[str, Any]) -> str:
    energy = found["energy_kwh"]
    if energy["all_in"] is None:
        return "not known"
    all_in = f"{_mwh(energy['all_in'])} all in"
    if energy["devices"] is None:
        return all_in
    return f"{all_in}, {_mwh(energy['devices'])} the devices at {energy['devices_are']}"


def _mwh(kwh: float | None) -> str:
    if kwh is None:
        return "-"
    return f"{kwh / 1000:,.1f} MWh" if kwh >= 1000 else f"{kwh:,.1f} kWh"


def _print_layout(found: Mapping[str, Any]) -> None:
    layout, memory = found["layout"], found["memory"]
    ep = "".join(f" {name}={layout[name]}" for name in ("ep", "cp") if layout[name] > 1)
    print(
        f"\nlayout ({layout['chosen']}): tp={layout['tp']} pp={layout['pp']}{ep} dp={layout['dp']}, "
        f"ZeRO-{layout['zero']}, recomputation {layout['recompute']}, "
        f"{layout['num_micro_batches']} micro batches of {layout['micro_batch']} a step"
    )
    if layout["pp"] > 1:
        print(f"pipeline {layout['schedule']}, bubble {layout['bubble_share']:.1%}")
    print()
    rows = [[name, show_bytes(size)] for name, size in memory["parts_bytes"].items()]
    rows.append(["all", show_bytes(memory["total_bytes"])])
    if memory["device_bytes"] is not None:
        fits = "fits" if memory["fits"] else "does not fit"
        rows.append([f"device ({fits})", show_bytes(memory["device_bytes"])])
    print_table(["memory a device", "bytes"], rows, right=["bytes"])


def _print_parts(parts: Mapping[str, float]) -> None:
    if not parts:
        return
    rows = [[PART_NAMES[name], f"{share:.1%}"] for name, share in parts.items() if share >= 0.0005]
    print()
    print_table(["where the time goes", "share"], rows, right=["share"])


def _stage_note(stage: Mapping[str, Any]) -> str:
    parts: Sequence[str] = list(_parts(stage["gpu_hours_parts"]))
    if len(parts) > 1:
        return ", ".join(parts)
    training = stage.get("training")
    return f"MFU {training['mfu']:.1%}" if training else _short(stage.get("note", ""))


def _parts(parts: Mapping[str, float]) -> Iterator[str]:
    for name, value in parts.items():
        yield f"{name} {hours(value)}"


def _range(one: Mapping[str, Any]) -> str:
    return "-" if one["usd"] is None else f"{usd(one['low'])} to {usd(one['high'])}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
