"""Telling: how a story of several stages is told: in order, each a run of its own, from where it stands.

    plot (stages, what runs each) + settings + folder -> runs, story.json, report.html

Each stage is a run in a folder of its own and is skipped when it is done.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from openbook.config import dump
from openbook.errors import UserError, nearest
from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import MachineConfig
from openbook.r1.frame import Frame, ancestor
from openbook.r1.report import REPORT_FILE, write_report
from openbook.r1.summary import write_story
from openbook.runs.journal import RunStatus
from openbook.runs.progress import Progress
from openbook.runs.run import MANIFEST_FILE, Run
from openbook.runs.stop import StopSignal


class HasMachine(Protocol):
    """What the settings of any story have."""

    @property
    def machine(self) -> MachineConfig: ...


Config = TypeVar("Config", bound=HasMachine)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of a story: what it learns from, by role, and the verb it belongs to."""

    name: str
    verb: str
    inputs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot(Generic[Config]):
    """The stages of a kind of story in order, and by name what runs each."""

    stages: tuple[Stage, ...]
    runners: Mapping[str, Callable[[Story[Config], Stage], Any]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which stages to run: all, or `only` some; without those to `skip`; doing those to `repeat` anew."""

    names: tuple[str, ...]
    """All stages there are."""
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    repeat: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.only, *self.skip, *self.repeat):
            if name not in self.names:
                raise UserError(f"there is no stage {name!r}", nearest(name, list(self.names)))

    def includes(self, name: str) -> bool:
        return name not in self.skip and (not self.only or name in self.only or name in self.repeat)


@dataclass(frozen=True, kw_only=True, slots=True)
class Story(Generic[Config]):
    """One telling of a story: its settings, its stages, its folder, who watches."""

    config: Config
    plot: Plot[Config]
    folder: Path
    seed: int
    progress: Progress
    stop: StopSignal

    def folder_of(self, name: str) -> Path:
        return self.folder / f"{self.plot.names.index(name) + 1:02d}-{name}"

    def is_done(self, name: str) -> bool:
        folder = self.folder_of(name)
        return (folder / MANIFEST_FILE).exists() and Run.open(folder).status is RunStatus.DONE

    def checkpoint(self, name: str) -> Checkpoint:
        """What an earlier stage made. Raises UserError when it has not."""
        folder = self.folder_of(name) / "checkpoint"
        if not folder.is_dir():
            raise UserError(
                f"stage {name!r} has made no checkpoint in {self.folder}", f"run it: --only {name}"
            )
        return Checkpoint.open(folder)

    def frame(self, stage: Stage, settings: object) -> Frame:
        """The frame of a stage, with its ancestors by role."""
        made = {role: self.checkpoint(name) for role, name in stage.inputs.items()}
        return Frame(
            folder=self.folder_of(stage.name),
            verb=stage.verb,
            stage=stage.name,
            seed=self.seed,
            recipe={"settings": dump(settings), "seed": self.seed},
            parents=[ancestor(role, checkpoint) for role, checkpoint in made.items()],
            machine=self.config.machine,
            progress=self.progress,
            stop=self.stop,
        )


def tell(story: Story[Config], choice: Choice) -> Path:
    """Run what is chosen and not yet done -> the path of story.json."""
    has_news = False
    for stage in story.plot.stages:
        if not choice.includes(stage.name):
            continue
        if stage.name in choice.repeat:
            set_aside(story.folder_of(stage.name))
        if not story.is_done(stage.name):
            story.stop.check()
            story.plot.runners[stage.name](story, stage)
            write_story(story.folder, story.plot.names)
            has_news = True
    written = write_story(story.folder, story.plot.names)
    if has_news or not (story.folder / REPORT_FILE).exists():
        write_report(story.folder)
    return written


def set_aside(folder: Path) -> None:
    """Keep a stage that is to be repeated: its run was paid for and stays in the books."""
    if not folder.exists():
        return
    number = 1
    while (target := folder.parent / "repeated" / f"{folder.name}-{number}").exists():
        number += 1
    target.parent.mkdir(exist_ok=True)
    shutil.move(folder, target)
