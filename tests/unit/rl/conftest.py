"""Rollouts that nobody sampled, and a Generator that says what it was told to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from openbook.engine.types import Completion, FinishReason, Generation, SamplingParams
from openbook.rl.types import Attempt, Rollout, Scored
from openbook.runs.usage import Usage
from openbook.tasks.problem import Outcome, Problem, Split, Verdict
from openbook.tasks.rewards import RewardParts
from openbook.tokens.template import parse
from openbook.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def make_problem() -> Callable[[str], Problem]:
    """A problem with this question and the answer 7."""

    def make(question: str) -> Problem:
        return Problem(
            id=f"x/train/0/{question}",
            family="x",
            split=Split.TRAIN,
            question=question,
            answer="7",
            difficulty=1,
        )

    return make


@pytest.fixture(scope="session")
def make_rollout(make_problem: Callable[[str], Problem]) -> Callable[..., Rollout]:
    """A judged attempt; timed out and unscorable ones have no score."""

    def make(
        *,
        prompt_ids: Sequence[int] = (1,),
        token_ids: Sequence[int] = (2,),
        text: str = "",
        outcome: Outcome = Outcome.CORRECT,
        parts: Mapping[str, float] | None = None,
        finished: bool = True,
    ) -> Rollout:
        completion = Completion(
            prompt_ids=tuple(prompt_ids),
            token_ids=tuple(token_ids),
            logprobs=tuple(-0.1 * token for token in token_ids),
            finish_reason=FinishReason.STOP if finished else FinishReason.LENGTH,
            policy_version=0,
        )
        judged = outcome in (Outcome.CORRECT, Outcome.WRONG)
        return Rollout(
            attempt=Attempt(problem=make_problem("?"), completion=completion, text=text, parsed=parse(text)),
            scored=Scored(
                verdict=Verdict(outcome=outcome, reason=""),
                reward=RewardParts(parts=parts or {}, scored=judged, reason=""),
            ),
        )

    return make


@dataclass(kw_only=True)
class Script:
    """A Generator that gives the same texts to every prompt, and remembers what it was asked."""

    tokenizer: Tokenizer
    texts: Sequence[str]
    logprob: float = -1.0
    version: int = 0
    calls: list[tuple[list[list[int]], SamplingParams, int, int]] = field(default_factory=list)

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, num_generations: int, seed: int
    ) -> Generation:
        self.calls.append(([list(prompt) for prompt in prompts], params, num_generations, seed))
        groups = [tuple(self._say(prompt, text) for text in self.texts) for prompt in prompts]
        assert len(self.texts) == num_generations
        num_sampled = sum(len(one.token_ids) for group in groups for one in group)
        return Generation(
            completions=tuple(groups), usage=Usage(prompt_tokens=5, completion_tokens=num_sampled)
        )

    def publish(self, version: int) -> None:
        self.version = version

    def _say(self, prompt: Sequence[int], text: str) -> Completion:
        ids = (*self.tokenizer.encode(text), self.tokenizer.eos_id)
        return Completion(
            prompt_ids=tuple(prompt),
            token_ids=ids,
            logprobs=(self.logprob,) * len(ids),
            finish_reason=FinishReason.STOP,
            policy_version=self.version,
        )


@pytest.fixture(scope="session")
def script(tokenizer: Tokenizer) -> Callable[..., Script]:
    """`script(*texts, logprob=-1.0)`: a Generator with these completions for every prompt."""

    def make(*texts: str, logprob: float = -1.0) -> Script:
        return Script(tokenizer=tokenizer, texts=texts, logprob=logprob)

    return make
