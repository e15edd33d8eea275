"""Scores whose records lack what their sums are made with, or hold it in another shape, are a finding."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from fewlabel.pipelines.verify.repeated_scores import repeated_scores
from fewlabel.pipelines.verify.score_sums import sums_of_scores
from fewlabel.scoring.summary import summarise

OPTIONS = {"confidence": 0.9, "resamples": 20, "seed": 1}
NUMBERS = ("hd95_mm", "assd_mm", "missed", "invented", "reference_ml", "predicted_ml", "stray", "stray_ml")
CLEANED = {"removed": 0, "removed_ml": 0.0, "dice_before": 0.8}


def table() -> pd.DataFrame:
    rows = [
        {"arm": "model", "case": f"c{n}", "subject": f"s{n}", "class": 1, "dice": 0.8 + n / 100}
        | dict.fromkeys(NUMBERS, 1.0)
        | CLEANED
        for n in range(4)
    ]
    return pd.DataFrame(rows)


def scores(drop: str = "", settings: dict | None = None, summary: object = None, cells: pd.DataFrame | None = None):
    cells = table() if cells is None else cells
    whole = {"classes": {"1": "organ"}, **summarise(table(), {1: "organ"}, **OPTIONS)}
    settings = {key: value for key, value in {**OPTIONS, **(settings or {})}.items() if key != drop}
    stream = io.BytesIO()
    cells.to_parquet(stream, index=False)
    files = {
        "per_case.parquet": stream.getvalue(),
        "per_case.csv": cells.to_csv(index=False).encode(),
        "summary.json": json.dumps(whole if summary is None else summary).encode(),
    }
    return SimpleNamespace(
        content=files.__getitem__,
        json=lambda name: json.loads(files[name]),
        manifest=SimpleNamespace(settings=settings, machine={}, precision="32"),
    )


def test_sound_scores_hold() -> None:
    assert sums_of_scores(scores(), "p").verdict == "held"


@pytest.mark.parametrize("key", OPTIONS)
def test_what_an_older_manifest_does_not_say_cannot_be_checked(key: str) -> None:
    finding = sums_of_scores(scores(drop=key), "p")
    assert (finding.verdict, finding.detail) == ("not checked", f"the manifest does not say with which {key}")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"confidence": "much"}, "confidence"),
        ({"confidence": 1.5}, "confidence"),
        ({"resamples": 0}, "resamples"),
        ({"resamples": 2.5}, "resamples"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
    ],
)
def test_what_no_settings_can_be_is_named(settings: dict, named: str) -> None:
    finding = sums_of_scores(scores(settings=settings), "p")
    assert finding.verdict == "differs"
    assert named in finding.detail


def test_resamples_without_end_are_not_made() -> None:
    assert sums_of_scores(scores(settings={"resamples": 10**12}), "p").verdict == "not checked"


def test_a_table_of_words_is_named() -> None:
    finding = sums_of_scores(scores(cells=table().assign(dice="much", reference_ml="all")), "p")
    assert finding.verdict == "differs"
    assert "per_case.parquet cannot be summed up" in finding.detail


@pytest.mark.parametrize("summary", [[], {}, {"classes": []}, {"classes": {"one": "organ"}}, {"classes": {"1": 7}}, 3])
def test_a_summary_of_another_shape_is_named(summary: object) -> None:
    finding = sums_of_scores(scores(summary=summary), "p")
    assert (finding.verdict, finding.detail) == ("differs", "summary.json does not name its structures")


@pytest.mark.parametrize("column", ["arm", "case", "class", "subject", "dice", "reference_ml"])
def test_a_column_that_is_gone_is_named(column: str) -> None:
    finding = sums_of_scores(scores(cells=table().drop(columns=column)), "p")
    assert (finding.verdict, finding.detail) == ("differs", f"per_case.parquet has no column {column}")


def test_scores_without_their_cases_are_not_repeated(tmp_path: Path) -> None:
    store = SimpleNamespace(cases=[], folder=tmp_path)
    finding = repeated_scores(scores(cells=table()[["arm", "dice"]]), store, {"model": tmp_path}, tmp_path, "cpu", 0.1)
    assert (finding.verdict, finding.detail) == ("differs", "per_case.parquet has no column case")
