"""Quoting: text from a person stays text, though it spell out a special token.

    quote(tokenizer, "say <eos>") -> a text in which a mark stands for "<eos>"
    ... a template puts it among special tokens of its own ...
    encode_quoted(tokenizer, rendered) -> ids; the template's tokens are special, the person's are letters

So no message can end its own turn or open another's. A mark is a number between two U+FDD0, a code point
that Unicode keeps out of texts; where a message has one nevertheless, it is quoted too.
"""

from __future__ import annotations

import re

from openbook.tokens.tokenizer import Tokenizer

_MARK = "\ufdd0"
_QUOTED = re.compile(f"{_MARK}(\\d+){_MARK}")
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
"""White_Space of Unicode: what a token with `lstrip` or `rstrip` takes in."""


def quote(tokenizer: Tokenizer, text: str, *, keep: frozenset[str] = frozenset()) -> str:
    """`text` with a mark for every added token that it spells out, but for those in `keep`."""
    numbers = {name: number for number, name in enumerate(_names(tokenizer)) if name not in keep}
    return _any_of(list(numbers)).sub(lambda found: f"{_MARK}{numbers[found[0]]}{_MARK}", text)


def encode_quoted(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text with quotations; without any, those of `Tokenizer.encode`.

    The text between two special tokens is encoded in one piece, quotations included.
    """
    names = _names(tokenizer)
    added = {token.content: (number, token) for number, token in tokenizer.added_tokens.items()}
    ids: list[int] = []
    at, strips = 0, False

    def encode_piece(piece: str) -> None:
        plain = piece.lstrip(_WHITE_SPACE) if strips else piece
        ids.extend(tokenizer.encode_plain(_QUOTED.sub(lambda mark: names[int(mark[1])], plain)))

    for found in _any_of(list(added)).finditer(text) if added else ():
        number, token = added[found[0]]
        before = text[at : found.start()]
        encode_piece(before.rstrip(_WHITE_SPACE) if token.lstrip else before)
        ids.append(number)
        at, strips = found.end(), token.rstrip
    encode_piece(text[at:])
    return ids


def _names(tokenizer: Tokenizer) -> list[str]:
    """What can be quoted, each by its number: the mark itself, then the added tokens."""
    return [_MARK, *(token.content for token in tokenizer.added_tokens.values())]


def _any_of(names: list[str]) -> re.Pattern[str]:
    """At each place the longest name that begins there, as the `tokenizers` library chooses."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
