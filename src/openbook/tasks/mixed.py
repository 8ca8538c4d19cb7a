"""A mixture: several families in one stream, by turns, each under a name of the recipe's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from openbook.tasks.problem import Family, Problem, Split, Submission, Verdict, verify_all


class MixedFamily:
    """Member `index` modulo their number asks problem `index`; `Problem.family` says whose it is."""

    def __init__(self, members: Mapping[str, Family]) -> None:
        assert members
        self.members = dict(members)
        self._labels = list(members)

    @property
    def name(self) -> str:
        return "mixed"

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        round_number, turn = divmod(index, len(self._labels))
        return self.problem_of(self._labels[turn], seed, split, round_number)

    def problem_of(self, label: str, seed: int, split: Split, index: int) -> Problem:
        """The problem at this address of one member, under its name here."""
        found = self.members[label].problem(seed, split, index)
        return replace(found, family=label, id=f"{label}/{found.id}")

    def verify(self, problem: Problem, answer: str) -> Verdict:
        return self.members[problem.family].verify(problem, answer)

    def verify_many(self, submissions: Sequence[Submission]) -> list[Verdict]:
        """One verdict each, in order; a member that can judges all of its own at once."""
        verdicts: dict[int, Verdict] = {}
        for label, member in self.members.items():
            numbers = [n for n, one in enumerate(submissions) if one.problem.family == label]
            judged = verify_all(member, [submissions[number] for number in numbers]) if numbers else []
            verdicts |= zip(numbers, judged, strict=True)
        return [verdicts[number] for number in range(len(submissions))]
