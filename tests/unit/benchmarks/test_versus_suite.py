"""Ours beside its rivals: which cells there are, that they are made once, and what their rows and table say."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import SimpleITK
import torch

import fewlabel
from fewlabel.data.phantom.scans import write_phantom

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("versus", "versus_arms", "versus_scene", "versus_summary")
    return SimpleNamespace(**{name: importlib.import_module(f"suites.{name}") for name in names})


@pytest.fixture
def rival(suites: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A single rival that only leaves losses, and scores that are made up; the tasks it was given."""
    tasks = []

    def train(task: Any) -> Any:
        tasks.append(task)
        return suites.versus_arms.Trained([float(100 - step) for step in range(100)], 100, 8, 40.0, 2**30, {"a": 1})

    arms = {"one": suites.versus_arms.Rival("a rival", train, lambda task: 3 * 2**30)}
    scores = {"dice": 0.5, "hd95_mm": 9.0, "missed": 1, "dice_by_class": {}, "test_scans": 4}
    for module in (suites.versus, suites.versus_summary):
        monkeypatch.setattr(module, "ARMS", arms)
    monkeypatch.setattr(suites.versus, "scene", lambda *words: None)
    monkeypatch.setattr(suites.versus, "scored", lambda found, masks: scores)
    monkeypatch.setattr(suites.versus.fewlabel, "prepare", lambda **settings: settings["out"])
    return tasks


def test_each_rival_has_every_time_and_number_and_one_that_is_to_converge_each_number_once(suites: Any) -> None:
    found = suites.versus.cells(suites.versus_arms.ARMS)
    assert len(found) == len(set(found)) == 5 * 2 * 3 + 3
    assert [cell.minutes for cell in found if cell.arm == "nnunet-converged"] == [0, 0, 0]
    assert {cell.labelled for cell in found} == {1, 2, 8}
    # 20 and 60 minutes of five rivals, 2000 steps of the sixth, ten minutes beside each.
    assert suites.versus.hours(found) == pytest.approx((5 * 3 * 80 * 60 + 3 * 2000 * 2.5 + 33 * 600) / 3600)


def test_a_cell_is_made_once_and_its_row_says_it_all(
    suites: Any, rival: list[Any], tmp_path: Path, capsys: Any
) -> None:
    for _ in range(2):
        suites.versus.run(tmp_path, tmp_path / "work", tmp_path / "rows", [])
    assert len(rival) == 6
    assert "6 of 6 cells to make, about 5.0 hours" in capsys.readouterr().out
    table = suites.versus.rows(tmp_path / "rows" / "versus.jsonl")
    assert {(row["labelled"], row["minutes"]) for row in table} == {(m, t) for m in (1, 2, 8) for t in (20, 60)}
    row = table[0]
    assert (row["loss_first"], row["loss_before"], row["loss_last"]) == (95.5, 15.5, 5.5)
    assert (row["images_per_second"], row["peak_bytes"], row["rehearsal"]) == (20.0, 3 * 2**30, False)
    lines = suites.versus_summary.markdown(table)
    assert lines[2].startswith("| `one` | 20 | 1 | 0.500 | 9.0 | 1 | 100 | 20.0 | 95.50 → 15.50 → 5.50 | 3.0 | ")
    assert "4 test scans" in lines[-1]
    assert suites.versus_summary.unfinished(table) == []
    assert suites.versus_summary.unfinished(table[1:])[0] == "not run: one, M=1, 20 minutes"


def test_what_was_rehearsed_is_no_committed_row(suites: Any, rival: list[Any], tmp_path: Path) -> None:
    before = sorted(suites.versus.RESULTS.iterdir())
    suites.versus.run(tmp_path, tmp_path / "work", suites.versus.RESULTS, ["one"], 1.5)
    assert sorted(suites.versus.RESULTS.iterdir()) == before
    (row,) = suites.versus.rows(tmp_path / "work" / "versus-rehearsal" / "versus.jsonl")
    assert (row["rehearsal"], row["minutes"], row["split"], rival[0].seconds) == (True, 1.5, "auto", 90.0)
    assert "(rehearsal)" in suites.versus_summary.markdown([row])[2]


def test_an_unknown_rival_is_told(suites: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no arm medsam; there are ours, nnunet"):
        suites.versus.run(tmp_path, tmp_path, tmp_path, ["medsam"])


def test_a_command_that_fails_ends_the_suite_with_its_last_words(suites: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"ended with 3:\nall is lost\nSee .*log\.txt; repeat to go on"):
        suites.versus_arms.call(["sh", "-c", "echo all is lost; exit 3"], tmp_path / "log.txt")


def test_rivals_get_the_labelled_scans_of_the_draw_and_are_scored_on_the_test_scans(
    suites: Any, tmp_path: Path
) -> None:
    data = write_phantom(tmp_path / "scans", patients=6, labelled=3, test=2)
    prepared = fewlabel.prepare(data=data, out=tmp_path / "prepared", size=[32, 32], spacing=[6.0, 6.0])
    found = suites.versus_scene.scene(prepared, tmp_path / "work", 1, 0)
    names = {path.name.split("_")[0] for path in (found.raw / "imagesTr").iterdir()}
    assert len(found.subjects) == 1
    assert len(names) == 1
    content = json.loads((found.raw / "dataset.json").read_text())
    assert content["numTraining"] == len(list((found.raw / "labelsTr").iterdir()))
    perfect = suites.versus_scene.scored(found, found.raw / "labelsTs")
    assert (perfect["dice"], perfect["missed"]) == (1.0, 0)
    assert set(perfect["dice_by_class"]) == set(found.classes.values())
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (found.raw / "labelsTs").iterdir():
        mask = SimpleITK.ReadImage(str(path))
        SimpleITK.WriteImage(mask * 0, str(empty / path.name))
    assert suites.versus_scene.scored(found, empty)["dice"] == 0
    few = suites.versus_scene.scene(prepared, tmp_path / "few", 1, 0, 1)
    assert len(list((few.raw / "imagesTs").iterdir())) == 1


@pytest.mark.parametrize("way", ["grouped", "vmap"])
def test_batched_networks_are_what_each_is_by_itself(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    batched = importlib.import_module("suites.batched")
    threads = torch.get_num_threads()
    assert batched.agrees(way, 4, 2, 32) < 1e-3
    assert torch.get_num_threads() == threads
