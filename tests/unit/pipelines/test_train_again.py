"""A continued run makes scores anew where they have changed, keeps what is not its own, and sizes are checked early."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.artifact.files import read_json, write_text
from fewlabel.core.artifact.run_record import write_run
from fewlabel.core.errors import SettingsError
from fewlabel.data.scan_locations import write_data_folder
from fewlabel.pipelines import train
from fewlabel.pipelines.stage_table import STAGES
from fewlabel.stages import evaluate
from kit.segmenters import make_segmenter, prepared_discs

ASKED = {"evaluate": {"resamples": 20, "surface": False, "device": "cpu"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder with a test part, to copy."""
    return prepared_discs(tmp_path_factory.mktemp("again"), train=("s1",), test=("s2", "s3"))


@pytest.fixture
def go(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Runs the chain: the evaluation is real, the other stages leave what is there or a stand-in."""

    def stage(name: str, settings: Any, **_: Any) -> Path:
        out = Path(settings.out)
        if name == "evaluate":
            return evaluate.run(settings)
        if (out / "manifest.json").is_file():
            return out
        if name == "prepare":
            shutil.copytree(made, out)
            write_data_folder(out, made.parent / "raw")
        elif name == "finetune":
            for folder in (out, out.with_name("segmenter-control")):
                if not folder.exists():
                    folder.mkdir()
                    make_segmenter(
                        folder, read_json(made / "plan.json"), labelled_subjects=["s1"], steps=settings.steps
                    )
        else:
            out.mkdir()
            write_text(out / "a.txt", name)
            finish_artifact(out, STAGES[name].kind, ["a.txt"])
        return out

    monkeypatch.setattr(train, "run_stage", stage)
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    def run(**values: Any) -> Path:
        given = {"data": made.parent / "raw", "out": tmp_path / "run", **values}
        given["evaluate"] = {**ASKED["evaluate"], **values.get("evaluate", {})}
        return train.run(train.train_settings(given))

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_scores_of_other_settings_are_made_anew_in_the_same_place(go: Callable[..., Path]) -> None:
    out = go()
    before, listing = Artifact.open(out / "scores").manifest.created, names(out)
    (out / "scores" / "notes.txt").write_text("mine")
    (out / "scores" / "plots").mkdir()
    (out / "scores" / "plots" / "a.png").write_text("mine")
    record = read_json(out / "run.json")
    record["stages"]["evaluate"]["seconds"] = 1234.0
    write_run(out, record)
    go(resume=True, evaluate={"flip": True})
    assert read_json(out / "scores" / "summary.json")["protocol"]["flip"] is True
    assert Artifact.open(out / "scores", "scores").manifest.created >= before
    assert (out / "scores" / "notes.txt").read_text() == "mine"
    assert (out / "scores" / "plots" / "a.png").read_text() == "mine"
    assert names(out) == listing
    assert read_json(out / "run.json")["stages"]["evaluate"]["seconds"] < 1000


def test_equal_scores_are_kept(go: Callable[..., Path]) -> None:
    out = go()
    before = (out / "scores" / "manifest.json").stat().st_mtime_ns
    go(resume=True)
    go(resume=True, evaluate={"device": "auto"})
    assert (out / "scores" / "manifest.json").stat().st_mtime_ns == before


def test_scores_of_other_weights_are_made_anew(go: Callable[..., Path]) -> None:
    out = go()
    shutil.rmtree(out / "segmenter")
    go(resume=True, finetune={"steps": 7})
    parents = {parent.content_hash for parent in Artifact.open(out / "scores").manifest.parents}
    assert Artifact.open(out / "segmenter").content_hash in parents
    assert not (out / "scores-before").exists()


def test_old_scores_come_back_if_none_can_be_made(go: Callable[..., Path]) -> None:
    out = go()
    before = (out / "scores" / "summary.json").read_bytes()
    with pytest.raises(SettingsError, match='the split has no part "tst"'):
        go(resume=True, evaluate={"part": "tst"})
    assert (out / "scores" / "summary.json").read_bytes() == before
    assert not (out / "scores-before").exists()
    go(resume=True)


def test_what_is_no_scores_is_left_alone(go: Callable[..., Path]) -> None:
    out = go()
    (out / "scores" / "manifest.json").unlink()
    with pytest.raises(SettingsError, match="scores is not empty"):
        go(resume=True, evaluate={"flip": True})
    assert (out / "scores" / "summary.json").is_file()


def test_a_size_that_the_network_cannot_halve_is_told_before_any_work(tmp_path: Path) -> None:
    def plan(**values: Any) -> Any:
        return train.plan(train.train_settings({"data": tmp_path, "out": tmp_path / "run", **values}))

    with pytest.raises(SettingsError) as caught:
        plan(prepare={"size": [20, 32]}, network={"depth": 4}, evaluate={"resamples": 0})
    told = {fault.where: fault for fault in caught.value.faults}
    assert set(told) == {"prepare.size", "evaluate.resamples"}
    assert "must be multiples of 8 for a network of depth 4, not [20, 32]" in str(told["prepare.size"])
    assert "size=[24,32]" in told["prepare.size"].remedy
    plan(prepare={"size": [24, 32]}, network={"depth": 4})
    # Patches are cut from slices of any size; they take the place of the recipe's views.
    assert plan(prepare={"size": [20, 32]}, patch=[16, 32, 32])["finetune"].view is None
    assert list(plan()["finetune"].view) == [128, 128]
    assert list(plan(finetune={"view": [64, 64]})["finetune"].view) == [64, 64]
