"""The tokenizer inside a GGUF file: byte-level BPE from its metadata.

Such a file holds tokens and merges, and names the splitting of text into words by one word (`pre`), which
stands for expressions that llama.cpp has in its code (`llama-vocab.cpp`). Those of the models that we load
are here; an unknown word is an error, since a wrong splitting would be wrong in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from openbook.errors import UserError, nearest
from openbook.tokens.special import make_special_ids
from openbook.tokens.tokenizer import Tokenizer

PREFIX = "tokenizer.ggml"
_CONTROL, _UNKNOWN, _USER_DEFINED = 3, 2, 4

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Splitting:
    """How text becomes the words within which tokens are merged."""

    pattern: str | None = None
    """None is GPT-2's own, which the byte-level step of the library has built in."""
    splits_digits: bool = False
    """Digits one by one before everything else."""
    composes: bool = False
    """Unicode NFC first, as the original tokenizers of the family have it."""
    ignores_merges: bool = False
    """A word that is a token is taken whole, whether or not merges lead to it."""
    adds_bos: bool = False
    """What the file means when it does not say."""


_GPT2 = _Splitting()
_SMOLLM = _Splitting(splits_digits=True)
_QWEN2 = _Splitting(
    pattern=_CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _WORDS,
    composes=True,
)
_LLAMA3 = _Splitting(
    pattern=_CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _WORDS,
    ignores_merges=True,
    adds_bos=True,
)
_SPLITTINGS = {
    "gpt-2": _GPT2,
    "smollm": _SMOLLM,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "llama-bpe": _LLAMA3,
}


def read_tokenizer(metadata: Mapping[str, Any], *, where: str) -> Tokenizer:
    """The tokenizer that the metadata of a GGUF file describe; `where` is the file that the errors speak of.

    Raises UserError for another kind than byte-level BPE, an unknown `pre`, or a damaged vocabulary.
    """
    keys = _Keys(metadata=metadata, where=where)
    model, pre = keys.get("model", str), keys.get("pre", str)
    if model != "gpt2":
        raise UserError(
            f"{where}: the tokenizer is of kind {model!r}", "only byte-level BPE ('gpt2') is read"
        )
    if pre not in _SPLITTINGS:
        raise UserError(f"{where}: unknown {PREFIX}.pre {pre!r}", nearest(str(pre), list(_SPLITTINGS)))
    splitting = _SPLITTINGS[pre]
    backend = _backend(keys, splitting)
    bos_id = keys.get("bos_token_id", int)
    adds_bos = keys.get("add_bos_token", bool)
    special = make_special_ids(
        backend,
        eos_ids=[keys.get(f"{role}_token_id", int) for role in ("eos", "eot", "eom")],
        bos_id=bos_id,
        pad_id=keys.get("padding_token_id", int),
        adds_bos=splitting.adds_bos if adds_bos is None else adds_bos,
        where=where,
    )
    if special.adds_bos:
        # Said again where the public layout says it, so that a saved tokenizer keeps it.
        token = backend.id_to_token(special.bos_id)
        backend.post_processor = processors.TemplateProcessing(
            single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, special.bos_id)]
        )
    return Tokenizer(backend, special)


def _backend(keys: _Keys, splitting: _Splitting) -> tokenizers.Tokenizer:
    tokens, merges = keys.texts("tokens"), keys.texts("merges")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise UserError(f"{keys.where}: {PREFIX}.tokens holds a token twice", "copy or download it again")
    try:
        bpe = models.BPE(
            vocab=vocabulary,
            # A space within a token is written as another letter, but the first letter may be a space.
            merges=[
                (merge[:1] + left, right) for merge in merges for left, _, right in [merge[1:].partition(" ")]
            ],
            ignore_merges=splitting.ignores_merges,
        )
    except Exception as error:  # the library raises bare Exception for merges that do not fit
        what = f"{keys.where}: {PREFIX}.merges do not fit the tokens: {error}"
        raise UserError(what, "copy or download it again") from error
    backend = tokenizers.Tokenizer(bpe)
    if splitting.composes:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = _pre_tokenizer(splitting)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(
        [
            AddedToken(token, special=kind != _USER_DEFINED, normalized=False)
            for token, kind in zip(tokens, keys.kinds(len(tokens)), strict=True)
            if kind in (_CONTROL, _UNKNOWN, _USER_DEFINED)
        ]
    )
    return backend


def _pre_tokenizer(splitting: _Splitting) -> pre_tokenizers.PreTokenizer:
    steps: list[pre_tokenizers.PreTokenizer] = []
    if splitting.splits_digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if splitting.pattern is not None:
        steps.append(pre_tokenizers.Split(tokenizers.Regex(splitting.pattern), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.pattern is None))
    return pre_tokenizers.Sequence(steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Keys:
    """The metadata of a tokenizer, with errors that name the key."""

    metadata: Mapping[str, Any]
    where: str

    def get(self, name: str, kind: type) -> Any:
        """A value, None if it is not there."""
        value = self.metadata.get(f"{PREFIX}.{name}")
        if value is not None and type(value) is not kind:
            raise UserError(f"{self.where}: {PREFIX}.{name} = {value!r} has to be of type {kind.__name__}")
        return value

    def texts(self, name: str) -> list[str]:
        value = self.get(name, list)
        if not value or not all(isinstance(one, str) for one in value):
            raise UserError(f"{self.where}: {PREFIX}.{name} is missing, or no list of texts")
        return list(value)

    def kinds(self, num_tokens: int) -> list[int]:
        """What each token is: normal, control, user-defined; all normal if the file does not say."""
        value = self.get("token_type", list)
        if value is None:
            return [1] * num_tokens
        if len(value) != num_tokens:
            raise UserError(
                f"{self.where}: {PREFIX}.token_type has {len(value)} entries for {num_tokens} tokens"
            )
        return list(value)
