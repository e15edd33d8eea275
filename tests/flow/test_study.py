"""A study from its words to its tables: nothing done twice, nothing lost, the same by every executor."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from fewlabel.cli import app
from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import ArtifactError, DataError, SettingsError
from fewlabel.pipelines import study as pipeline
from fewlabel.pipelines.study.running import STUDY_FILE
from kit.studies import SPEC, scans, study

DONE = "done.json"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scans(tmp_path_factory.mktemp("study") / "scans")


@pytest.fixture(scope="module")
def done(data: Path) -> Path:
    """A finished study."""
    return pipeline.run(study(data, data.parent / "done"))


def jobs(folder: Path, name: str = DONE) -> dict[str, int]:
    """Finished jobs, and when they were."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "jobs").glob(f"*/{name}")}


def weights(folder: Path) -> dict[str, str]:
    """Hash of the weights of each training."""
    made = [path.parent for path in (folder / "jobs").glob("*/segmenter/manifest.json")]
    return {path.parent.name: Artifact.open(path).manifest.files["segmenter.safetensors"] for path in made}


def test_a_study_leaves_tables_of_all_its_cells(done: Path) -> None:
    results = done / "results"
    rows = pd.read_parquet(results / "rows.parquet")
    assert len(rows) == 6
    assert set(rows["arm"]) == {"scratch", "simclr", "fixmatch"}
    assert rows.groupby("arm")["patients"].nunique().tolist() == [2, 2, 2]
    assert rows.loc[rows["arm"] == "simclr", "pretrain_steps"].tolist() == [2, 2]
    cases = pd.read_parquet(results / "cases.parquet")
    mean = cases.groupby(["arm", "draw", "case"])["dice"].mean().groupby(["arm", "draw"]).mean()
    assert mean["simclr", 0] == pytest.approx(rows.set_index(["arm", "draw"]).loc[("simclr", 0), "dice"])
    statistics = json.loads((results / "statistics.json").read_text())
    assert statistics["control"] == "scratch"
    assert statistics["missing"] == []
    assert statistics["cells"]["simclr"]["1"]["test"]["draws"] == 2
    text = (results / "tables.md").read_text()
    assert "| simclr | 1 | 2 × 1 |" in text
    assert "gain over scratch (95 % interval)" in text
    lines = (results / "tables.txt").read_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("arm ") and "gain (95 % interval)" in line for line in lines)
    # Two steps leave networks that find nothing, and that is said first.
    assert any("Of no use" in line for line in lines[:2])
    assert r"\begin{tabular}" in (results / "tables.tex").read_text()
    page = (results / "report.html").read_text()
    assert "Study study" in page
    assert not re.search("https?:", page.replace("http://www.w3.org", ""))
    assert json.loads((done / STUDY_FILE).read_text())["finished"]


def test_the_same_again_does_nothing_and_an_arm_more_only_what_is_new(data: Path, done: Path) -> None:
    before = jobs(done)
    pipeline.run(study(data, done))
    assert jobs(done) == before
    more = {**SPEC["arms"], "mixup": {"regime": "mixup", "doc": "mixed slices"}}
    pipeline.run(study(data, done, arms=more))
    assert {key for key in jobs(done) if key not in before and not key.startswith("evaluate")} == {
        key for key in jobs(done) if key.startswith("finetune-mixup")
    }
    assert len(jobs(done)) == len(before) + 4
    assert before.items() <= jobs(done).items()
    assert "mixed slices" in (done / "results" / "report.html").read_text()


@pytest.mark.slow
def test_processes_give_the_bits_of_one(data: Path, done: Path, tmp_path: Path) -> None:
    arms = {"scratch": {}, "fixmatch": {"regime": "fixmatch"}}
    by_two = pipeline.run(study(data, tmp_path / "by-two", arms=arms, executor="processes", workers=2, threads=1))
    alone = weights(done)
    assert len(weights(by_two)) == 4
    assert weights(by_two).items() <= alone.items()


@pytest.mark.slow
def test_a_study_that_is_killed_in_the_midst_of_a_training_goes_on(data: Path, tmp_path: Path) -> None:
    long = {"arms": {"scratch": {}}, "draws": 1, "finetune": {"steps": 60, "checkpoint_seconds": 0.0, "log_every": 1}}
    whole = pipeline.run(study(data, tmp_path / "whole", **long))
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({**SPEC, **long, "finetune": {**SPEC["finetune"], **long["finetune"]}}))
    words = [sys.executable, "-m", "fewlabel", "study", str(spec), "--data", str(data), "--out", str(tmp_path / "cut")]
    rows = 0
    for how in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        record, until = None, time.monotonic() + 60
        while record is None or len(record.read_text().splitlines()) < rows + 8:
            assert time.monotonic() < until
            assert process.poll() is None
            record = next((tmp_path / "cut").glob("jobs/*/segmenter/metrics.jsonl"), None)
            time.sleep(0.02)
        rows = len(record.read_text().splitlines())
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), said
    assert "state is saved" in said or "repeat the command" in said
    assert (tmp_path / "cut" / "results" / "tables.md").is_file()
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert weights(tmp_path / "cut") == weights(whole)
    (attempts,) = (tmp_path / "cut").glob("jobs/finetune*/attempts.jsonl")
    assert [json.loads(line)["event"] for line in attempts.read_text().splitlines()] == [
        "began", "began", "stopped", "began", "ended",
    ]  # fmt: skip


