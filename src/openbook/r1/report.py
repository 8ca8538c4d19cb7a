"""One page that tells a story run: what happened, how it was made, how good it is, what it cost."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from openbook.ledger.prices import PricePlan
from openbook.pages.page import Page, fill, render_page
from openbook.pages.tables import text_table
from openbook.r1.report_bill import Bill, bill_section, price_story
from openbook.r1.report_curves import other_curves_section, router_section, zero_section
from openbook.r1.report_samples import samples_section
from openbook.r1.report_story import Stage, Story, read_story
from openbook.r1.report_tables import (
    distill_section,
    made_section,
    show_interval,
    show_percent,
    stages_section,
    story_rows,
)
from openbook.r1.settled import settlement_section
from openbook.units import show_seconds, show_usd

REPORT_FILE = "report.html"

_OPENING = """<p class="lead">{{ sentence }}</p>
<div class="figures">{% for label, value, detail in figures %}
<div>
<div class="label">{{ label }}</div><div class="value">{{ value }}</div><div class="note">{{ detail }}</div>
</div>
{% endfor %}</div>"""


def write_report(
    story_folder: Path, destination: Path | None = None, *, prices: PricePlan | None = None
) -> Path:
    """Write the report of a story as one self-contained HTML file and return its path.

    It goes to `destination`, by default `report.html` in the story's folder; the bill is by `prices`, by
    default the plan that comes with the package. Parts that are missing are said to be. Raises UserError
    when the folder holds nothing of a story.
    """
    story = read_story(story_folder)
    bill = price_story(story, prices or PricePlan.default())
    page = Page(
        title=f"The story of {story.name}",
        kicker="Openbook report",
        opening=_opening(story, bill),
        sections=(
            zero_section(story),
            stages_section(story),
            samples_section(story),
            distill_section(story),
            router_section(story),
            other_curves_section(story),
            bill_section(bill),
            settlement_section(story_folder, prices or PricePlan.default()),
            made_section(story),
        ),
        footer="Made by openbook from the files of this run alone. The page loads nothing from anywhere.",
    )
    path = destination or story_folder / REPORT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(render_page(page), encoding="utf-8")
    os.replace(unfinished, path)
    return path


def story_table(stages: Sequence[Mapping[str, Any]]) -> str:
    """The rows of story.json as plain text for a terminal; no rows, no table but a sentence."""
    return text_table(story_rows(stages)) if stages else "No stage is finished yet."


def what_happened(story: Story, bill: Bill) -> str:
    """The story in three sentences."""
    line = story.main_line
    spent = show_usd(bill.statement.total_nano_usd)
    cost = f"Everything took {_device_time(bill)} of device time and cost {spent}."
    if len(line) < 2:
        return "Fewer than two stages have been examined, so there is no before and after yet. " + cost
    zero = next((stage for stage in line if stage.name == "zero"), None)
    told = []
    if zero is not None and zero is not line[0]:
        told.append(f"By reinforcement alone, {_went(line[0], zero)}.")
        if line[-1] is not zero:
            told.append(f"The whole pipeline ended at {_reached(line[-1])}.")
    else:
        told.append(f"In the whole pipeline, {_went(line[0], line[-1])}.")
    return " ".join([*told, cost])


def _went(before: Stage, after: Stage) -> str:
    chance = "" if _apart(before, after) else ", a difference that may be chance"
    return f"the model went from solving {_reached(before, 'held-out problems')} to {_reached(after)}{chance}"


def _reached(stage: Stage, of: str = "") -> str:
    """`12.9% of held-out problems in 21 tokens each`, as far as it is known."""
    tokens = stage.number("mean_completion_tokens")
    share = show_percent(stage.number("pass_at_1")) + (f" of {of}" if of else "")
    return share + (f" in {tokens:.0f} tokens each" if math.isfinite(tokens) else "")


def _apart(before: Stage, after: Stage) -> bool:
    """Whether the two intervals of pass@1 do not overlap; unknown ones count as overlapping."""
    (low, high), (other_low, other_high) = (
        (stage.number("pass_at_1_low"), stage.number("pass_at_1_high")) for stage in (before, after)
    )
    return high < other_low or other_high < low


def _opening(story: Story, bill: Bill) -> Markup:
    line = story.main_line
    cost = (
        show_usd(bill.statement.total_nano_usd),
        f"{_device_time(bill)} of device time, failures included",
    )
    figures = [("Cost", *cost)]
    if len(line) >= 2:
        ends = [("Before", line[0]), ("After", line[-1])]
        figures = [
            (label, show_percent(stage.number("pass_at_1")), _detail(stage)) for label, stage in ends
        ] + figures
    return fill(_OPENING, sentence=what_happened(story, bill), figures=figures)


def _detail(stage: Stage) -> str:
    low, high = stage.number("pass_at_1_low"), stage.number("pass_at_1_high")
    shown = show_interval(stage.number("pass_at_1"), low, high)
    interval = shown.partition("(")[2].rstrip(")")
    return f"of held-out problems solved after {stage.title}" + (
        f"; 95 % interval {interval}" if interval else ""
    )


def _device_time(bill: Bill) -> str:
    return show_seconds(float(sum(row.device_seconds for row in bill.statement.rows)))
