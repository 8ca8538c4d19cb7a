from __future__ import annotations

import errno
import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import openbook.train.state
from openbook.errors import UserError
from openbook.train.config import OptimConfig
from openbook.train.optim import Optimizers
from openbook.train.state import TrainState


def make_state(seed: int = 0, *, with_companion: bool = False) -> TrainState:
    torch.manual_seed(seed)
    model = nn.Linear(6, 4)
    companions = {"reference": nn.Linear(6, 4)} if with_companion else {}
    return TrainState(model=model, optimizers=Optimizers(model, OptimConfig()), companions=companions)


def advance(state: TrainState, count: int = 1) -> None:
    for _ in range(count):
        inputs = torch.linspace(-1, 1, 6) * (state.position + 1)
        state.model(inputs).square().sum().backward()
        state.optimizers.step(1.0)
        state.step += 1
        state.position += 5


def weights(state: TrainState) -> list[float]:
    return [value for one in state.model.parameters() for value in one.detach().flatten().tolist()]


def test_a_loaded_state_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    straight = make_state()
    advance(straight, 3)
    assert straight.save(tmp_path) == tmp_path / "step-000003"
    resumed = make_state(seed=1)
    assert resumed.load(tmp_path)
    assert (resumed.step, resumed.position) == (3, 15)
    advance(straight, 3)
    advance(resumed, 3)
    assert weights(resumed) == weights(straight)
    assert (resumed.step, resumed.position) == (6, 30)


def test_notes_are_part_of_the_state_to_the_last_bit(tmp_path: Path) -> None:
    state = make_state()
    state.notes["curriculum"] = {"easy": [0.1 + 0.2, 1 / 3]}
    state.save(tmp_path)
    other = make_state(seed=1)
    other.load(tmp_path)
    assert other.notes == {"curriculum": {"easy": [0.1 + 0.2, 1 / 3]}}


def test_what_is_frozen_is_not_saved_and_stays_as_it_was_made(tmp_path: Path) -> None:
    def make(bias: float) -> TrainState:
        state = make_state(seed=2)
        state.model.get_parameter("bias").requires_grad_(False).fill_(bias)
        state.optimizers = Optimizers(state.model, OptimConfig())
        return state

    state = make(1.0)
    advance(state, 2)
    folder = state.save(tmp_path)
    assert load_file(folder / "model.safetensors").keys() == {"weight"}
    other = make(2.0)
    other.load(tmp_path)
    assert torch.equal(other.model.get_parameter("weight"), state.model.get_parameter("weight"))
    assert other.model.get_parameter("bias").tolist() == [2.0] * 4
    with pytest.raises(RuntimeError, match=r"Missing key.* \"bias\""):  # one that learns has to be there
        make_state().load(tmp_path)


def test_companions_are_part_of_the_state(tmp_path: Path) -> None:
    state = make_state(with_companion=True)
    state.save(tmp_path)
    other = make_state(seed=1, with_companion=True)
    other.load(tmp_path)
    kept, found = state.companions["reference"].state_dict(), other.companions["reference"].state_dict()
    assert all(torch.equal(value, found[name]) for name, value in kept.items())


def test_no_folder_and_an_empty_one_hold_no_state(tmp_path: Path) -> None:
    state = make_state()
    before = weights(state)
    assert not state.load(tmp_path / "nowhere")
    assert not state.load(tmp_path)
    assert (weights(state), state.step) == (before, 0)


def test_a_newer_state_replaces_the_older_one(tmp_path: Path) -> None:
    state = make_state()
    for _ in range(3):
        advance(state)
        state.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000003"]
    state.save(tmp_path)  # the same step again
    assert [path.name for path in tmp_path.iterdir()] == ["step-000003"]


def test_of_two_states_the_newest_is_taken(tmp_path: Path) -> None:
    state = make_state()
    for step in (9, 10):
        state.step = step
        state.save(tmp_path / str(step))
        (tmp_path / str(step) / f"step-{step:06d}").rename(tmp_path / f"step-{step:06d}")
    state.load(tmp_path)
    assert state.step == 10


def test_a_kill_before_the_rename_leaves_the_older_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = make_state()
    advance(state)
    state.save(tmp_path)
    kept = weights(state)
    advance(state)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            state.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".draft-000002", "step-000001"]
    resumed = make_state(seed=1)
    resumed.load(tmp_path)
    assert (resumed.step, weights(resumed)) == (1, kept)
    state.save(tmp_path)  # a draft left behind is in nobody's way
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def test_a_draft_alone_is_no_state(tmp_path: Path) -> None:
    state = make_state()
    state.save(tmp_path).rename(tmp_path / ".draft-000000")
    assert not make_state().load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizers.safetensors", "numbers.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "garbage"])
def test_a_damaged_file_is_one_clear_line_and_changes_nothing(tmp_path: Path, name: str, damage: str) -> None:
    saved = make_state()
    advance(saved)
    path = saved.save(tmp_path) / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\x00garbage")
    state = make_state(seed=1)
    before = weights(state)
    with pytest.raises(UserError, match="step-000001 is damaged"):
        state.load(tmp_path)
    assert (weights(state), state.step, state.position) == (before, 0, 0)


def test_numbers_that_are_none_are_damage_too(tmp_path: Path) -> None:
    folder = make_state().save(tmp_path)
    for numbers in ([], {"step": 1}, {"step": None, "position": 0}):
        (folder / "numbers.json").write_text(json.dumps(numbers))
        with pytest.raises(UserError, match="is damaged"):
            make_state().load(tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_clear_line_and_leaves_the_older_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    state = make_state()
    advance(state)
    state.save(tmp_path)
    kept = weights(state)
    advance(state)
    real, calls = openbook.train.state.save_file, []

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:  # the model still fits
            raise error
        real(tensors, path)

    monkeypatch.setattr(openbook.train.state, "save_file", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        state.save(tmp_path)
    assert "last saved state is untouched" in caught.value.mend
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    resumed = make_state(seed=1)
    resumed.load(tmp_path)
    assert (resumed.step, weights(resumed)) == (1, kept)


def test_a_file_that_the_system_refuses_to_let_grow_is_one_clear_line(tmp_path: Path) -> None:
    """What a full disk does to the real writer, brought about by a limit on the size of files."""
    state = make_state()
    state.save(tmp_path)
    state.step = 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match="cannot save the training state"):
            state.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000"]
