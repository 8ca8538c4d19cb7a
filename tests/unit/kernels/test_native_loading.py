"""Native kernels that cannot be had are missed with a reason, and never stand in anyone's way."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from openbook.engine.choose import choose
from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.types import SamplingParams
from openbook.errors import UserError
from openbook.kernels import operations as ops
from openbook.kernels.native import Missing, Native, cache_folder, load_native
from openbook.model.transformer import Transformer

CPU = torch.device("cpu")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache folder, and nothing remembered from earlier loads or for later ones."""
    monkeypatch.setenv("OPENBOOK_CACHE", str(tmp_path))
    load_native.cache_clear()
    yield tmp_path
    load_native.cache_clear()


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_compiler_that_is_not_there_is_named(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(fresh / "nowhere" / "c++"))
    found = load_native()
    assert isinstance(found, Missing)
    assert "nowhere/c++" in found.reason and "\n" not in found.reason


def test_a_compiler_that_cannot_be_read_is_told(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++ 'and no end")
    assert load_native() == Missing(reason="CXX cannot be read: No closing quotation")


def test_without_any_compiler_the_reason_says_what_to_install(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert load_native() == Missing(reason="no C++ compiler was found; install g++ or name one in CXX")


def test_the_first_error_of_a_compiler_is_told_in_one_line(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = script(
        fresh / "compiler",
        'if [ "$1" = --version ]; then echo 1; exit 0; fi\n'
        "printf 'In file included from program.cpp:5:\\n\\377\\n' >&2\n"
        "echo \"vec.h:12:3: error: 'v16f' does not name a type\" >&2\n"
        "echo 'vec.h:13:3: error: another one' >&2\n"
        "exit 1",
    )
    monkeypatch.setenv("CXX", str(compiler))
    found = load_native()
    assert isinstance(found, Missing)
    assert found.reason.endswith(
        "could not compile the kernels: vec.h:12:3: error: 'v16f' does not name a type"
    )
    assert [path.name for path in fresh.iterdir()] == ["compiler"], "no half-made file stays behind"


def test_a_compiler_that_fails_without_a_word_is_missed_as_well(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(script(fresh / "compiler", "exit 3")))
    found = load_native()
    assert isinstance(found, Missing) and "no message" in found.reason


def test_a_compiled_file_that_cannot_be_loaded_is_missed(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'if [ "$1" = --version ]; then echo 1; exit 0; fi\nfor last; do :; done\necho no library > "$last"'
    monkeypatch.setenv("CXX", str(script(fresh / "compiler", text)))
    found = load_native()
    assert isinstance(found, Missing) and "could not be built" in found.reason and "\n" not in found.reason


def test_a_cache_folder_that_cannot_be_made_is_missed(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh / "file").write_text("")
    monkeypatch.setenv("OPENBOOK_CACHE", str(fresh / "file" / "below"))
    compiler = script(fresh / "compiler", "echo 1")
    monkeypatch.setenv("CXX", str(compiler))
    found = load_native()
    assert isinstance(found, Missing) and "could not be built" in found.reason


def test_what_is_asked_for_decides_who_computes_where_there_is_no_compiler(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, make_tiny: Callable[..., Transformer]
) -> None:
    monkeypatch.setenv("CXX", str(fresh / "nowhere"))
    assert choose(CPU, "auto").decode == choose(CPU, "torch").decode == "torch"
    assert "nowhere" in choose(CPU, "auto").reason and choose(CPU, "torch").reason == "asked for"
    with pytest.raises(UserError, match=r"there are no native kernels: .*nowhere") as caught:
        choose(CPU, "native")
    assert "decode = 'torch'" in caught.value.mend
    with pytest.raises(UserError, match="there are no native kernels"):
        Engine(make_tiny(), EngineConfig(decode="native"), stop_token_ids=())
    engine = Engine(make_tiny(), EngineConfig(decode="auto", cache_bytes=1 << 20), stop_token_ids=())
    assert engine.executor.name.startswith("torch")
    done = engine.generate([[1, 2]], SamplingParams(max_tokens=3), num_generations=1, seed=0)
    assert len(done.completions[0][0].token_ids) == 3


def test_native_kernels_are_for_the_cpu() -> None:
    choice = choose(torch.device("cuda", 0), "auto")
    assert choice.decode == "torch" and "on cuda" in choice.reason
    with pytest.raises(UserError, match="there are no native kernels: the model is on cuda"):
        choose(torch.device("cuda", 0), "native")


def test_the_choice_has_a_name_that_tells_builds_apart(native: Native) -> None:
    assert choose(CPU, "native").name == choose(CPU, "auto").name == f"native {native.build}"
    assert choose(CPU, "torch").name == f"torch {torch.__version__}"
    assert native.build.startswith("kernels-") and (cache_folder() / f"{native.build}.so").exists()


def test_the_structs_of_both_sides_have_one_size(native: Native) -> None:
    assert native.library.openbook_op_bytes() == ops.OP_BYTES


def test_the_cache_folder_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENBOOK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "openbook"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "me")
    assert cache_folder() == tmp_path / "me" / ".cache" / "openbook"
    monkeypatch.setenv("OPENBOOK_CACHE", "elsewhere")
    assert cache_folder() == Path("elsewhere")


PROBE = """
import json
import openbook.kernels.native as native
found = native.load_native()
assert isinstance(found, native.Native), found
with open("/proc/self/maps") as maps:
    names = {line.split()[-1] for line in maps if "omp" in line.rpartition("/")[2]}
print(json.dumps(sorted(names)))
"""


def test_torch_and_the_kernels_share_one_openmp_runtime(native: Native) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("the system does not tell what is loaded")
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)) == 1, done.stdout


def test_the_caller_still_has_its_denormals_after_a_run(
    native: Native, run: Callable[..., None], draw: Callable[..., Tensor]
) -> None:
    def keeps_them() -> bool:
        return float(torch.tensor([2e-38]) * 0.25) > 0

    before, rows = keeps_them(), draw(4, 32)
    try:
        for flush in (False, True):
            if not torch.set_flush_denormal(flush):
                pytest.skip("the processor has no such mode")
            run([ops.Silu(rows_in=ops.Rows.of(rows), rows_out=ops.Rows.of(rows), size=16)], 4)
            assert keeps_them() is not flush
    finally:
        torch.set_flush_denormal(not before)
