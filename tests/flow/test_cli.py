"""The command line from end to end on tiny synthetic hearts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit.command_line import fewlabel

TINY = (
    "patients=7", "test=2", "prepare.size=[32,32]", "prepare.spacing=[6,6]", "network.width=4", "network.depth=3",
    "method=simclr", "steps=2", "pretrain.batch=8", "finetune.batch=4", "evaluate.resamples=50", "report.points=40",
    "device=cpu", "precision=32", "pretraining=true", "finetune.regime=supervised",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a tiny demo."""
    out = tmp_path_factory.mktemp("flow") / "demo"
    done = fewlabel("demo", "--out", str(out), *TINY)
    assert f"report: {out / 'report' / 'report.html'}" in done.stdout
    assert "pre-training against scratch:" in done.stdout
    assert done.stdout.splitlines()[-1] == f"run: {out}"
    return out


def test_the_demo_leaves_every_artifact(run: Path) -> None:
    for name, file in (
        ("prepared", "split.json"),
        ("encoder", "encoder.safetensors"),
        ("segmenter", "segmenter.safetensors"),
        ("segmenter-control", "segmenter.safetensors"),
        ("scores", "per_case.csv"),
        ("report", "report.html"),
    ):
        assert (run / name / file).is_file()
        manifest = json.loads((run / name / "manifest.json").read_text())
        assert manifest["machine"]["threads"] >= 1
        computes = name in {"encoder", "segmenter", "segmenter-control", "scores"}
        assert manifest["precision"] == ("32" if computes else "")
    assert json.loads((run / "run.json").read_text())["finished"] is True


def test_resuming_a_finished_run_makes_nothing_anew(run: Path) -> None:
    before = (run / "encoder" / "encoder.safetensors").stat().st_mtime_ns
    done = fewlabel("demo", "--out", str(run), *TINY, "--resume")
    assert (run / "encoder" / "encoder.safetensors").stat().st_mtime_ns == before
    assert "finished and kept" in done.stderr


def test_scores_and_report_are_made_anew_with_other_settings(run: Path) -> None:
    notes = run / "scores" / "notes.txt"
    notes.write_text("mine")
    for word, flip in (("evaluate.flip=true", True), ("evaluate.flip=false", False)):
        done = fewlabel("demo", "--out", str(run), *TINY, word, "--resume")
        assert "which are replaced" in done.stderr
        summary = json.loads((run / "scores" / "summary.json").read_text())
        assert summary["protocol"]["flip"] is flip
        parents = json.loads((run / "report" / "manifest.json").read_text())["parents"]
        hashes = {parent["kind"]: parent["content_hash"] for parent in parents}
        assert hashes["scores"] == json.loads((run / "scores" / "manifest.json").read_text())["content_hash"]
    assert notes.read_text() == "mine"
    assert not (run / "scores-before").exists()


def test_a_used_folder_and_other_settings_are_refused(run: Path) -> None:
    done = fewlabel("demo", "--out", str(run), *TINY, code=2)
    assert "--resume" in done.stderr
    done = fewlabel("train", str(run / "data"), "--out", str(run), "--resume", "pretrain.steps=3", code=2)
    assert "pretrain.steps: was 2 when the run began and is 3 now" in done.stderr


def test_check_tells_what_it_understood_and_what_is_wrong(run: Path, tmp_path: Path) -> None:
    done = fewlabel("check", str(run / "data"))
    assert "14 of 7 subjects" in done.stdout
    assert "No faults." in done.stdout
    table = tmp_path / "scans.csv"
    table.write_text("image,subject\nnone1.nii.gz,a\nnone2.nii.gz,b\n")
    done = fewlabel("check", str(table), code=3)
    assert "none1.nii.gz" in done.stderr
    assert "none2.nii.gz" in done.stderr


def test_predict_takes_the_run_folder(run: Path, tmp_path: Path) -> None:
    scan = run / "data" / "images" / "patient07_ED.nii.gz"
    fewlabel("predict", str(run), str(scan), "--out", str(tmp_path / "masks"), "--device", "cpu")
    assert (tmp_path / "masks" / scan.name).is_file()
    assert (tmp_path / "masks" / "predictions.csv").is_file()


def test_artifacts_of_the_wrong_kind_are_3(run: Path, tmp_path: Path) -> None:
    done = fewlabel("pretrain", str(run / "encoder"), "--out", str(tmp_path / "e"), code=3)
    assert "is an artifact of kind encoder, not prepared" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_processes_by_torchrun(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    words = ["pretrain", str(run / "prepared"), "--out", str(out), *TINY[4:8], "batch=8", "device=cpu", "precision=32"]
    command = [*torchrun, "-m", "fewlabel", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert (out / "encoder.safetensors").is_file()
    assert done.stdout.count(str(out)) == 1
    assert done.stderr.count("2/2") == 1
