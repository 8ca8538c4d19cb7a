"""TrainState: everything a stage needs to go on as if it had never stopped.

A saved state is a folder `step-000123` of plain safetensors and one JSON file. It is written
beside its final place and renamed, so a state that can be seen is complete; the newest wins.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openbook.errors import UserError
from openbook.train.optim import Optimizers


@dataclass(kw_only=True, slots=True)
class TrainState:
    """A model being trained. `step` counts finished steps; `position` is where its data stands.

    `companions` are further modules that belong to the state, such as the reference policy of RL. `notes` are
    JSON values that whoever takes the steps keeps from one to the next. Of the model and its companions
    parameters that are frozen are not saved: they are as they were made.
    """

    model: nn.Module
    optimizers: Optimizers
    step: int = 0
    position: int = 0
    companions: Mapping[str, nn.Module] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> Path:
        """Write the state below `folder`, replacing older ones; one of this very step stays as it is."""
        final = folder / f"step-{self.step:06d}"
        if final.is_dir():
            return final
        draft = folder / f".draft-{self.step:06d}"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir(parents=True)
            for name, tensors in self._parts().items():
                save_file(
                    {key: value.contiguous() for key, value in tensors.items()}, draft / f"{name}.safetensors"
                )
            numbers = {"step": self.step, "position": self.position, "notes": self.notes}
            (draft / "numbers.json").write_text(json.dumps(numbers), encoding="utf-8")
            _sync(draft)
            draft.rename(final)
        except (OSError, SafetensorError) as error:  # safetensors has its own error for a full disk
            shutil.rmtree(draft, ignore_errors=True)
            raise UserError(
                f"cannot save the training state in {folder}: {error}",
                "free some space and resume: the last saved state is untouched",
            ) from error
        for older in _saved(folder):
            if older != final:
                shutil.rmtree(older, ignore_errors=True)
        return final

    def load(self, folder: Path) -> bool:
        """Take over the newest state below `folder`; False when there is none. UserError if it is damaged."""
        saved = _saved(folder)
        if not saved:
            return False
        newest = saved[-1]
        try:
            tensors = {name: load_file(newest / f"{name}.safetensors") for name in self._parts()}
            numbers = json.loads((newest / "numbers.json").read_text(encoding="utf-8"))
            step, position, notes = (
                int(numbers["step"]),
                int(numbers["position"]),
                dict(numbers.get("notes", {})),
            )
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{newest} is damaged: {error}", "delete it and run the stage again") from error
        _load(self.model, tensors.pop("model"))
        self.optimizers.load_state_tensors(tensors.pop("optimizers"))
        for name, module in self.companions.items():
            _load(module, tensors.pop(name))
        self.step, self.position, self.notes = step, position, notes
        return True

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        parts: dict[str, dict[str, Tensor]] = {
            "model": _changing(self.model),
            "optimizers": self.optimizers.state_tensors(),
        }
        parts.update({name: _changing(module) for name, module in self.companions.items()})
        return parts


def _changing(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module without its frozen parameters."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def _load(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `_changing` gave; RuntimeError if it is not of a module like this."""
    frozen = module.state_dict().keys() - _changing(module).keys()
    module.load_state_dict({**tensors, **{name: module.state_dict()[name] for name in frozen}})


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def _sync(folder: Path) -> None:
    """Make the files durable before the rename makes them visible."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
