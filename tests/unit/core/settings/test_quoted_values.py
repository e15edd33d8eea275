"""Quoted items stay text, and lists of names keep what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import Floats, Integers, Names, PathSetting, Settings, setting
from fewlabel.core.settings.value_syntax import as_text_where_due, merge, nest, parse_value


class _Net(Settings):
    width: int = setting(32, "width")
    depth: int = setting(5, "depth")


class _Some(Settings):
    subjects: Names | None = setting(None, "names")
    size: Integers | None = setting(None, "size")
    spacing: Floats | None = setting(None, "spacing")
    text: str = setting("", "text")
    network: _Net = setting(_Net(), "network")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('["1e3","a,b"]', ["1e3", "a,b"]),
        ("['true', 'null', '7']", ["true", "null", "7"]),
        ("[\"a,b\", c,'d, e']", ["a,b", "c", "d, e"]),
        ('["1", 1, 1.5, true]', ["1", 1, 1.5, True]),
        ("[patient's, b's]", ["patient's", "b's"]),
        ('["", a]', ["", "a"]),
        ('["]"]', ["]"]),
        ("[a,]", ["a", ""]),
        ('["a, b]', ['"a', "b"]),
    ],
)
def test_quoted_items_are_text(text: str, value: Any) -> None:
    found = parse_value(text)
    assert found == value
    assert [isinstance(item, str) for item in found] == [isinstance(item, str) for item in value]


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("subjects=[1e3]", ("1e3",)),
        ("subjects=[1.0, 2.50, .5, 7]", ("1.0", "2.50", ".5", "7")),
        ('subjects=["1e3","true"]', ("1e3", "true")),
        ('subjects=["a,b"]', ("a,b",)),
    ],
)
def test_lists_of_names_hold_what_was_written(word: str, names: tuple[str, ...]) -> None:
    assert _Some.parse(nest([word])).subjects == names


def test_numbers_stay_numbers_where_numbers_will_do() -> None:
    found = _Some.parse(nest(["spacing=[1e0, 2.50]"])).spacing
    assert found == (1.0, 2.5)
    assert json.dumps(_Some.parse(nest(["spacing=[1e0, 2.50]"])).record()["spacing"]) == "[1.0, 2.5]"
    assert as_text_where_due(tuple[str, ...], [1.5]) == [1.5]
    assert _Some.parse(nest(["text=1.50"])).text == "1.50"


@pytest.mark.parametrize(
    ("word", "example"),
    [
        ("subjects=patient001", "subjects=[patient001]"),
        ("size=128", "size=[128,128]"),
        ("spacing=1.5", "spacing=[1.5,1.5]"),
    ],
)
def test_one_value_where_a_list_is_due_says_how_a_list_is_written(word: str, example: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _Some.parse(nest([word]))
    (fault,) = caught.value.faults
    assert fault.problem.startswith("must be a list, not ")
    assert fault.remedy == f"Write a list, such as {example}"


def test_a_value_in_a_list_of_names_that_is_no_text_can_be_quoted() -> None:
    with pytest.raises(SettingsError, match=r'must be text, not true\. Put it in quotes: \["true"\]\.'):
        _Some.parse(nest(["subjects=[true]"]))


def test_words_win_over_a_recipe_key_by_key() -> None:
    recipe = {"network": {"width": 16, "depth": 4}}
    settings = _Some.parse(merge(recipe, nest(["network.depth=3", "text=a"])))
    assert settings.network.record() == {"width": 16, "depth": 3}
    assert settings == _Some.parse({"text": "a", "network": {"width": 16, "depth": 3}})


def test_what_was_set_is_told_from_defaults() -> None:
    assert _Some.parse({"network": {"depth": 3}}).network.model_fields_set == {"depth"}
    assert _Some.parse({"network": {"depth": 5}, "text": "a"}).model_fields_set == {"network", "text"}


def test_paths_may_be_numbers() -> None:
    class Where(Settings):
        out: PathSetting = setting(..., "folder")

    assert Where.parse(nest(["out=1e3"])).out == Path("1e3")
