"""Special tokens of tokenizers from elsewhere: what begins a text, what ends it, what fills a row up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from openbook.errors import UserError

END_TOKENS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|end_of_text|>",
    "<|endoftext|>",
)
"""What ends a turn or a text in the public families; a special token of such a name stops sampling."""

COMPANIONS = (
    "chat_template.jinja",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
)
"""What else a public folder tells of how its model is talked to; it goes where the model goes."""

_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_ID_FILES = ("config.json", "generation_config.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialIds:
    """The ids that a sampler and a batch need; every one is there, whatever the tokenizer says of itself.

    A tokenizer without a token for the beginning takes the one for the end of a text, as GPT-2 does, and one
    without padding as well: padding is never read.
    """

    pad_id: int
    bos_id: int
    eos_id: int
    stop_ids: tuple[int, ...]
    """What ends a completion: `eos_id` first, then the other ends of a turn or a text."""
    adds_bos: bool
    """Whether the model was trained on texts that begin with `bos_id`."""


def make_special_ids(
    backend: tokenizers.Tokenizer,
    *,
    eos_ids: Iterable[int | None],
    bos_id: int | None,
    pad_id: int | None,
    adds_bos: bool,
    where: Path | str,
) -> SpecialIds:
    """The ids, from what is known of them; the first of `eos_ids` that is not None is `eos_id`.

    Raises UserError if nothing ends a text, or an id is not in the vocabulary.
    """
    added = backend.get_added_tokens_decoder()
    ends = [one for one in eos_ids if one is not None]
    ends += [number for number, token in added.items() if token.special and token.content in END_TOKENS]
    if not ends:
        raise UserError(f"{where}: no token '<eos>', nor another that ends a text", "name an eos_token")
    for number in (*ends, bos_id, pad_id):
        if number is not None and backend.id_to_token(number) is None:
            raise UserError(f"{where}: the special token {number} is not in the vocabulary")
    eos_id = ends[0]
    return SpecialIds(
        pad_id=eos_id if pad_id is None else pad_id,
        bos_id=eos_id if bos_id is None else bos_id,
        eos_id=eos_id,
        stop_ids=tuple(dict.fromkeys(ends)),
        adds_bos=adds_bos and bos_id is not None,
    )


def read_special_ids(folder: Path, backend: tokenizers.Tokenizer) -> SpecialIds:
    """The ids that a public folder tells: by name in the tokenizer's files, by number in the model's."""
    by_name = [read_object(folder / name) for name in _TOKENIZER_FILES]
    by_number = [read_object(folder / name) for name in _ID_FILES]

    def ids_of(role: str) -> Iterator[int]:
        for data in by_name:
            token = token_text(data.get(role))
            if token is not None:
                yield _id_of(token, backend, folder)
        for data in by_number:
            found = data.get(f"{role}_id")
            for one in found if isinstance(found, list) else [found]:
                if isinstance(one, int) and not isinstance(one, bool):
                    yield one

    bos_id = next(ids_of("bos_token"), None)
    return make_special_ids(
        backend,
        eos_ids=ids_of("eos_token"),
        bos_id=bos_id,
        pad_id=next(ids_of("pad_token"), None),
        # What the library itself puts before a text that is empty.
        adds_bos=bos_id is not None and backend.encode("").ids[:1] == [bos_id],
        where=folder,
    )


def read_object(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file, empty if there is no such file. UserError for anything else in it."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", "restore the file") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object", "restore the file")
    return data


def token_text(entry: Any) -> str | None:
    """The text of a token as public files give it: itself, or an object with its `content`; else None."""
    found = entry.get("content") if isinstance(entry, Mapping) else entry
    return found if isinstance(found, str) else None


def _id_of(token: str, backend: tokenizers.Tokenizer, folder: Path) -> int:
    number = backend.token_to_id(token)
    if number is None:
        raise UserError(f"{folder}: the special token {token!r} is not in the vocabulary")
    return int(number)
