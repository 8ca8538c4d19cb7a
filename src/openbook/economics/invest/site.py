"""The page with dials, put together: a study in, what the server serves out. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openbook.economics.invest import page
from openbook.economics.invest.answer import Answer, Study, answer
from openbook.economics.invest.answer_json import answer_to_json
from openbook.economics.invest.dials import DIALS
from openbook.economics.invest.server import Site
from openbook.errors import UserError, nearest


def site_of(study: Study) -> Site:
    """The page of a movable study, and answers to the positions of its dials by the same code."""
    return Site(
        page=page.render(answer(study), dials=True),
        answer=lambda positions: reply(answer(study, _checked(positions))),
    )


def reply(answered: Answer) -> dict[str, Any]:
    """What the page's script is told: new parts by element, a line on the status, and every figure."""
    return {
        "parts": {page.element_id(name): str(body) for name, body in page.parts(answered).items()},
        "status": f"{answered.plan.num_paths:,} paths in {answered.seconds:.1f} s",
        "figures": answer_to_json(answered),
    }


def _checked(positions: Mapping[str, float]) -> Mapping[str, float]:
    known = [dial.name for dial in DIALS]
    for name in positions:
        if name not in known:
            raise UserError(f"there is no dial {name!r}", nearest(name, known))
    return positions
