"""The options of `openbook plan`: the run, its prices, and what stands in for a forecast."""

from __future__ import annotations

from typing import Annotated

import typer

Source = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|CONFIG", help="A recipe, a public config.json, or a folder that holds one."
    ),
]
Tokens = Annotated[float | None, typer.Option("--tokens", metavar="N", help="Tokens to train on: 2e12.")]
AcceleratorName = Annotated[
    str | None,
    typer.Option("--accelerator", metavar="NAME", help="h800, a100-80, ... or `this`. [default: h100]"),
]
Devices = Annotated[int | None, typer.Option("--devices", metavar="N", help="How many of them.")]
SequenceLength = Annotated[
    int | None,
    typer.Option("--sequence-length", min=1, metavar="N", help="Tokens of a sequence. [default: 4096]"),
]
PrecisionName = Annotated[
    str | None, typer.Option("--precision", metavar="P", help="bf16, fp16, fp8 or fp32. [default: bf16]")
]
LayoutText = Annotated[
    str,
    typer.Option(
        "--layout", metavar="TP=N,..", help="tp, pp, ep, cp, zero, micro_batch, recompute, schedule."
    ),
]
BatchTokens = Annotated[
    float | None,
    typer.Option("--batch-tokens", metavar="N", help="Tokens of a step. [default: by compute]"),
]
Mfu = Annotated[
    float | None,
    typer.Option("--mfu", metavar="SHARE", help="Of the dense 16-bit peak, causal, instead of forecasting."),
]
GoodputShare = Annotated[
    float | None, typer.Option("--goodput", metavar="SHARE", help="Of the hours, that which trains.")
]
GpuMtbf = Annotated[
    float | None, typer.Option("--gpu-mtbf", metavar="HOURS", help="Of one device between failures.")
]
Rent = Annotated[float | None, typer.Option("--rent", metavar="USD", help="Of one device for an hour.")]
Purchase = Annotated[
    float | None, typer.Option("--purchase", metavar="USD", help="Of one device in its server.")
]
Electricity = Annotated[
    float | None, typer.Option("--electricity", metavar="USD", help="Of a kilowatt-hour.")
]
Compare = Annotated[
    str, typer.Option("--compare", metavar="A,B,..", help="The same run on several accelerators.")
]
