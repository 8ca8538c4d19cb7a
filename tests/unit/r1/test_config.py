"""What a recipe may not say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from openbook.cli.shelf import all_recipes
from openbook.config import dump, load_recipe, parse, parse_schema
from openbook.errors import UserError
from openbook.r1.config import MachineConfig, RewardModelConfig, SamplingConfig, StoryConfig
from openbook.r1.schemas import SCHEMAS

TINY: StoryConfig = load_recipe(all_recipes()["run/tiny"], SCHEMAS).config


@pytest.mark.parametrize(
    ("cls", "good", "field", "bad"),
    [
        (MachineConfig, {}, "num_threads", -1),
        (SamplingConfig, {"num_problems": 1}, "num_problems", 0),
        (SamplingConfig, {"num_problems": 1}, "num_generations", 0),
        (SamplingConfig, {"num_problems": 1}, "max_tokens", 0),
        (SamplingConfig, {"num_problems": 1}, "keep_per_problem", 0),
        (SamplingConfig, {"num_problems": 1}, "temperature", -0.1),
        (SamplingConfig, {"num_problems": 1}, "min_consistency", 1.1),
        (SamplingConfig, {"num_problems": 1}, "min_consistency", -0.1),
        (RewardModelConfig, {}, "num_pairs", 0),
        (RewardModelConfig, {}, "num_steps", 0),
        (RewardModelConfig, {}, "pairs_per_step", 0),
    ],
)
def test_what_cannot_be_is_refused_by_name(cls: type, good: dict[str, Any], field: str, bad: float) -> None:
    parse(cls, good)
    with pytest.raises(UserError, match=f"here: .*{field}"):
        parse(cls, {**good, field: bad}, where="here")


@pytest.mark.parametrize(("field", "least"), [("base_samples", 1), ("num_kept_samples", 0)])
def test_an_examination_takes_no_negative_sizes(field: str, least: int) -> None:
    assert getattr(replace(TINY.exam, **{field: least}), field) == least
    with pytest.raises(ValueError, match=field):
        replace(TINY.exam, **{field: least - 1})


def test_a_story_needs_harder_problems_and_an_examination_by_itself_does_not() -> None:
    without = replace(TINY.exam, harder=None)
    with pytest.raises(ValueError, match=r"exam\.harder is missing"):
        replace(TINY, exam=without)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_between_nothing_and_all(share: float) -> None:
    with pytest.raises(ValueError, match="courtesy_share must be 0 to 1"):
        replace(TINY.all_scenarios, courtesy_share=share)


@pytest.mark.parametrize("model", ["model", "student"])
def test_a_model_has_room_for_every_token_of_its_tokenizer(model: str) -> None:
    small = replace(getattr(TINY, model), vocab_size=TINY.vocab_size - 1)
    with pytest.raises(ValueError, match="the tokenizer has 400 tokens and a model only 399"):
        replace(TINY, **{model: small})
    replace(TINY, **{model: replace(small, vocab_size=TINY.vocab_size + 8)})


@pytest.mark.parametrize("name", all_recipes())
def test_a_recipe_survives_being_written_down(name: str) -> None:
    recipe = load_recipe(all_recipes()[name], SCHEMAS)
    assert parse_schema(SCHEMAS[recipe.verb], dump(recipe.config)) == recipe.config
