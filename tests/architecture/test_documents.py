"""What the repository says about itself is true: commands in the pages, recipes, generated pages, paths."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from openbook.cli.app import app
from openbook.cli.shelf import all_recipes
from openbook.config import load_recipe
from openbook.r1.schemas import SCHEMAS

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "docs" / "reference"
PAGES = [path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if path.parent != GENERATED]
CODE_BLOCK = re.compile(r"^```(?:sh|bash|console|text)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"[A-Z.\[\]|]+")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:" + "|".join(("work", "root", "home", "Users")) + r")/\w")


def commands_in(text: str, program: str) -> Iterator[str]:
    """The lines of a page's code blocks that call `program`, without prompt, comment and redirection."""
    for block in CODE_BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.split(r"\s+#|\s+[|>&]|\s{3,}", line.strip().removeprefix("$ "))[0]
            if line.split(" ")[0] == program:
                yield line


def fault_of(line: str) -> str:
    """Why a call of openbook cannot be: an unknown command or option; empty when it can."""
    command: Any = get_command(app)
    words = shlex.split(line)[1:]
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        word = words.pop(0)
        if PLACEHOLDER.fullmatch(word):
            return ""
        if word not in command.commands:
            return f"there is no command {word!r}"
        command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    return f"unknown options {unknown}" if unknown else ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_page_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    faults = {line: fault for line in commands_in(text, "openbook") if (fault := fault_of(line))}
    assert not faults
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {word for line in commands_in(text, "make") for word in line.split()[1:2]}
    assert asked <= targets


def test_a_command_that_does_not_exist_would_be_found() -> None:
    page = (
        "```sh\n$ openbook run nano --set a.b=1   # the whole story\nopenbook rnu\nopenbook bill --al\n```\n"
    )
    assert [fault_of(line) for line in commands_in(page, "openbook")] == [
        "",
        "there is no command 'rnu'",
        "unknown options ['--al']",
    ]


@pytest.mark.parametrize("name", all_recipes())
def test_every_recipe_loads_against_the_class_of_its_verb(name: str) -> None:
    path = all_recipes()[name]
    recipe = load_recipe(path, SCHEMAS)
    assert recipe.verb == name.partition("/")[0], "a recipe lies in the folder of its verb"
    assert path.read_text(encoding="utf-8").lstrip().startswith(("#", "verb")), "the verb comes first"


def files_in_tree(text: str) -> set[str]:
    """The paths below src/openbook that the README names in its tree; two blanks are one folder."""
    tree = text.split("```text\nsrc/openbook/\n")[1].split("```")[0]
    found, folders = set(), list[str]()
    for line in filter(str.strip, tree.splitlines()):
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2 - 1
        folders = folders[:depth]
        if name.endswith("/"):
            folders.append(name)
        else:
            found.add("".join([*folders, name]))
    return found


def test_the_tree_in_the_readme_names_every_file() -> None:
    package = ROOT / "src" / "openbook"
    there = {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "__init__.py"
    }
    assert files_in_tree((ROOT / "README.md").read_text(encoding="utf-8")) == there


def test_the_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_file_names_a_path_of_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    named = {}
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if not path.is_file() or path.suffix in (".png", ".safetensors", ".sqlite"):
            continue
        found = MACHINE_PATH.findall(path.read_text(encoding="utf-8", errors="replace"))
        if found:
            named[name] = found
    assert not named
