"""A forecast as a file in the folder of the work, written when it begins and held against what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Any

from openbook.economics.local.forecast import Basis, Estimate, Forecast, Price, Setting, StageForecast
from openbook.economics.local.speed import Speed
from openbook.economics.local.work import Term
from openbook.errors import UserError
from openbook.runs.durable import replace_text

FORECAST_FILE = "forecast.json"
FORMAT = 1
KINDS = ("trained", "prompt", "completion")


def forecast_to_json(forecast: Forecast, made_at: datetime) -> dict[str, Any]:
    """The forecast as plain values: estimates as {value, low, high}, seconds, US dollars, bytes."""
    basis = forecast.basis
    return {
        "format": FORMAT,
        "made_at": made_at.isoformat(),
        "band": 0.8,
        "cpu_seconds": asdict(forecast.cpu_seconds),
        "device_seconds": asdict(forecast.device_seconds),
        "usd": asdict(forecast.usd),
        "tokens": {kind: asdict(forecast.tokens(kind)) for kind in KINDS},
        "stages": [asdict(stage) for stage in forecast.stages],
        "price": {**asdict(forecast.price), "valid_from": forecast.price.valid_from.isoformat()},
        "basis": {
            "rests_on": basis.rests_on,
            "host": basis.setting.host,
            "device": basis.setting.device,
            "num_threads": basis.setting.num_threads,
            "seconds_per_unit": dict(zip(map(str, Term), basis.speed.seconds_per_unit, strict=True)),
            "device_share": basis.device_share,
            "cpu_share": basis.cpu_share,
            "spread": basis.spread,
            "runs": list(basis.run_ids),
            "measured_on": None if basis.measured_on is None else basis.measured_on.isoformat(),
            "process_bytes": basis.process_bytes,
            "seen": [dict(one) for one in basis.seen],
        },
    }


def forecast_from_json(value: Mapping[str, Any], where: str) -> Forecast:
    """The reverse. Raises UserError for what is no forecast, or one of a newer version."""
    if value.get("format", 0) > FORMAT:
        raise UserError(f"{where} was written by a newer version of openbook", "upgrade openbook to read it")
    try:
        basis, price = value["basis"], value["price"]
        measured_on = basis["measured_on"]
        return Forecast(
            stages=tuple(_stage(one) for one in value["stages"]),
            basis=Basis(
                setting=Setting(host=basis["host"], device=basis["device"], num_threads=basis["num_threads"]),
                speed=Speed(tuple(float(basis["seconds_per_unit"][term]) for term in Term)),
                device_share=basis["device_share"],
                cpu_share=basis["cpu_share"],
                spread=basis["spread"],
                run_ids=tuple(basis["runs"]),
                measured_on=None if measured_on is None else date.fromisoformat(measured_on),
                process_bytes=basis["process_bytes"],
                seen=tuple(basis["seen"]),
            ),
            price=Price(
                usd_per_device_hour=price["usd_per_device_hour"],
                source=price["source"],
                valid_from=date.fromisoformat(price["valid_from"]),
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{where} is no forecast ({error!r})", "remove it; a new run writes another"
        ) from error


def write_forecast(folder: Path, forecast: Forecast, made_at: datetime) -> Path:
    """Write the forecast of the work in `folder` -> its path."""
    path = folder / FORECAST_FILE
    replace_text(path, json.dumps(forecast_to_json(forecast, made_at), indent=1) + "\n")
    return path


def read_forecast(folder: Path) -> Forecast | None:
    """The forecast of the work in `folder`; None where none was made. Raises UserError if it is damaged."""
    path = folder / FORECAST_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})", "remove it; a new run writes another") from error
    return forecast_from_json(value, str(path))


def _stage(value: Mapping[str, Any]) -> StageForecast:
    estimates = ("cpu_seconds", "device_seconds", "usd", "peak_memory_bytes")
    return StageForecast(
        **{
            **value,
            **{name: Estimate(**value[name]) for name in estimates},
            "tokens": {kind: Estimate(**one) for kind, one in value["tokens"].items()},
        }
    )
