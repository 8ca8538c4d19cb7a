"""Rows: documents as token ids on disk, cut to a length, each row an example that is read when it is needed.

    document -> BOS ids EOS -> rows of at most `sequence_length` tokens

No row holds two documents (decision 0003). A document too long for one row goes on in the next, which begins
with the last token of the one before: every token is predicted once. Documents are written in the order in
which they are given, and only as many as there are rows asked for, so little is encoded that is not read.
"""

from __future__ import annotations

import json
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np

from openbook.data.batch import Example
from openbook.runs.durable import explained, replace_text
from openbook.tokens.tokenizer import Tokenizer

DOCUMENTS_PER_CALL = 256
BYTES_PER_CALL = 8 << 20
"""Text that is encoded at once, at most, but for a document that is longer by itself."""

_TOKENS_FILE, _ROWS_FILE, _COUNTS_FILE = "tokens.bin", "rows.npy", "counts.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What was made into rows. `num_bytes` is that of the text in UTF-8; `num_tokens` counts BOS and EOS."""

    num_documents: int
    num_bytes: int
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RowPlan:
    """How long a row is at most, and when there are enough of them."""

    sequence_length: int
    max_rows: int | None = None
    max_bytes: int | None = None


class TokenRows(Sequence[Example]):
    """The rows in a folder. `eos_weight` is what the prediction of EOS counts; all other tokens count 1."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, *, eos_weight: float = 1.0) -> None:
        self.counts = Counts(**json.loads((folder / _COUNTS_FILE).read_text(encoding="utf-8")))
        self._tokens = np.memmap(folder / _TOKENS_FILE, dtype=_dtype(tokenizer), mode="r")
        self._rows = np.load(folder / _ROWS_FILE, allow_pickle=False)
        self._eos_id, self._eos_weight = tokenizer.eos_id, eos_weight

    @staticmethod
    def are_in(folder: Path) -> bool:
        """Whether the rows in a folder are complete: the counts are written last."""
        return (folder / _COUNTS_FILE).is_file()

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        start, end = self._rows[index].tolist()
        token_ids = tuple(self._tokens[start:end].tolist())
        weights = tuple(self._eos_weight if one == self._eos_id else 1.0 for one in token_ids)
        return Example(token_ids=token_ids, weights=weights)


def write_rows(
    folder: Path,
    texts: Iterable[str],
    tokenizer: Tokenizer,
    plan: RowPlan,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Encode texts into `folder` until the plan has enough; whatever was there is written anew.

    `check` is called now and then and may raise to stop. Special tokens that a text spells out are letters.
    """
    shutil.rmtree(folder, ignore_errors=True)
    rows, counts = array("q"), Counts(num_documents=0, num_bytes=0, num_tokens=0)
    with explained(folder):
        folder.mkdir(parents=True)
        with (folder / _TOKENS_FILE).open("wb") as stream:
            for chunk in _chunks(texts):
                check()
                for text, ids in zip(chunk, tokenizer.encode_plain_many(chunk), strict=True):
                    if _is_enough(plan, rows, counts):
                        break
                    document = (tokenizer.bos_id, *ids, tokenizer.eos_id)
                    stream.write(np.asarray(document, dtype=_dtype(tokenizer)).tobytes())
                    for start, end in cut(len(document), plan.sequence_length):
                        rows.extend((counts.num_tokens + start, counts.num_tokens + end))
                    counts = Counts(
                        num_documents=counts.num_documents + 1,
                        num_bytes=counts.num_bytes + len(text.encode()),
                        num_tokens=counts.num_tokens + len(document),
                    )
                if _is_enough(plan, rows, counts):
                    break
        np.save(folder / _ROWS_FILE, np.array(rows, dtype=np.int64).reshape(-1, 2), allow_pickle=False)
    replace_text(folder / _COUNTS_FILE, json.dumps(asdict(counts)))


def cut(num_tokens: int, sequence_length: int) -> Iterator[tuple[int, int]]:
    """First and last place of each row of a document, the latter excluded: neighbours share one token."""
    assert num_tokens >= 2 and sequence_length >= 2
    start = 0
    while start < num_tokens - 1:
        end = min(num_tokens, start + sequence_length)
        yield start, end
        start = end - 1


def _is_enough(plan: RowPlan, rows: array[int], counts: Counts) -> bool:
    has_rows = plan.max_rows is not None and len(rows) // 2 >= plan.max_rows
    return has_rows or (plan.max_bytes is not None and counts.num_bytes >= plan.max_bytes)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while True:
        chunk: list[str] = []
        size = 0
        for text in islice(stream, DOCUMENTS_PER_CALL):
            chunk.append(text)
            size += len(text)
            if size >= BYTES_PER_CALL:
                break
        if not chunk:
            return
        yield chunk


def _dtype(tokenizer: Tokenizer) -> np.dtype[Any]:
    return np.dtype("<u2") if tokenizer.vocab_size <= 1 << 16 else np.dtype("<u4")
