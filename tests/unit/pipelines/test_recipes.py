"""Recipes: shipped and one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.core.settings.value_syntax import parse_value
from fewlabel.pipelines.recipes import load_recipe, recipe_names
from fewlabel.pipelines.stage_table import settings_class


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_the_shipped_recipes_are_there_and_described() -> None:
    assert recipe_names() == ["acdc", "acdc-lite", "default", "demo", "la", "la-lite"]
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.description
        assert "description" not in recipe.values


SCALARS = [
    "1e-3",
    "1E3",
    "002",
    "-7",
    "0",
    "0.5",
    ".5",
    "1.",
    "true",
    "false",
    "null",
    "yes",
    "off",
    "2024-01-01",
    "1_0",
    "0x1",
    "gcl",
    "1:30",
    "nan",
    "=",
    "<<",
]


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_are_read_as_on_the_command_line(tmp_path: Path, text: str) -> None:
    found = load_recipe(write(tmp_path, f"value: {text}\n")).values["value"]
    expected = parse_value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_quoted_scalars_are_text(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "a: '1e-3'\nb: \"12\"\nsubjects: [002, '042', p1]\nempty:\n"))
    assert recipe.values == {"a": "1e-3", "b": "12", "subjects": ["002", "042", "p1"], "empty": None}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- 1\n", "list"),
        ("", "nothing"),
        ("1: 2\n", "names that are no text"),
        ("a: [1\n", "YAML"),
        ("a: !!python/name:os.system\n", "YAML"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError, match=told) as caught:
        load_recipe(path)
    assert str(caught.value.faults[0]).startswith(str(path))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("acdc_lite", r'"acdc_lite" is neither .* Did you mean acdc-lite\?'),
        ("ACDCLITE", r"Did you mean acdc-lite\?"),
        ("nowhere/mine.yaml", r"--recipe: nowhere/mine\.yaml does not exist\. Check the path\."),
        ("zzz", "Choose from acdc, acdc-lite, default, demo"),
    ],
)
def test_unknown_recipes_get_the_nearest_or_the_list(name: Any, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load_recipe(name)


#: Those that committed tables were made with: what they say stays, whatever becomes of the defaults.
PINNED = {"acdc-lite", "la-lite"}
STAGES = ("prepare", "pretrain", "finetune", "evaluate", "report")


def repeated(values: Any, defaults: Any, where: str = "") -> list[str]:
    """Keys whose value is the default; the name of a plug-in may say whose the settings beside it are."""
    found = []
    for key, value in values.items():
        if isinstance(value, dict):
            inner = defaults.get(key, {})
            if "name" in value and value["name"] != inner.get("name"):
                inner = (
                    resolve_plugin(f"fewlabel.{key}s", value["name"]).record() if key in {"method", "regime"} else {}
                )
            told = repeated(value, inner, f"{where}{key}.")
            found += [one for one in told if not (one == f"{where}{key}.name" and len(value) > 1)]
        elif key in defaults and defaults[key] == value:
            found.append(f"{where}{key}")
    return found


@pytest.mark.parametrize("name", sorted(set(recipe_names()) - PINNED - {"default"}))
def test_no_recipe_repeats_a_default(name: str) -> None:
    found = []
    for key, value in load_recipe(name).values.items():
        for stage in STAGES if key not in STAGES else (key,):
            links = {"data": "d", "out": "o", "run": "r", "segmenter": "s"}
            kind = settings_class(stage)
            defaults = kind.parse({word: link for word, link in links.items() if word in kind.model_fields}).record()
            found += repeated({key: value} if key not in STAGES else value, defaults, f"{stage}.")
    assert found == []


def test_the_default_recipe_is_where_the_defaults_of_train_are_set() -> None:
    assert load_recipe("default").values == {
        "budget": "1h",
        "pretraining": False,
        "pretrain_share": 0.25,
        "pretrain": {"method": "gcl"},
        "finetune": {"regime": "fixmatch", "view": [128, 128], "optimiser": {"lr": 2e-3}},
    }


@pytest.mark.parametrize(
    "text",
    ["a: !!float x", "a: !!int 1_x", "a: !!timestamp 9", "a: !!bool x", "{" * 2000, "a: !!set x", "a: *b", "\t"],
)
def test_yaml_that_is_none_is_named_whatever_its_loader_raises(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"mine\.yaml is not valid YAML"):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize("value", [None, 3, True, ["gcl"], [["a", "b", "c"]]])
def test_a_plugin_that_is_no_name_is_told(value: Any) -> None:
    with pytest.raises(SettingsError, match="a name is missing"):
        resolve_plugin("fewlabel.methods", value, where="method")
