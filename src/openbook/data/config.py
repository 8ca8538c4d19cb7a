"""What a network learns from: the dials of the written corpus, of text and of conversations. No torch."""

from __future__ import annotations

from typing import Literal

from openbook.config import config, require_at_least
from openbook.tasks.chain import ChainConfig


@config
class CorpusConfig:
    """The corpus that a seeded writer makes: shares of what the base sees; the exercises are the rest."""

    kind: Literal["exercises"] = "exercises"
    exercises: ChainConfig
    """Chains of the length that RL will ask for."""
    drill_share: float = 0.1
    """The tables of arithmetic, recited: single operations one after the other."""
    worked_share: float = 0.5
    """Chains of any length whose question asks for each step, and gets it."""
    courtesy_share: float = 0.05
    """Requests to pass on a message, answered in any tone."""
    sketch_share: float = 0.2
    """Share of the exercises that show every second step."""
    full_share: float = 0.1
    """Share of the exercises that show every step: how often the base has seen thinking at this length."""
    untagged_share: float = 0.05
    """Share of all documents whose answer stands without tags."""
    spanish_share: float = 0.4
    """Share of the documents whose steps lean to Spanish."""
    switch_share: float = 0.25
    """Chance that a number word leaves the language that its document leans to."""

    def __post_init__(self) -> None:
        require_at_least(
            0,
            drill_share=self.drill_share,
            worked_share=self.worked_share,
            courtesy_share=self.courtesy_share,
            sketch_share=self.sketch_share,
            full_share=self.full_share,
            untagged_share=self.untagged_share,
            spanish_share=self.spanish_share,
            switch_share=self.switch_share,
        )
        if (
            self.drill_share + self.worked_share + self.courtesy_share > 1
            or self.sketch_share + self.full_share > 1
        ):
            raise ValueError("the shares must not add up to more than 1")
        if self.exercises.modulus > 10:
            raise ValueError("there are words for 0 to 9 only: modulus must be at most 10")


@config
class TextConfig:
    """Text of your own: *.txt, *.jsonl, *.parquet, a file or a folder of them (`--data`)."""

    kind: Literal["text"] = "text"
    field: str = "text"
    """The field of a JSON line, or the column of a Parquet file, that holds the text."""
    passage_bytes: int = 4096
    """A text file is cut at blank lines into documents of about so many bytes."""
    sequence_length: int = 256
    """Tokens of a row at most. A longer document goes on in the next row; no row holds two documents."""
    held_out_share: float = 0.05
    """Share of the documents, chosen by a hash of their text, that is kept for measuring; 0 keeps none."""
    held_out_bytes: int = 262_144
    """How much of what is held out is measured, in bytes of text."""
    held_out_every: int = 100
    """Steps between two measurements."""

    def __post_init__(self) -> None:
        require_at_least(
            1,
            passage_bytes=self.passage_bytes,
            held_out_bytes=self.held_out_bytes,
            held_out_every=self.held_out_every,
        )
        require_at_least(2, sequence_length=self.sequence_length)
        _check_held_out_share(self.held_out_share)


@config
class ConversationConfig:
    """Conversations of your own: *.jsonl, *.parquet, a file or a folder of them (`--data`)."""

    too_long: Literal["refuse", "skip"] = "refuse"
    """What becomes of a conversation with more tokens than the model or a batch takes."""
    held_out_share: float = 0.0
    """Share of the conversations, chosen by a hash, that is kept for measuring; 0 keeps none."""
    held_out_every: int = 100
    """Steps between two measurements."""

    def __post_init__(self) -> None:
        require_at_least(1, held_out_every=self.held_out_every)
        _check_held_out_share(self.held_out_share)


def _check_held_out_share(share: float) -> None:
    if not 0 <= share <= 0.5:
        raise ValueError("held_out_share must be 0 to 0.5")
