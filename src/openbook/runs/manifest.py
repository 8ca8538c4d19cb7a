"""The manifest of a run: what it set out to do, written once and never changed."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from openbook.errors import UserError
from openbook.runs.provenance import Host

FORMAT = 1
SUFFIX_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"  # none that is read as another


@dataclass(frozen=True, kw_only=True, slots=True)
class Ancestor:
    """What a run was made from.

    `role` is what it was used as (`base`, `teacher`, `data`, `reference`, `reward_model`, ...),
    `digest` names its content, `run_id` the run that made it ("" for what came from outside).
    """

    role: str
    name: str
    digest: str
    run_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunManifest:
    """What a run set out to do, with which code and on which machine."""

    id: str
    verb: str
    stage: str
    seed: int
    recipe_digest: str
    code_version: str
    host: Host
    parents: tuple[Ancestor, ...]
    created_at: datetime
    sampler: str = ""
    """What samples, and which build of it; chosen once, since another one gives other bits."""


def new_run_id(stage: str, created_at: datetime) -> str:
    """A name that sorts by time and is used once: `20260131-154500-zero-k3f9`."""
    assert re.fullmatch(r"[a-z0-9_-]+", stage), f"a stage is a short lower-case word, not {stage!r}"
    # Names must differ even between equal seeds, so this is no place for the run's own randomness.
    suffix = "".join(secrets.choice(SUFFIX_LETTERS) for _ in range(4))
    return f"{created_at.astimezone(UTC):%Y%m%d-%H%M%S}-{stage}-{suffix}"


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """`sha256:` of the recipe as JSON with sorted keys and no spaces."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def manifest_to_json(manifest: RunManifest) -> dict[str, Any]:
    """A manifest as plain JSON values, with the number of its format."""
    return {"format": FORMAT, **asdict(manifest), "created_at": manifest.created_at.isoformat()}


def manifest_from_json(value: dict[str, Any], where: str) -> RunManifest:
    """The reverse of `manifest_to_json`. Raises UserError for a newer format or missing fields."""
    if value.get("format", 0) > FORMAT:
        raise UserError(
            f"{where} was written by a newer version of openbook (format {value['format']})",
            "upgrade openbook to read it",
        )
    try:
        host = value["host"]
        return RunManifest(
            id=value["id"],
            verb=value["verb"],
            stage=value["stage"],
            seed=value["seed"],
            recipe_digest=value["recipe_digest"],
            code_version=value["code_version"],
            host=Host(**{**host, "packages": tuple((name, version) for name, version in host["packages"])}),
            parents=tuple(Ancestor(**parent) for parent in value["parents"]),
            created_at=datetime.fromisoformat(value["created_at"]),
            sampler=value.get("sampler", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} is not the manifest of a run ({error!r})", "name another folder") from error


def recipe_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Every changed value of a recipe as `dotted.key old -> new`, in the order of the keys."""
    before, after = _flatten(old), _flatten(new)
    return [
        f"{key} {before.get(key, '(absent)')} -> {after.get(key, '(absent)')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat |= _flatten(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(item, sort_keys=True)
    return flat
