"""The harness of planted faults judges strictly, and plants what it says."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fewlabel.core.errors import Fault

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    command = importlib.import_module("planted_faults")
    return SimpleNamespace(command=command, planted=importlib.import_module("planting.planted"))


@pytest.mark.parametrize(
    ("faults", "verdict"),
    [
        ([Fault("has shape (3, 3)", "/d/a.nii", "Export it again")], "named"),
        ([Fault("has shape (3, 3)", "/d/b.nii", "Export it again")], "missed"),
        ([Fault("has shape (3, 3)", "/d/aa.nii", "Export it again")], "missed"),
        ([Fault("has shape (3, 3)", "/d/a.nii.gz", "Export it again")], "missed"),
        ([Fault("has shape (3, 3)", "/d/a.nii")], "missed"),
        ([Fault("cannot be read", "/d/a.nii", "Export it again")], "missed"),
        ([Fault("cannot be read", "case shape, /d/shape/a.nii", "Export it again")], "missed"),
        # Two messages that say half each do not name it.
        ([Fault("cannot be read", "/d/a.nii"), Fault("a shape is wrong", "/d", "Export it again")], "missed"),
        ([], "missed"),
    ],
)
def test_a_fault_is_named_by_place_cause_and_remedy_in_one_message(parts, faults, verdict):
    planted = parts.planted.Planted("mask of another shape", "a.nii", "shape")
    assert parts.planted.judge(planted, faults).verdict == verdict


def test_a_note_is_enough_only_where_that_is_said(parts):
    note = "column weight is read as words, because of heavy"
    for noted, verdict in ((True, "named"), (False, "missed")):
        planted = parts.planted.Planted("text among numbers", "weight", "heavy", noted)
        assert parts.planted.judge(planted, [], [note]).verdict == verdict
    other = parts.planted.Planted("text among numbers", "height", "heavy", noted=True)
    assert parts.planted.judge(other, [], [note]).verdict == "missed"


def test_rows_are_whole(parts):
    planted = parts.planted.Planted("row", "line 3", "gone")
    assert parts.planted.judge(planted, [Fault("is gone", "/d/t.csv, line 31", "Restore it")]).verdict == "missed"
    assert parts.planted.judge(planted, [Fault("is gone", "/d/t.csv, line 3", "Restore it")]).verdict == "named"


def test_at_least_sixty_kinds_are_planted_and_none_twice_in_a_layout(parts, tmp_path):
    kinds = set()
    for name, plant in parts.command.LAYOUTS.items():
        planted = plant(tmp_path / name).planted
        assert len({fault.kind for fault in planted}) == len(planted)
        kinds |= {fault.kind for fault in planted}
    assert len(kinds) >= 60


def test_the_command_tells_named_from_missed_and_crashed(parts, capsys, monkeypatch):
    assert parts.command.main(["columns", "empty-masks"]) == 0
    told = capsys.readouterr().out
    assert "named   columns     one case name in two rows" in told
    assert told.endswith("4 faults of 4 kinds planted: 4 named, 0 missed, 0 crashed\n")
    original = parts.command.check

    def crash_or_forget(settings):
        if settings.data.parent.name == "columns":
            raise KeyError("x")
        return SimpleNamespace(faults=original(settings).faults[:0], rows=(), odd=())

    monkeypatch.setattr(parts.command, "check", crash_or_forget)
    assert parts.command.main(["columns", "empty-masks", "--missed"]) == 1
    told = capsys.readouterr().out
    assert "crashed columns     one case name in two rows  (KeyError: 'x')" in told
    assert told.endswith("4 faults of 4 kinds planted: 0 named, 1 missed, 3 crashed\n")


def test_faults_of_a_layout_are_named_together(parts, capsys):
    parts.command.main(["acdc", "h5"])
    told = capsys.readouterr().out
    for kind in ("truncated frame", "truth of another shape", "two files for one frame", "height that is no number"):
        assert f"named   acdc        {kind}\n" in told
    for kind in ("truncated h5", "h5 of text", "link into another file", "missing slice"):
        assert f"named   h5          {kind}\n" in told
    assert " 0 crashed" in told


def test_a_library_that_aborts_is_a_crash_of_that_layout_alone(parts, capsys, monkeypatch):
    original = parts.command.check

    def abort_at_columns(settings):
        if settings.data.parent.name == "columns":
            os._exit(134)
        return original(settings)

    monkeypatch.setattr(parts.command, "check", abort_at_columns)
    assert parts.command.main(["columns", "empty-masks"]) == 1
    assert capsys.readouterr().out.endswith("1 named, 0 missed, 3 crashed\n")
