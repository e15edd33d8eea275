"""``train`` with a budget from end to end, on a tiny data set with real steps."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fewlabel.cli import app
from fewlabel.core import progress
from fewlabel.core.settings.base import without_absolute
from fewlabel.pipelines import time_budget_arithmetic, time_estimate
from kit.scans import nnunet_folder

TINY = (
    "network.width=4", "network.depth=3", "method=simclr", "pretrain.batch=8", "finetune.batch=4", "device=cpu",
    "evaluate.resamples=50", "report.points=40", "finetune.labelled=1", "finetune.regime=supervised",
)  # fmt: skip


def fewlabel(*words: str) -> Result:
    listener = list(progress._listener)
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, list(words))
    progress._listener[:] = listener
    assert result.exit_code == 0, result.stdout + result.stderr
    return result


def weights(run: Path) -> dict[str, str]:
    """Hashes of what was trained, and of what it was trained on."""
    found = {}
    for name, file in (
        ("prepared", "images.npy"),
        ("encoder", "encoder.safetensors"),
        ("segmenter", "segmenter.safetensors"),
        ("segmenter-control", "segmenter.safetensors"),
    ):
        found[name] = json.loads((run / name / "manifest.json").read_text())["files"][file]
    return found


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run with a budget, whose trainings have four steps at most, and what it told."""
    place = tmp_path_factory.mktemp("budget")
    data = nnunet_folder(place / "my scans", tuple("abcdefgh"), shape=(5, 40, 36))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_budget_arithmetic, "ROUND", 2)
        patch.setattr(time_budget_arithmetic, "FEWEST", 2)
        patch.setattr(time_budget_arithmetic, "MOST", {"pretrain": 4, "finetune": 4})
        patch.setattr(time_estimate, "SECONDS", 0.0)
        done = fewlabel("train", str(data), "--out", str(place / "run"), *TINY, "budget=10m")
    return place / "run", done.stderr


def test_the_table_comes_before_the_training_and_what_it_took_after(sized: tuple[Path, str]) -> None:
    out, told = sized
    lines = [line.rstrip() for line in told.splitlines()]
    table = lines.index("stage                           steps    s/step     takes   ends at")
    assert lines[table + 2].startswith("pretrain simclr                     4")
    first = next(number for number, line in enumerate(lines) if line.startswith("pretrain simclr  4/4"))
    assert table < first
    assert any(line.startswith("It took ") for line in lines[first:])
    record = json.loads((out / "run.json").read_text())
    for name in ("pretrain", "finetune", "evaluate", "report"):
        # To a tenth of a second, of which scoring so little may need less than half.
        assert record["stages"][name]["forecast_seconds"] >= (0 if name == "evaluate" else 0.1)
        assert record["stages"][name]["seconds"] >= 0
    assert record["settings"]["prepare"]["size"] == [48, 48]


def test_the_printed_command_trains_the_same_weights(sized: tuple[Path, str], tmp_path: Path) -> None:
    out, told = sized
    lines = told.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("fewlabel train"))
    stop = next(number for number, line in enumerate(lines) if line.rstrip().endswith("budget=off"))
    words = shlex.split(" ".join(line.rstrip().removesuffix("\\") for line in lines[start : stop + 1]))
    assert without_absolute(out, words) == json.loads((out / "run.json").read_text())["resolved"]["command"]
    words[words.index("--out") + 1] = str(tmp_path / "again")
    fewlabel(*words[1:])
    assert weights(tmp_path / "again") == weights(out)
    assert json.loads((tmp_path / "again" / "run.json").read_text())["resolved"] == {}


def test_a_finished_run_is_kept_without_measuring(sized: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from fewlabel.pipelines import step_timing

    def measured(*words: Any, **settings: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(step_timing, "measure", measured)
    out, _ = sized
    before = weights(out), json.loads((out / "run.json").read_text())["resolved"]
    data = out.parent / "my scans"
    fewlabel("train", str(data), "--out", str(out), *TINY, "--resume")
    assert (weights(out), json.loads((out / "run.json").read_text())["resolved"]) == before
