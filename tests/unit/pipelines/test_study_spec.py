"""What a study may say, and that all that is wrong with it is told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.pipelines.study import study_names, study_of, study_values
from fewlabel.pipelines.study.arms import arm_plans
from fewlabel.pipelines.study.published import published_of, read_table, table_names
from fewlabel.pipelines.study.spec import numbers_of
from kit.studies import SPEC


def faults_of(values: dict[str, Any], **over: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        arm_plans(study_of(values, {"data": "d", "out": "o", **over}))
    return str(caught.value)


def test_a_file_names_and_mappings_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("arms: {one: {method: gcl}, two: }\nbudgets: [1, 8, all]\ndraws: [0, 2]\nfinetune: {steps: 10}\n")
    study = study_of(path, {"data": "d", "out": "o"})
    assert study.settings.name == "mine"
    assert list(study.arms) == ["one", "two"]
    assert (study.control, study.settings.budgets, numbers_of(study.settings.draws)) == ("one", (1, 8, "all"), (0, 2))
    same = study_of(study_values(path), {"data": "d", "out": "o"})
    assert same.settings == study.settings


def test_every_fault_is_told_at_once() -> None:
    values = {
        "arms": {"a": {"method": "gcl", "regmie": "x"}, "b": {"pretrain_on": ["acdc"]}, "c": 3},
        "control": "d",
        "budgets": [2, 1],
        "draws": 0,
        "claims": [{"text": "b is best", "better": "b"}],
        "seed": 4,
    }
    told = faults_of(values)
    for words in (
        "arms.a.regmie: unknown setting. Did you mean regime?",
        "arms.c: must hold settings, not 3",
        'there is no source "acdc"',
        'control: there is no arm "d"',
        "budgets: must be numbers from 1 in rising order",
        "draws: must say how many, 1 to 1000",
        "claims.0.than: this setting is required",
        "seed: unknown setting. Did you mean seeds?",
    ):
        assert words in told
    assert "arms: must name one arm or more" in faults_of({"arms": {}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must map names to settings, not hold nothing"),
        ("arms: {a: {}}\narms: {b: {}}", '"arms" is there twice in what begins in line 1'),
        ("arms: {a: {finetune: [{1e999: 1}]}}\n", "odd.yaml has inf in the place of a name"),
        ("arms: {a: {null: 1, 1.5: 2}}", "has None, 1.5 in the place of a name"),
        ("arms: &all {a: *all}", "what begins in line 1 holds itself"),
        ("arms: {a: }\nsizes: {lite: 3}\nsize: lite", "sizes.lite: must hold settings, not 3"),
        ("arms: {a: }\nsizes: {lite: {}}\nsize: [lite]", 'size: must be text, not ["lite"]'),
        ("arms: [a]", 'arms: must hold names and their values, not ["a"]'),
        ('arms: {"": {}}', "arms: '' cannot name an arm"),
        ('arms: {"a\\nb": {}}', "cannot name an arm. Use a line of 1 to 60 characters"),
        ("arms: {a: {finetune: {network: 3}}}", "arms.a.finetune.network: must hold settings, not 3"),
        ("arms: {a: {budgets: [2, 1]}}", "arms.a.budgets: must be numbers from 1 in rising order"),
        ("arms: {a: }\nbudgets: 3", "Write a list, such as budgets=[3]."),
        ("arms: {a: }\ndraws: 99999999999", "draws: must say how many, 1 to 1000"),
        ("arms: {a: }\nskip: [a]", "skip: leaves out every arm"),
        ("arms: {a: }\nsources: {own: {data: x}}", "sources.own: names the data of the study itself"),
        ("arms: {a: {method: gcl, pretrain_on: []}}", "arms.a.pretrain_on: must name different data, one or more"),
        ("arms: {a: {method: gcl, pretrain_on: [own, own]}}", "arms.a.pretrain_on: must name different data"),
        ("arms: {a: }\nclaims: [{text: x, better: a, than: a}]", 'claims.0.than: compares "a" with itself'),
    ],
)
def test_files_of_the_wrong_shape_end_in_a_fault_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        arm_plans(study_of(path, {"data": "d", "out": "o"}))
    assert words in str(caught.value)


def test_settings_of_a_method_without_its_name_are_those_of_the_default_one() -> None:
    plans = arm_plans(study_of({**SPEC, "arms": {"a": {"method": {"dim": 8}}}}, {"data": "d", "out": "o"}))
    assert not plans["a"].uses_labels


def test_faults_of_the_stages_are_told_at_their_arm_and_together() -> None:
    arms = {
        "a": {"method": "glc", "finetune": {"step": 3}},
        "b": {"regime": {"name": "fixmatch", "treshold": 1}, "evaluate": {"postprocess": 3}},
        "c": {"finetune": {"labelled": 2, "seed": 1}, "pretrain_on": ["own"], "pretrain": {"steps": 2}},
    }
    told = faults_of({"arms": arms, "finetune": {"control": True}})
    assert "arms.c.finetune.labelled: is set by the study itself. Use budgets and draws for it." in told
    assert "arms.c.finetune.seed: is set by the study itself. Use seeds for it." in told
    assert "finetune.control: is set by the study itself. Use control for it." in told
    assert "arms.c.pretrain: has no effect without a method" in told
    del arms["c"]
    told = faults_of({"arms": arms})
    assert 'arms.a.pretrain.method: unknown method "glc". Did you mean ' in told
    assert "arms.a.finetune.step: unknown setting. Did you mean steps?" in told
    assert "arms.b.finetune.regime.treshold" in told
    assert "arms.b.evaluate.postprocess" in told


def test_arms_stand_on_the_study_which_stands_on_the_recipe() -> None:
    arms = {"a": {"method": {"name": "gcl", "temperature": 0.5}, "finetune": {"steps": 7}}, "b": {"regime": "mixup"}}
    values = {**SPEC, "arms": arms}
    plans = arm_plans(study_of(values, {"data": "d", "out": "o"}))
    assert plans["a"].pretrain is not None
    # Of the recipe, as the method is the same.
    assert plans["a"].pretrain["augment"]["flip_horizontal"] == 0
    assert plans["a"].pretrain["method"] == {"name": "gcl", "temperature": 0.5}
    assert (plans["a"].finetune["steps"], plans["b"].finetune["steps"]) == (7, 2)
    assert plans["b"].finetune["regime"] == {"name": "mixup"} or plans["b"].finetune["regime"] == "mixup"
    assert plans["b"].finetune["expect"] == "never"
    assert plans["b"].finetune["network"]["width"] == 4
    assert (plans["b"].pretrain, plans["a"].uses_labels) == (None, False)
    patches = {"arms": {"a": {"finetune": {"patch": [8, 16, 16]}}}, "recipe": "default"}
    assert "view" not in arm_plans(study_of(patches, {"data": "d", "out": "o"}))["a"].finetune


def test_a_size_is_over_the_study_and_the_user_over_both() -> None:
    values = {**SPEC, "sizes": {"lite": {"draws": 1, "finetune": {"steps": 3}}, "paper": None}, "size": "lite"}
    lite = study_of(values, {"data": "d", "out": "o"})
    assert (lite.settings.draws, lite.settings.finetune["steps"], lite.settings.finetune["batch"]) == (1, 3, 4)
    assert study_of(values, {"data": "d", "out": "o", "draws": 4}).settings.draws == 4
    assert study_of(values, {"data": "d", "out": "o", "size": "paper"}).settings.draws == 2
    assert 'size: there is no size "lit". Did you mean lite?' in faults_of(values, size="lit")


def test_arms_may_be_left_out_but_not_what_others_stand_on() -> None:
    values = {
        **SPEC,
        "sources": {"more": {}},
        "arms": {**SPEC["arms"], "far": {"method": "gcl", "pretrain_on": ["more"]}},
    }
    assert "sources.more.data: this setting is required. Add it, or leave out the arms" in faults_of(values)
    assert list(study_of(values, {"data": "d", "out": "o", "skip": ["far"]}).arms) == list(SPEC["arms"])
    assert "skip: leaves out the control" in faults_of({**values, "control": "far", "skip": ["far"]})
    assert 'skip: there is no arm "fra". Did you mean far?' in faults_of(values, skip=["fra"])


def test_what_is_no_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"SPEC: .*nothing\.yaml does not exist"):
        study_of(tmp_path / "nothing.yaml")
    with pytest.raises(SettingsError, match="neither a study of this version"):
        study_of("nothing")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(SettingsError, match=r"A study cannot be used:(.|\n)*must map names to settings"):
        study_of(tmp_path / "list.yaml")


@pytest.mark.parametrize("name", table_names())
def test_published_figures_are_figures_with_a_source(name: str) -> None:
    figures = read_table(name)
    assert figures
    for figure in figures:
        assert 0 < figure.dice < 1
        assert figure.source
        assert figure.std is None or 0 <= figure.std < 0.2
    keys = [(figure.part, figure.dataset, figure.method, figure.labelled) for figure in figures]
    assert len(set(keys)) == len(keys)


def test_published_figures_stand_beside_their_arm() -> None:
    asked = {"table": "gcl", "part": "1", "dataset": "ACDC"}
    values = {**SPEC, "arms": {"simclr": {"published": "SimCLR"}, "mine": {}}, "published": asked}
    found, source = published_of(study_of(values, {"data": "d", "out": "o"}))
    assert found == {
        ("simclr", "1"): "0.629 ± 0.037",
        ("simclr", "2"): "0.731 ± 0.022",
        ("simclr", "8"): "0.853 ± 0.017",
    }
    assert "arXiv 2309.08888, Table 1" in source
    wrong = {**values, "arms": {"simclr": {"published": "SimCRL"}}}
    with pytest.raises(
        SettingsError, match=r'arms\.simclr\.published: "SimCRL" is not in the table\. Did you mean SimCLR'
    ):
        published_of(study_of(wrong, {"data": "d", "out": "o"}))
    with pytest.raises(SettingsError, match="no published table is named"):
        published_of(study_of({**values, "published": {"table": "glc"}}, {"data": "d", "out": "o"}))


@pytest.mark.parametrize("name", study_names())
def test_every_shipped_study_is_valid_in_every_size(name: str) -> None:
    sizes = study_values(name)["sizes"]
    assert {"lite", "paper"} <= set(sizes)
    for size in sizes:
        others = {source: {"data": "d"} for source in study_values(name).get("sources", {})}
        over = {"data": "d", "out": "o", "size": size, "skip": [], **({"sources": others} if others else {})}
        study = study_of(name, over)
        arm_plans(study)
        published_of(study)
        assert study.settings.description


def test_a_fault_in_the_settings_of_all_arms_is_told_once_where_it_was_written() -> None:
    values = {
        "arms": {"a": {}, "b": {"finetune": {"batch": 0}}},
        "finetune": {"network.width": 4, "steps": -1, "network": {"depth": 0}, "batch": 8},
    }
    with pytest.raises(SettingsError) as caught:
        arm_plans(study_of(values, {"data": "d", "out": "o"}))
    places = sorted(fault.where for fault in caught.value.faults)
    assert places == ["arms.b.finetune.batch", "finetune.network.depth", "finetune.network.width", "finetune.steps"]
