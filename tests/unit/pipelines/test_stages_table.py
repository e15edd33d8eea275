"""How values reach stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import Settings
from fewlabel.pipelines.recipes import Recipe
from fewlabel.pipelines.settings_reference import markdown_table, setting_rows
from fewlabel.pipelines.stage_table import STAGES, route, section, settings_class, stage_settings
from fewlabel.pipelines.train import CHAIN


@pytest.mark.parametrize("name", STAGES)
def test_the_table_fits_the_stages(name: str) -> None:
    stage = STAGES[name]
    kind = settings_class(name)
    assert issubclass(kind, Settings)
    assert {stage.main, *stage.links} <= set(kind.model_fields)


def test_unknown_stages_get_the_near_one() -> None:
    with pytest.raises(SettingsError, match=r"Unknown stage \"pretrian\"\. Did you mean pretrain\?"):
        settings_class("pretrian")


def test_bare_keys_go_to_every_stage_that_has_them() -> None:
    routed = route({"seed": 3, "steps": 7, "labelled": 2, "method": "simclr", "regime": "supervised"}, CHAIN)
    assert {name for name, values in routed.items() if "seed" in values} == set(CHAIN)
    assert {name for name, values in routed.items() if "steps" in values} == {"pretrain", "finetune"}
    assert routed["finetune"]["labelled"] == 2
    assert routed["pretrain"]["method"] == "simclr"
    assert routed["finetune"]["regime"] == "supervised"


def test_what_a_stage_is_told_by_name_wins_in_any_order() -> None:
    for values in ({"steps": 7, "pretrain": {"steps": 9}}, {"pretrain": {"steps": 9}, "steps": 7}):
        routed = route(values, CHAIN)
        assert (routed["pretrain"]["steps"], routed["finetune"]["steps"]) == (9, 7)


def test_nested_bare_keys_join_those_by_name() -> None:
    routed = route({"optimiser": {"lr": 0.1}, "finetune": {"optimiser": {"clip": 1.0}}}, CHAIN)
    assert routed["pretrain"]["optimiser"] == {"lr": 0.1}
    assert routed["finetune"]["optimiser"] == {"lr": 0.1, "clip": 1.0}


def test_every_unknown_key_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        route({"stepz": 1, "pretrain": 4, "zzzz": 2, "finetune": {"encoder": "e", "resume": True}}, CHAIN)
    told = [str(fault) for fault in caught.value.faults]
    assert "stepz: unknown setting. Did you mean steps?" in told
    assert "pretrain: is a stage and takes no value, not 4. Write pretrain.KEY=VALUE." in told
    assert any(line.startswith("zzzz: unknown setting. Choose from ") and " augment, batch, " in line for line in told)
    assert "finetune.encoder: is set by the pipeline itself. Leave it out." in told
    assert "finetune.resume: is set by the pipeline itself. Leave it out." in told


@pytest.mark.parametrize("key", ["encoder", "segmenter", "scans", "out", "resume"])
def test_links_between_stages_are_not_for_the_user(key: str) -> None:
    with pytest.raises(SettingsError):
        route({key: "x"}, CHAIN)


def test_a_stage_takes_its_section_and_the_bare_keys_it_knows() -> None:
    values = {"seed": 1, "labelled": 2, "steps": 5, "pretrain": {"steps": 9}, "finetune": {"mode": "frozen"}}
    recipe = Recipe("mine", "", values)
    assert section(recipe, "pretrain", settings_class("pretrain").model_fields) == {
        "seed": 1,
        "steps": 9,
        "labelled": 2,
    }
    assert section(recipe, "finetune", settings_class("finetune").model_fields) == {
        "seed": 1, "labelled": 2, "steps": 5, "mode": "frozen",
    }  # fmt: skip
    with pytest.raises(SettingsError, match="mine: pretrain: must hold settings, not 3"):
        section(Recipe("mine", "", {"pretrain": 3}), "pretrain", [])


def test_values_win_over_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps: 5\npretrain:\n  method: {name: gcl, temperature: 0.5}\n  optimiser: {lr: 1e-2}\n")
    values = {"data": "p", "out": "e", "method": {"dim": 32}, "optimiser": {"clip": 1.0}}
    built = stage_settings("pretrain", values, recipe).record()
    assert built["steps"] == 5
    assert (built["method"]["temperature"], built["method"]["dim"]) == (0.5, 32)
    assert (built["optimiser"]["lr"], built["optimiser"]["clip"]) == (0.01, 1.0)


def test_rows_of_pipelines_and_stages() -> None:
    keys = [row["key"] for row in setting_rows("train")]
    assert keys[:3] == ["data", "out", "resume"]
    assert "hearts" in {row["key"] for row in setting_rows("demo")}
    chosen = {row["key"] for row in setting_rows("pretrain", {"method": "simclr"})}
    assert "method.dim" in chosen
    assert "method.beta" not in chosen


def test_markdown_cells_hold_no_bars() -> None:
    row = {"key": "a", "type": "x | y", "default": "x", "unit": "", "doc": "one | two", "source": ""}
    lines = markdown_table([row]).splitlines()
    assert lines[2] == r"| `a` | x or y | `x` |  | one \| two |  |"
