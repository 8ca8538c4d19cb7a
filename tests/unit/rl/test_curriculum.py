"""A curriculum goes by what was solved: away from levels solved always or never, without forgetting them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from openbook.config import parse
from openbook.errors import UserError
from openbook.rl.curriculum import Curriculum
from openbook.rl.curriculum_config import CurriculumConfig
from openbook.rl.types import Group, Rollout
from openbook.tasks.problem import Outcome, Problem, Split

LEVELS = ("easy", "middle", "hard")
MakeRollout = Callable[..., Rollout]
MakeGroups = Callable[[Mapping[str, Sequence[Outcome]]], list[Group]]


def problem_of(level: str, index: int) -> Problem:
    return Problem(
        id=f"{level}/{index}", family=level, split=Split.TRAIN, question="?", answer="7", difficulty=1
    )


def make(config: CurriculumConfig | None = None, *, seed: int = 0) -> Curriculum:
    return Curriculum(config or CurriculumConfig(), LEVELS, problem_of, seed=seed)


@pytest.fixture
def make_groups(make_rollout: MakeRollout) -> MakeGroups:
    """`make_groups({"easy": [Outcome.CORRECT, ...]})`: one group a level, with these outcomes."""

    def group(level: str, outcomes: Sequence[Outcome]) -> Group:
        rollouts = (make_rollout(outcome=outcome) for outcome in outcomes)
        problem = problem_of(level, 0)
        return Group(
            rollouts=tuple(replace(one, attempt=replace(one.attempt, problem=problem)) for one in rollouts)
        )

    return lambda found: [group(level, outcomes) for level, outcomes in found.items()]


def outcomes(num_correct: int, num_wrong: int) -> list[Outcome]:
    return [Outcome.CORRECT] * num_correct + [Outcome.WRONG] * num_wrong


def test_of_what_is_unknown_every_level_is_as_likely() -> None:
    curriculum = make()
    assert curriculum.pass_rates() == dict.fromkeys(LEVELS, 0.5)
    assert curriculum.shares() == pytest.approx(dict.fromkeys(LEVELS, 1 / 3))
    counts = Counter(one.family for one in curriculum.draw(0, 3000))
    assert all(900 < counts[level] < 1100 for level in LEVELS), counts


def test_shares_move_away_from_levels_solved_always_or_never(make_groups: MakeGroups) -> None:
    curriculum, config = make(), CurriculumConfig()
    seen = []
    for _ in range(20):
        curriculum.observe(
            make_groups({"easy": outcomes(16, 0), "middle": outcomes(8, 8), "hard": outcomes(0, 16)})
        )
        seen.append(curriculum.shares()["middle"])
    assert seen == sorted(seen) and seen[-1] > 0.85
    shares = curriculum.shares()
    assert shares["easy"] == pytest.approx(shares["hard"])
    assert config.floor < shares["easy"] < 0.08, "the floor, and what is left of doubt"
    assert sum(shares.values()) == pytest.approx(1.0)


def test_the_floor_keeps_asking_until_a_level_is_within_reach(make_groups: MakeGroups) -> None:
    curriculum = make()
    for _ in range(20):
        curriculum.observe(make_groups({"middle": outcomes(8, 8), "hard": outcomes(0, 16)}))
    asked = [one for one in curriculum.draw(0, 400) if one.family == "hard"]
    assert len(asked) > 8
    before = curriculum.shares()["hard"]
    for _ in range(10):
        curriculum.observe(make_groups({"hard": outcomes(8, 8)}))
    assert curriculum.shares()["hard"] > 4 * before


def test_the_rates_are_those_of_the_formula(make_groups: MakeGroups) -> None:
    curriculum = make(CurriculumConfig(decay=0.5, floor=0.1))
    curriculum.observe(make_groups({"easy": outcomes(3, 1)}))
    curriculum.observe(make_groups({"easy": outcomes(1, 1)}))
    rate = (0.5 * 3 + 1 + 1) / (0.5 * 4 + 2 + 2)
    assert curriculum.pass_rates() == {"easy": rate, "middle": 0.5, "hard": 0.5}
    weight = rate * (1 - rate)
    assert curriculum.shares()["easy"] == pytest.approx(0.1 + 0.7 * weight / (weight + 0.5))


def test_what_could_not_be_judged_says_nothing(make_groups: MakeGroups) -> None:
    curriculum = make()
    curriculum.observe(make_groups({"easy": [Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.UNSCORABLE]}))
    assert curriculum.state() == make().state()


def test_draws_depend_on_seed_position_and_state_alone(make_groups: MakeGroups) -> None:
    first, again, other = make(), make(), make(seed=1)
    whole = first.draw(10, 40)
    assert whole == again.draw(10, 15) + again.draw(25, 25), "whatever is drawn at once"
    assert whole != other.draw(10, 40)
    assert len({one.id for one in whole}) == 40
    first.observe(make_groups({"easy": outcomes(16, 0), "hard": outcomes(1, 2)}))
    assert first.draw(10, 40) != whole
    again.restore(json.loads(json.dumps(first.state())))
    assert again.draw(10, 40) == first.draw(10, 40)
    assert again.state() == first.state()
    again.restore({})
    assert again.draw(10, 40) == whole


def test_with_a_floor_of_everything_levels_stay_equal(make_groups: MakeGroups) -> None:
    curriculum = make(CurriculumConfig(floor=1 / 3))
    curriculum.observe(make_groups({"easy": outcomes(16, 0)}))
    assert curriculum.shares() == pytest.approx(dict.fromkeys(LEVELS, 1 / 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"decay": 1.5}, "decay must be 0 to 1"), ({"floor": -0.1}, "floor must be 0 to 1")],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(CurriculumConfig, settings)


def test_floors_that_add_up_to_more_than_all_are_refused_with_the_arithmetic() -> None:
    with pytest.raises(ValueError, match=r"3 levels .* floor = 0.5 each would be 1.5 .* 0.333333 at most"):
        make(CurriculumConfig(floor=0.5))
    with pytest.raises(ValueError, match="at least 2 levels"):
        CurriculumConfig().check(1)
