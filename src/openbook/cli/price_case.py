"""From the options of `openbook price` to a unit cost, its margin and its capacity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from openbook.economics.accelerators import THIS, Accelerator, Precision, find_accelerator, with_file
from openbook.economics.serving.capacity import Capacity, Demand, capacity
from openbook.economics.serving.layout import Layout, Server, Speculation, Unit
from openbook.economics.serving.margin import Margin, PriceCut, after_price_cut
from openbook.economics.serving.models import KNOWN, known_model
from openbook.economics.serving.network import with_network
from openbook.economics.serving.price_list import Offer, PriceList, blended_usd
from openbook.economics.serving.unit_cost import ServingCase, Traffic, UnitCost, layout_for, unit_cost
from openbook.errors import UserError, nearest

if TYPE_CHECKING:
    from openbook.model.architecture import Architecture

LAYOUT_KEYS = ("prefill", "decode", "tp", "redundant")


class Device(NamedTuple):
    """On what it runs, as typed; None where an option was not given."""

    accelerator: str
    accelerators: Path | None
    precision: str | None
    rent: float | None
    layout: str


class Use(NamedTuple):
    """What users send and get, as typed."""

    context: int | None
    hit: float | None
    output_per_input: float | None
    speed: float | None
    utilisation: float | None
    drafts: str


class Sale(NamedTuple):
    """What it is sold for and to how many, as typed."""

    sold_as: str | None
    cut: float | None
    users: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceOptions:
    """The options of a reckoned price."""

    device: Device
    use: Use
    sale: Sale
    plot: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reckoned:
    """What `openbook price MODEL` found: cost, and where they were asked for margin and capacity."""

    model: str
    cost: UnitCost
    offer: Offer | None = None
    margin: Margin | None = None
    after_cut: PriceCut | None = None
    capacity: Capacity | None = None
    plot: Path | None = None


def reckon(source: str, options: PriceOptions, lists: PriceList, moment: datetime) -> Reckoned:
    """The unit cost of the model at `source`. Raises UserError for what does not fit."""
    case = serving_case(_architecture(source), options)
    cost = unit_cost(case)
    found = Reckoned(model=source, cost=cost)
    if options.sale.sold_as is not None:
        found = _sold(found, options, lists, moment)
    elif options.sale.cut is not None:
        raise UserError("--cut needs a price that is cut", "name one by --sold-as VENDOR/MODEL")
    if options.sale.users is not None:
        users, inputs, outputs = _numbers("--users", options.sale.users, 3)
        demand = Demand(num_users=users, input_tokens_per_day=inputs, output_tokens_per_day=outputs)
        found = replace(found, capacity=capacity(cost, demand))
    if options.plot is not None:
        found = replace(found, plot=draw(cost, source, options.plot))
    return found


def serving_case(architecture: Architecture, options: PriceOptions) -> ServingCase:
    """What the options say, and for the rest the defaults of the case."""
    accelerator = _accelerator(options)
    drafts = _numbers("--drafts", options.use.drafts, 2) if options.use.drafts else (0, 0.0)
    server = Server(
        architecture=architecture,
        accelerator=accelerator,
        precision=_precision(options, accelerator),
        speculation=Speculation(num_drafts=int(drafts[0]), acceptance=drafts[1]),
    )
    traffic = Traffic()
    limit = architecture.max_position_embeddings
    context = (
        options.use.context
        if options.use.context is not None
        else min(traffic.context_tokens, limit or 10**9)
    )
    speed = traffic.tokens_per_second_per_user if options.use.speed is None else options.use.speed or None
    traffic = replace(traffic, context_tokens=context, tokens_per_second_per_user=speed)
    if options.use.hit is not None:
        traffic = replace(traffic, hit_share=options.use.hit)
    if options.use.output_per_input is not None:
        traffic = replace(traffic, output_per_input=options.use.output_per_input)
    case = ServingCase(server=server, layout=_layout(server, traffic, options.device.layout), traffic=traffic)
    if options.use.utilisation is not None:
        case = replace(case, utilisation=options.use.utilisation)
    return case if options.device.rent is None else replace(case, usd_per_device_hour=options.device.rent)


def draw(cost: UnitCost, model: str, path: Path) -> Path:
    """Cost by batch and by load as an SVG file. Raises UserError when it cannot be written."""
    from openbook.economics.serving.curves import by_load, output_by_batch
    from openbook.pages.charts import Line, LineChart, line_chart
    from openbook.pages.picture import picture

    if path.suffix != ".svg":
        raise UserError(f"--plot {path} is not an SVG file", "give it a name that ends in .svg")
    case = cost.case
    context = case.traffic.context_tokens
    contexts = sorted({max(1, context // 4), context, context * 4})
    where = f"{case.server.accelerator.name} at {case.rent_usd_per_hour:g} USD an hour"
    charts = (
        LineChart(
            name="batch",
            title=f"An output token of {model} by batch",
            x_label="sequences a device" if cost.decode.tensor_parallel == 1 else "sequences a group",
            y_label="USD per million",
            lines=tuple(Line(label=c.label, x=c.x, y=c.usd) for c in output_by_batch(cost, contexts)),
            caption=f"{where}, busy {100 * case.utilisation:.0f}% of the paid hours. "
            "A line ends where memory does.",
        ),
        LineChart(
            name="load",
            title=f"A token of {model} by load",
            x_label="busy share of the paid hours",
            y_label="USD per million",
            lines=tuple(Line(label=c.label, x=c.x, y=c.usd) for c in by_load(case)),
            caption=f"{where}; {cost.decode.batch} sequences in a batch of {context:,} tokens each.",
        ),
    )
    try:
        path.write_text(picture([line_chart(chart) for chart in charts]), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error})", "name another file") from error
    return path


def _sold(found: Reckoned, options: PriceOptions, lists: PriceList, moment: datetime) -> Reckoned:
    vendor, slash, model = (options.sale.sold_as or "").partition("/")
    if not slash:
        raise UserError(
            f"--sold-as {options.sale.sold_as!r} names no model", "write it as deepseek/deepseek-r1"
        )
    offer = lists.offer(vendor, model, moment)
    traffic = found.cost.case.traffic
    revenue = blended_usd(offer.prices, input_share=traffic.input_share, hit_share=traffic.hit_share)
    margin = Margin(revenue_usd=revenue, cost_usd=found.cost.blended_usd)
    cut = None if options.sale.cut is None else after_price_cut(margin.of_revenue, options.sale.cut)
    return replace(found, offer=offer, margin=margin, after_cut=cut)


def _architecture(source: str) -> Architecture:
    if source.lower() in KNOWN:
        return known_model(source.lower())
    path = Path(source)
    if path.suffix == ".json" or path.is_dir():
        from openbook.cli.forecast import read_architecture

        return read_architecture(path, [])
    from openbook.cli.plan import find_models
    from openbook.cli.shelf import find_recipe
    from openbook.config import load_recipe
    from openbook.model.architecture import architecture_of
    from openbook.r1.schemas import SCHEMAS

    try:
        recipe = load_recipe(find_recipe(source), SCHEMAS)
    except UserError as error:
        raise UserError(
            f"{source!r} is no model: {error.what}", f"name {', '.join(KNOWN)}, a config.json or a run"
        ) from error
    models = [model for _, model in find_models(recipe.config)]
    if not models:
        raise UserError(f"{recipe.path} describes no model", "name a config.json or a checkpoint")
    return architecture_of(models[0])


def _accelerator(options: PriceOptions) -> Accelerator:
    if options.device.accelerator == THIS:
        from openbook.economics.host import this_machine

        return this_machine(today=datetime.now(UTC).date())
    return with_network(find_accelerator(options.device.accelerator, with_file(options.device.accelerators)))


def _precision(options: PriceOptions, accelerator: Accelerator) -> Precision:
    if options.device.precision is not None:
        known = [str(one) for one in Precision]
        if options.device.precision not in known:
            raise UserError(
                f"no precision {options.device.precision!r}", nearest(options.device.precision, known)
            )
        return Precision(options.device.precision)
    order = (Precision.FP8, Precision.BF16, Precision.FP16, Precision.FP32)
    return next(one for one in order if one in accelerator.peak_flops and one in accelerator.matmul_share)


def _layout(server: Server, traffic: Traffic, text: str) -> Layout | None:
    if not text:
        return None
    given: dict[str, int] = {}
    for pair in text.split(","):
        key, _, value = pair.strip().partition("=")
        if key not in LAYOUT_KEYS:
            raise UserError(f"--layout: unknown key {key!r}", nearest(key, list(LAYOUT_KEYS)))
        if not value.isdigit():
            raise UserError(f"--layout {pair!r} is not a number", f"write {key}=8")
        given[key] = int(value)
    fits = layout_for(server, traffic) if "prefill" not in given or "decode" not in given else None

    def unit(name: str) -> Unit:
        usual = getattr(fits, name) if fits is not None else Unit()
        tensor = given.get("tp", usual.tensor_parallel if name not in given else 1)
        return Unit(
            num_devices=given.get(name, max(usual.num_devices, tensor)),
            tensor_parallel=tensor,
            num_redundant_experts=given.get("redundant", usual.num_redundant_experts),
        )

    return Layout(prefill=unit("prefill"), decode=unit("decode"))


def _numbers(option: str, text: str, count: int) -> Sequence[float]:
    try:
        found = [float(part) for part in text.split(":")]
    except ValueError:
        found = []
    if len(found) != count:
        raise UserError(f"{option} {text!r} is not {count} numbers", f"write {':'.join('N' * count)}")
    return found
