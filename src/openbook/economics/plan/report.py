"""A forecast as plain data: what `openbook plan --json` prints and what its text is made from. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from openbook.economics.accelerators import Accelerator
from openbook.economics.plan.band import Band
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.cost import OWN, PROGRAMME, RENT, Cost, cost, energy
from openbook.economics.plan.efficiency import matmul_share
from openbook.economics.plan.goodput import bubble_share
from openbook.economics.plan.plan import TrainingForecast
from openbook.economics.plan.search import USABLE_MEMORY
from openbook.economics.plan.stages import StageForecast
from openbook.economics.sourced import Sourced
from openbook.model.architecture import Architecture
from openbook.model.counts import AttentionCount

METHODS: Mapping[str, str] = {
    RENT: "renting the device-hours",
    OWN: "owning: straight-line depreciation at full use, and electricity",
    PROGRAMME: "the whole programme's compute, the final run being 10 to 67 % of it",
}
TRAINING_FIGURES = (
    "fitted.overhead",
    "fitted.scale_exponent",
    "kernels.memory_share",
    "kernels.attention_share_ampere",
    "kernels.attention_share_hopper",
    "communication.link_share",
    "communication.network_share",
    "batch.coefficient",
    "goodput.device_mtbf",
    "goodput.checkpoint",
    "goodput.restart",
    "power.mean_draw",
    "power.all_in_factor",
    "power.usd_per_kwh",
    "ownership.life_years",
    "programme.final_share_low",
    "programme.final_share_high",
    "decode.roofline_share",
)
AGEING = ("price", "power", "goodput", "programme", "ownership")
"""What grows old: markets and habits. What a chip can do does not."""


def counts_json(architecture: Architecture, sequence_length: int) -> dict[str, Any]:
    """Counts with their conventions: MTP apart, causal attention at half, cache and weights in bf16."""
    causal = architecture.training_flops_per_token(sequence_length)
    full = architecture.training_flops_per_token(sequence_length, counted=AttentionCount.FULL)
    return {
        "sequence_length": sequence_length,
        "parameters_total": architecture.parameters_total,
        "parameters_active": architecture.parameters_active,
        "parameters_mtp": architecture.mtp.total,
        "weight_bytes": architecture.parameters_total * 2,
        "kv_bytes_per_token": architecture.kv_bytes_per_token(2),
        "flops_per_token": causal.total,
        "flops_per_token_counted": "causal",
        "flops_per_token_full": full.total,
        "flops_per_token_forward": architecture.forward_flops_per_token(sequence_length).total,
    }


def training_json(found: TrainingForecast, priced: Cost, figures: Calibration) -> dict[str, Any]:
    """A forecast of training with its cost."""
    request, placement = found.request, found.placement
    power = energy(found.hours.value, request.accelerator, figures)
    return {
        "tokens": request.tokens,
        "accelerator": request.accelerator.name,
        "devices": found.num_devices,
        "precision": str(request.precision),
        "flops": found.flops,
        "mfu": found.mfu.share,
        "mfu_peak": f"dense {found.mfu.peak}",
        "mfu_peak_flops": request.accelerator.peak_flops[found.mfu.peak].value,
        "mfu_counted": str(found.mfu.counted),
        "mfu_given": request.mfu is not None,
        "mfu_parts": {} if request.mfu else placement.time.shares(),
        "gpu_hours": found.hours.value,
        "gpu_hours_low": found.hours.low,
        "gpu_hours_high": found.hours.high,
        "band": "80 %",
        "band_causes": found.spread,
        "goodput": found.goodput.share,
        "checkpoint_interval_hours": found.goodput.interval_hours,
        "hours_between_failures": found.goodput.mtbf_hours,
        "days": found.days.value,
        "days_low": found.days.low,
        "days_high": found.days.high,
        **cost_json(priced),
        "energy_kwh": {
            "devices": power.devices_kwh,
            "devices_are": f"{figures['power.mean_draw']:g} of the TDP",
            "all_in": power.all_in_kwh,
            "all_in_watts": None if power.all_in_watts is None else power.all_in_watts.value,
            "all_in_source": None if power.all_in_watts is None else power.all_in_watts.source,
        },
        "layout": layout_json(found),
        "memory": memory_json(found),
        "warnings": list(found.warnings),
    }


def layout_json(found: TrainingForecast) -> dict[str, Any]:
    layout = found.placement.layout
    micro = layout.micro_batch * found.shape.sequence_length * layout.dp
    num_micro = max(1, round(found.placement.batch_tokens / micro))
    return {
        "tp": layout.tp,
        "pp": layout.pp,
        "ep": layout.ep,
        "cp": layout.cp,
        "dp": layout.dp,
        "zero": layout.zero,
        "micro_batch": layout.micro_batch,
        "num_micro_batches": num_micro,
        "batch_tokens": found.placement.batch_tokens,
        "recompute": str(layout.recompute),
        "schedule": str(layout.schedule),
        "bubble_share": bubble_share(
            layout.schedule,
            layout.pp,
            num_micro,
            layout.num_pieces(found.request.architecture.num_layers),
        ),
        "fused_attention": found.shape.fused_attention,
        "chosen": "automatically" if found.request.layout.is_free else "as asked, the rest automatically",
    }


def memory_json(found: TrainingForecast) -> dict[str, Any]:
    memory, limit = found.placement.memory, found.placement.memory_bytes
    return {
        "parts_bytes": memory.parts(),
        "total_bytes": memory.total,
        "device_bytes": limit,
        "usable_share": USABLE_MEMORY,
        "fits": None if limit is None else found.placement.fits,
    }


def cost_json(priced: Cost) -> dict[str, Any]:
    """`cost_usd` is the rent; the three methods stand beside it."""
    rent = priced.rent
    return {
        "cost_usd": None if rent is None else rent.value,
        "cost_usd_low": None if rent is None else rent.low,
        "cost_usd_high": None if rent is None else rent.high,
        "cost_method": RENT,
        "cost": {
            method: {"what": METHODS[method], **_band_usd(found)}
            for method, found in priced.by_method().items()
        },
        "own_depreciation_usd": priced.own_depreciation_usd,
        "own_electricity_usd": priced.own_electricity_usd,
    }


def together_json(stages: Sequence[StageForecast]) -> dict[str, Any]:
    """The utilisation of all training of a recipe: its FLOPs over the time that they take. Null for none."""
    trained = [stage.training for stage in stages if stage.training is not None]
    if not trained:
        return {"mfu": None, "mfu_peak": None}
    flops = sum(one.flops for one in trained)
    return {
        "mfu": flops / sum(one.flops / one.mfu.share for one in trained),
        "mfu_peak": f"dense {trained[0].mfu.peak}",
    }


def stage_json(stage: StageForecast, figures: Calibration) -> dict[str, Any]:
    """One stage of a recipe."""
    found: dict[str, Any] = {
        "kind": stage.kind,
        "name": stage.name,
        "gpu_hours": stage.hours.value,
        "gpu_hours_low": stage.hours.low,
        "gpu_hours_high": stage.hours.high,
        "gpu_hours_parts": {name: part.value for name, part in stage.parts.items()},
        **cost_json(stage.cost),
        "other_usd": stage.other_usd,
    }
    if stage.note:
        found["note"] = stage.note
    if stage.training is not None:
        own = stage.training
        length = own.request.sequence_length
        found["training"] = {
            **counts_json(own.request.architecture, length),
            **training_json(own, cost(own.hours, own.request.accelerator, figures), figures),
        }
    if stage.decode is not None:
        found["decode"] = {
            "tokens_per_device_second": stage.decode.tokens_per_device_second,
            "devices_of_a_replica": stage.decode.group_size,
            "streams_of_a_replica": stage.decode.streams,
            "step_seconds": stage.decode.step_seconds,
            "memory": {
                "weights": stage.decode.weight_bytes_per_device,
                "cache": stage.decode.cache_bytes_per_device,
            },
        }
    return found


def assumptions(accelerator: Accelerator, figures: Calibration, today: date) -> list[dict[str, Any]]:
    """Every default that a forecast rests on: value, source, date, mark, and whether it has grown old."""
    machine: dict[str, Sourced | None] = {
        "price.rent_usd_per_hour": accelerator.rent_usd_per_hour,
        "price.purchase_usd": accelerator.purchase_usd,
        "device.tdp_watts": accelerator.tdp_watts,
        "power.all_in_watts": accelerator.all_in_watts,
        "device.memory_bytes": accelerator.memory_bytes,
        "device.memory_bandwidth": accelerator.memory_bandwidth,
        "device.link_bandwidth": accelerator.link_bandwidth,
        "device.network_bandwidth": accelerator.network_bandwidth,
    }
    machine |= {f"device.peak_flops.{name}": peak for name, peak in accelerator.peak_flops.items()}
    machine |= {f"device.matmul_share.{name}": share for name, share in accelerator.matmul_share.items()}
    usual = Calibration.default().figures
    changed = [name for name, figure in figures.figures.items() if figure != usual[name]]
    machine |= {name: figures.figures[name] for name in (*TRAINING_FIGURES, *changed)}
    return [
        {
            "name": name,
            "value": figure.value,
            "unit": figure.unit,
            "source": figure.source,
            "date": figure.date.isoformat(),
            "mark": str(figure.mark),
            "stale": name.partition(".")[0] in AGEING and figure.is_stale(today),
            "note": figure.note,
        }
        for name, figure in machine.items()
        if figure is not None
    ]


def missing(accelerator: Accelerator) -> list[str]:
    """What is not known of the device, with the option that supplies it, as far as a plan needs it."""
    found = [line for line in accelerator.missing() if not line.startswith(("all_in_watts", "matmul_share"))]
    if not accelerator.matmul_share:
        found.append(
            f"matmul_share: {matmul_share(accelerator, next(iter(accelerator.peak_flops))):g} is assumed"
        )
    return found


def _band_usd(found: Band | None) -> dict[str, float | None]:
    if found is None:
        return {"usd": None, "low": None, "high": None}
    return {"usd": found.value, "low": found.low, "high": found.high}
