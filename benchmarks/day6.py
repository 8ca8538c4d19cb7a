"""A roofline of parts against services that were measured whole -> Markdown, the same on every machine.

    python benchmarks/day6.py [--json]

First what follows from DeepSeek's published day by arithmetic. Then our own roofline, whose efficiencies were
measured on single kernels and none fitted to a service, against the node throughputs that were published: of
that day, of DeepSeek's profile at full load, and of SGLang on H100.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.serving.capacity import gpu_seconds_per_thousand
from openbook.economics.serving.choose import PUBLISHED
from openbook.economics.serving.day6 import DAY_6, R1_PRICES, V3_PRICES
from openbook.economics.serving.efficiency import ATTENTION_SHARE_AT_RELEASE, EXPERT_BALANCE
from openbook.economics.serving.layout import Server, Speculation, Unit
from openbook.economics.serving.models import known_model
from openbook.economics.serving.network import with_network
from openbook.economics.serving.roofline import choose_batch, decode_step, prefill
from openbook.economics.serving.unit_cost import ServingCase, Traffic, unit_cost

AIM = 0.30
D6 = "DeepSeek, day 6"
PROFILE = "DeepSeek's profile, as LMSYS read it"
LMSYS = "SGLang, LMSYS 5 May 2025"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A published throughput of a node and ours, in tokens a second."""

    what: str
    source: str
    published: float
    ours: float

    @property
    def error(self) -> float:
        return self.ours / self.published - 1


def server(accelerator: str, *, balanced: bool = False, at_release: bool = False) -> Server:
    """V3 in FP8; `balanced` where routing was even by construction, `at_release` with Feb 2025's kernel."""
    device = with_network(find_accelerator(accelerator))
    found = Server(architecture=known_model("deepseek-v3"), accelerator=device, precision=Precision.FP8)
    limits = found.limits
    if balanced:
        limits = replace(limits, expert_balance=replace(EXPERT_BALANCE, value=1.0))
    if at_release:
        limits = replace(limits, attention=ATTENTION_SHARE_AT_RELEASE)
    return replace(found, efficiency=limits)


def rows() -> Iterator[Row]:
    """Every comparison; the first two are those of the published day."""
    h800, traffic = server("h800", at_release=True), Traffic()
    node = h800.accelerator.devices_per_node

    def filled(of: Server, prompt: int, hit: float = 0.0) -> float:
        return prefill(of, PUBLISHED.prefill, prompt, hit).tokens_per_second_per_device * node

    day = filled(h800, traffic.prompt_tokens, DAY_6.hit_share) / (1 - DAY_6.hit_share)
    yield Row(what="prefill, hits included", source=D6, published=DAY_6.input_per_second, ours=day)
    yield decoded("decode at 21 tokens/s a user", h800, DAY_6.output_per_second)
    drafting = replace(h800, speculation=Speculation(num_drafts=1, acceptance=0.85))
    yield decoded("the same, had MTP drafted (1 x 0.85)", drafting, DAY_6.output_per_second)
    even = server("h800", balanced=True, at_release=True)
    yield Row(what="prefill, prompts of 4,096", source=PROFILE, published=62_713, ours=filled(even, 4096))
    step = decode_step(even, Unit(num_devices=128), 128, 4096)
    full = step.tokens_per_second_per_device * node
    yield Row(what="decode, 128 a device behind 4,096", source=PROFILE, published=18_598, ours=full)
    h100 = server("h100")
    for prompt, published in ((1024, 57_674), (2048, 54_543), (4096, 50_302)):
        what = f"prefill, prompts of {prompt:,}"
        yield Row(what=what, source=LMSYS, published=published, ours=filled(h100, prompt))
    nine = Unit(num_devices=72, num_redundant_experts=32)
    ours = decode_step(h100, nine, 256, 2000).tokens_per_second_per_device * node
    yield Row(what="decode, 256 a device behind 2,000", source=LMSYS, published=22_282, ours=ours)


def decoded(what: str, of: Server, published: float) -> Row:
    """The published decode unit, with the batch that the users' speed leaves."""
    context, speed = Traffic().context_tokens, DAY_6.tokens_per_second_per_user
    step = decode_step(of, PUBLISHED.decode, choose_batch(of, PUBLISHED.decode, context, speed), context)
    return Row(
        what=what,
        source=D6,
        published=published,
        ours=step.tokens_per_second_per_device * of.accelerator.devices_per_node,
    )


def arithmetic() -> dict[str, str]:
    """What follows from the published figures alone."""
    r1, v3 = DAY_6.margin(R1_PRICES), DAY_6.margin(V3_PRICES)
    hours = DAY_6.mean_nodes * DAY_6.devices_per_node * 24
    seconds = gpu_seconds_per_thousand(hours, DAY_6.input_tokens + DAY_6.output_tokens)
    return {
        "cost of the day": f"${DAY_6.cost_usd:,.0f}",
        "node-days from the published throughputs": f"{DAY_6.node_days:.2f} (observed {DAY_6.mean_nodes})",
        "of them prefill and decode": f"{100 * DAY_6.prefill_node_days / DAY_6.node_days:.1f} % and "
        f"{100 * DAY_6.decode_node_days / DAY_6.node_days:.1f} %",
        "revenue, all at R1's prices": f"${r1.revenue_usd:,.0f}",
        "margin": f"{100 * r1.on_cost:.2f} % on cost, {100 * r1.of_revenue:.2f} % of revenue",
        "break-even share of that revenue": f"{100 * r1.break_even_utilisation():.2f} %",
        "revenue, all at V3's prices": f"${v3.revenue_usd:,.0f}",
        "a million tokens: input; missed; output": f"${DAY_6.input_usd:.4f}; ${DAY_6.missed_usd:.4f}; "
        f"${DAY_6.output_usd:.4f}",
        "blended": f"${DAY_6.blended_usd:.4f}, {seconds:.3f} GPU-seconds a thousand",
        "streams at once": f"{DAY_6.mean_streams:,.0f}",
    }


def costs() -> dict[str, float]:
    """Our own cost of a million tokens on that day's fleet, never idle, as its nodes are counted."""
    case = ServingCase(server=server("h800", at_release=True), layout=PUBLISHED, utilisation=1.0)
    found = unit_cost(case)
    return {"input": found.input_usd, "missed": found.missed_usd, "output": found.output_usd}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    found = list(rows())
    if parser.parse_args().json:
        table = [
            {"what": r.what, "source": r.source, "published": r.published, "ours": r.ours} for r in found
        ]
        print(json.dumps({"rows": table, "arithmetic": arithmetic(), "usd_per_million": costs()}, indent=2))
        return
    print("| from the published day | |\n|---|---|")
    for name, value in arithmetic().items():
        print(f"| {name} | {value} |")
    print("\n| throughput of a node, tokens/s | published by | published | roofline | error | within 30 % |")
    print("|---|---|---:|---:|---:|---|")
    for row in found:
        figures = f"{row.published:,.0f} | {row.ours:,.0f} | {100 * row.error:+.1f} %"
        within = "yes" if abs(row.error) <= AIM else "no"
        print(f"| {row.what} | {row.source} | {figures} | {within} |")
    ours = costs()
    print(
        f"\nOur cost of a million tokens on a fleet that never idles: input ${ours['input']:.4f}, missed "
        f"${ours['missed']:.4f}, output ${ours['output']:.4f}."
    )


if __name__ == "__main__":
    main()