def test_a_cell_that_fails_is_told_and_the_others_are_done(data: Path, tmp_path: Path) -> None:
    arms = {"scratch": {}, "wild": {"finetune": {"optimiser": {"lr": 1e30, "min_lr": 1e30}, "steps": 30}}}
    asked = study(data, tmp_path / "out", arms=arms, draws=1)
    with pytest.raises(DataError) as caught:
        pipeline.run(asked)
    told = str(caught.value)
    assert "2 jobs failed or need one that did" in told
    assert "finetune wild, M=1, draw 0, seed 0" in told
    statistics = json.loads((tmp_path / "out" / "results" / "statistics.json").read_text())
    assert statistics["missing"] == [["wild", "1", 0, 0]]
    assert list(statistics["cells"]["scratch"]) == ["1"]


def test_what_was_deleted_is_done_again_and_what_is_damaged_is_told(
    data: Path, tmp_path: Path, said: list[str]
) -> None:
    asked = study(data, tmp_path / "out", arms={"scratch": {}}, draws=1)
    out = pipeline.run(asked)
    made = weights(out)
    (scores,) = out.glob("jobs/evaluate-*/scores")
    (training,) = out.glob("jobs/finetune-*/segmenter")
    shutil.rmtree(scores)
    (training.parent / DONE).write_text("[]")
    (out / "measured.json").write_text('{"machine": 3}')
    (out / STUDY_FILE).write_text("")
    pipeline.run(asked)
    assert "1 of 2 jobs lost their results and are done again." in said
    assert json.loads((out / "results" / "statistics.json").read_text())["missing"] == []
    assert weights(out) == made
    table = scores / "per_case.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"evaluate scratch, M=1, draw 0, seed 0: .* is damaged(.|\n)*Delete "):
        pipeline.run(asked)
    table.write_bytes(whole)
    (out / STUDY_FILE).write_text(json.dumps({"kind": "study", "schema_version": 99}))
    with pytest.raises(SettingsError, match="is a study of format 99, and this version"):
        pipeline.run(asked)


def test_another_folder_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="Give another --out, or that of the study"):
        pipeline.run(study(data, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(SettingsError):
        pipeline.run(study(data, tmp_path / "new", arms={"a": {"finetune": {"step": 1}}}))
    assert not (tmp_path / "new").exists()


def command(*words: object) -> Any:
    return CliRunner(env={"COLUMNS": "100"}).invoke(app, ["study", *map(str, words)])


def test_a_dry_run_shows_the_grid_and_a_time_and_trains_nothing(data: Path, tmp_path: Path) -> None:
    spec = tmp_path / "hearts.yaml"
    spec.write_text(yaml.safe_dump(SPEC))
    out = tmp_path / "out"
    told = command(spec, "--data", data, "--out", out, "--dry-run", "draws=1", "arms.simclr.method=moco")
    assert told.exit_code == 0, told.output
    assert "scratch            0/1" in told.stdout
    assert "finetune      3 to do,     0 done" in told.stdout
    assert "all of it: about 0:" in told.stdout
    assert not (out / "jobs").exists()
    known = json.loads((out / "measured.json").read_text())["costs"]
    assert len(known) == 7
    # What was measured is not measured again.
    assert (
        "Timing"
        not in command(spec, "--data", data, "--out", out, "--dry-run", "draws=2", "arms.simclr.method=moco").output
    )


def test_minutes_become_steps_once(data: Path, tmp_path: Path, said: list[str]) -> None:
    arms = {"scratch": {}, "simclr": {"method": "simclr"}, "set": {"finetune": {"steps": 9}}}
    spec = {"finetune": {**SPEC["finetune"]}, "pretrain": {**SPEC["pretrain"]}}
    del spec["finetune"]["steps"], spec["pretrain"]["steps"]
    asked = pipeline.study_of(
        {**SPEC, **spec, "recipe": "default", "arms": arms, "minutes": 0.5}, {"data": data, "out": tmp_path / "out"}
    )
    first = pipeline.dry_run(asked)
    chosen = json.loads((tmp_path / "out" / "steps.json").read_text())
    assert sorted(map(sorted, chosen.values())) == [[], ["finetune"], ["finetune", "pretrain"]]
    assert any(line.startswith("simclr: 0.5 minutes are pretrain.steps=") for line in said)
    pipeline.dry_run(asked)
    assert json.loads((tmp_path / "out" / "steps.json").read_text()) == chosen
    assert first


def test_the_command_says_what_is_missing_and_lists_what_there_is() -> None:
    told = command("--list")
    assert told.exit_code == 0
    for name in pipeline.study_names():
        assert name in told.stdout
    told = command()
    assert told.exit_code == 2
    assert "SPEC: is required" in told.output
    assert command("nothing").exit_code == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_bits_of_one_process(data: Path, done: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    by_ray = pipeline.run(study(data, tmp_path / "by-ray", executor="ray", threads=1))
    assert len(weights(by_ray)) == 6
    assert weights(by_ray).items() <= weights(done).items()
    assert os.environ.get("OMP_NUM_THREADS", "1") == "1"
