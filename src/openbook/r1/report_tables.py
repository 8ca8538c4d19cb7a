"""The tables of the report: stages, distillation beside reinforcement, and how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from markupsafe import Markup

from openbook.evals.scorecard import Scorecard
from openbook.pages.bars import Bar, BarChart, bar_chart
from openbook.pages.charts import multiples
from openbook.pages.page import Section, fill, missing
from openbook.pages.tables import ABSENT, Column, Table, html_table
from openbook.r1.report_story import HARDER, HELD_OUT, STUDENT_STAGES, Stage, Story, number, stage_title
from openbook.runs.run import Run
from openbook.units import show_seconds, show_usd, to_nano_usd

EQUAL_WITHIN = 0.1
"""Device times that differ by less than this share are called equal."""

_STAGES_NOTE = """<p class="note">pass@1: the share of completions whose answer block is right, with the 95 %
interval of a bootstrap over problems. Format forgiven: the last number of the text counts. Harder: longer
problems than any stage trained on. Language: the share of number words in the language asked for.</p>"""
_FACTS = """<dl class="facts">
{% for name, value in facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}</dl>"""


def show_percent(value: float) -> str:
    """`81.2%`; a dash where there is no value."""
    return f"{100 * value:.1f}%" if math.isfinite(value) else ABSENT


def show_interval(value: float, low: float, high: float) -> str:
    """`81.2% (78.0-84.3)`: a share and its 95 % interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return show_percent(value)
    return f"{show_percent(value)} ({100 * low:.1f}-{100 * high:.1f})"


