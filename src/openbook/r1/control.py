"""Stage: the control of the paper's Table 6. The same student by reinforcement alone, at equal compute.

Equal means equal device-seconds: what distillation held its device for, the teacher's sampling
included and every examination left out.
"""

from __future__ import annotations

import json
from pathlib import Path

from openbook.errors import UserError
from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import ReinforceConfig
from openbook.r1.frame import COMPUTE_FILE, Frame
from openbook.r1.zero import reinforce_by_rule


def control(config: ReinforceConfig, frame: Frame, *, base: Checkpoint, distilled: Path) -> Checkpoint:
    """The student after as many device-seconds of reinforcement as the stage in `distilled` took."""
    return reinforce_by_rule(config, frame, base, budget_device_microseconds=compute_of(distilled))


def compute_of(folder: Path) -> int:
    """Device time, in microseconds, that a stage learned and sampled for."""
    path = folder / COMPUTE_FILE
    if not path.exists():
        raise UserError(f"{folder} has no {COMPUTE_FILE}", "run the distill stage before its control")
    return int(json.loads(path.read_text(encoding="utf-8"))["device_microseconds"])
