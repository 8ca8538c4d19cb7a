"""The RL benchmark: what a case measures, against whom, and what the machine allows, with stubs for both."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from openbook.bench.case import Case, Setting, run_case
from openbook.bench.contest import Runner
from openbook.bench.rl import (
    ALL,
    CASES,
    DENSE_1M,
    DENSE_9M,
    MOE_2M,
    SUBJECTS,
    TAKEN_AWAY,
    Stage,
    Subject,
    prepare_against_trl,
    prepare_options,
    prepare_ties,
    rate_lines,
    sampling_flops,
    training_flops,
)
from openbook.bench.rl_timing import StepTiming
from openbook.bench.rl_work import FILE_NAME, MODEL_FOLDER, Options, RLWork
from openbook.kernels.limits import Limits
from openbook.model.cost import count
from openbook.model.transformer import Transformer

Started = list[tuple[str, str]]


class KnownLimits(Limits):
    def gemm_rate(self, num_threads: int, dtype: object) -> float:
        return 2e9 if str(dtype) == "torch.bfloat16" else 1e9


@pytest.fixture
def setting() -> Setting:
    return Setting(
        repeats=2, find_smollm2=Path, nano_recipe=Path(), cache_folder=Path(), limits=KnownLimits()
    )


@pytest.fixture
def subject(make_tiny: Callable[..., Transformer]) -> Subject:
    return Subject(
        name="tiny",
        about="tiny",
        load=lambda _: make_tiny(gqa=True),
        num_problems=2,
        num_generations=2,
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Contestants that only say who they are: ours is twice as fast as anybody else."""
    found: Started = []

    def run(self: Stage, name: str, module: str, how: str, stack: ExitStack) -> Runner[StepTiming]:
        assert (self.folder / FILE_NAME).is_file() and (self.folder / MODEL_FOLDER).is_dir()
        found.append((module.rpartition(".")[2], how))
        seconds = 1.0 if how == json.dumps(asdict(ALL)) else 2.0
        return lambda number: StepTiming(
            num_new_tokens=self.work.num_new_tokens,
            sampling_seconds=seconds / 2,
            seconds=seconds,
            cpu_seconds=seconds,
            peak_bytes=10**8,
            startup_seconds=3.0,
            installed_bytes=10**9,
        )

    monkeypatch.setattr(Stage, "_run", run)
    return found


def the_case(subject: Subject, prepare: object) -> Case:
    return Case(
        name="tiny",
        about="",
        num_threads=1,
        prepare=lambda *rest: prepare(subject, *rest),  # type: ignore[operator]
    )


