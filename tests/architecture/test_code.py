"""The shape of the code: layers, cycles, sizes, empty packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "openbook").rglob("*.py"))
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_every_import_contract_holds() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "scripts" / "generate"], ids=lambda path: path.stem)
def test_files_and_functions_stay_small(path: Path) -> None:
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= MOST_LINES_OF_A_FILE
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in functions(path)
        if node.end_lineno is not None and node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION
    }
    assert not long, f"{path}: longer than {MOST_LINES_OF_A_FUNCTION} lines: {long}"


def test_a_package_is_one_docstring() -> None:
    packages = [path for path in SOURCES if path.name == "__init__.py"]
    assert len(packages) > 10
    for path in packages:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1 and isinstance(body[0], ast.Expr), f"{path} holds more than a docstring"
        assert isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str)


def test_no_folder_is_a_drawer_for_unlike_things() -> None:
    drawers = {"utils", "common", "helpers", "misc"}
    assert not [path for path in SOURCES if drawers & {path.stem, *path.relative_to(ROOT).parts}]


def test_the_code_is_ascii() -> None:
    assert not [path for path in SOURCES if not path.read_text(encoding="utf-8").isascii()]


def test_the_torch_free_half_runs_without_torch() -> None:
    probe = (
        "import sys; sys.modules['torch'] = None\n"
        "import openbook.config, openbook.units, openbook.runs.store, openbook.ledger.booking\n"
        "import openbook.ledger.statement, openbook.tokens.template, openbook.tokens.tokenizer\n"
        "import openbook.tasks.registry, openbook.model.cost, openbook.model.public, openbook.engine.types\n"
        "import openbook.cli.app, openbook.pages.page, openbook.quant.formats\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
