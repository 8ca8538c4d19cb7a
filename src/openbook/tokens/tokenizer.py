"""Tokenizer: byte-level BPE over the `tokenizers` library, with the reasoning tags as single tokens.

Digits are split one by one, so that a number is read digit by digit, and words and digits keep
their leading space. A tag takes in the white space before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from openbook.errors import UserError

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

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self.pad_id = self.token_id(PAD)
        self.bos_id = self.token_id(BOS)
        self.eos_id = self.token_id(EOS)

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
        """Read `tokenizer.json` from a checkpoint folder."""
        path = folder / FILE_NAME
        if not path.is_file():
            raise UserError(f"{folder} has no {FILE_NAME}", "point to a checkpoint folder that holds one")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except UserError:
            raise
        except Exception as error:  # the library raises bare Exception for a file it cannot read
            raise UserError(
                f"{path} is not a tokenizer: {error}", "restore the file or train a new one"
            ) from error

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

    def encode(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode` for many texts at once, on all cores."""
        return [list(one.ids) for one in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; the tags stay, BOS, EOS and padding vanish."""
        hidden = {self.pad_id, self.bos_id, self.eos_id}
        return str(self._backend.decode([one for one in ids if one not in hidden], skip_special_tokens=False))
