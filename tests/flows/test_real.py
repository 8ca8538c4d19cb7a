"""A model that somebody else has trained, taught by reward and in R1's stages: the whole of it, tiny."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbook.runs.run import Run
from openbook.tokens.chat import ChatTemplate
from openbook.tokens.renderer import PromptConfig, Renderer

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
FAMILY = """
[{name}]
kind = "mixed"
[{name}.members.one]
kind = "chain"
min_operations = 1
max_operations = 1
modulus = 2
[{name}.members.two]
kind = "chain"
min_operations = 2
max_operations = 2
modulus = 2
"""
RECIPE = """verb = "run"
kind = "real"
base = "{base}"

[machine]
device = "cpu"
num_threads = 1
weights = "bf16"
exact = false
{families}
[exam.others.untrained]
kind = "chain"
min_operations = 3
max_operations = 3
modulus = 2

[exam.sampling]
num_problems = 6
num_samples = 2
max_tokens = 12

[zero]
num_steps = 2
num_problems = 2
num_generations = 4
max_tokens = 12
beta = 0.0
precision = "bf16"
save_every = 1
rewards = {{ format = 0.0 }}
optim = {{ matrix_optimizer = "adamw" }}

[cold_start.sampling]
num_problems = 24
num_generations = 8
max_tokens = 12

[cold_start.train]
num_steps = 2
examples_per_step = 4
save_every = 2

[r1_prompt]
reading = "tags"
system = "Use tags."

[reasoning_rl]
num_steps = 2
num_problems = 2
num_generations = 4
max_tokens = 16
save_every = 2
"""


@pytest.fixture
def foreign(tale: Any, tmp_path: Path) -> Path:
    """The checkpoint of a stage with a chat template of its own beside it, and nothing of ours about it."""
    folder = tmp_path / "foreign"
    shutil.copytree(tale.place("cold_start") / "checkpoint", folder)
    ChatTemplate(TEMPLATE, special_tokens={}, where="test").save(folder)
    return folder


def test_a_foreign_model_goes_through_every_stage_in_its_own_template(
    inside: Callable[..., Any], foreign: Path, tmp_path: Path
) -> None:
    recipe, out = tmp_path / "real.toml", tmp_path / "out"
    families = FAMILY.format(name="family") + FAMILY.format(name="exam.family")
    recipe.write_text(RECIPE.format(base=foreign, families=families))
    told = inside("run", recipe, "--out", out)
    assert told.code == 0, told.err
    rows = json.loads((out / "story.json").read_text())
    assert [row["stage"] for row in rows] == ["adopt", "zero", "cold_start", "reasoning_rl"]
    assert all(set(row["suites"]) == {"held_out", "one", "two", "untrained"} for row in rows)
    assert (out / "report.html").stat().st_size > 10_000
    asked = PromptConfig(reading="last_number")
    for number, row in enumerate(rows, start=1):
        folder = out / f"{number:02d}-{row['stage']}" / "checkpoint"
        renderer = Renderer.of_folder(folder, asked)
        text = renderer.tokenizer.decode(renderer.prompt_ids("a 1. a?"))
        assert text == "user: a 1. a?\nassistant:", "the template stays with each checkpoint"
    traces = (out / "03-cold_start" / "traces.jsonl").read_text().splitlines()
    replies = [json.loads(line)["response"] for line in traces]
    assert replies and all(one.startswith("<think>") and one.endswith("</answer>") for one in replies), (
        "what zero wrote without tags is taught in tags"
    )
    parents = {one.role: one.name for one in Run.open(out / "03-cold_start").manifest.parents}
    assert parents == {"base": "adopt", "teacher": "zero"}
    again = inside("run", recipe, "--out", out)
    assert again.code == 0 and json.loads((out / "story.json").read_text()) == rows, "nothing is left to do"


def test_a_base_that_is_not_there_is_refused_in_one_line(inside: Callable[..., Any], tmp_path: Path) -> None:
    recipe = tmp_path / "real.toml"
    families = FAMILY.format(name="family") + FAMILY.format(name="exam.family")
    recipe.write_text(RECIPE.format(base=tmp_path / "gone", families=families))
    told = inside("run", recipe, "--out", tmp_path / "out")
    assert told.code != 0 and "gone" in told.last_line and "Traceback" not in told.err
    assert not (tmp_path / "out").exists(), "nothing was begun, so the mended recipe may go there"
