"""How long a device takes for a token of training, by part, from the machine and the layout. No torch.

Every part is a time that can be looked up or measured by itself: products at the share of the peak that
they reach plus the bytes that they move; attention at the published rates of its kernels; what only moves
bytes at the memory's bandwidth; exchange between devices at the link's. Two fitted figures stand over all:
how much longer a real run takes than its parts, and by which power of the number of devices that grows.
`docs/decisions/0015-efficiency-model.md` says why, `docs/concepts/calibration.md` how well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from openbook.economics.accelerators import Accelerator, Precision
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.goodput import bubble_share
from openbook.economics.plan.layout import Layout, Recompute
from openbook.economics.plan.memory import TrainingShape, local_parameters, stage_layers, state_bytes
from openbook.economics.plan.utilisation import reference_peak
from openbook.economics.plan.work import LayerWork, Product, head_product, layer_works
from openbook.model.architecture import Architecture

UNKNOWN_MATMUL_SHARE = 0.75
"""Where no achievable share was measured: a little under the middle of those that were."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenTime:
    """Device-seconds of one token by part; they add up to `total`."""

    products: float
    attention: float
    elementwise: float
    recompute: float
    tensor_parallel: float
    expert_parallel: float
    bubble: float
    data_parallel: float
    overhead: float
    """What a real run takes beyond its parts: gaps, the slowest device, the programme around it."""

    @property
    def total(self) -> float:
        return float(sum(getattr(self, field.name) for field in fields(self)))

    def shares(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) / self.total for field in fields(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The rates that a kind of device reaches, the calibration applied: FLOP/s and bytes a second."""

    product_flops: float
    head_flops: float
    attention_flops: float
    memory_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float
    devices_per_node: int

    @classmethod
    def of(
        cls, accelerator: Accelerator, precision: Precision, figures: Calibration, num_devices: int = 1
    ) -> Machine:
        """The rates of `accelerator`. Raises UserError for one that is needed and not known."""
        reference, peak = reference_peak(accelerator)
        head_precision = reference if precision in (Precision.FP8, Precision.FP4) else precision
        share = matmul_share(accelerator, precision)

        def between(name: str) -> float:
            """Of one device alone nothing travels, so an unknown rate does not matter."""
            alone = num_devices == 1 and getattr(accelerator, name) is None
            return math.inf if alone else _value(accelerator, name)

        return cls(
            product_flops=accelerator.peak(precision).value * share,
            head_flops=accelerator.peak(head_precision).value * matmul_share(accelerator, head_precision),
            attention_flops=min(peak, accelerator.peak(head_precision).value)
            * _attention_share(accelerator, head_precision, figures),
            memory_bandwidth=_value(accelerator, "memory_bandwidth") * figures["kernels.memory_share"],
            link_bandwidth=between("link_bandwidth") * figures["communication.link_share"],
            network_bandwidth=between("network_bandwidth") * figures["communication.network_share"],
            devices_per_node=accelerator.devices_per_node,
        )


def matmul_share(accelerator: Accelerator, precision: Precision) -> float:
    """The achievable share of a peak; that of the 16-bit peak, or a common one, where it was not measured."""
    known = accelerator.matmul_share
    for one in (precision, Precision.BF16, Precision.FP16):
        if one in known:
            return known[one].value
    return UNKNOWN_MATMUL_SHARE


@dataclass(frozen=True, slots=True)
class TokenTimer:
    """How long a token takes in one layout on one machine."""

    architecture: Architecture
    shape: TrainingShape
    layout: Layout
    machine: Machine
    figures: Calibration

    def time(self, batch_tokens: float) -> TokenTime:
        """Seconds of one device for one token when `batch_tokens` make a step."""
        layout, figures = self.layout, self.figures
        works = layer_works(self.architecture, self.shape.sequence_length)
        products = sum(w.num_layers * self._products(w) for w in works)
        products += self._product(head_product(self.architecture))
        attention = sum(w.num_layers * self._attention(w) for w in works)
        elementwise = sum(w.num_layers * self._elementwise(w) for w in works) + self._logits()
        again = self._again(products, attention, elementwise)
        on_device = products + attention + elementwise + again
        tensor = (self._tensor_parallel() + self._context_parallel(works)) * (
            1.5 if layout.recompute is Recompute.FULL else 1.0
        )
        experts = self._expert_parallel(works, on_device)
        busy = on_device + tensor + experts
        num_micro = max(1, round(batch_tokens / (layout.dp * self._micro_tokens)))
        num_pieces = layout.num_pieces(self.architecture.num_layers)
        uneven = stage_layers(self.architecture, layout) * layout.pp / self.architecture.num_layers - 1
        bubble = busy * (bubble_share(layout.schedule, layout.pp, num_micro, num_pieces) + uneven)
        data = self._data_parallel(busy, num_micro)
        parts = busy + bubble + data
        longer = figures["fitted.overhead"] * scale_factor(layout.num_devices, figures)
        return TokenTime(
            products=products,
            attention=attention,
            elementwise=elementwise,
            recompute=again,
            tensor_parallel=tensor,
            expert_parallel=experts,
            bubble=bubble,
            data_parallel=data,
            overhead=parts * (longer - 1),
        )

    def _again(self, products: float, attention: float, elementwise: float) -> float:
        """Forward work done twice."""
        recompute = self.layout.recompute
        if recompute is Recompute.FULL:
            return (products + attention + elementwise) / 3
        if recompute is Recompute.SELECTIVE:
            return (elementwise + (0.0 if self.shape.fused_attention else attention)) / 3
        return 0.0

    @property
    def _micro_tokens(self) -> int:
        return self.shape.sequence_length * self.layout.micro_batch

    def _products(self, work: LayerWork) -> float:
        return sum(self._product(product) for product in work.products)

    def _product(self, product: Product) -> float:
        """Three products for each token, one forward, two backward: arithmetic and what moves through memory.

        With tensor parallel the side that is not split moves on every rank.
        """
        layout, tp = self.layout, self.layout.tp
        rate = self.machine.head_flops if product.is_head else self.machine.product_flops
        width = self.architecture.hidden_size
        num_bytes, rows = 2.0, float(self._micro_tokens)
        moved = float(product.rows + product.columns)
        if product.num_experts:
            rate *= self.figures["kernels.grouped_share"]
            rows *= layout.ep / (tp * layout.cp) * product.times / product.num_experts
        else:
            rows /= layout.cp
            moved += (tp - 1) * min(width, product.rows, product.columns)
        moved += product.rows * product.columns / max(rows, 1.0)
        flops = 2.0 * product.rows * product.columns
        balance = (
            self.figures["communication.expert_imbalance"] if product.num_experts and layout.ep > 1 else 1.0
        )
        each = flops / rate + num_bytes * moved / self.machine.memory_bandwidth
        return 3 * product.times * each * balance

    def _attention(self, work: LayerWork) -> float:
        length = self.shape.sequence_length
        if not self.shape.fused_attention:
            # All of the square is computed, and each score passes through memory.
            traffic = work.num_heads * length * self.figures["kernels.unfused_score_bytes"]
            return 6 * work.score_flops / self.machine.head_flops + traffic / self.machine.memory_bandwidth
        half = self.figures["kernels.attention_half_length"]
        rate = self.machine.attention_flops * length / (length + half) * _head_share(work.head_dim)
        return 3 * self.figures["kernels.attention_recompute"] * work.score_flops / rate

    def _elementwise(self, work: LayerWork) -> float:
        figures, width = self.figures, self.architecture.hidden_size
        elements = (
            figures["kernels.elementwise_widths"] * width
            + figures["kernels.elementwise_inner"] * work.inner_width
        )
        elements += 4 * max(0, work.num_experts_per_tok) * width
        num_bytes = 4.0 if self.shape.precision in (Precision.FP32, Precision.TF32) else 2.0
        if self.shape.precision in (Precision.FP8, Precision.FP4):
            elements += figures["kernels.fp8_cast_widths"] * width
        return elements * num_bytes / self.machine.memory_bandwidth

    def _logits(self) -> float:
        return (
            self.figures["kernels.logit_bytes"] * self.architecture.vocab_size / self.machine.memory_bandwidth
        )

    def _tensor_parallel(self) -> float:
        """Four all-reduces a layer, two forward and two backward, each of one width; not hidden."""
        tp = self.layout.tp
        if tp == 1:
            return 0.0
        sent = 2 * (tp - 1) * self.architecture.hidden_size * 2  # by all ranks together
        inside = tp <= self.machine.devices_per_node
        rate = self.machine.link_bandwidth if inside else self.machine.network_bandwidth
        return 4 * self.architecture.num_layers * sent / rate

    def _context_parallel(self, works: tuple[LayerWork, ...]) -> float:
        """Keys and values of a sequence to each rank that shares it: forward, backward, and gradients."""
        cp, tp = self.layout.cp, self.layout.tp
        if cp == 1:
            return 0.0
        inside = cp * tp <= self.machine.devices_per_node
        rate = self.machine.link_bandwidth if inside else self.machine.network_bandwidth
        sent = sum(work.num_layers * work.cache_elements for work in works) * (cp - 1) * 2
        return 3 * sent / rate

    def _expert_parallel(self, works: tuple[LayerWork, ...], on_device: float) -> float:
        """Dispatch and combine, forward and backward: hidden at the price of processors, or in line."""
        ep, node = self.layout.ep, self.machine.devices_per_node
        if ep == 1:
            return 0.0
        small = self.shape.precision in (Precision.FP8, Precision.FP4)
        widths = 2 * ((1.0 if small else 2.0) + 2.0) * self.architecture.hidden_size
        seconds = 0.0
        for work in works:
            chosen = work.num_experts_per_tok
            if not chosen:
                continue
            ranks = ep * (1 - (1 - 1 / ep) ** chosen) * (ep - 1) / ep
            num_nodes = max(1.0, ep / node)
            remote = num_nodes * (1 - (1 - 1 / num_nodes) ** chosen) * (num_nodes - 1) / num_nodes
            inside = widths * ranks / self.machine.link_bandwidth
            across = widths * remote / self.machine.network_bandwidth
            seconds += work.num_layers * max(inside, across)
        taken = self.figures["communication.overlap_sms"]
        hidden = on_device * taken / (1 - taken) + max(0.0, seconds - on_device)
        return min(seconds, hidden)

    def _data_parallel(self, busy: float, num_micro: int) -> float:
        """What of the exchange of gradients and weights is not hidden, for one token on one device."""
        layout, machine = self.layout, self.machine
        if layout.num_replicas == 1:
            return 0.0
        dense, experts = local_parameters(self.architecture, layout)
        in_node = max(1, machine.devices_per_node // layout.tp)
        between_experts = max(1, machine.devices_per_node // max(layout.ep, layout.tp))
        expert_dp = max(1, layout.num_replicas * layout.tp // layout.ep)
        seconds = self._exchange(dense, layout.num_replicas, in_node, num_micro)
        seconds += self._exchange(experts, expert_dp, between_experts, num_micro)
        micro_seconds = busy * self._micro_tokens / (layout.tp * layout.pp * layout.cp)
        hideable = micro_seconds * (
            num_micro if layout.zero == 3 else self.figures["communication.gradient_overlap"]
        )
        exposed = max(seconds - hideable, seconds * self.figures["communication.gradient_exposed"])
        return exposed / (num_micro * self._micro_tokens) * layout.tp * layout.pp * layout.cp

    def _exchange(self, held: float, num_ranks: int, in_node: int, num_micro: int) -> float:
        """Seconds to reduce the gradients and gather the weights of `held` parameters over `num_ranks`.

        Ranks of a node share its network adapters, so each carries its part of what crosses.
        """
        if num_ranks == 1 or not held:
            return 0.0
        size = state_bytes(self.shape.precision)
        passes = 2 * num_micro if self.layout.zero == 3 else 1
        sent = held * (size.gradients + passes * size.weights) * (num_ranks - 1) / num_ranks
        in_node = min(num_ranks, in_node)
        across = sent / (self.machine.network_bandwidth * in_node) if num_ranks > in_node else 0.0
        return max(across, sent / self.machine.link_bandwidth if in_node > 1 else 0.0)


def scale_factor(num_devices: int, figures: Calibration) -> float:
    """How the overhead grows with the devices: a power of them, and beyond the largest run a smaller one.

    Exchange and failures, which grow without end, are counted apart; what is left was seen up to that run.
    """
    exponent, largest = figures["fitted.scale_exponent"], figures["prior.largest_run"]
    beyond = max(1.0, num_devices / largest)
    within: float = min(num_devices, largest) ** exponent
    return within * float(beyond ** (exponent * figures["prior.exponent_beyond"]))


def _attention_share(accelerator: Accelerator, precision: Precision, figures: Calibration) -> float:
    """What fused attention reaches of the peak: published for A100 and H100, by matmul share for others."""
    if accelerator.name.startswith("a100"):
        return figures["kernels.attention_share_ampere"]
    best = matmul_share(accelerator, precision) / 0.803
    return figures["kernels.attention_share_hopper"] * min(1.0, best)


def _head_share(head_dim: float) -> float:
    """Short heads leave the arrays half empty: 0.86 at 64 of the rate at 128 (FlashAttention-2)."""
    return min(1.0, head_dim / (head_dim + 24) * (128 + 24) / 128)


def _value(accelerator: Accelerator, name: str) -> float:
    from openbook.errors import UserError

    figure = getattr(accelerator, name)
    if figure is None:
        raise UserError(f"the {name} of {accelerator.name} is not known", "supply it by --accelerators FILE")
    return float(figure.value)
