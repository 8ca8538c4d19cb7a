"""The budget of the control: what distillation took."""

from __future__ import annotations

from pathlib import Path

import pytest

from openbook.errors import UserError
from openbook.r1.control import compute_of
from openbook.r1.frame import COMPUTE_FILE


def test_the_budget_is_read_from_the_stage_that_distilled(tmp_path: Path) -> None:
    (tmp_path / COMPUTE_FILE).write_text('{"device_microseconds": 1234}')
    assert compute_of(tmp_path) == 1234


def test_without_distillation_there_is_no_budget(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the distill stage before its control"):
        compute_of(tmp_path)
