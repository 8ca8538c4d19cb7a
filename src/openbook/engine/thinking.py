"""Thinking and answer told apart token by token, and a budget that closes the thinking cleanly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasoningTags:
    """The ids around thinking, and what is written for the model when its budget is spent."""

    open_id: int
    close_id: int
    closing_ids: tuple[int, ...]
    """Begins with `close_id`; what follows leads into the answer, such as an opening tag."""
    empty_ids: tuple[int, ...] = ()
    """What leaves an answer empty if it comes first, besides stops: such as a closing tag."""

    def __post_init__(self) -> None:
        assert self.closing_ids[:1] == (self.close_id,)


@dataclass(kw_only=True, slots=True)
class ThinkingState:
    """Where one completion stands. A prompt may have opened the thinking already."""

    tags: ReasoningTags
    is_thinking: bool = False
    num_tokens: int = 0
    """Tokens of thinking so far, tags included."""
    has_answer: bool = False
    """Whether anything but thinking and what leads into an answer has come."""

    @classmethod
    def behind(cls, prompt_ids: Sequence[int], tags: ReasoningTags) -> ThinkingState:
        """The state in which a completion of this prompt begins."""
        last_tag = next((one for one in reversed(prompt_ids) if one in (tags.open_id, tags.close_id)), None)
        return cls(tags=tags, is_thinking=last_tag == tags.open_id)

    def take(self, token: int) -> bool:
        """Count a token; whether it belongs to the thinking."""
        belongs = self.is_thinking or token == self.tags.open_id
        self.is_thinking = belongs and token != self.tags.close_id
        self.num_tokens += belongs
        self.has_answer |= not belongs and token not in self.tags.closing_ids
        return belongs

    def is_over(self, budget: int | None, room: int) -> bool:
        """Whether the thinking has to be closed now: the budget is spent, or the room for an answer would be.

        `room` is how many tokens the completion may still have.
        """
        if budget is None or not self.is_thinking or room < self._least_room:
            return False
        # The closing tag is thinking as well.
        return self.num_tokens + 1 >= budget or room == self._least_room

    def may_open(self, budget: int | None, room: int) -> bool:
        """Whether thinking that the next token began could still be closed within the budget and the room."""
        return budget is None or (self.num_tokens + 2 <= budget and room > self._least_room)

    @property
    def _least_room(self) -> int:
        """The closing, and one token of answer."""
        return len(self.tags.closing_ids) + 1
