"""The prompt of R1-Zero and the shape of its answer.

The prompt is one plain sentence that says where thinking and answer go, then the question; it
hints at no content (DeepSeek-R1, Table 1, in our own words). An answer is well formed when it is
exactly `<think> ... </think> <answer> ... </answer>`, once, with nothing outside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INSTRUCTION = "Reply in <think> </think> <answer> </answer>."
_TAGS_IN_ORDER = ("<think>", "</think>", "<answer>", "</answer>")
_TAG = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """A completion's text, taken apart.

    Example: `parse("<think> b = seven </think> <answer> 7 </answer>")` gives thinking
    `"b = seven"`, answer `"7"`, well_formed True. A text that is not well formed has the reason;
    its answer is empty unless there is exactly one answer block.
    """

    thinking: str
    answer: str
    well_formed: bool
    reason: str


def prompt(question: str) -> str:
    """The text before which the BOS token goes and after which the model continues."""
    return f"{INSTRUCTION} User: {question} Assistant:"


def response(thinking: str, answer: str) -> str:
    """The well-formed continuation of a prompt."""
    inner = f" {thinking} " if thinking else " "
    return f" <think>{inner}</think> <answer> {answer} </answer>"


def parse(text: str) -> Parsed:
    """Take a completion apart; never raises, and takes time in proportion to its length."""
    reason = _what_is_wrong(text)
    return Parsed(
        thinking=text.partition("<think>")[2].partition("</think>")[0].strip(),
        answer=_only_answer(text),
        well_formed=not reason,
        reason=reason,
    )


def _only_answer(text: str) -> str:
    """What the one answer block holds; empty when there is none or another, or it stands in the thinking."""
    start = text.find("<answer>")
    end = text.find("</answer>", start)
    if start < 0 or end < 0:
        return ""
    inside, before, after = text[start + len("<answer>") : end], text[:start], text[end + len("</answer>") :]
    if _TAG.search(inside) or "</answer>" in after.partition("<answer>")[2]:
        return ""
    if before.rfind("<think>") > before.rfind("</think>") and "</think>" in after:
        return ""
    return inside.strip()


def _what_is_wrong(text: str) -> str:
    """Why the text is not well formed; empty when it is."""
    for tag in _TAGS_IN_ORDER:
        if (count := text.count(tag)) != 1:
            return f"{tag} appears {count} times, not once"
    places = [text.index(tag) for tag in _TAGS_IN_ORDER]
    if places != sorted(places):
        return f"the tags are not in the order {' '.join(_TAGS_IN_ORDER)}"
    think, think_end, answer, answer_end = places
    between = text[think_end + len("</think>") : answer]
    if (text[:think] + between + text[answer_end + len("</answer>") :]).strip():
        return "there is text outside the think and answer blocks"
    return ""
