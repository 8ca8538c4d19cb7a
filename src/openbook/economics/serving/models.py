"""Models that are known by name, without a file of the user's. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources

from openbook.model.architecture import Architecture
from openbook.model.decoders import read_decoder

KNOWN: Mapping[str, str] = {"deepseek-v3": "deepseek_v3.json", "deepseek-r1": "deepseek_v3.json"}
"""By name, the public config.json of each, as far as it is counted; R1 is a V3."""


@cache
def known_model(name: str) -> Architecture:
    """The architecture of a name in `KNOWN`."""
    file = resources.files("openbook.economics").joinpath(f"data/{KNOWN[name]}")
    return read_decoder(json.loads(file.read_text(encoding="utf-8")), name)