def story_rows(stages: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of story.json as a table, for a terminal: one line for each stage and the sum."""
    labels = ("pass@1 (95 %)", "majority", "tokens", "time", "cost")
    columns = (Column(label="stage"), *(Column(label=label, number=True) for label in labels))
    rows = tuple((str(stage.get("stage", "?")), *_story_cells(stage)) for stage in stages)
    seconds = [number(stage, "wall_seconds") for stage in stages]
    costs = [number(stage, "cost_usd") for stage in stages]
    total = ("total", "", "", "", show_time(_sum(seconds)), show_cost(_sum(costs)))
    return Table(columns=columns, rows=rows, total=total if rows else ())


def stages_section(story: Story) -> Section:
    """Every stage with its scores."""
    scored = [stage for stage in story.stages if math.isfinite(stage.number("pass_at_1"))]
    body = html_table(stage_table(story.stages))
    if scored:
        body = multiples([_solved_chart(scored), _length_chart(scored)], large=True) + body
    body += fill(_STAGES_NOTE)
    return Section(id="stages", short_title="Stages", title="Stage by stage", body=body)


def stage_table(stages: Sequence[Stage]) -> Table:
    """A line for each stage; a dash where a stage was not examined."""
    labels = (
        "pass@1 (95 %)",
        "format forgiven",
        "majority vote",
        "harder problems",
        "tokens",
        "well formed",
        "language",
        "time",
        "cost",
    )
    columns = (Column(label="stage"), *(Column(label=label, number=True) for label in labels))
    return Table(columns=columns, rows=tuple((stage.title, *_stage_cells(stage)) for stage in stages))


def distill_section(story: Story) -> Section:
    """The small model: distilled beside trained by reinforcement alone."""
    students = [stage for stage in story.stages if stage.name in STUDENT_STAGES]
    distilled, control = story.stage("distill"), story.stage("control")
    title = "Distil, or reinforce? The same small model, two ways"
    if distilled is None or control is None:
        absent = [name for name in ("distill", "control") if story.stage(name) is None]
        verb = "were" if len(absent) > 1 else "was"
        body = missing(f"There is nothing to compare: {' and '.join(absent)} {verb} skipped.")
    else:
        body = fill("<p>{{ sentence }}</p>", sentence=_comparison(distilled, control))
    if students:
        body += html_table(_student_table(students))
    return Section(id="distill", short_title="Distillation", title=title, body=body)


def made_section(story: Story) -> Section:
    """Recipe, seed, machine, code and lineage."""
    facts = [(name, value) for name, value in _facts(story) if value]
    body = fill(_FACTS, facts=facts)
    body += html_table(_lineage(story.runs)) if story.runs else missing("There is no run in this folder.")
    for trouble in story.troubles:
        body += missing(f"Left out: {trouble}.")
    return Section(id="made", short_title="How it was made", title="How it was made", body=body)


def show_time(seconds: float) -> str:
    return show_seconds(seconds) if math.isfinite(seconds) else ABSENT


def show_cost(usd: float) -> str:
    return show_usd(to_nano_usd(Decimal(repr(usd)))) if math.isfinite(usd) else ABSENT


def _story_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = number(row, "pass_at_1_low"), number(row, "pass_at_1_high")
    return (
        show_interval(number(row, "pass_at_1"), low, high),
        show_percent(number(row, "majority_at_k")),
        _show_tokens(number(row, "mean_completion_tokens")),
        show_time(number(row, "wall_seconds")),
        show_cost(number(row, "cost_usd")),
    )


def _stage_cells(stage: Stage) -> tuple[str, ...]:
    pass_at_1, majority, tokens, time, cost = _story_cells(stage.row)
    card, harder = stage.scorecards.get(HELD_OUT), stage.scorecards.get(HARDER)
    return (
        pass_at_1,
        _share(card, "forgiven_pass_at_1"),
        majority,
        _share(harder, "pass_at_1"),
        tokens,
        _share(card, "well_formed_share"),
        _share(card, "language_consistency"),
        time,
        cost,
    )


def _solved_chart(stages: Sequence[Stage]) -> Markup:
    bars = []
    for stage in stages:
        value, low, high = (stage.number(key) for key in ("pass_at_1", "pass_at_1_low", "pass_at_1_high"))
        interval = (low, high) if math.isfinite(low) and math.isfinite(high) else None
        bars.append(Bar(label=stage.title, values=(value,), shown=show_percent(value), interval=interval))
    title = "Held-out problems solved"
    return bar_chart(BarChart(name="stages-solved", title=title, parts=(title,), bars=tuple(bars), full=1.0))


def _length_chart(stages: Sequence[Stage]) -> Markup:
    tokens = [(stage.title, stage.number("mean_completion_tokens")) for stage in stages]
    bars = tuple(
        Bar(label=label, values=(value if math.isfinite(value) else 0.0,), shown=_show_tokens(value))
        for label, value in tokens
    )
    title = "Tokens a response"
    return bar_chart(BarChart(name="stages-length", title=title, parts=(title,), bars=bars))


def _share(card: Scorecard | None, metric: str) -> str:
    return show_percent(getattr(card, metric).value) if card else ABSENT


def _show_tokens(tokens: float) -> str:
    return f"{tokens:.1f}" if math.isfinite(tokens) else ABSENT


def _sum(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) if finite else math.nan


def _comparison(distilled: Stage, control: Stage) -> str:
    seconds = [_learning_seconds(stage) for stage in (distilled, control)]
    scores = [show_percent(stage.number("pass_at_1")) for stage in (distilled, control)]
    said = (
        f"Distilled from the large model's checked answers, the student solves {scores[0]}; "
        f"by reinforcement alone it solves {scores[1]}. "
    )
    if not all(map(math.isfinite, seconds)) or min(seconds) <= 0:
        return said + "How much device time each was given is not known."
    times = [show_seconds(value) for value in seconds]
    if max(seconds) / min(seconds) - 1 < EQUAL_WITHIN:
        return said + (
            f"Both were given the same device time: {times[0]} and {times[1]}, sampling from the teacher "
            "included and examinations left out."
        )
    return said + (
        f"The comparison is not at equal device time: distillation took {times[0]}, reinforcement {times[1]}."
    )


def _learning_seconds(stage: Stage) -> float:
    """Device time without examinations, which are alike for all; with them where it is not known apart."""
    return stage.learning_seconds if math.isfinite(stage.learning_seconds) else stage.number("device_seconds")


def _student_table(students: Sequence[Stage]) -> Table:
    ways = {
        "student_base": "pre-trained only",
        "distill": "distilled from the large model",
        "control": "reinforcement alone",
    }
    labels = ("pass@1 (95 %)", "harder problems", "tokens", "device-seconds", "cost")
    rows = []
    for stage in students:
        pass_at_1, _, tokens, _, cost = _story_cells(stage.row)
        seconds = _learning_seconds(stage)
        harder = stage.scorecards.get(HARDER)
        shown = f"{seconds:,.{1 if seconds >= 10 else 2}f}" if math.isfinite(seconds) else ABSENT
        rows.append((ways[stage.name], pass_at_1, _share(harder, "pass_at_1"), tokens, shown, cost))
    columns = (Column(label="the student"), *(Column(label=label, number=True) for label in labels))
    return Table(columns=columns, rows=tuple(rows))


def _facts(story: Story) -> list[tuple[str, str]]:
    run = story.runs[0] if story.runs else None
    host = run.manifest.host if run else None
    launch = {key: str(story.launch.get(key, "")) for key in ("recipe", "digest", "seed")}
    versions = sorted({run.manifest.code_version for run in story.runs})
    devices = sorted({attempt.device for run in story.runs for attempt in run.attempts})
    seeds = sorted({str(run.manifest.seed) for run in story.runs})
    return [
        ("Recipe", launch["recipe"]),
        ("Recipe digest", launch["digest"] or (run.manifest.recipe_digest if run else "")),
        ("Seed", launch["seed"] or ", ".join(seeds)),
        ("Device", ", ".join(devices)),
        ("Machine", f"{host.processor}, {host.num_cpus} CPUs, {host.system}" if host else ""),
        ("Code", ", ".join(versions)),
        ("Python", host.python if host else ""),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in host.packages) if host else ""),
        ("Begun", f"{run.manifest.created_at:%Y-%m-%d %H:%M} UTC" if run else ""),
    ]


def _lineage(runs: Sequence[Run]) -> Table:
    rows = []
    for run in runs:
        parents = [f"{parent.role}: {parent.name} ({parent.digest[:19]})" for parent in run.manifest.parents]
        status = f"{run.status}: {run.reason}" if run.reason else str(run.status)
        rows.append(
            (stage_title(run.manifest.stage), run.manifest.id, status, "; ".join(parents) or "nothing")
        )
    labels = ("stage", "run", "status", "made from")
    return Table(title="Lineage", columns=tuple(Column(label=label) for label in labels), rows=tuple(rows))
