"""One CUDA device in bf16: the same code learns and samples there. Skipped where there is no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.gpu
@pytest.mark.timeout(600)
def test_the_tiny_story_is_told_on_a_gpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "openbook", "run", "tiny", "--out", str(tmp_path / "story")]
    subprocess.run([*command, "--set", "machine.device=cuda"], check=True, timeout=600)
    rows = json.loads((tmp_path / "story" / "story.json").read_text())
    assert {row["stage"] for row in rows} >= {"pretrain", "zero", "all_scenarios", "distill"}
