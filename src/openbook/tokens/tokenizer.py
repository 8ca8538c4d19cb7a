"""Tokenizer: byte-level BPE over the `tokenizers` library, with the reasoning tags as single tokens.

Ours splits digits one by one, so that a number is read digit by digit, and words and digits keep their
leading space; a tag takes in the white space before it. A tokenizer from elsewhere keeps its own ways, and
may lack the tags.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from openbook.errors import UserError
from openbook.tokens.special import SpecialIds, read_special_ids

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
FILE_NAME = "tokenizer.json"
SPLIT_PATTERN = r" ?[-+*]?\d| ?\p{L}+| ?[^\s\p{L}\d]+|\s+"
"""One digit with its sign, a word or a run of punctuation, each with its leading space; other white space."""


class Tokenizer:
    """Text to ids and back. `encode` adds no special token: the caller places BOS and EOS.

    >>> tokenizer.encode(" c = 4")     # doctest: +SKIP
    [301, 282, 223, 24]
    """

    def __init__(self, backend: tokenizers.Tokenizer, special: SpecialIds | None = None) -> None:
        """`special` is what to know of a tokenizer from elsewhere; ours names its tokens itself."""
        self._backend = backend
        ids = self._own_ids() if special is None else special
        self.pad_id, self.bos_id, self.eos_id = ids.pad_id, ids.bos_id, ids.eos_id
        self.stop_ids, self.adds_bos = ids.stop_ids, ids.adds_bos
        self._hidden = {self.pad_id, self.bos_id, self.eos_id, *self.stop_ids}

    def _own_ids(self) -> SpecialIds:
        eos_id = self.token_id(EOS)
        return SpecialIds(
            pad_id=self.token_id(PAD),
            bos_id=self.token_id(BOS),
            eos_id=eos_id,
            stop_ids=(eos_id,),
            adds_bos=True,
        )

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
        """Learn merges from texts until there are `vocab_size` tokens, special ones and bytes included."""
        minimum = 256 + len(TAGS) + 3
        if vocab_size < minimum:
            raise UserError(
                f"tokenizer.vocab_size is {vocab_size}",
                f"256 bytes and the special tokens need at least {minimum}",
            )
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(SPLIT_PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[PAD, BOS, EOS, *(AddedToken(tag, lstrip=True, special=True) for tag in TAGS)],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read `tokenizer.json` from a checkpoint folder, ours or one in the public layout.

        Raises UserError if it is missing or damaged, or if nothing tells which of its tokens ends a text.
        """
        return cls.load_file(folder / FILE_NAME)

    @classmethod
    def load_file(cls, path: Path) -> Tokenizer:
        """As `load`, of a file by any name; what public folders tell beside it is looked up where it lies."""
        folder = path.parent
        if not path.is_file():
            raise UserError(f"{folder} has no {path.name}", "point to a checkpoint folder that holds one")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for a file it cannot read
            raise UserError(
                f"{path} is not a tokenizer: {error}", "restore the file or train a new one"
            ) from error
        is_ours = all(backend.token_to_id(token) is not None for token in (PAD, BOS, EOS, *TAGS))
        return cls(backend, None if is_ours else read_special_ids(folder, backend))

    def save(self, folder: Path) -> Path:
        """Write `tokenizer.json` into `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE_NAME
        path.write_text(self._backend.to_str(pretty=True), encoding="utf-8")
        return path

    @property
    def vocab_size(self) -> int:
        return self._backend.get_vocab_size()

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self._backend.to_str().encode()).hexdigest()

    def token_id(self, token: str) -> int:
        """The id of a token that must exist, such as `</think>`."""
        found = self._backend.token_to_id(token)
        if found is None:
            raise UserError(f"the tokenizer has no token {token!r}", "use a tokenizer trained by openbook")
        return int(found)

    def token(self, token_id: int) -> str:
        """The text of one token as the vocabulary has it, such as `</think>`."""
        return str(self._backend.id_to_token(token_id))

    @property
    def has_tags(self) -> bool:
        """Whether each reasoning tag is a token of its own, as in ours."""
        return all(self._backend.token_to_id(tag) is not None for tag in TAGS)

    @property
    def added_tokens(self) -> Mapping[int, AddedToken]:
        """The tokens that `encode` finds as a whole before any merging, special ones among them, by id."""
        return cast("Mapping[int, AddedToken]", self._backend.get_added_tokens_decoder())

    def encode(self, text: str) -> list[int]:
        """The ids of a text, in which the name of a special token is that token."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode` for many texts at once, on all cores."""
        return [list(one.ids) for one in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    def encode_plain(self, text: str) -> list[int]:
        """As `encode` of a text in which nothing is special: `</think>` is eight letters."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def encode_plain_many(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode_plain` for many texts at once, on all cores."""
        return [list(one.ids) for one in self._plain.encode_batch(list(texts), add_special_tokens=False)]

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """The same model and splitting without added tokens."""
        plain = tokenizers.Tokenizer(self._backend.model)
        for part in ("normalizer", "pre_tokenizer"):
            if getattr(self._backend, part) is not None:
                setattr(plain, part, getattr(self._backend, part))
        return plain

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; the tags stay, BOS, padding and what ends a text vanish."""
        shown = [one for one in ids if one not in self._hidden]
        return str(self._backend.decode(shown, skip_special_tokens=False))
