"""Evaluation of a scripted generator: every number of the scorecard by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from openbook.config import parse as parse_config
from openbook.engine.types import Completion, FinishReason, Generation, SamplingParams
from openbook.errors import UserError
from openbook.evals.config import EvalConfig
from openbook.evals.evaluate import EvalSample, Subject, evaluate, sample_to_json
from openbook.evals.scorecard import Scorecard, headline, scorecard_from_json, scorecard_to_json
from openbook.runs.usage import Usage
from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.problem import Outcome, Problem, Split, Verdict
from openbook.tokens.renderer import Renderer
from openbook.tokens.template import parse, prompt
from openbook.tokens.tokenizer import Tokenizer

CUT = "#cut"
"""A scripted text that ends so has no end token: the limit came first."""

SUBJECT = Subject(stage="zero", checkpoint_digest="sha256:abc", suite="held_out")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["<think> b = seven </think> <answer> 7 </answer>"] * 3, vocab_size=280)


@dataclass(kw_only=True)
class Script:
    """A generator that knows its lines: completions by question, in turn."""

    tokenizer: Tokenizer
    lines: dict[str, list[str]]
    calls: list[tuple[int, SamplingParams, int, int]] = field(default_factory=list)

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, num_generations: int, seed: int
    ) -> Generation:
        self.calls.append((len(prompts), params, num_generations, seed))
        encode, bos = self.tokenizer.encode, self.tokenizer.bos_id
        by_prompt = {(bos, *encode(prompt(question))): lines for question, lines in self.lines.items()}
        return Generation(
            completions=tuple(
                tuple(self.completion(ids, by_prompt[tuple(ids)][index]) for index in range(num_generations))
                for ids in prompts
            ),
            usage=Usage(completion_tokens=len(prompts) * num_generations),
        )

    def completion(self, prompt_ids: Sequence[int], line: str) -> Completion:
        cut = line.endswith(CUT)
        ids = self.tokenizer.encode(line.removesuffix(CUT)) + ([] if cut else [self.tokenizer.eos_id])
        return Completion(
            prompt_ids=tuple(prompt_ids),
            token_ids=tuple(ids),
            logprobs=(0.0,) * len(ids),
            finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
            policy_version=0,
        )


def problem(question: str, answer: str) -> Problem:
    return Problem(
        id=f"chain/held_out/0/{question}",
        family="chain",
        split=Split.HELD_OUT,
        question=question,
        answer=answer,
        difficulty=1,
    )


PROBLEMS = [problem("a = 3, b = a + 4. b?", "7"), problem("a = 1, b = a + 1. b?", "2")]
RIGHT = " <think> b = seven </think> <answer> 7 </answer>"
SPANISH = " <think> b = siete seven seven seven </think> <answer> 7 </answer>"
BARE = " b is 7"
WRONG = " <think> hmm </think> <answer> 4 </answer>"
LINES = {
    PROBLEMS[0].question: [RIGHT, WRONG, SPANISH, BARE],
    PROBLEMS[1].question: [WRONG, WRONG, " <think> b = two" + CUT, " no idea"],
}
CONFIG = EvalConfig(num_samples=4, max_tokens=32, batch_size=1)


def run(
    tokenizer: Tokenizer, config: EvalConfig = CONFIG, seed: int = 5
) -> tuple[Scorecard, list[EvalSample]]:
    return evaluate(
        Script(tokenizer=tokenizer, lines=LINES),
        Renderer.ours(tokenizer),
        ChainFamily(ChainConfig()),
        problems=PROBLEMS,
        subject=SUBJECT,
        config=config,
        seed=seed,
    )


def test_every_share_is_counted_as_by_hand(tokenizer: Tokenizer) -> None:
    card, _ = run(tokenizer)
    assert card.pass_at_1.value == 2 / 8
    assert card.forgiven_pass_at_1.value == 3 / 8
    assert card.well_formed_share.value == 5 / 8
    assert card.share_with_steps.value == 3 / 8
    assert card.truncated_share.value == 1 / 8
    assert card.majority_at_k.value == 1 / 2  # 7, 4, 7 and no vote; then 4, 4 and no votes
    assert card.pass_at_k.value == 1 / 2
    assert (card.num_problems, card.num_samples, card.k, card.num_unscored) == (2, 4, 4, 0)
    assert (card.pass_at_1.num_problems, card.pass_at_1.num_samples) == (2, 8)


def test_language_consistency_is_the_mean_over_completions_with_number_words(tokenizer: Tokenizer) -> None:
    card, _ = run(tokenizer)
    # seven: 1 of 1; siete seven seven seven: 3 of 4; the one cut off: two, 1 of 1
    assert card.language_consistency.num_samples == 3
    assert card.language_consistency.value == pytest.approx((1 + 0.75 + 1) / 3)


def test_lengths_count_sampled_tokens_with_the_end_token(tokenizer: Tokenizer) -> None:
    card, samples = run(tokenizer)
    sizes = [
        len(tokenizer.encode(line.removesuffix(CUT))) + (CUT not in line)
        for lines in LINES.values()
        for line in lines
    ]
    assert [sample.num_tokens for sample in samples] == sizes
    assert card.mean_completion_tokens.value == pytest.approx(sum(sizes) / 8)
    assert card.mean_correct_tokens.value == pytest.approx((sizes[0] + sizes[2]) / 2)
    assert card.mean_correct_tokens.num_samples == 2
    assert samples[0].num_thinking_tokens == len(tokenizer.encode("b = seven"))


def test_the_vote_and_pass_at_k_look_at_k_samples(tokenizer: Tokenizer) -> None:
    config = EvalConfig(num_samples=4, max_tokens=32, k=2)
    card, _ = run(tokenizer, config)
    assert card.pass_at_k.value == pytest.approx((5 / 6 + 0) / 2)  # 1 - C(2, 2) / C(4, 2)
    assert card.majority_at_k.value == 1 / 2  # 7 and 4 tie: the first seen wins
    assert card.majority_at_k.num_samples == 4


def test_a_model_that_never_answers_has_no_length_of_correct_answers(tokenizer: Tokenizer) -> None:
    script = Script(tokenizer=tokenizer, lines={PROBLEMS[0].question: [" hm"] * 4})
    card, _ = evaluate(
        script,
        Renderer.ours(tokenizer),
        ChainFamily(ChainConfig()),
        problems=PROBLEMS[:1],
        subject=SUBJECT,
        config=CONFIG,
        seed=0,
    )
    assert card.pass_at_1.value == 0
    assert math.isnan(card.mean_correct_tokens.value) and math.isnan(card.language_consistency.value)


def test_prompts_go_in_batches_with_numbers_of_their_own(tokenizer: Tokenizer) -> None:
    script = Script(tokenizer=tokenizer, lines=LINES)
    used: list[Usage] = []
    evaluate(
        script,
        Renderer.ours(tokenizer),
        ChainFamily(ChainConfig()),
        problems=PROBLEMS,
        subject=SUBJECT,
        config=EvalConfig(num_samples=3, max_tokens=9, temperature=0.6, batch_size=1),
        seed=3,
        on_usage=used.append,
    )
    sizes, params, generations, seeds = zip(*script.calls, strict=True)
    assert sizes == (1, 1) and generations == (3, 3)
    assert params[0] == SamplingParams(max_tokens=9, temperature=0.6)
    assert len(set(seeds)) == 2, "batches must not repeat each other's random numbers"
    assert sum(used, Usage()).completion_tokens == 6


def test_the_same_seed_gives_the_same_scorecard(tokenizer: Tokenizer) -> None:
    assert run(tokenizer)[0] == run(tokenizer)[0]


def test_answers_that_could_not_be_judged_are_counted_apart(tokenizer: Tokenizer) -> None:
    class Asleep(ChainFamily):
        def verify(self, problem: Problem, answer: str) -> Verdict:
            return Verdict(outcome=Outcome.TIMED_OUT, reason="asleep")

    script = Script(tokenizer=tokenizer, lines=LINES)
    card, samples = evaluate(
        script,
        Renderer.ours(tokenizer),
        Asleep(ChainConfig()),
        problems=PROBLEMS,
        subject=SUBJECT,
        config=CONFIG,
        seed=0,
    )
    assert card.num_unscored == 8 and card.pass_at_1.value == 0
    assert samples[0].verdict.outcome is Outcome.TIMED_OUT


def test_a_scorecard_survives_json_and_lies_flat_in_one_row(tokenizer: Tokenizer) -> None:
    card, _ = run(tokenizer)
    text = json.dumps(scorecard_to_json(card), allow_nan=False)
    assert scorecard_from_json(json.loads(text)) == card
    row = headline(card)
    assert row["pass_at_1"] == card.pass_at_1.value and row["pass_at_1_low"] == card.pass_at_1.low
    assert row["stage"] == "zero" and row["suite"] == "held_out"


def test_a_damaged_scorecard_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="not a scorecard"):
        scorecard_from_json({"stage": "zero"})


def test_a_sample_for_the_report_holds_question_answer_text_and_verdict(tokenizer: Tokenizer) -> None:
    _, samples = run(tokenizer)
    data = sample_to_json(samples[1], "zero")
    assert data["problem"] == PROBLEMS[0].question and data["answer"] == "7" and data["stage"] == "zero"
    assert data["verdict"] == "wrong" and "expected 7" in data["reason"]
    assert parse(data["text"]).answer == "4"


@pytest.mark.parametrize("bad", [{"num_samples": 0}, {"k": 5}, {"temperature": -1.0}, {"batch_size": 0}])
def test_a_config_that_cannot_work_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UserError):
        parse_config(EvalConfig, bad)
