"""`openbook plan`: what it prints of a run, of a recipe, and of what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
V3 = Path(__file__).resolve().parents[2] / "fixtures" / "configs" / "deepseek-v3.json"
RUN = (V3, "--tokens", "14.8e12", "--accelerator", "h800", "--devices", "2048", "--precision", "fp8")


def test_a_run_is_forecast_with_all_that_belongs_to_it(openbook: Command) -> None:
    found = json.loads(openbook("plan", *RUN, "--json").out)
    assert found["parameters_total"] == 671_026_419_200
    assert found["flops_per_token"] == pytest.approx(250.45e9, rel=1e-4)
    assert found["flops_per_token_full"] == pytest.approx(281.15e9, rel=1e-4)
    assert found["mfu_peak"] == "dense bf16" and found["mfu_counted"] == "causal"
    assert found["gpu_hours_low"] < found["gpu_hours"] < found["gpu_hours_high"]
    assert found["cost_usd"] == pytest.approx(2 * found["gpu_hours"])
    assert set(found["cost"]) == {"rent", "own", "programme"}
    assert found["days"] == pytest.approx(found["gpu_hours"] / 2048 / 24)
    assert found["memory"]["fits"] is True
    marks = {one["mark"] for one in found["assumptions"]}
    assert {"primary", "ours"} <= marks <= {"primary", "second-hand", "ours"}
    assert any(one["stale"] for one in found["assumptions"])


def test_a_given_utilisation_and_prices_stand_over_the_forecast(openbook: Command) -> None:
    words = ("--mfu", "0.39061", "--rent", "3", "--purchase", "30000", "--electricity", "0", "--json")
    found = json.loads(openbook("plan", *RUN, *words).out)
    assert found["gpu_hours"] == pytest.approx(2.664e6, rel=1e-4)
    assert found["cost"]["rent"]["usd"] == pytest.approx(3 * found["gpu_hours"])
    assert found["own_electricity_usd"] == 0
    assert found["own_depreciation_usd"] == pytest.approx(found["gpu_hours"] * 30000 / 5 / 8760)
    rent = next(one for one in found["assumptions"] if one["name"] == "price.rent_usd_per_hour")
    assert rent["mark"] == "ours" and not rent["stale"]


def test_a_missing_price_is_null_and_one_line_says_what_supplies_it(openbook: Command) -> None:
    words = (V3, "--tokens", "1e12", "--accelerator", "h20", "--devices", "4096")
    found = json.loads(openbook("plan", *words, "--json").out)
    assert found["cost_usd"] is None and found["gpu_hours"] > 0
    assert found["missing"] == ["rent_usd_per_hour: --rent"]
    assert "not known, supplied by rent_usd_per_hour: --rent" in openbook("plan", *words).out


def test_the_text_says_first_what_how_long_and_how_much(openbook: Command) -> None:
    lines = openbook("plan", *RUN).out.splitlines()
    assert lines[0].split()[0] == "model" and "671.0B" in lines[0]
    top = "\n".join(lines[:14])
    for part in ("causal", "dense bf16 peak", "80 %", "own and depreciate", "whole programme"):
        assert part in top
    assert max(map(len, lines)) < 150


def test_one_run_is_set_beside_itself_on_other_accelerators(openbook: Command) -> None:
    words = (V3, "--tokens", "1e12", "--devices", "2048", "--compare", "h800,h100,h20,a100-80,v100")
    found = json.loads(openbook("plan", *words, "--precision", "bf16", "--json").out)["compare"]
    assert [one["accelerator"] for one in found] == ["h800", "h100", "h20", "a100-80", "v100"]
    hours = {one["accelerator"]: one.get("gpu_hours") for one in found}
    assert hours["h100"] <= hours["h800"] < hours["a100-80"] and hours["v100"] is None
    assert "v100: NVIDIA V100" in openbook("plan", *words, "--precision", "bf16").out


@pytest.mark.parametrize(("name", "usd"), [("plan/v3", 5.576e6), ("plan/r1", 5.870e6)])
def test_plan_recipes_give_the_published_sums(openbook: Command, name: str, usd: float) -> None:
    found = json.loads(openbook("plan", name, "--json").out)
    assert found["cost_usd"] == pytest.approx(usd, rel=2e-4)
    assert sum(one["gpu_hours"] for one in found["stages"]) == pytest.approx(found["gpu_hours"])
    assert "pretraining" in openbook("plan", name).out


def test_stages_with_rollouts_and_serving_say_what_they_hold(openbook: Command) -> None:
    found = json.loads(openbook("plan", "plan/reasoning", "--json").out)
    kinds = {one["kind"]: one for one in found["stages"]}
    assert set(kinds) == {"sft", "rl", "distillation", "serving"}
    assert kinds["rl"]["decode"]["memory"]["cache"] > 0
    assert found["other_usd"] > 0


def test_all_training_of_a_recipe_has_one_utilisation_and_each_its_own_cost(openbook: Command) -> None:
    found = json.loads(openbook("plan", "plan/reasoning", "--json").out)
    trained = [one["training"] for one in found["stages"] if "training" in one]
    assert min(one["mfu"] for one in trained) < found["mfu"] < max(one["mfu"] for one in trained)
    assert found["mfu_peak"] == "dense bf16"
    for one in trained:
        assert one["cost_usd"] == pytest.approx(2 * one["gpu_hours"])


def test_a_recipe_says_the_warnings_of_its_stages_once(openbook: Command, tmp_path: Path) -> None:
    stage = '[[stages]]\nkind = "sft"\ntokens = 1e9\nsequence_length = 262144\nmfu = 0.2\n'
    path = tmp_path / "long.toml"
    path.write_text(f'verb = "plan"\nmodel = "{V3}"\ndevices = 2048\n{stage}{stage}', encoding="utf-8")
    out = openbook("plan", path).out
    assert out.count("warning: sequences of 262,144 tokens exceed the model's 163,840 positions") == 1


def test_the_accelerator_that_the_guide_describes_can_be_planned_with(
    openbook: Command, tmp_path: Path
) -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "concepts" / "hardware-figures.md"
    own = tmp_path / "mine.toml"
    own.write_text(page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0], encoding="utf-8")
    words = ("--tokens", "1e12", "--accelerator", "h100", "--devices", "2048", "--accelerators", own)
    answer = openbook("plan", V3, *words)
    assert answer.code == 0 and "our contract" in answer.out
    assert "energy        not known" in answer.out
    assert "not known, supplied by purchase_usd: --purchase" in answer.out


def test_figures_and_the_model_are_changed_by_set(openbook: Command) -> None:
    usual = json.loads(openbook("plan", *RUN, "--json").out)
    changed = json.loads(openbook("plan", *RUN, "--set", "figures.power.mean_draw=0.375", "--json").out)
    assert changed["energy_kwh"]["devices"] == pytest.approx(usual["energy_kwh"]["devices"] / 2)
    shallow = json.loads(openbook("plan", *RUN, "--set", "num_hidden_layers=30", "--json").out)
    assert shallow["gpu_hours"] < usual["gpu_hours"] * 0.6


def test_a_field_that_the_file_leaves_out_can_be_set(openbook: Command, tmp_path: Path) -> None:
    document = json.loads(V3.read_text(encoding="utf-8"))
    document.pop("tie_word_embeddings")
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(document), encoding="utf-8")
    tied = json.loads(openbook("plan", bare, "--set", "tie_word_embeddings=true", "--json").out)
    assert tied["parameters_total"] == 671_026_419_200 - 129_280 * 7168
    for usual in ("tie_word_embeddings=false", "num_experts=256", "num_key_value_heads=128"):
        same = json.loads(openbook("plan", bare, "--set", usual, "--json").out)
        assert same["parameters_total"] == 671_026_419_200


def test_a_figure_that_the_user_says_is_of_today_and_listed(openbook: Command) -> None:
    words = ("--set", "figures.power.mean_draw=0.6", "--set", "figures.kernels.logit_bytes=30", "--json")
    rows = {one["name"]: one for one in json.loads(openbook("plan", *RUN, *words).out)["assumptions"]}
    usual = {one["name"]: one for one in json.loads(openbook("plan", *RUN, "--json").out)["assumptions"]}
    assert usual["power.mean_draw"]["stale"] and not rows["power.mean_draw"]["stale"]
    assert rows["kernels.logit_bytes"]["value"] == 30 and "kernels.logit_bytes" not in usual


def test_a_comparison_says_each_warning_once_with_those_that_it_is_of(openbook: Command) -> None:
    words = ("--devices", "2048", "--sequence-length", "200000", "--tokens", "1e9", "--compare", "h800,h20")
    out = openbook("plan", V3, *words).out
    assert out.count("exceed the model's 163,840 positions") == 1
    assert "warning (h800, h20): sequences of 200,000 tokens" in out
    assert "h20: not known, supplied by rent_usd_per_hour: --rent" in out


def test_a_comparison_holds_the_accelerator_that_was_named_and_each_once(openbook: Command) -> None:
    words = ("--devices", "2048", "--accelerator", "h800", "--compare", "H100,h800,h100", "--json")
    found = json.loads(openbook("plan", V3, *words).out)["compare"]
    assert [one["accelerator"] for one in found] == ["h800", "h100"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--tokens", "1e12"), "--tokens has no stage to go to"),
        (("--layout", "tp=8"), "--layout has no stage to go to"),
        (("--batch-tokens", "1e6"), "--batch-tokens has no stage to go to"),
        (("--goodput", "0.5"), "--goodput is of one run"),
        (("--compare", "h100,h20"), "--compare sets one run"),
        (("--devices", "0"), "--devices 0: not a number above 0"),
    ],
)
def test_what_a_recipe_of_stages_cannot_take_is_refused_and_not_dropped(
    openbook: Command, words: tuple[str, ...], reason: str
) -> None:
    answer = openbook("plan", "plan/v3", *words)
    assert answer.code == 2 and reason in answer.err and not answer.out


def test_without_tokens_or_devices_the_defaults_are_stated(openbook: Command) -> None:
    found = json.loads(openbook("plan", V3, "--accelerator", "h800", "--json").out)
    assert found["tokens"] == 20 * found["parameters_active"]
    assert [line.partition(":")[0] for line in found["defaults"]] == [
        "--tokens",
        "--devices",
        "--sequence-length",
        "--precision",
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--precision", "fp8", "--accelerator", "a100-80"), "cannot compute in fp8"),
        (("--precision", "bf16", "--accelerator", "v100"), "cannot compute in bf16"),
        (("--precision", "int8"), "there is no precision 'int8'"),
        (("--tokens", "0"), "--tokens 0: not a number above 0"),
        (("--tokens", "nan"), "not a number above 0"),
        (("--tokens", "1e300"), "not a number above 0 and below"),
        (("--devices", "2048", "--layout", "tp=3"), "the nearest that do"),
        (("--devices", "16"), "the nearest that fits: --devices"),
        (("--rent", "-1"), "--rent -1: a price is"),
        (("--electricity", "-1"), "at least 0"),
        (("--accelerator", "h9"), "there is no accelerator 'h9'"),
        (("--set", "figures.power.x=1"), "no figure of the forecast"),
        (("--mfu", "1.5", "--devices", "2048"), "an MFU of 1.5 is none"),
        (("--compare", "h800,none"), "there is no accelerator 'none'"),
        (("--accelerator", ""), "there is no accelerator ''"),
        (("--precision", ""), "there is no precision ''"),
        (("--accelerators", "none.toml"), "none.toml cannot be read"),
        (("--layout", "tp=0"), "--layout tp=0: at least 1"),
        (("--set", "figures.fitted.overhead=0"), "fitted.overhead = 0"),
        (("--set", "hidden_sise=64"), "did you mean 'hidden_size'?"),
        (("--devices", "2048", "--set", "quantization_config.bitz=4"), "none is read"),
    ],
)
def test_what_cannot_be_is_one_clear_line(openbook: Command, words: tuple[str, ...], reason: str) -> None:
    answer = openbook("plan", V3, *words)
    assert answer.code == 2 and reason in answer.err
    assert len(answer.err.splitlines()) == 1 and not answer.out


def test_a_recipe_of_another_verb_takes_no_options_of_a_cluster(openbook: Command) -> None:
    assert json.loads(openbook("plan", "pretrain/tiny", "--json").out)["parameters_total"] > 0
    answer = openbook("plan", "pretrain/tiny", "--tokens", "1e9")
    assert answer.code == 2 and "a recipe of verb 'pretrain'" in answer.err


def test_plan_recipes_with_unknown_fields_are_refused(openbook: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'verb = "plan"\nmodel = "{V3}"\ndevises = 8\nstages = []\n', encoding="utf-8")
    assert "devises: unknown key; did you mean 'devices'" in openbook("plan", path).err
    path.write_text(
        f'verb = "plan"\nmodel = "{V3}"\nrent_usd_per_hour = -2\n'
        '[[stages]]\nkind = "hours"\ndevice_hours = 1\nsource = "me"\n',
        encoding="utf-8",
    )
    assert "a price is a number that is not negative" in openbook("plan", path).err
