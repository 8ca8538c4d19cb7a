"""A file of problems, one JSON object a line: read whole, and refused with the number of every bad line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openbook.errors import UserError
from openbook.tasks.answers import quote

MAX_SHOWN_LINES = 5
MAX_QUESTION_CHARS = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One problem as it stands in the file. `fields` is the whole object; numbers count from 1."""

    number: int
    question: str
    answer: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What a line must hold."""

    question_field: str
    answer_field: str
    needs_answer: bool


class BadLine(ValueError):
    """What is wrong with a line, and what to change."""


def read_lines(path: Path, form: Form, fault_of: Callable[[Sequence[str]], Sequence[str]]) -> list[Line]:
    """The problems of a file, each question once; blank lines are passed over.

    `fault_of` says of answers why they are no use, empty where they are fine. Raises UserError that names
    the bad lines, also where one question has two answers.
    """
    lines: list[Line] = []
    bad: dict[int, str] = {}
    for number, text in _numbered(path):
        try:
            lines.append(_line(number, text, form))
        except BadLine as fault:
            bad[number] = str(fault)
    faults = fault_of([line.answer for line in lines])
    bad |= {line.number: f"its answer: {fault}" for line, fault in zip(lines, faults, strict=True) if fault}
    first: dict[str, Line] = {}
    for line in lines:
        known = first.setdefault(line.question, line)
        if known.answer != line.answer:
            bad[line.number] = f"the question of line {known.number} again, with another answer: drop one"
    if bad:
        raise _refusal(path, bad)
    if not first:
        raise UserError(f"{path} holds no problems", f'a line is {{"{form.question_field}": "..."}}')
    return list(first.values())


def refuse_shared(path: Path, lines: Sequence[Line], held_out: Sequence[Line]) -> None:
    """Raises UserError where a held-out question is trained on as well."""
    trained = {line.question: line.number for line in lines}
    bad = {
        line.number: f"its question is line {trained[line.question]} of the file that is trained on: drop one"
        for line in held_out
        if line.question in trained
    }
    if bad:
        raise _refusal(path, bad)


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "name a file of JSON lines") from error
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} line {number}: not UTF-8", "save the file as UTF-8") from error
        if text.strip():
            yield number, text


def _line(number: int, text: str, form: Form) -> Line:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not JSON ({error}): write one object a line") from error
    if not isinstance(fields, dict):
        raise BadLine(f"{quote(text)} is no object: write one object a line")
    question = _text(fields, form.question_field)
    answer = _text(fields, form.answer_field)
    if not question.strip():
        named = ", ".join(sorted(fields)) or "none"
        raise BadLine(f"no {form.question_field!r}: set question_field to one of its fields ({named})")
    if len(question) > MAX_QUESTION_CHARS:
        raise BadLine(f"its question has {len(question)} characters: at most {MAX_QUESTION_CHARS}")
    if form.needs_answer and not answer.strip():
        named = ", ".join(sorted(fields))
        raise BadLine(f"no {form.answer_field!r}: set answer_field to one of its fields ({named})")
    return Line(number=number, question=question, answer=answer, fields=fields)


def _text(fields: Mapping[str, Any], name: str) -> str:
    """A field as text: text as it is, a number as JSON writes it, nothing where there is none."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    raise BadLine(f"{name!r} is {quote(json.dumps(value))}: it has to be text or a number")


def _refusal(path: Path, bad: Mapping[int, str]) -> UserError:
    shown = [f"line {number}: {bad[number]}" for number in sorted(bad)[:MAX_SHOWN_LINES]]
    more = f"; and {len(bad) - MAX_SHOWN_LINES} more lines" if len(bad) > MAX_SHOWN_LINES else ""
    return UserError(f"{path} {'; '.join(shown)}{more}", "nothing was computed")
