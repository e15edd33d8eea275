"""A run's folder: what may be written to, what is continued, and whose it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.artifact.sealed import read_sealed, write_sealed
from fewlabel.core.errors import ArtifactError, SettingsError
from fewlabel.engine.checkpoint import CHECKPOINT
from fewlabel.engine.run_folder_state import IDENTITY, close_run, finished_before, mark_run

SAME = {"steps": 3, "seed": 0}


def refusal(out: Path, same: dict | None = None, *, resume: bool = False) -> str:
    with pytest.raises(SettingsError) as caught:
        finished_before(out, "encoder", same or SAME, resume=resume)
    assert caught.value.faults[0].remedy
    return str(caught.value)


@pytest.mark.parametrize("resume", [False, True])
def test_a_new_or_an_empty_folder_is_begun(tmp_path: Path, *, resume: bool) -> None:
    assert not finished_before(tmp_path / "new", "encoder", SAME, resume=resume)
    assert not finished_before(tmp_path, "encoder", SAME, resume=resume)
    (tmp_path / ".checkpoint.safetensors.0badf00d.partial").write_bytes(b"")
    assert not finished_before(tmp_path, "encoder", SAME, resume=resume)


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_is_no_folder(tmp_path: Path, *, resume: bool) -> None:
    (tmp_path / "file").write_text("x")
    assert "file is a file, not a folder." in refusal(tmp_path / "file", resume=resume)
    assert f"cannot be made below the file {tmp_path / 'file'}" in refusal(tmp_path / "file" / "run", resume=resume)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["best.safetensors", "scan.nii.gz"])
def test_a_folder_without_a_run_is_not_resumed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    for resume in (False, True):
        assert "is not empty. Give another --out." in refusal(tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", [CHECKPOINT, "metrics.jsonl", IDENTITY])
def test_an_unfinished_run_is_continued_when_asked(tmp_path: Path, name: str) -> None:
    (write_sealed if name == IDENTITY else write_json)(tmp_path / name, SAME)
    assert "holds an unfinished run. Give --resume to continue it, or another --out." in refusal(tmp_path)
    assert not finished_before(tmp_path, "encoder", SAME, resume=True)


def test_a_run_of_other_settings_is_not_continued(tmp_path: Path) -> None:
    out = tmp_path / "run"
    mark_run(out, SAME)
    assert read_sealed(out / IDENTITY, "") == SAME
    told = refusal(out, {**SAME, "seed": 99, "batch": 2}, resume=True)
    assert "seed: was 0 when the run began and is 99 now" in told
    assert "batch: was not there when the run began and is 2 now. Give another --out, or go on with" in told
    assert "or give another --out" in told
    assert not finished_before(out, "encoder", SAME, resume=True)


def test_a_run_older_than_a_setting_goes_on_as_it_was_begun(tmp_path: Path) -> None:
    mark_run(tmp_path / "begun", SAME)
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "a.txt").write_text("a")
    finish_artifact(tmp_path / "done", "encoder", ["a.txt"], settings={"identity": SAME})
    without, with_it = {**SAME, "class_prior": False}, {**SAME, "class_prior": True}

    assert not finished_before(tmp_path / "begun", "encoder", without, resume=True)
    assert finished_before(tmp_path / "done", "encoder", without, resume=True)

    told = refusal(tmp_path / "begun", with_it, resume=True)
    assert "class_prior: was False when the run began and is True now. Repeat the old setting, or give" in told
    assert "a finished encoder made with another class_prior" in refusal(tmp_path / "done", with_it, resume=True)


def test_the_mark_goes_with_the_end_of_the_run(tmp_path: Path) -> None:
    mark_run(tmp_path, SAME)
    (tmp_path / "a.txt").write_text("a")
    facts = {
        "parents": [],
        "settings": SimpleNamespace(record=dict, seed=0, precision="32"),
        "same": SAME,
        "device": torch.device("cpu"),
        "started": 0.0,
    }
    close_run(tmp_path, "encoder", ["a.txt"], **facts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "manifest.json"]
    assert read_json(tmp_path / "manifest.json")["precision"] == "32"
    assert finished_before(tmp_path, "encoder", SAME, resume=True)
    assert "holds a finished encoder. Give --resume to keep it, or another --out." in refusal(tmp_path)
    assert "a finished encoder made with another seed" in refusal(tmp_path, {**SAME, "seed": 1}, resume=True)


def test_an_artifact_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    finish_artifact(tmp_path, "scores", ["a.txt"])
    with pytest.raises(ArtifactError, match="an artifact of kind scores, not encoder"):
        finished_before(tmp_path, "encoder", SAME, resume=True)
