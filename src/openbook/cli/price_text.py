"""`openbook price` as text and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from openbook.cli.render import print_json, print_pairs, print_table
from openbook.economics.serving import report
from openbook.economics.serving.layout import Unit
from openbook.economics.serving.measured import Measurement
from openbook.economics.serving.price_list import Offer, PriceList
from openbook.units import show_usd

if TYPE_CHECKING:
    from openbook.cli.price_case import Reckoned

STALE = "stale"
UNSURE = 0.2
"""Share of the device time not explained from which a split by least squares is called unsure."""


def usd(value: float) -> str:
    """Dollars to about three digits."""
    return show_usd(round(value * 1e9)) if value < 1 else f"${value:,.2f}"


def show_offers(offers: Sequence[Offer], lists: PriceList, moment: datetime, as_json: bool) -> None:
    today = moment.date()
    if as_json:
        rules = [
            {
                "vendor": rule.vendor,
                "write_5m_share": str(rule.write_5m_share),
                "write_1h_share": str(rule.write_1h_share),
                "read_share": str(rule.read_share),
                "source": rule.source,
            }
            for rule in lists.cache_rules
        ]
        print_json(
            {
                "at": moment.isoformat(),
                "offers": [report.offer_to_json(o, today) for o in offers],
                "cache_rules": rules,
            }
        )
        return
    if not offers:
        print(f"no listed price holds at {moment:%Y-%m-%d %H:%M} UTC")
        return
    print_offers(offers, moment)
    for rule in lists.cache_rules:
        print(
            f"{rule.vendor} bills writing to a cache at {100 * rule.write_5m_share:.0f}% (5 minutes) or "
            f"{100 * rule.write_1h_share:.0f}% (1 hour) of missed input, "
            f"reading at {100 * rule.read_share:.0f}%"
        )


def print_offers(offers: Sequence[Offer], moment: datetime) -> None:
    columns = ["model", "input missed", "cached", "output", "hours", "from", "to", "says", ""]
    rows = [
        [
            f"{o.vendor}/{o.model}",
            f"{o.input_missed:.3f}",
            "-" if o.input_cached is None else f"{o.input_cached:.3f}",
            f"{o.output:.3f}",
            o.window or "all day",
            o.valid_from,
            "" if o.valid_to.year == 9999 else o.valid_to,
            f"{o.mark}, {o.checked}",
            STALE if o.is_stale(moment.date()) else "",
        ]
        for o in offers
    ]
    print("Listed prices, USD per million tokens")
    print_table(columns, rows, right=columns[1:4])


def show_reckoned(
    found: Reckoned, overview: Sequence[Offer], lists: PriceList, moment: datetime, as_json: bool
) -> None:
    today = moment.date()
    if as_json:
        print_json(_reckoned_json(found, overview, moment))
        return
    if overview:
        print_offers(overview, moment)
        print()
    _print_cost(found)
    _print_margin(found)
    _print_capacity(found)
    _print_sources(found, today)
    for warning in found.cost.case.server.architecture.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if found.plot is not None:
        print(found.plot)


def show_measurement(found: Measurement, as_json: bool) -> None:
    if as_json:
        print_json(report.measurement_to_json(found, found.day))
        return
    times, prices = found.times, found.prices
    print(f"{found.model} on {found.device}, at {found.usd_per_device_hour} USD a device-hour")
    rows = [
        ["input, missed", f"{1e6 * times.prompt_seconds:.4g}", f"${prices.missed_usd}"],
        [
            "input, cached",
            "not seen" if times.cached_seconds is None else f"{1e6 * times.cached_seconds:.4g}",
            f"${prices.cached_usd}",
        ],
        ["output", f"{1e6 * times.completion_seconds:.4g}", f"${prices.output_usd}"],
    ]
    print_table(["token", "device us", "per million"], rows, right=("device us", "per million"))
    print(
        f"\n{found.how}: {times.num_works} pieces of work, {times.device_seconds:.1f} device-seconds, "
        f"{100 * times.unexplained:.1f}% of them not explained by these times"
    )
    if times.unexplained > UNSURE:
        print("the works are too alike, or the machine was busy with other things: --measured is surer")
    if times.cached_seconds is None:
        print("no cached token was seen: it is charged as a missed one")
    print(f"device-hour: {found.price_source}")


def _print_cost(found: Reckoned) -> None:
    cost, case = found.cost, found.cost.case
    server, traffic = case.server, case.traffic
    print(
        f"{found.model} on {server.accelerator.title} ({server.precision}), "
        f"{case.rent_usd_per_hour:g} USD a device-hour, busy {100 * case.utilisation:.1f}% of the paid hours"
    )
    rows = [
        ["input, missed", usd(cost.missed_usd), f"{cost.prefill.tokens_per_second_per_device:,.0f}"],
        ["input, cached", usd(cost.cached_usd), ""],
        [f"input, {100 * traffic.hit_share:.1f}% cached", usd(cost.input_usd), ""],
        ["output", usd(cost.output_usd), f"{cost.decode.tokens_per_second_per_device:,.0f}"],
        ["input and output together", usd(cost.blended_usd), ""],
    ]
    print_table(
        ["token", "per million", "tokens/s a busy device"],
        rows,
        right=("per million", "tokens/s a busy device"),
    )
    step = cost.decode
    print()
    print_pairs(
        {
            "prefill unit": _unit(cost.layout.prefill),
            "decode unit": _unit(cost.layout.decode),
            "batch": f"{step.batch} sequences of {traffic.context_tokens:,} tokens"
            + (" a device" if step.tensor_parallel == 1 else f" a group of {step.tensor_parallel}"),
            "speed": f"{step.tokens_per_second_per_user:.1f} tokens/s for each user, first token after "
            f"{cost.seconds_to_first_token:.2f} s without a queue",
            "decode step": f"{1e3 * step.seconds:.1f} ms: attention {1e3 * step.attention_seconds:.1f}, "
            f"matrices {1e3 * step.gemm_seconds:.1f}, communication {1e3 * step.communication_seconds:.1f} "
            f"(overlapped); no less than {1e3 * step.floor_seconds:.1f} at the peaks",
        }
    )


def _print_margin(found: Reckoned) -> None:
    if found.margin is None or found.offer is None:
        return
    margin, case = found.margin, found.cost.case
    pairs: dict[str, object] = {
        "sold as": f"{found.offer.vendor}/{found.offer.model} {found.offer.window}".strip(),
        "revenue, cost": f"{usd(margin.revenue_usd)}, {usd(margin.cost_usd)} per million, "
        "input and output together",
        "gross margin, of revenue": f"{100 * margin.of_revenue:.1f}%",
        "markup, on cost": f"{100 * margin.on_cost:.1f}%",
        "break-even utilisation": f"{100 * margin.break_even_utilisation(case.utilisation):.1f}% "
        "of the paid hours",
    }
    cut = found.after_cut
    if cut is not None:
        profit = (
            "no volume is enough" if cut.volume_for_profit is None else f"{cut.volume_for_profit:.2f} times"
        )
        pairs[f"after a cut of {100 * cut.cut:g}%"] = (
            f"{100 * cut.margin_of_revenue:.1f}% of revenue, {100 * cut.margin_on_cost:.1f}% on cost"
        )
        pairs["to earn the same"] = (
            f"{cut.volume_for_revenue:.2f} times the tokens for the revenue, {profit} for the gross profit"
        )
    print()
    print_pairs(pairs)


def _print_capacity(found: Reckoned) -> None:
    if found.capacity is None:
        return
    held = found.capacity
    print()
    print_pairs(
        {
            "devices": f"{held.num_devices:,}: {held.num_prefill_devices:,} for prefill, "
            f"{held.num_decode_devices:,} for decode, in whole units for the peak",
            "busy on average": f"{held.mean_devices_busy:,.1f} ({100 * held.utilisation:.1f}%)",
            "streams at the peak": f"{held.peak_streams:,.0f}",
            "a day": f"{usd(held.usd_per_day_held)} held, "
            f"{usd(held.usd_per_day_following)} if given back when idle",
        }
    )


def _print_sources(found: Reckoned, today: Any) -> None:
    listed = report.cost_to_json(found.cost, today)["assumptions"]
    stale = [f"{name} is of {one['date']}" for name, one in listed.items() if one["stale"]]
    marks = [one["mark"] for one in listed.values()]
    counted = ", ".join(f"{marks.count(mark)} {mark}" for mark in ("primary", "second-hand", "ours"))
    print(f"\n{len(listed)} assumptions ({counted}); --json lists each with its source")
    if stale:
        print("stale: " + "; ".join(stale) + "; supply today's by --rent")


def _reckoned_json(found: Reckoned, overview: Sequence[Offer], moment: datetime) -> dict[str, Any]:
    today = moment.date()
    result: dict[str, Any] = {"model": found.model, **report.cost_to_json(found.cost, today)}
    result["margin"] = None
    if found.margin is not None and found.offer is not None:
        result["margin"] = {
            **report.margin_to_json(found.margin, found.cost.case.utilisation, found.after_cut),
            "offer": report.offer_to_json(found.offer, today),
        }
    result["capacity"] = None if found.capacity is None else report.capacity_to_json(found.capacity)
    if overview:
        result["offers"] = [report.offer_to_json(o, today) for o in overview]
    return result


def _unit(unit: Unit) -> str:
    text = "1 device" if unit.num_devices == 1 else f"{unit.num_devices} devices"
    if unit.tensor_parallel > 1:
        text += f", tensor parallel {unit.tensor_parallel}"
    if unit.spreads_experts:
        text += f", experts over all ({unit.num_redundant_experts} redundant)"
    return text
