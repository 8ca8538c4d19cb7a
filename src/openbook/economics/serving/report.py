"""A unit cost and price lists as plain values for JSON. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from openbook.economics.serving.capacity import Capacity
from openbook.economics.serving.layout import Unit, weight_bytes
from openbook.economics.serving.margin import Margin, PriceCut
from openbook.economics.serving.measured import Measurement
from openbook.economics.serving.price_list import Offer
from openbook.economics.serving.unit_cost import UnitCost, assumptions
from openbook.economics.sourced import Sourced

PRICES_OF_A_DAY = ("rent_usd_per_hour", "purchase_usd", "storage_usd_per_gb_month")
"""Assumptions that grow old: what a chip can do does not."""


def cost_to_json(cost: UnitCost, today: date) -> dict[str, Any]:
    """Every number of the unit cost with the assumptions that it rests on."""
    case, server, traffic = cost.case, cost.case.server, cost.case.traffic
    return {
        "accelerator": server.accelerator.name,
        "precision": str(server.precision),
        "usd_per_device_hour": case.rent_usd_per_hour,
        "utilisation": case.utilisation,
        "traffic": {
            "context_tokens": traffic.context_tokens,
            "prompt_tokens": traffic.prompt_tokens,
            "hit_share": traffic.hit_share,
            "output_per_input": traffic.output_per_input,
            "tokens_per_second_per_user": traffic.tokens_per_second_per_user,
        },
        "layout": {
            "prefill": unit_to_json(cost, cost.layout.prefill),
            "decode": unit_to_json(cost, cost.layout.decode),
        },
        "usd_per_million": {
            "input_missed": cost.missed_usd,
            "input_cached": cost.cached_usd,
            "input": cost.input_usd,
            "output": cost.output_usd,
            "blended": cost.blended_usd,
        },
        "prefill": {
            "computed_tokens_per_second_per_device": cost.prefill.tokens_per_second_per_device,
            "attention_seconds": cost.prefill.attention_seconds,
            "gemm_seconds": cost.prefill.gemm_seconds,
            "communication_seconds": cost.prefill.communication_seconds,
            "seconds": cost.prefill.seconds,
            "floor_seconds": cost.prefill.floor_seconds,
            "seconds_to_first_token": cost.seconds_to_first_token,
        },
        "decode": {
            "batch": cost.decode.batch,
            "tokens_per_step": cost.decode.tokens_per_step,
            "tokens_per_second_per_device": cost.decode.tokens_per_second_per_device,
            "tokens_per_second_per_user": cost.decode.tokens_per_second_per_user,
            "attention_seconds": cost.decode.attention_seconds,
            "gemm_seconds": cost.decode.gemm_seconds,
            "communication_seconds": cost.decode.communication_seconds,
            "seconds": cost.decode.seconds,
            "floor_seconds": cost.decode.floor_seconds,
        },
        "warnings": list(server.architecture.warnings),
        "assumptions": {
            name: sourced_to_json(figure, today, ages=name in PRICES_OF_A_DAY)
            for name, figure in assumptions(case).items()
        },
    }


def unit_to_json(cost: UnitCost, unit: Unit) -> dict[str, Any]:
    server = cost.case.server
    return {
        "num_devices": unit.num_devices,
        "tensor_parallel": unit.tensor_parallel,
        "num_redundant_experts": unit.num_redundant_experts,
        "weight_bytes_per_device": round(weight_bytes(server, unit)),
        "usable_bytes_per_device": round(server.usable_bytes),
    }


def sourced_to_json(figure: Sourced, today: date, *, ages: bool) -> dict[str, Any]:
    return {
        "value": figure.value,
        "unit": figure.unit,
        "source": figure.source,
        "date": figure.date.isoformat(),
        "mark": str(figure.mark),
        "note": figure.note,
        "stale": ages and figure.is_stale(today),
    }


def offer_to_json(offer: Offer, today: date) -> dict[str, Any]:
    """Prices as text, exact to the digit."""
    return {
        "vendor": offer.vendor,
        "model": offer.model,
        "tier": offer.tier,
        "window": offer.window or None,
        "valid_from": offer.valid_from.isoformat(),
        "valid_to": None if offer.valid_to == date.max else offer.valid_to.isoformat(),
        "usd_per_million": {
            "input_missed": str(offer.input_missed),
            "input_cached": None if offer.input_cached is None else str(offer.input_cached),
            "output": str(offer.output),
        },
        "source": offer.source,
        "checked": offer.checked.isoformat(),
        "mark": str(offer.mark),
        "note": offer.note,
        "stale": offer.is_stale(today),
    }


def margin_to_json(margin: Margin, utilisation: float, cut: PriceCut | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "revenue_usd_per_million": margin.revenue_usd,
        "cost_usd_per_million": margin.cost_usd,
        "gross_margin_of_revenue": margin.of_revenue,
        "markup_on_cost": margin.on_cost,
        "break_even_utilisation": margin.break_even_utilisation(utilisation),
    }
    if cut is not None:
        found["after_cut"] = {
            "cut": cut.cut,
            "gross_margin_of_revenue": cut.margin_of_revenue,
            "markup_on_cost": cut.margin_on_cost,
            "volume_for_revenue": cut.volume_for_revenue,
            "volume_for_profit": cut.volume_for_profit,
        }
    return found


def capacity_to_json(found: Capacity) -> dict[str, Any]:
    return {
        "num_devices": found.num_devices,
        "num_prefill_devices": found.num_prefill_devices,
        "num_decode_devices": found.num_decode_devices,
        "mean_devices_busy": found.mean_devices_busy,
        "utilisation": found.utilisation,
        "peak_streams": found.peak_streams,
        "usd_per_day_held": found.usd_per_day_held,
        "usd_per_day_following": found.usd_per_day_following,
    }


def measurement_to_json(found: Measurement, today: date) -> dict[str, Any]:
    times: Mapping[str, Any] = {
        "prompt": found.times.prompt_seconds,
        "cached": found.times.cached_seconds,
        "completion": found.times.completion_seconds,
    }
    return {
        "model": found.model,
        "device": found.device,
        "usd_per_device_hour": str(found.usd_per_device_hour),
        "device_seconds_per_token": times,
        "device_seconds": found.times.device_seconds,
        "num_works": found.times.num_works,
        "unexplained": found.times.unexplained,
        "how": found.how,
        "offer": offer_to_json(found.offer(), today),
    }
