"""Figures of trainings on TensorBoard and MLflow: the same as on record, in the same curves after a resumption."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.engine import trackers
from fewlabel.engine.record import Record
from fewlabel.engine.run_folder_state import identity
from fewlabel.engine.trackers import MLflow, Trackers, missing_trackers
from fewlabel.stages import finetune
from fewlabel.stages.finetune import checking as finetune_checking
from kit.stores import make_store
from kit.tiny import finetune_settings


class Listed:
    """A tracker that keeps what it gets."""

    def __init__(self, *, fails: bool = False) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.closed: list[bool] = []
        self.fails = fails

    def add(self, step: int, figures: Any) -> None:
        if self.fails:
            raise OSError(28, "No space left on device")
        self.rows.append((step, dict(figures)))

    def close(self, *, whole: bool) -> None:
        self.closed.append(whole)


def test_a_tracker_gets_the_numbers_of_each_row_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Listed()
    monkeypatch.setattr(trackers, "TensorBoard", lambda folder, first: made)
    record = Record(tmp_path, 0, Trackers(["tensorboard"], tmp_path, 0, {}))
    record.add(3, {"loss": 0.5, "lr": float("nan"), "stage": "one", "flag": True, "count": 2})
    record.close(whole=True)
    # What is not finite is null on record.
    assert made.rows == [(3, {"loss": 0.5, "count": 2.0})]
    assert made.closed == [True]
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["lr"] is None


def test_a_tracker_that_fails_is_told_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    good, bad = Listed(), Listed(fails=True)
    monkeypatch.setattr(trackers, "TensorBoard", lambda folder, first: bad)
    monkeypatch.setattr(trackers, "MLflow", lambda folder, settings: good)
    both = Trackers(["tensorboard", "mlflow"], tmp_path, 0, {})
    for step in range(3):
        both.add(step, {"loss": 1.0})
    both.close(whole=False)
    assert said == [
        "tensorboard takes no more figures (No space left on device); the training goes on, metrics.jsonl has them all."
    ]
    assert [step for step, _ in good.rows] == [0, 1, 2]
    assert (good.closed, bad.closed) == ([False], [])


def test_a_tracker_that_cannot_begin_ends_the_training_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path, first: int) -> Listed:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(trackers, "TensorBoard", fails)
    with pytest.raises(SettingsError, match=r"tracking: tensorboard cannot begin \(Permission denied\)"):
        Trackers(["tensorboard"], tmp_path, 0, {})


def test_what_is_missing_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    told = " ".join(str(fault) for fault in missing_trackers(["tensorboard", "mlflow"], "finetune."))
    assert "finetune.tracking: tensorboard is not installed" in told
    assert "mlflow is not installed" in told
    assert "mlflow writes where MLFLOW_TRACKING_URI says, which is not set" in told
    assert missing_trackers([]) == []


def test_tracking_is_no_part_of_what_a_run_is() -> None:
    assert identity({"steps": 3, "tracking": ["mlflow"]}) == {"steps": 3}


def test_nothing_is_loaded_while_it_is_off() -> None:
    names = ("tensorboard", "mlflow", "torch.utils.tensorboard")
    loaded = f"[name for name in {names!r} if name in sys.modules]"
    code = f"import sys, fewlabel.engine.trainer, fewlabel.stages.finetune; sys.exit(str({loaded} or 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() in {"", "0"}, done.stderr


def scalars(folder: Path) -> dict[int, float]:
    """Step → loss of all event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {event.step: event.value for event in events.Scalars("loss")}


def only_run() -> Any:
    """The only run of the experiment ``fewlabel``."""
    from mlflow import MlflowClient

    client = MlflowClient()
    (experiment,) = (one for one in client.search_experiments() if one.name == "fewlabel")
    (tracked,) = client.search_runs([experiment.experiment_id])
    return tracked


def fails(step: int) -> Any:
    """A step of a training."""
    raise ValueError("it fails")


@pytest.mark.parametrize(("stop", "whole"), [(1, False), (2, True), (None, False)])
def test_trackers_are_told_whether_steps_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int | None, whole: bool
) -> None:
    made = Listed()
    monkeypatch.setattr(trackers, "TensorBoard", lambda folder, first: made)
    monkeypatch.setattr(finetune_checking, "missing_trackers", lambda *names: [])
    store = make_store(tmp_path / "store")
    over = {"steps": 2, "checkpoint_seconds": 0.0, "tracking": ["tensorboard"]}
    run = finetune.begin(finetune_settings(store, tmp_path / "run", **over))
    if stop is not None:
        run.train(stop)
    else:
        monkeypatch.setattr(run, "step", fails)
        with pytest.raises(ValueError, match="it fails"):
            run.train()
    assert made.closed == [whole]


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_ends_early_has_failed_on_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'mlruns'}")
    store = make_store(tmp_path / "store")
    over = {"steps": 3, "checkpoint_seconds": 0.0, "tracking": ["mlflow"]}
    finetune.begin(finetune_settings(store, tmp_path / "run", **over)).train(2)
    assert only_run().info.status == "FAILED"
    finetune.begin(finetune_settings(store, tmp_path / "run", resume=True, **over)).train()
    assert only_run().info.status == "FINISHED"


@pytest.mark.filterwarnings("ignore")
def test_a_training_and_its_resumption_are_one_curve_on_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'mlruns'}")
    store = make_store(tmp_path / "store")
    out = tmp_path / "run"
    over = {"steps": 6, "log_every": 1, "checkpoint_seconds": 0.0, "tracking": ["tensorboard", "mlflow"]}
    run = finetune.begin(finetune_settings(store, out, **over))
    run.train(3)
    again = finetune.begin(finetune_settings(store, out, resume=True, **over))
    again.train()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    wanted = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert list(wanted) == list(range(6))
    assert scalars(out / trackers.EVENTS) == pytest.approx(wanted)
    from mlflow import MlflowClient

    tracked = only_run()
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["steps"] == "6"
    history = MlflowClient().get_metric_history(tracked.info.run_id, "loss")
    assert {metric.step: metric.value for metric in history} == pytest.approx(wanted)


@pytest.mark.filterwarnings("ignore")
def test_mlflow_takes_any_number_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'mlruns'}")
    made = MLflow(tmp_path / "run", {f"setting{at}": "x" * 900 for at in range(230)})
    made.add(1, {"a/b": 2.0})
    made.close(whole=True)
    assert json.loads((tmp_path / "run" / trackers.RUN).read_text())["run"]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_tells_its_makers_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    # In a process of its own: MLflow is silent by itself wherever it sees pytest or CI.
    script = (
        "import os, sys; from pathlib import Path; from fewlabel.engine.trackers import MLflow\n"
        "MLflow(Path(sys.argv[1]), {})\n"
        "from mlflow.telemetry import get_telemetry_client; print(get_telemetry_client())"
    )
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "HOME")}
    place = {"MLFLOW_TRACKING_URI": f"file://{tmp_path / 'mlruns'}"}
    words = [sys.executable, "-c", script, str(tmp_path / "run")]
    (tmp_path / "run").mkdir()
    done = subprocess.run(words, env={**kept, **place}, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "None"