def test_trl_is_met_tuned_and_with_its_defaults_in_every_figure(
    setting: Setting, subject: Subject, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openbook.bench.case.importlib.util.find_spec", lambda _: True)
    found = run_case(the_case(subject, prepare_against_trl), setting, lambda _: None)
    assert {one.peer_name for one in found} == {"TRL tuned", "TRL tuned, bf16", "TRL defaults"}
    by_name = {one.name: one for one in found if one.peer_name == "TRL tuned"}
    assert list(by_name) == [
        f"tiny{end}" for end in ("", "-cpu", "-sampling", "-start", "-memory", "-installed")
    ]
    assert by_name["tiny"].ours == 2 * 2 * 64 and by_name["tiny"].ratio == 2.0
    assert by_name["tiny-start"].ratio == 1.0 and by_name["tiny-memory"].ours == 100.0
    assert started[0] == ("rl_ours", json.dumps(asdict(ALL)))
    assert [one for one in started if one[0] == "trl"] == [
        ("trl", "tuned"),
        ("trl", "tuned-bf16"),
        ("trl", "defaults"),
    ]


def test_trl_that_is_not_installed_is_named(
    setting: Setting, subject: Subject, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openbook.bench.case.importlib.util.find_spec", lambda _: None)
    found = run_case(the_case(subject, prepare_against_trl), setting, lambda _: None)
    assert all(one.peer is None and one.ratio is None for one in found)
    reason = "TRL tuned is missing: no trl and no datasets and no accelerate; pip install 'openbook[trl]'"
    assert reason in found[0].notes
    assert [module for module, _ in started] == ["rl_ours"]


def test_each_of_our_options_is_taken_away_alone_and_all_together(
    setting: Setting, subject: Subject, started: Started
) -> None:
    found = run_case(the_case(subject, prepare_options), setting, lambda _: None)
    assert {one.peer_name for one in found} == set(TAKEN_AWAY)
    told = [Options(**json.loads(how)) for _, how in started]
    others = [sum(value != asdict(ALL)[name] for name, value in asdict(options).items()) for options in told]
    assert others == [0, 1, 1, 1, 1, 1, 3, 5]


def test_routing_replay_is_an_option_where_there_are_experts(
    setting: Setting, subject: Subject, started: Started, make_tiny: Callable[..., Transformer]
) -> None:
    moe = replace(subject, load=lambda _: make_tiny())
    found = run_case(the_case(moe, prepare_options), setting, lambda _: None)
    assert {one.peer_name for one in found} == {*TAKEN_AWAY, "openbook without routing replay"}


def test_ties_are_part_of_the_work_and_skipping_is_ours(
    setting: Setting, subject: Subject, started: Started
) -> None:
    with ExitStack() as stack:
        assert subject.stage(setting, 1, stack, half_tie=True).work.half_tie
        contest = prepare_ties(subject, setting, 1, stack)
        for peer in contest.peers:
            peer.open(stack)
    assert [how for _, how in started] == [
        json.dumps(asdict(ALL)),
        json.dumps(asdict(replace(ALL, skip_zero_advantages=False))),
        "tuned",
    ]


def test_learning_costs_three_times_the_sampling_and_the_limit_is_that_of_both(
    setting: Setting, subject: Subject
) -> None:
    with ExitStack() as stack:
        stage = subject.stage(setting, 1, stack)
        whole, by_cpu, sampling = rate_lines(stage, setting)
    assert training_flops(stage) == 3 * sampling_flops(stage)
    per_token = count(stage.config).forward_flops_per_token(0).total
    assert sampling_flops(stage) > stage.work.num_new_tokens * per_token
    assert sampling.limit == pytest.approx(stage.work.num_new_tokens * 2e9 / sampling_flops(stage))
    assert whole.limit == by_cpu.limit == pytest.approx(sampling.limit / 4)


def test_the_models_are_of_the_sizes_that_they_are_named_for() -> None:
    sizes = [count(config).parameters_total for config in (DENSE_1M, DENSE_9M, MOE_2M)]
    assert sizes == [1_061_248, 9_405_184, pytest.approx(1.9e6, rel=0.02)]
    assert [subject.num_problems * subject.num_generations for subject in SUBJECTS] == [64, 16, 16, 16]


def test_every_model_has_three_kinds_of_case_of_one_thread() -> None:
    assert [case.name for case in CASES[:3]] == ["dense-1m-trl", "dense-1m-options", "dense-1m-ties"]
    assert all(case.num_threads == 1 for case in CASES)


def test_a_large_model_without_each_option_is_cut_into_cases_that_fit_into_memory(
    setting: Setting, subject: Subject, started: Started
) -> None:
    names = [case.name for case in CASES if case.name.startswith("smollm2-options")]
    assert names == ["smollm2-options-1", "smollm2-options-2", "smollm2-options-3"]
    large = replace(subject, most_variants=3)
    with ExitStack() as stack:
        shown = [
            peer.name
            for first in (0, 3, 6)
            for peer in prepare_options(large, setting, 1, stack, first=first).peers
        ]
    assert shown == list(TAKEN_AWAY)


def test_the_work_has_prompts_for_the_warm_up_and_every_round(setting: Setting, subject: Subject) -> None:
    with ExitStack() as stack:
        stage = subject.stage(setting, 1, stack)
        assert RLWork.load(stage.folder) == stage.work and stage.work.num_rounds == 3
    assert not stage.folder.exists()
