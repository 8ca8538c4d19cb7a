"""The work of an RL step: text and ids say the same, rewards are a function of tokens, nothing ends early."""

from __future__ import annotations

from pathlib import Path

from openbook.bench.contest import WARM_UP
from openbook.bench.rl_work import END, RLWork, text_of, word_tokenizer

WORK = RLWork(vocab_size=50, num_problems=4, num_generations=3, num_rounds=3, max_tokens=5, prompt_tokens=7)


def test_a_prompt_as_text_reads_as_exactly_its_tokens() -> None:
    backend = word_tokenizer(50)
    for prompt in WORK.prompts(0):
        assert backend.encode(text_of(prompt)).ids == prompt
        assert backend.decode(prompt) == text_of(prompt)


def test_the_end_of_a_text_lies_behind_the_vocabulary_of_the_model() -> None:
    assert word_tokenizer(50).token_to_id(END) == 50


def test_every_round_has_its_own_prompts_and_the_same_each_time() -> None:
    rounds = [WORK.prompts(number) for number in (WARM_UP, 0, 1)]
    assert [len(prompts) for prompts in rounds] == [4, 4, 4]
    assert all(len(prompt) == 7 and max(prompt) < 50 for prompts in rounds for prompt in prompts)
    assert len({tuple(prompt) for prompts in rounds for prompt in prompts}) == 12
    assert rounds[1] == WORK.prompts(0)


def test_a_reward_is_a_function_of_the_tokens() -> None:
    first, second, again = WORK.rewards(1, [[1, 2, 3], [40, 40, 40], [3, 2, 1]])
    assert (first, again) == (6 / 96, 6 / 96) and second == 23 / 96


def test_where_half_tie_every_other_prompt_pays_all_the_same() -> None:
    tied = RLWork(vocab_size=50, num_problems=4, num_generations=3, num_rounds=3, half_tie=True)
    spread = [len(set(tied.rewards(number, [[1], [2], [3]]))) for number in range(4)]
    assert spread == [3, 1, 3, 1]


def test_work_is_read_as_it_was_written(tmp_path: Path) -> None:
    WORK.save(tmp_path)
    assert RLWork.load(tmp_path) == WORK
    assert (WORK.num_completions, WORK.num_new_tokens) == (12, 60)
