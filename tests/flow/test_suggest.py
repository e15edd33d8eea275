"""``suggest`` on a run and on prepared scans alone: what it picks, what it says, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from fewlabel.cli import app
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.stages import suggest
from kit.runs import make_run
from kit.stores import make_store


def suggested(run: Path, **values: object) -> pd.DataFrame:
    return pd.read_csv(suggest.run(suggest.SETTINGS.parse({"run": run, "precision": "32", **values})))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), subjects=12, size=(32, 32))


def test_a_run_is_asked_where_its_networks_disagree(run: Path, said: list[str]) -> None:
    table = suggested(run, count=3)
    store = PreparedStore(run / "prepared")
    facts = json.loads((run / "segmenter" / "segmenter.json").read_text())
    parts = store.split["parts"]
    for choice in ("suggested", "random"):
        rows = table[table["choice"] == choice]
        assert rows["rank"].tolist() == [1, 2, 3]
        assert rows["subject"].is_unique
        assert not set(rows["subject"]) & {*parts["test"], *parts["validation"], *facts["labelled_subjects"]}
    assert table["disagreement"].between(0, 1).all()
    assert table.loc[0, "why"].startswith("disagreement ")
    assert "Disagreement is that of the model and its control." in said
    assert any("3 scans at random" in line for line in said)
    assert table.equals(suggested(run, count=3, out=run / "other.csv"))


def test_before_any_label_the_first_is_in_the_middle(tmp_path: Path) -> None:
    names = [f"patient{number:03d}" for number in range(1, 7)]
    prepared = make_store(tmp_path / "prepared", subjects=6, size=(32, 32), unlabelled=names)
    table = suggested(prepared, count=99)
    assert (table["rule"] == ["coverage"] * (len(table) // 2) + ["random"] * (len(table) // 2)).all()
    assert table.loc[0, "why"] == "in the middle of all scans"
    assert pd.isna(table.loc[0, "gap"])
    with pytest.raises(SettingsError, match="disagreement needs a segmentation network"):
        suggested(prepared, rule="disagreement")


def test_a_mask_that_waits_counts_as_annotated(run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "run"
    shutil.copytree(run, mine)
    first = suggested(mine, count=1, rule="coverage").loc[0, "case"]
    (mine / "annotations").mkdir()
    (mine / "annotations" / f"{first}.nii.gz").touch()
    assert first not in suggested(mine, count=99, rule="coverage")["case"].tolist()


def test_there_may_be_nothing_to_suggest(tmp_path: Path) -> None:
    prepared = make_store(tmp_path / "prepared", subjects=4, size=(32, 32))
    with pytest.raises(DataError, match="every training scan is annotated"):
        suggested(prepared)
    done = CliRunner().invoke(app, ["suggest", str(tmp_path), "--count", "0"])
    assert done.exit_code == 2


def test_more_than_are_left_is_said(run: Path, tmp_path: Path, said: list[str]) -> None:
    table = suggested(run, count=99, out=tmp_path / "all.csv")
    left = (table["choice"] == "suggested").sum()
    assert f"No more than {left} scans are left to annotate, fewer than the 99 asked for." in said
    assert said[-1] == "These are all that are left: there is nothing to choose."
