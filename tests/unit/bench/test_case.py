"""A case: who is missing, who is best, what is left out, and that nothing is held afterwards."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from openbook.bench import case as case_module
from openbook.bench.case import Case, Contest, Peer, Setting, choose_cases, run_case, run_cases
from openbook.bench.contest import Line, Runner, Timing
from openbook.bench.measurement import Unit
from openbook.errors import UserError
from openbook.runs.machine import LoadNote, Moment

DECODE = Line(
    suffix="",
    unit=Unit.MILLISECONDS_PER_TOKEN,
    read=lambda timing: timing.decode_milliseconds,
    limit=1.0,
    notes=("how it is limited",),
)
WHOLE = Line(suffix="-whole", unit=Unit.TOKENS_PER_SECOND, read=lambda timing: timing.whole_rate)


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = Moment(wall_seconds=0.0, own_seconds=0.0, busy_seconds=None, load=0.0)
    monkeypatch.setattr(case_module, "now", lambda: moment)


@pytest.fixture
def setting() -> Setting:
    return Setting(repeats=3, find_smollm2=Path, nano_recipe=Path(), cache_folder=Path())


def takes(milliseconds: float) -> Runner:
    """A contestant that takes so long for each of ten tokens, the first included."""
    return lambda number: Timing(
        num_prompt_tokens=5,
        num_new_tokens=10,
        num_first_tokens=1,
        first_seconds=milliseconds / 1e3,
        seconds=10 * milliseconds / 1e3,
    )


def peer(name: str, milliseconds: float, *, modules: tuple[str, ...] = ()) -> Peer:
    return Peer(name=name, modules=modules, open=lambda stack: takes(milliseconds))


def case(*peers: Peer, name: str = "decode", best_peer_only: bool = False) -> Case:
    contest = Contest(ours=takes(2.0), peers=peers, lines=(DECODE, WHOLE), best_peer_only=best_peer_only)
    return Case(name=name, about="ten tokens", num_threads=1, prepare=lambda *_: contest)


def test_every_line_is_measured_against_every_peer(setting: Setting) -> None:
    found = run_case(case(peer("slow", 8.0), peer("fast", 1.0)), setting, lambda _: None)
    assert [(one.name, one.peer_name) for one in found] == [
        ("decode", "slow"),
        ("decode", "fast"),
        ("decode-whole", "slow"),
        ("decode-whole", "fast"),
    ]
    assert [one.ratio for one in found] == pytest.approx([4.0, 0.5, 4.0, 0.5])
    assert found[0].fraction_of_limit == pytest.approx(0.5)
    assert found[0].notes == ("how it is limited",)


def test_a_peer_that_is_not_installed_is_named_and_not_guessed(setting: Setting) -> None:
    told: list[str] = []
    gone = peer("llama.cpp", 1.0, modules=("json", "no_such_module"))
    found = run_case(case(peer("here", 4.0), gone), setting, told.append)
    missing = [one for one in found if one.peer_name == "llama.cpp"]
    assert [(one.peer, one.ratio) for one in missing] == [(None, None)] * 2
    assert all(one.ours == pytest.approx(2.0) for one in missing[:1])
    reason = "llama.cpp is missing: no no_such_module; pip install 'openbook[bench]'"
    assert all(reason in one.notes for one in missing)
    assert f"decode: {reason}" in told
    assert not any(reason in one.notes for one in found if one.peer_name == "here")


def test_a_peer_that_cannot_run_here_is_named_with_the_reason(setting: Setting) -> None:
    def refuse(stack: ExitStack) -> Runner:
        raise UserError("it dies of signal 11")

    broken = Peer(name="llama.cpp", modules=(), open=refuse)
    found = run_case(case(broken), setting, lambda _: None)
    assert found[0].peer is None
    assert "llama.cpp is missing: it dies of signal 11" in found[0].notes


def test_of_several_ways_of_a_peer_the_best_counts(setting: Setting) -> None:
    gone = peer("q0", 0.1, modules=("no_such_module",))
    ways = (gone, peer("q8", 8.0), peer("bf16", 4.0), peer("q4", 6.0))
    found = run_case(case(*ways, best_peer_only=True), setting, lambda _: None)
    assert [(one.name, one.peer_name) for one in found] == [("decode", "bf16"), ("decode-whole", "bf16")]
    none_here = run_case(case(gone, best_peer_only=True), setting, lambda _: None)
    assert [(one.peer_name, one.peer) for one in none_here] == [("q0", None)] * 2


def test_a_disturbed_measurement_says_so(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    crowded = LoadNote(num_threads=1, load_before=4.0, load_after=4.0, others=None)
    monkeypatch.setattr(LoadNote, "between", lambda *_, **__: crowded)
    told: list[str] = []
    found = run_case(case(peer("slow", 8.0)), setting, told.append)
    assert found[0].notes == ("how it is limited", str(crowded))
    assert told[-1] == "decode: disturbed: 1 thread, load 4.0 before and 4.0 after"


def test_progress_names_the_round_and_every_contestant(setting: Setting) -> None:
    told: list[str] = []
    run_case(case(peer("slow", 8.0)), setting, told.append)
    assert told[0] == "decode: ten tokens"
    assert told[1] == "decode: 1 of 3: openbook 2.00, slow 8.00 ms/token"
    assert told[3].startswith("decode: 3 of 3: ")


def test_a_case_that_cannot_run_is_left_out_and_the_others_go_on(setting: Setting) -> None:
    def refuse(*_: object) -> Contest:
        raise UserError("no weights", "install them")

    broken = Case(name="broken", about="", num_threads=1, prepare=refuse)
    found, failed = run_cases([broken, case(peer("slow", 8.0))], setting, lambda _: None)
    assert [one.name for one in found] == ["decode", "decode-whole"]
    assert failed == {"broken": "no weights; install them"}


def test_what_a_case_and_its_peers_hold_is_given_back(setting: Setting) -> None:
    closed: list[str] = []
    threads: list[int] = []

    def prepare(setting: Setting, num_threads: int, stack: ExitStack) -> Contest:
        threads.extend((num_threads, torch.get_num_threads()))
        stack.callback(closed.append, "ours")

        def open_peer(stack: ExitStack) -> Runner:
            stack.callback(closed.append, "peer")
            return takes(1.0)

        only = Peer(name="peer", modules=(), open=open_peer)
        return Contest(ours=takes(1.0), peers=(only,), lines=(DECODE,))

    before = torch.get_num_threads()
    run_case(Case(name="one", about="", num_threads=3, prepare=prepare), setting, lambda _: None)
    assert closed == ["peer", "ours"]
    assert threads == [3, 3] and torch.get_num_threads() == before


def test_cases_are_chosen_by_name_or_by_how_their_names_begin() -> None:
    cases = tuple(case(name=name) for name in ("decode-bf16", "decode-int8", "prefill", "prefix"))

    def chosen(*names: str) -> list[str]:
        return [one.name for one in choose_cases(cases, list(names))]

    assert chosen() == ["decode-bf16", "decode-int8", "prefill", "prefix"]
    assert chosen("decode") == ["decode-bf16", "decode-int8"]
    assert chosen("prefix", "decode-int8") == ["decode-int8", "prefix"]
    with pytest.raises(UserError, match="did you mean 'prefill'"):
        chosen("prefil")
