"""Words of the command line as values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.value_syntax import (
    as_text_where_due,
    assignments,
    merge,
    nest,
    parse_value,
    show_value,
    type_name,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("0", 0),
        ("-3", -3),
        ("+7", 7),
        ("400", 400),
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("-0.25", -0.25),
        ("002", "002"),
        ("-01", "-01"),
        ("00.5", "00.5"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("", ""),
        ("  gcl ", "gcl"),
        ("[]", []),
        ("[ ]", []),
        ("[128, 96]", [128, 96]),
        ("[042,'095', \"1\"]", ["042", "095", "1"]),
        ("a,b", "a,b"),
        ("1-2", "1-2"),
    ],
)
def test_values_are_what_they_look_like(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_what_is_shown_is_read_back(value: Any) -> None:
    read = parse_value(show_value(value))
    assert read == value
    assert isinstance(read, bool) == isinstance(value, bool)


def test_nest_joins_keys_and_lets_the_last_win() -> None:
    nested = nest(["method=gcl", "method.temperature=0.2", "steps=4", "steps=5", "a.b.c=x=y"])
    assert nested == {"method": {"name": "gcl", "temperature": 0.2}, "steps": 5, "a": {"b": {"c": "x=y"}}}


def test_nest_names_every_bad_word() -> None:
    with pytest.raises(SettingsError) as caught:
        nest(["steps", "=4", "a..b=1", "seed=1"])
    assert [fault.problem.partition(" is ")[0] for fault in caught.value.faults] == ['"steps"', '"=4"', '"a..b=1"']


def test_merge_lets_the_later_win_and_keeps_the_rest() -> None:
    base = {"a": 1, "group": {"x": 1, "y": 2}}
    assert merge(base, {"a": 2, "group": {"y": 3, "z": 4}}) == {"a": 2, "group": {"x": 1, "y": 3, "z": 4}}
    assert base == {"a": 1, "group": {"x": 1, "y": 2}}


def test_merge_joins_a_name_with_the_settings_of_that_plugin() -> None:
    assert merge({"method": "gcl"}, {"method": {"k": 1}}) == {"method": {"name": "gcl", "k": 1}}
    assert merge({"method": {"k": 1}}, {"method": "gcl"}) == {"method": {"name": "gcl", "k": 1}}
    assert merge({"method": {"name": "gcl", "k": 1}}, {"method": "gcl"}) == {"method": {"name": "gcl", "k": 1}}


def test_merge_drops_the_settings_of_another_plugin() -> None:
    recipe = {"method": {"name": "gcl", "k": 1}}
    assert merge(recipe, {"method": "simclr"}) == {"method": {"name": "simclr"}}
    assert merge(recipe, {"method": {"name": "simclr", "t": 2}}) == {"method": {"name": "simclr", "t": 2}}
    assert merge({"method": "gcl"}, {"method": {"name": "simclr"}}) == {"method": {"name": "simclr"}}


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "whole number"),
        (float | None, "number | null"),
        (tuple[str, ...], "list of text"),
        (tuple[int, int], "[whole number, whole number]"),
        (Literal["a", 2, True], "a | 2 | true"),
        (Annotated[Path, "mark"], "path"),
        (bool, "true | false"),
        (dict[str, Any], "keys and values"),
    ],
)
def test_types_are_told_in_words(annotation: Any, words: str) -> None:
    assert type_name(annotation) == words


@pytest.mark.parametrize(
    ("annotation", "value", "read"),
    [
        (str, 42, "42"),
        (Path | None, 2024, "2024"),
        (Literal["auto", "32"], 32, "32"),
        (Literal["auto", "32"], 16, 16),
        (Literal[2, "3"], 3, 3),
        (tuple[str, ...], [42, "042"], ["42", "042"]),
        (Literal["auto"] | Annotated[tuple[str, ...], "mark"] | None, [7], ["7"]),
        (tuple[int, ...], [42], [42]),
        (tuple[float, float] | float, [1, 2], [1, 2]),
        (int | str, 42, 42),
        (str | float, 42, 42),
        (str, True, True),
        (str, 1.5, 1.5),
        (str, None, None),
        (int, 42, 42),
        (dict[str, Any], [1], [1]),
    ],
)
def test_whole_numbers_are_text_where_only_text_will_do(annotation: Any, value: Any, read: Any) -> None:
    found = as_text_where_due(annotation, value)
    assert found == read
    assert type(found) is type(read)


def test_values_are_shown_as_they_are_written() -> None:
    assert show_value((1, 2)) == "[1, 2]"
    assert show_value(None) == "null"
    assert show_value(False) == "false"
    assert show_value("x") == "x"


WORD = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
NAMES = st.sampled_from(["gcl", "007"])
PLAIN = st.one_of(st.booleans(), st.none(), st.integers(-9999, 9999), st.floats(-1e6, 1e6), NAMES)
ITEMS = st.lists(st.one_of(st.integers(-99, 99), st.floats(-9, 9), st.text("ab ,1.'[]=é", max_size=6)), max_size=4)
INNER = st.dictionaries(WORD, PLAIN, min_size=1, max_size=3)
VALUES = st.dictionaries(WORD, st.one_of(PLAIN, ITEMS, INNER), max_size=4)


@given(VALUES)
@example({"a": [""]})
def test_nested_values_and_their_words_are_the_same(values: dict[str, Any]) -> None:
    assert nest(assignments(values)) == values


def test_words_are_those_that_a_user_writes() -> None:
    values = {
        "method": {"name": "gcl", "temperature": nest(["x=1e-3"])["x"]},
        "prepare": {"size": (160, 144)},
        "subjects": ["a", "12", "b, c"],
        "patch": None,
    }
    assert assignments(values) == [
        "method.name=gcl",
        "method.temperature=1e-3",
        "prepare.size=[160,144]",
        'subjects=[a,"12","b, c"]',
        "patch=null",
    ]
    assert assignments({"out": Path("a/b"), "flip": True, "reader": {}}) == ["out=a/b", "flip=true"]


def test_a_group_of_settings_is_written_with_all_it_holds():
    """As Python callers may give one."""
    from fewlabel.data.augment_settings import AugmentConfig

    given = AugmentConfig(rotation=5, gamma=2)
    words = assignments({"finetune": {"augment": given, "steps": 3}})
    assert {"finetune.augment.rotation=5.0", "finetune.augment.gamma=2.0", "finetune.steps=3"} <= set(words)
    assert AugmentConfig.parse(nest(words)["finetune"]["augment"]).record() == given.record()
