"""The same problem answered by one stage after the other, thinking shown."""

from __future__ import annotations

from markupsafe import Markup

from openbook.pages.page import Section, fill, missing
from openbook.r1.report_story import Sample, Story
from openbook.tokens.template import parse

NUM_PROBLEMS = 3

_PROBLEM = """<div class="problem"><h3>{{ problem }}</h3><p class="note">The answer is {{ answer }}.</p></div>
<div class="samples" tabindex="0">{{ cards }}</div>"""
_CARD = """<article class="sample {{ 'good' if correct else 'bad' }}">
<span class="verdict">{{ verdict }}</span><span class="stage">{{ stage }}</span>
{% if parsed.answer %}
<pre class="thinking">{{ parsed.thinking or "(no thinking)" }}</pre>
<p>Answer: <strong>{{ parsed.answer }}</strong></p>
{% else %}
<pre>{{ text.strip() or "(nothing)" }}</pre>
{% endif %}
{% if not parsed.well_formed %}<p class="note">Not in the format: {{ parsed.reason }}.</p>{% endif %}
</article>"""


def samples_section(story: Story) -> Section:
    """A few held-out problems, with the first completion of each stage that kept one."""
    problems = chosen_problems(story)
    if problems:
        intro = (
            "The first completion of every stage, for the first held-out problems that the most stages kept; "
            "none was picked by hand."
        )
        body = fill("<p>{{ intro }}</p>", intro=intro) + Markup("").join(
            _problem(story, one) for one in problems
        )
    else:
        body = missing("No stage has kept completions to show.")
    return Section(
        id="samples", short_title="Before and after", title="The same problem, before and after", body=body
    )


def chosen_problems(story: Story) -> list[str]:
    """Problems in the order in which they were kept, those of more stages first."""
    kept: dict[str, int] = {}
    for stage in story.stages:
        for problem in dict.fromkeys(sample.problem for sample in stage.samples):
            kept[problem] = kept.get(problem, 0) + 1
    return sorted(kept, key=lambda problem: -kept[problem])[:NUM_PROBLEMS]


def _problem(story: Story, problem: str) -> Markup:
    found = [
        (stage.title, sample)
        for stage in story.stages
        if (sample := next((one for one in stage.samples if one.problem == problem), None))
    ]
    cards = Markup("").join(_card(title, sample) for title, sample in found)
    return fill(_PROBLEM, problem=problem, answer=found[0][1].answer, cards=cards)


def _card(stage: str, sample: Sample) -> Markup:
    correct = sample.verdict == "correct"
    verdict = sample.verdict.replace("_", " ")
    parsed = parse(sample.text)
    return fill(_CARD, stage=stage, verdict=verdict, correct=correct, parsed=parsed, text=sample.text)
