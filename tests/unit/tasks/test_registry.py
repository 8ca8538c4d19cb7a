from __future__ import annotations

import subprocess
import sys

import pytest

from openbook.config import config, dump, parse
from openbook.errors import UserError
from openbook.tasks.chain import ChainConfig
from openbook.tasks.code import CodeConfig
from openbook.tasks.countdown import CountdownConfig
from openbook.tasks.courtesy import CourtesyConfig
from openbook.tasks.gym import GymConfig
from openbook.tasks.registry import OWN_FAMILIES, FamilyConfig, family_names, make_family


@config
class Recipe:
    task: FamilyConfig


CONFIGS: list[FamilyConfig] = [
    ChainConfig(max_operations=8),
    CountdownConfig(),
    CourtesyConfig(),
    CodeConfig(min_level=2),
    GymConfig(name="gcd", options={"max_value": 50}),
]


def test_each_config_makes_the_family_of_its_kind() -> None:
    families = [make_family(task) for task in CONFIGS]
    assert [family.name for family in families] == ["chain", "countdown", "courtesy", "code", "gym/gcd"]


@pytest.mark.parametrize("task", CONFIGS, ids=lambda task: task.kind)
def test_a_recipe_tells_the_configs_apart_by_kind(task: FamilyConfig) -> None:
    assert parse(Recipe, dump(Recipe(task=task))).task == task


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"task\.kind.*did you mean 'chain'"):
        parse(Recipe, {"task": {"kind": "chains"}})


def test_family_names_list_our_own_first_and_then_the_library() -> None:
    names = family_names()
    assert tuple(names[:4]) == OWN_FAMILIES
    assert all(name.startswith("gym/") for name in names[4:]) and len(names) > 100


def test_the_tasks_need_neither_torch_nor_the_library_to_be_imported() -> None:
    code = (
        "import sys, openbook.tasks.registry, openbook.tasks.rewards;"
        "assert not {'torch', 'reasoning_gym', 'numpy', 'sympy', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
