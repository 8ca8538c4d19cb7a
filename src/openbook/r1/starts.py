"""What is known of a checkpoint as the start of a stage, from the files beside it. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from openbook.economics.local.stages import StagePlan
from openbook.errors import UserError
from openbook.model.config import ModelConfig
from openbook.model.public import from_public


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where a stage starts: the stage that made the base, and how long and how good its replies are."""

    stage: str
    mean_length: float | None
    share_right: float | None


def read_model(folder: Path) -> ModelConfig | None:
    """The network of a checkpoint's folder; None where its `config.json` is missing or not ours to read."""
    path = folder / "config.json"
    try:
        return from_public(json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except (OSError, ValueError, UserError):
        return None


def read_start(folder: Path) -> Start | None:
    """What is known of a checkpoint as a start: of its maker, and of the examination in that maker's run."""
    try:
        provenance = json.loads((folder / "openbook.json").read_text(encoding="utf-8"))["provenance"]
        stage = str(provenance["stage"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        cards = json.loads((folder.parent / "scorecards.json").read_text(encoding="utf-8"))
        card = next(one for one in cards if one["suite"] == "held_out")
        length, right = (float(card[name]["value"]) for name in ("mean_completion_tokens", "pass_at_1"))
        return Start(stage=stage, mean_length=length, share_right=right)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return Start(stage=stage, mean_length=None, share_right=None)


def started(plans: tuple[StagePlan, ...], start: Start | None) -> tuple[StagePlan, ...]:
    """The plan of a single stage with where it starts; that of a story knows its own."""
    if start is None or len(plans) != 1:
        return plans
    return (replace(plans[0], base=start.stage, starts_at=start.mean_length, starts_right=start.share_right),)
