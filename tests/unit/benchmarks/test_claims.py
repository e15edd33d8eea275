"""Committed rows of studies: kept only of studies as they are shipped, and what they say of published claims."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.pipelines.study import study_names
from fewlabel.pipelines.study.arms import arm_plans

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("claims")


def finished(claims: Any, folder: Path, gains: dict[str, float], study: str = "gcl-table1", **over: Any) -> Path:
    """The folder of a study in lite size, its scores made up: three draws, six patients with two scans each."""
    settings = {**claims.shipped(study, "lite").settings.record(), **over}
    rng = np.random.default_rng(0)
    rows, cases = [], []
    for draw in range(3):
        for arm, gain in gains.items():
            cell = {"arm": arm, "labelled": "1", "draw": draw, "seed": 0}
            facts = {
                "steps": 1000,
                "seconds": 60.0,
                "units": "mm",
                "created": "2026-11-29T10:00:00",
                "pretrain_steps": None,
            }
            machine = {"processor": "A processor", "threads": 1}
            made = {"machine": json.dumps(machine), "versions": json.dumps({"torch": "2", "fewlabel": "1"})}
            rows.append({**cell, **facts, **made})
            for person in range(6):
                for scan in ("ED", "ES"):
                    dice = 0.5 + gain + 0.01 * person + rng.normal(0, 0.003)
                    case = {"subject": f"p{person}", "case": f"p{person}_{scan}", "class": 1}
                    cases.append({**cell, **case, "dice": dice, "hd95_mm": np.nan if person == 0 else 9.0})
    (folder / "results").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(folder / "results" / "rows.parquet")
    pd.DataFrame(cases).to_parquet(folder / "results" / "cases.parquet")
    (folder / "study.json").write_text(json.dumps({"settings": settings}))
    return folder


GAINS = {"random": 0.0, "gcl": 0.1, "simclr": 0.0, "glcl": 0.2}


def test_a_claim_holds_does_not_hold_cannot_be_told_or_was_not_run(claims: Any, tmp_path: Path) -> None:
    path = claims.add(finished(claims, tmp_path / "study", GAINS), tmp_path / "rows")
    rows = claims.rows_of("gcl-table1", "lite", tmp_path / "rows")
    assert path == tmp_path / "rows" / "gcl-table1-lite.jsonl"
    assert len(rows) == 12
    assert rows[0]["dice"].keys() == {f"p{at}" for at in range(6)}
    assert rows[0]["hd95_mm"]["p0"] is None
    assert "pretrain_steps" not in rows[0]
    told = claims.claims(
        claims.shipped("gcl-table1", "lite"), claims.statistics(claims.shipped("gcl-table1", "lite"), rows)
    )
    verdicts = {row[0].split(" (")[0]: (row[1], row[-1]) for row in told.rows}
    assert verdicts["GCL is better than random weights"] == ("1", "holds")
    assert verdicts["GCL is better than SimCLR"] == ("1", "holds")
    assert verdicts["GCL is better than GLCL, the best before it at M=1"] == ("1", "does not hold")
    assert verdicts["SimCLR is better than random weights"] == ("1", "cannot be told")
    not_run = next(row for row in told.rows if "PosiCL" in row[0])
    assert [not_run[2], not_run[-1]] == ["not run yet", "not run yet"]
    page = "\n".join(claims.lines(tmp_path / "rows"))
    assert "### `gcl-table1`, size lite" in page
    assert "12 cells of 2026-11-29 to 2026-11-29, 0.2 hours of fine-tuning; A processor, 1 threads." in page
    assert "| 0.729 ± 0.014 |" in page
    assert "Differences of protocol: Slices of 64x64" in page


def test_a_study_without_published_figures_has_no_differences_to_them(claims: Any, tmp_path: Path) -> None:
    folder = finished(claims, tmp_path / "study", {"unguided": 0.0, "usual": 0.1}, study="gcl-metadata")
    claims.add(folder, tmp_path / "rows")
    page = "\n".join(claims.lines(tmp_path / "rows", ["gcl-metadata"]))
    assert "### `gcl-metadata`, size lite" in page
    assert "Differences of protocol" not in page


def test_what_was_not_run_is_said_of_every_claim_there_is(claims: Any, tmp_path: Path) -> None:
    page = claims.lines(tmp_path)
    count = sum(len(claims.shipped(name, claims.sizes(name)[0]).claims) for name in study_names())
    assert page[0] == f"Claims at each number of labelled patients: {count} not run yet."
    assert [line for line in page if line.startswith("### ")] == [f"### `{name}`" for name in study_names()]


def test_rows_of_the_same_cells_take_the_place_of_older_ones(claims: Any, tmp_path: Path) -> None:
    claims.add(finished(claims, tmp_path / "one", {"random": 0.0, "gcl": 0.1}), tmp_path / "rows")
    claims.add(finished(claims, tmp_path / "two", {"random": 0.0, "moco": 0.3}), tmp_path / "rows")
    rows = claims.rows_of("gcl-table1", "lite", tmp_path / "rows")
    assert [row["arm"] for row in rows] == [arm for arm in ("gcl", "moco", "random") for _ in range(3)]


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"name": "mine"}, '"mine" of size "lite" is no shipped study'),
        ({"finetune": {"regime": "supervised", "steps": 9}}, "finetune: .*'steps': 9.* is not the shipped"),
        ({"arms": {"random": {"regime": "mixup"}}}, r"arms\.random: is not the arm that is shipped"),
    ],
)
def test_rows_of_an_altered_study_are_refused(claims: Any, tmp_path: Path, over: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        claims.add(finished(claims, tmp_path / "study", GAINS, **over), tmp_path / "rows")
    assert not (tmp_path / "rows").exists()


def test_another_device_alters_no_study(claims: Any, tmp_path: Path) -> None:
    asked = claims.shipped("gcl-table1", "lite").settings.record()
    folder = finished(claims, tmp_path / "study", GAINS, finetune={**asked["finetune"], "device": "cuda"})
    assert claims.add(folder, tmp_path / "rows").is_file()


def committed() -> list[str]:
    return sorted(path.stem for path in (BENCHMARKS / "results" / "studies").glob("*.jsonl"))


@pytest.mark.parametrize("table", committed())
def test_committed_rows_are_of_the_lengths_that_are_shipped(claims: Any, table: str) -> None:
    name, size = table.rsplit("-", 1)
    plans = arm_plans(claims.shipped(name, size))
    for row in claims.rows_of(name, size):
        plan = plans[row["arm"]]
        links = {"data": "data", "out": "out"}
        assert row["steps"] == plan.stage("finetune", links).steps, row["arm"]
        assert row.get("pretrain_steps") == (plan.pretrain and plan.stage("pretrain", links).steps), row["arm"]
