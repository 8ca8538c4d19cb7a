"""The charts of the report: the curves of R1-Zero, of the other stages, and the load of the experts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from openbook.pages.charts import Line, LineChart, line_chart, multiples
from openbook.pages.heat import HeatMap, heat_map
from openbook.pages.page import Section, fill, missing
from openbook.r1.report_story import Loads, Stage, Story, series

MAX_LAYERS_SHOWN = 6
"""Heat maps of a deep model: the first layers, evenly picked."""

_FAMOUS = """<p>R1-Zero has no worked example to copy: only a verifier that says right or wrong. Two curves
made it famous, and here they are for this model: how often it is right, and how long it thinks.</p>
{{ famous }}
<p class="note">Thin lines are single steps, thick ones their running mean{{ dots }}. The paper's own curves
go from 15.6% to 77.9% on AIME 2024, over 10,400 steps.</p>
<h3>What moved underneath</h3>
{{ underneath }}"""

_ROUTER = """<p>Each token goes to a few of the experts. Left alone, a router favours some and starves the
others; a bias for each expert, nudged after every step, evens the load out without a penalty in the loss
(DeepSeek-V3, 2.1.2). Shown is the stage {{ stage }}: 1 is an even share.</p>
{{ maps }}"""


def zero_section(story: Story) -> Section:
    """The curves of the stage `zero`."""
    title = "R1-Zero: accuracy and length, by reinforcement alone"
    stage = story.stage("zero")
    if stage is None or not stage.metrics:
        body = missing(_why_no_curves("zero", stage))
    else:
        examined = series(stage.metrics, "eval_pass_at_1")[0]
        dots = "; dots are examinations on held-out problems" if examined else ""
        body = fill(_FAMOUS, famous=_famous(stage), dots=dots, underneath=_underneath(stage))
    return Section(id="zero", short_title="R1-Zero", title=title, body=body)


def other_curves_section(story: Story) -> Section:
    """One chart or two for each other stage that logged anything."""
    charts = []
    for index, stage in enumerate(story.stages):
        if stage.name != "zero" and stage.metrics:
            charts += _short_curves(stage, f"stage-{index}")
    skipped = [stage.title for stage in story.stages if not stage.metrics]
    body = multiples(charts) if charts else missing("No stage has logged a curve.")
    if skipped:
        body += missing(f"Nothing was logged by: {', '.join(skipped)}.")
    return Section(id="curves", short_title="Other stages", title="The other stages, step by step", body=body)


def router_section(story: Story) -> Section:
    """How evenly the experts were loaded, in the first stage that recorded it."""
    title = "Which expert does the work"
    stage = next((stage for stage in story.stages if stage.loads), None)
    if stage is None or stage.loads is None:
        body = missing(
            "No stage has recorded the load of its experts: the model is dense, or the stage was skipped."
        )
    else:
        body = fill(
            _ROUTER,
            stage=stage.title,
            maps=multiples([*_load_maps(stage.loads), *_balance(stage)]),
        )
    return Section(id="router", short_title="Experts", title=title, body=body)


def curve(stage: Stage, key: str, label: str, *, points: bool = False) -> Line | None:
    """A metric of a stage as a line; None where it was never logged."""
    x, y = series(stage.metrics, key)
    if not x:
        return None
    smoothing = 1 if points else 2 * (len(x) // 40) + 1
    return Line(label=label, x=x, y=y, smoothing=smoothing, points=points)


def _chart(
    name: str,
    title: str,
    y_label: str,
    lines: Sequence[Line | None],
    *,
    percent: bool = False,
    from_zero: bool = True,
) -> list[Markup]:
    """A chart of those lines that exist; no chart where there is none."""
    drawn = tuple(line for line in lines if line is not None)
    if not drawn:
        return []
    chart = LineChart(
        name=name,
        title=title,
        x_label="step",
        y_label=y_label,
        lines=drawn,
        percent=percent,
        from_zero=from_zero,
    )
    return [line_chart(chart)]


def _famous(stage: Stage) -> Markup:
    accuracy = [
        curve(stage, "accuracy", "training problems"),
        curve(stage, "eval_pass_at_1", "held out", points=True),
    ]
    lengths = [
        curve(stage, "mean_completion_tokens", "all"),
        _positive(curve(stage, "mean_correct_tokens", "correct ones")),
        curve(stage, "eval_mean_completion_tokens", "held out", points=True),
    ]
    charts = _chart("zero-accuracy", "Accuracy", "problems solved", accuracy, percent=True)
    charts += _chart("zero-length", "Response length", "tokens a response", lengths)
    return (
        multiples(charts, large=True) if charts else missing("The stage logged neither accuracy nor length.")
    )


def _positive(line: Line | None) -> Line | None:
    """Without its zeros: of a metric that is never 0, they are steps with nothing to measure."""
    if line is None:
        return None
    y = [value if value > 0 else math.nan for value in line.y]
    return (
        Line(label=line.label, x=line.x, y=y, smoothing=line.smoothing)
        if any(map(math.isfinite, y))
        else None
    )


def _underneath(stage: Stage) -> Markup:
    parts = [
        curve(stage, f"reward_{part}", part) or curve(stage, part, part)
        for part in ("accuracy", "format", "language", "preference", "length")
    ]
    charts = _chart("zero-reward", "Reward, part by part", "reward", parts)
    charts += _chart(
        "zero-steps", "Thinking with steps", "completions", [curve(stage, "steps_share", "")], percent=True
    )
    trouble = [
        curve(stage, "truncated_share", "cut off by the limit"),
        curve(stage, "zero_variance_groups", "groups that teach nothing"),
    ]
    charts += _chart("zero-waste", "Rollouts without use", "share", trouble, percent=True)
    charts += _chart("zero-entropy", "Entropy", "nats a token", [curve(stage, "entropy", "")])
    charts += _chart(
        "zero-kl", "Distance from the reference (KL)", "nats a token", [_positive(curve(stage, "kl", ""))]
    )
    charts += _chart(
        "zero-gradient", "Gradient norm", "norm before clipping", [curve(stage, "grad_norm", "")]
    )
    return multiples(charts) if charts else missing("The stage logged nothing else.")


def _short_curves(stage: Stage, name: str) -> list[Markup]:
    if series(stage.metrics, "reward")[0]:
        solved = [
            curve(stage, "accuracy", "training problems"),
            curve(stage, "eval_pass_at_1", "held out", points=True),
        ]
        charts = _chart(
            f"{name}-accuracy", f"{stage.title}: accuracy", "problems solved", solved, percent=True
        )
        length = [curve(stage, "mean_completion_tokens", "")]
        return charts + _chart(
            f"{name}-length", f"{stage.title}: response length", "tokens a response", length
        )
    losses = [
        curve(stage, "loss", "next token"),
        _positive(curve(stage, "mtp_loss", "the one after it (MTP)")),
    ]
    unit = "nats a pair" if stage.name == "reward_model" else "nats a token"
    return _chart(f"{name}-loss", f"{stage.title}: loss", unit, losses, from_zero=False)


def _load_maps(loads: Loads) -> list[Markup]:
    tokens = np.asarray(loads.loads, dtype=float)  # [step, layer, expert]
    relative = tokens / np.maximum(tokens.mean(axis=2, keepdims=True), 1e-12)
    num_layers = relative.shape[1]
    shown = np.unique(np.linspace(0, num_layers - 1, min(num_layers, MAX_LAYERS_SHOWN)).round().astype(int))
    return [
        heat_map(
            HeatMap(
                name=f"router-{layer}",
                title=f"Mixture-of-experts layer {layer + 1} of {num_layers}",
                x_label="step",
                y_label="expert",
                x=loads.steps,
                values=relative[:, layer, :].T.tolist(),
                low=0.0,
                high=2.0,
                scale_label="load / even share",
            )
        )
        for layer in shown
    ]


def _balance(stage: Stage) -> list[Markup]:
    line = curve(stage, "load_max_over_mean", "")
    return _chart("router-balance", "The busiest expert", "load / even share", [line])


def _why_no_curves(name: str, stage: Stage | None) -> str:
    if stage is None:
        return f"The stage `{name}` was skipped: there is no run of it in this folder."
    return f"The stage `{name}` has logged no metrics."
