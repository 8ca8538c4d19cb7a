from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from openbook.config import parse
from openbook.errors import UserError
from openbook.rl.aliases import ALIASES
from openbook.rl.config import RLConfig

R1 = {"epsilon": 10.0, "beta": 0.001, "num_problems": 32, "num_generations": 16, "num_minibatches": 16}


@pytest.mark.parametrize(
    "table",
    [
        {},
        R1,
        {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.0, "dynamic_sampling": True},
        {"loss_type": "dapo", "clip_ratio_c": 3.0, "delta": 4.0},
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        {"loss_type": "cispo", "epsilon_high": 5.0},
        {"loss_type": "gspo", "epsilon": 3e-4, "epsilon_high": 4e-4, "beta": 0.0, "num_minibatches": 4},
        {"loss_type": "gspo", "importance_sampling_level": "sequence"},
        {"loss_type": "sapo", "sapo_temperature_neg": 2.0},
        {"loss_type": "reinforce", "baseline": "leave_one_out", "kl_in": "reward", "kl_estimator": "k1"},
        {"old_logprobs": "trainer", "importance_correction": "sequence_mask", "importance_cap": 3.0},
        {"use_bias_correction_kl": True, "off_policy_mask_threshold": 1e-4, "num_iterations": 2},
    ],
    ids=str,
)
def test_what_the_papers_do_is_accepted(table: dict[str, Any]) -> None:
    parse(RLConfig, {"num_steps": 1, **table})


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"loss_type": "cispo", "epsilon_high": 5.0, "delta": 2.0}, "delta is 2.0, but loss_type 'cispo'"),
        ({"loss_type": "reinforce", "epsilon_high": 0.28}, "it reads no option"),
        ({"loss_type": "reinforce", "epsilon": 0.1}, "epsilon is 0.1, but loss_type 'reinforce'"),
        ({"loss_type": "sapo", "clip_ratio_c": 3.0}, "it reads sapo_temperature_pos"),
        ({"sapo_temperature_pos": 2.0}, "loss_type 'grpo' does not read it"),
        ({"cispo_ratio_min": 0.5}, "loss_type 'grpo' does not read it"),
        ({"loss_type": "cispo"}, "epsilon_high is none; for cispo it is the cap"),
        ({"loss_type": "cispo", "epsilon_high": 0.28}, "epsilon_high is 0.28; for cispo it is the cap"),
        ({"epsilon_high": 0.28, "delta": 1.28}, "not above the clip at 1 + 0.28 = 1.28"),
        ({"clip_ratio_c": 1.0}, "clip_ratio_c is 1.0"),
        ({"top_entropy_quantile": 0.0}, "a share above 0"),
        ({"sapo_temperature_neg": 0.0, "loss_type": "sapo"}, "must be above 0"),
        ({"beta": 0.0, "kl_in": "reward"}, "kl_in is 'reward', but beta is 0"),
        ({"beta": 0.0, "use_bias_correction_kl": True}, "but beta is 0"),
        ({"beta": 0.0, "kl_estimator": "k1"}, "but beta is 0"),
        ({"kl_in": "reward", "use_bias_correction_kl": True}, "corrects the KL of the loss"),
        ({"importance_correction": "token_mask"}, "exp(sampler - sampler) = 1: set old_logprobs"),
        ({"importance_cap": 2.0}, "but importance_correction is 'none'"),
        (
            {"importance_correction": "token_mask", "old_logprobs": "trainer", "importance_cap": 0.5},
            "between 0.0 and 0.5 leave out 1",
        ),
        ({"num_problems": 6, "num_minibatches": 4}, "into 4 minibatches: 6 / 4 = 1.5"),
        ({"num_problems": 2, "num_generations": 8, "num_minibatches": 4}, "2 / 4 = 0.5"),
        ({"num_generations": 1}, "at least 2 to be compared"),
        ({"num_iterations": 0}, "num_iterations must be at least 1"),
        ({"max_tokens": 64, "tokens_per_batch": 64}, "is 65 or more, and tokens_per_batch = 64"),
        ({"max_generation_batches": 3}, "but dynamic_sampling is off"),
        ({"max_staleness": -1}, "max_staleness must be at least 0"),
        ({"epsilon": -0.1}, "epsilon must be at least 0"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_the_arithmetic(table: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=re.escape(complaint)):
        parse(RLConfig, {"num_steps": 1, **table})


def test_a_name_of_verl_is_answered_with_ours() -> None:
    with pytest.raises(UserError, match=r"zero\.clip_ratio_high: unknown key; here that is epsilon_high"):
        parse(RLConfig, {"num_steps": 1, "clip_ratio_high": 0.28}, where="zero")
    with pytest.raises(UserError, match="did you mean 'epsilon_high'"):
        parse(RLConfig, {"num_steps": 1, "epsilon_hgih": 0.28})


def test_no_alias_is_a_name_of_ours_and_each_begins_with_one_or_a_word() -> None:
    ours = set(RLConfig.__dataclass_fields__)
    assert not ours & ALIASES.keys()
    named = {word.strip(",;=") for hint in ALIASES.values() for word in hint.replace(".", " ").split()}
    assert len(named & ours) >= 20


PAGE = (Path(__file__).parents[3] / "docs/concepts/rl.md").read_text(encoding="utf-8")


def test_the_settings_on_the_page_of_concepts_are_accepted() -> None:
    snippets = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(snippets) >= 4
    for snippet in snippets:
        parse(RLConfig, {"num_steps": 1, **tomllib.loads(snippet)})


def test_the_table_of_verls_names_is_what_recipes_are_answered_with() -> None:
    table = PAGE[PAGE.index("| verl | here |") : PAGE.index("## Preferences")]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert names - {"clip_ratio_c"} <= ALIASES.keys() and len(names) > 20
