"""Settings: strict, all faults at once, one declaration for everything."""

from __future__ import annotations

import sys
from collections.abc import Set
from pathlib import Path
from typing import Any, Literal

import pytest

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.settings.base import (
    Floats,
    Integers,
    Names,
    PathSetting,
    Settings,
    plugin_field,
    setting,
    without_absolute,
)
from fewlabel.core.settings.describe import describe

BASE = """
from fewlabel.core.settings.base import Settings
class Tool:
    class Config(Settings):
        name: str = ""
PLUGIN_BASE = Tool
"""
HAMMER = '''
from fewlabel.core.settings.base import setting
from shed.base import Tool
class Hammer(Tool):
    """Hits."""
    class Config(Tool.Config):
        name: str = "hammer"
        weight: float = setting(1.5, "mass of the head", unit="kg", gt=0)
'''
SAW = HAMMER.replace("Hammer", "Saw").replace("hammer", "saw").replace("weight", "teeth")


@pytest.fixture
def shed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A family of two plug-ins."""
    folder = tmp_path / "shed"
    folder.mkdir()
    for name, text in (("__init__", ""), ("base", BASE), ("hammer", HAMMER), ("saw", SAW), ("_private", "")):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "shed"
    for name in [name for name in sys.modules if name.partition(".")[0] == "shed"]:
        del sys.modules[name]


class Inner(Settings):
    width: int = setting(8, "width", ge=1)
    sides: tuple[int, int] = setting((1, 2), "sides")


class Group(Settings):
    rate: float = setting(0.1, "rate", unit="per step", source="somewhere", gt=0)
    inner: Inner = setting(Inner(), "inner")
    kind: Literal["a", "b"] = setting("a", "kind")


class Whole(Settings):
    out: PathSetting = setting(..., "where")
    steps: int = setting(10, "length", unit="steps", ge=1)
    group: Group = setting(
        Group(rate=0.5, inner=Inner(width=3)), "a group whose default is not its class's", source="the whole"
    )
    names: Names = setting((), "names")
    numbers: Floats = setting((1.0,), "numbers")
    counts: Integers = setting((), "counts")
    spacing: float | tuple[float, float] | None = setting(None, "spacing")


def faults_of(values: dict[str, Any], kind: type[Settings] = Whole) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        kind.parse(values)
    return {fault.where: str(fault) for fault in caught.value.faults}


def test_values_are_built_and_recorded() -> None:
    built = Whole.parse({"out": "x", "names": ["a"], "counts": [1], "numbers": [1, 2.5], "group": {"kind": "b"}})
    assert built.out == Path("x")
    assert built.names == ("a",)
    assert built.numbers == (1.0, 2.5)
    assert built.record() == {
        "out": "x",
        "steps": 10,
        "group": {"rate": 0.5, "inner": {"width": 3, "sides": [1, 2]}, "kind": "b"},
        "names": ["a"],
        "numbers": [1.0, 2.5],
        "counts": [1],
        "spacing": None,
    }


def test_one_key_of_a_group_leaves_the_others_at_the_groups_default() -> None:
    built = Whole.parse({"out": "x", "group": {"inner": {"sides": (4, 5)}}})
    assert built.group == Group(rate=0.5, inner=Inner(width=3, sides=(4, 5)))


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Whole.parse({"out": "x"}).steps = 3


def test_every_fault_at_once_with_its_place() -> None:
    faults = faults_of(
        {"stepz": 4, "group": {"rate": -1, "inner": {"width": "wide", "widht": 2}, "kind": "c"}, "names": 3}
    )
    assert set(faults) == {
        "out", "stepz", "group.rate", "group.inner.width", "group.inner.widht", "group.kind", "names",
    }  # fmt: skip
    assert faults["stepz"] == "stepz: unknown setting. Did you mean steps?"
    assert "Did you mean width?" in faults["group.inner.widht"]
    assert "Add out=VALUE" in faults["out"]
    assert faults["group.rate"] == "group.rate: must be more than 0, not -1. Leave it out for the default, 0.1."
    assert 'must be a or b, not "c"' in faults["group.kind"]


def test_unlike_keys_get_the_list_of_known_ones() -> None:
    assert "Choose from counts, group, names, numbers, out, spacing, steps" in faults_of({"out": "x", "qqq": 1})["qqq"]


@pytest.mark.parametrize("value", [True, "4", 4.5, None])
def test_types_are_strict(value: Any) -> None:
    assert "steps" in faults_of({"out": "x", "steps": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    assert "finite" in faults_of({"out": "x", "group": {"rate": value}})["group.rate"]


def test_the_branches_of_a_union_are_one_fault() -> None:
    faults = faults_of({"out": "x", "spacing": "wide"})
    assert list(faults) == ["spacing"]
    assert 'must be number | [number, number] | null, not "wide"' in faults["spacing"]


def test_names_that_look_like_numbers_are_names() -> None:
    built = Whole.parse({"out": 7, "names": [42, "007"]})
    assert built.out == Path("7")
    assert built.names == ("42", "007")


def test_a_plugin_by_name_mapping_or_config(shed: str) -> None:
    class Job(Settings):
        tool: plugin_field(shed) = setting("hammer", "tool")  # type: ignore[valid-type]

    assert Job.parse({}).tool.weight == 1.5
    assert Job.parse({"tool": "saw"}).tool.name == "saw"
    assert Job.parse({"tool": {"name": "saw", "teeth": 3.0}}).tool.teeth == 3.0
    ready = Job.parse({}).tool
    assert Job.parse({"tool": ready}).tool is ready
    assert Job.parse({"tool": {"weight": 2.0}}).record() == {"tool": {"name": "hammer", "weight": 2.0}}


def test_faults_of_plugins_and_of_the_rest_come_together(shed: str) -> None:
    class Job(Settings):
        tool: plugin_field(shed) = setting("hammer", "tool")  # type: ignore[valid-type]
        hours: int = setting(1, "hours")

    faults = faults_of({"tool": {"name": "saw", "weight": 2.0, "teeth": -1.0}, "hours": "long"}, Job)
    assert set(faults) == {"tool.weight", "tool.teeth", "hours"}
    unknown = faults_of({"tool": "hamer", "hours": "long"}, Job)
    assert set(unknown) == {"tool", "hours"}
    assert "Did you mean hammer?" in unknown["tool"]
    assert "Choose from hammer, saw" in faults_of({"tool": "axe"}, Job)["tool"]


def test_a_required_plugin_must_be_named(shed: str) -> None:
    class Job(Settings):
        tool: plugin_field(shed) = setting(..., "tool")  # type: ignore[valid-type]

    assert "a name is missing in" in faults_of({"tool": {"weight": 1.0}}, Job)["tool"]
    assert "required" in faults_of({}, Job)["tool"]


def test_rows_describe_groups_by_their_own_defaults() -> None:
    rows = {row["key"]: row for row in describe(Whole)}
    assert list(rows) == [
        "out", "steps", "group", "group.rate", "group.inner", "group.inner.width", "group.inner.sides", "group.kind",
        "names", "numbers", "counts", "spacing",
    ]  # fmt: skip
    assert rows["out"]["default"] == "required"
    assert rows["out"]["type"] == "path"
    assert rows["group.rate"] == {
        "key": "group.rate", "type": "number", "default": "0.5", "unit": "per step", "source": "the whole",
        "doc": "rate",
    }  # fmt: skip
    # The source of a default that the group changes is the group's; others keep their own.
    assert {row["key"]: row["source"] for row in describe(Group)}["rate"] == "somewhere"
    assert rows["group"] == {
        "key": "group", "type": "group", "default": "", "unit": "", "source": "the whole",
        "doc": "a group whose default is not its class's",
    }  # fmt: skip
    assert rows["group.inner.width"]["default"] == "3"
    assert rows["group.inner.sides"]["default"] == "[1, 2]"
    assert rows["numbers"]["type"] == "list of number"


def test_rows_describe_the_chosen_plugin(shed: str) -> None:
    class Job(Settings):
        tool: plugin_field(shed) = setting("hammer", "tool")  # type: ignore[valid-type]

    assert [row["key"] for row in describe(Job)] == ["tool", "tool.weight"]
    for chosen in ({"tool": "saw"}, {"tool": {"name": "saw"}}):
        assert [row["key"] for row in describe(Job, picks=chosen)] == ["tool", "tool.teeth"]
    with pytest.raises(SettingsError, match="unknown"):
        describe(Job, picks={"tool": "axe"})


class _Range(Settings):
    """Of numbers."""

    name: str = setting(..., "what it is of")
    low: int = setting(0, "lowest")
    high: int = setting(9, "highest")
    step: int = setting(1, "between two", ge=1)

    def contradictions(self, where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:
        if without & {"low", "high"} or self.low <= self.high:
            return []
        return [Fault("must not be above high", f"{where}low")]


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"name": "a", "low": 10}, ["r.low"]),
        ({"low": 10, "step": 0}, ["r.name", "r.step", "r.low"]),
        ({"low": 10, "high": "x"}, ["r.name", "r.high"]),
        ({"name": "a", "low": 3, "stpe": 1}, ["r.stpe"]),
    ],
)
def test_contradictions_come_with_all_other_faults(values: dict[str, Any], wrong: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        _Range.parse(values, where="r.")
    assert sorted(fault.where for fault in caught.value.faults) == sorted(wrong)


@pytest.mark.parametrize("word", ["/data/x=1/y", "data=/data/x=1/y"])
def test_a_path_with_an_equals_sign_names_no_folder_above(word):
    told = without_absolute(Path("/data/run"), word)
    assert told == word.replace("/data/x=1/y", "../x=1/y")
