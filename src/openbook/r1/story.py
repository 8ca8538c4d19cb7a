"""The stories that can be told, by the settings they take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from openbook.r1 import pipeline, real
from openbook.r1.config import StoryConfig
from openbook.r1.real_config import RealStoryConfig
from openbook.r1.telling import Choice, Story, tell
from openbook.runs.progress import Progress
from openbook.runs.stop import StopSignal


def check_story(config: StoryConfig | RealStoryConfig) -> None:
    """Refuse settings whose base cannot be opened, before anything is written. Raises UserError."""
    if isinstance(config, RealStoryConfig):
        real.open_base(config)


def run_story(
    config: StoryConfig | RealStoryConfig,
    *,
    out: Path,
    seed: int,
    only: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    repeat: tuple[str, ...] = (),
    progress: Progress,
    limit: Callable[[], str] | None = None,
) -> Path:
    """Tell the story from where it stands -> the path of story.json. `limit` may stop it: StopSignal."""
    with StopSignal(limit) as stop:
        if isinstance(config, RealStoryConfig):
            choice = Choice(names=real.STAGE_NAMES, only=only, skip=skip, repeat=repeat)
            return tell(
                Story(config=config, plot=real.PLOT, folder=out, seed=seed, progress=progress, stop=stop),
                choice,
            )
        choice = Choice(names=pipeline.STAGE_NAMES, only=only, skip=skip, repeat=repeat)
        return tell(
            Story(config=config, plot=pipeline.PLOT, folder=out, seed=seed, progress=progress, stop=stop),
            choice,
        )
