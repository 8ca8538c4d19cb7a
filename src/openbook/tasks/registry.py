"""From a config to its family: the one place that knows all of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, TypeAlias

from openbook.config import config
from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.code import CodeConfig, CodeFamily
from openbook.tasks.countdown import CountdownConfig, CountdownFamily
from openbook.tasks.courtesy import CourtesyConfig, CourtesyFamily
from openbook.tasks.gym import GymConfig, GymFamily, gym_names
from openbook.tasks.gym_library import GymLibrary
from openbook.tasks.jsonl import JsonlConfig, JsonlFamily
from openbook.tasks.mixed import MixedFamily
from openbook.tasks.problem import Family

SingleConfig: TypeAlias = (
    ChainConfig | CountdownConfig | CourtesyConfig | CodeConfig | GymConfig | JsonlConfig
)
"""A recipe's `kind` says which: chain, countdown, courtesy, code, gym or jsonl."""


@config
class MixedConfig:
    """Several families by turns, each under a name: `[family.members.sums]`."""

    kind: Literal["mixed"] = "mixed"
    members: Mapping[str, SingleConfig]

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("members is empty; name at least one family")


FamilyConfig: TypeAlias = (
    ChainConfig | CountdownConfig | CourtesyConfig | CodeConfig | GymConfig | JsonlConfig | MixedConfig
)
"""One family, or a mixture of them (kind mixed)."""

OWN_FAMILIES = ("chain", "countdown", "courtesy", "code")


def make_family(chosen: FamilyConfig) -> Family:
    """The family of a config; a gym family gets a worker process of its own, started on first use."""
    match chosen:
        case ChainConfig():
            return ChainFamily(chosen)
        case CountdownConfig():
            return CountdownFamily(chosen)
        case CourtesyConfig():
            return CourtesyFamily(chosen)
        case CodeConfig():
            return CodeFamily(chosen)
        case GymConfig():
            return GymFamily(chosen, GymLibrary())
        case JsonlConfig():
            return _of_files(chosen, _stamps(chosen))
        case MixedConfig():
            return MixedFamily({label: make_family(member) for label, member in chosen.members.items()})


@lru_cache(maxsize=4)
def _of_files(chosen: JsonlConfig, stamps: tuple[tuple[int, int], ...]) -> JsonlFamily:
    """Read, checked and given workers once for all who ask: training, its probe, the examination."""
    return JsonlFamily(chosen)


def _stamps(chosen: JsonlConfig) -> tuple[tuple[int, int], ...]:
    """When each file of a config was changed, and its size; what is missing is reported by whoever reads."""
    paths = [path for path in (chosen.path, chosen.held_out_path) if path is not None and path.exists()]
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
