"""Where ``predict``, ``export``, ``evaluate`` and ``report`` may put their results."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fewlabel.cli import app
from fewlabel.core import progress
from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import write_json
from fewlabel.engine import ensemble
from fewlabel.stages._model_or_control import find_segmenter
from fewlabel.stages.export import find_encoder
from kit.runs import make_run
from kit.scans import noise, write_scan
from kit.segmenters import disc_plan, make_segmenter


def fewlabel(*words: object) -> Result:
    listener = list(progress._listener)
    result = CliRunner(env={"COLUMNS": "500"}).invoke(app, [str(word) for word in words])
    progress._listener[:] = listener
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("made") / "run")
    write_json(run / "run.json", {"kind": "run", "stages": {}, "settings": {}, "finished": True})
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture
def trained(run: Path) -> Path:
    """A run whose segmenter holds a whole plan of its pixels."""
    shutil.rmtree(run / "segmenter")
    make_segmenter(run / "segmenter", disc_plan())
    return run


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "scans" / "a.nii.gz", noise((4, 24, 20)), (1.0, 1.0, 5.0))


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("inside", ["", "segmenter", "scores", "encoder"])
def test_predict_leaves_runs_and_other_artifacts_alone(trained: Path, scan: Path, inside: str) -> None:
    before = tree(trained)
    result = fewlabel("predict", trained, scan.parent, "--out", trained / inside, "--device", "cpu")
    assert result.exit_code == 2, result.stderr
    assert "Nothing was written:" in result.stderr
    assert tree(trained) == before


def test_predict_into_a_folder_inside_the_run(trained: Path, scan: Path) -> None:
    result = fewlabel("predict", trained, scan.parent, "--out", trained / "masks", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert (trained / "masks" / "a.nii.gz").is_file()


@pytest.mark.parametrize("name", ["encoder.pth", "encoder/mine.pth"])
def test_export_leaves_runs_and_artifacts_alone(run: Path, name: str) -> None:
    before = tree(run)
    result = fewlabel("export", run, "--to", "monai", "--out", run / name)
    assert result.exit_code == 2, result.stderr
    assert tree(run) == before


def test_the_model_is_chosen_by_its_kind(run: Path) -> None:
    """A run folder into which an older version wrote masks keeps its model."""
    write_json(run / "run_report.json", {})
    finish_artifact(run, "predictions", ["run_report.json"])
    assert find_segmenter(run).folder == run / "segmenter"
    assert find_segmenter(run / "segmenter").folder == run / "segmenter"
    assert find_encoder(run) == run / "encoder"
    assert find_encoder(run / "encoder") == run / "encoder"


def test_a_folder_of_another_kind_is_named(run: Path) -> None:
    result = fewlabel("predict", run / "encoder", run, "--out", run / "masks")
    assert result.exit_code == 3
    assert "is an artifact of kind encoder, not segmenter" in result.stderr
    result = fewlabel("export", run / "segmenter", "--to", "monai", "--out", run.parent / "e.pth")
    assert result.exit_code == 3
    assert "is an artifact of kind segmenter, not encoder" in result.stderr


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which nothing may be written, by what the system answers: root may write everywhere."""
    folder = tmp_path / "locked"
    folder.mkdir()
    before = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and before(path, mode))
    return folder


def refuse_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(*words: object, **options: object) -> None:
        pytest.fail("the work was begun")

    monkeypatch.setattr(ensemble, "predict_slabs", worked)


@pytest.fixture
def other(trained: Path, made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run to predict with, and one with scores."""
    return trained, Path(shutil.copytree(made, tmp_path / "scored"))


def test_a_locked_place_is_told_before_any_work(
    other: tuple[Path, Path], scan: Path, locked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_work(monkeypatch)
    trained, run = other
    for out in (locked, locked / "new"):
        for words in (
            ("predict", trained, scan.parent),
            ("evaluate", run / "prepared", "--segmenter", run / "segmenter"),
            ("report", run),
            ("pretrain", run / "prepared", "steps=1"),
            ("finetune", run / "prepared", "steps=1"),
            ("merge", run / "prepared", run / "prepared"),
            ("prepare", scan.parent),
            ("train", scan.parent),
            ("demo",),
        ):
            result = fewlabel(*words, "--out", out)
            assert result.exit_code == 2, (words, result.stderr)
            assert f"no permission to write in {locked}" in result.stderr, (words, result.stderr)
    result = fewlabel("export", run, "--to", "monai", "--out", locked / "e.pth")
    assert result.exit_code == 2
    assert f"no permission to write in {locked}" in result.stderr
    assert list(locked.iterdir()) == []


def test_a_link_to_nowhere_is_told_before_any_work(
    other: tuple[Path, Path], scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_work(monkeypatch)
    trained, run = other
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    for words in (
        ("predict", trained, scan.parent),
        ("evaluate", run / "prepared", "--segmenter", run / "segmenter"),
        ("report", run),
        ("pretrain", run / "prepared", "steps=1"),
    ):
        result = fewlabel(*words, "--out", link)
        assert result.exit_code == 2, (words, result.stderr)
        assert f"the link {link}, which leads to nothing" in result.stderr
    result = fewlabel("export", run, "--to", "monai", "--out", link / "e.pth")
    assert result.exit_code == 2
    assert "leads to nothing" in result.stderr
    assert not (tmp_path / "gone").exists()
