"""From a config to its family: the one place that knows all of them."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.code import CodeConfig, CodeFamily
from openbook.tasks.countdown import CountdownConfig, CountdownFamily
from openbook.tasks.courtesy import CourtesyConfig, CourtesyFamily
from openbook.tasks.gym import GymConfig, GymFamily, gym_names
from openbook.tasks.gym_library import GymLibrary
from openbook.tasks.jsonl import JsonlConfig, JsonlFamily
from openbook.tasks.problem import Family

FamilyConfig: TypeAlias = (
    ChainConfig | CountdownConfig | CourtesyConfig | CodeConfig | GymConfig | JsonlConfig
)
"""A recipe's `kind` says which: chain, countdown, courtesy, code, gym or jsonl."""

OWN_FAMILIES = ("chain", "countdown", "courtesy", "code")


def make_family(config: FamilyConfig) -> Family:
    """The family of a config; a gym family gets a worker process of its own, started on first use."""
    match config:
        case ChainConfig():
            return ChainFamily(config)
        case CountdownConfig():
            return CountdownFamily(config)
        case CourtesyConfig():
            return CourtesyFamily(config)
        case CodeConfig():
            return CodeFamily(config)
        case GymConfig():
            return GymFamily(config, GymLibrary())
        case JsonlConfig():
            return _of_files(config, _stamps(config))


@lru_cache(maxsize=4)
def _of_files(config: JsonlConfig, stamps: tuple[tuple[int, int], ...]) -> JsonlFamily:
    """Read, checked and given workers once for all who ask: training, its probe, the examination."""
    return JsonlFamily(config)


def _stamps(config: JsonlConfig) -> tuple[tuple[int, int], ...]:
    """When each file of a config was changed, and its size; what is missing is reported by whoever reads."""
    paths = [path for path in (config.path, config.held_out_path) if path is not None and path.exists()]
    return tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths)


def family_names() -> list[str]:
    """Our own families, then `gym/<name>` for all of reasoning-gym's, which takes seconds to import.

    Raises UserError when reasoning-gym is not installed.
    """
    library = GymLibrary()
    try:
        return [*OWN_FAMILIES, *gym_names(library)]
    finally:
        library.close()
