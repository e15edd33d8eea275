"""Runs and scans that move: nothing in them is an absolute path, and what is not found again says what to do."""

import json
import shutil

import pandas as pd
import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.core.settings.base import located_from, path_from
from fewlabel.data.scan_locations import (
    DATA_FOLDER,
    below,
    holding,
    in_store,
    located,
    moved_remedy,
    read_data_folder,
    without_folder,
    write_data_folder,
)
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines import train
from fewlabel.pipelines.stage_table import run_values
from fewlabel.stages.evaluate import EvaluateSettings
from fewlabel.stages.evaluate import run as evaluate
from fewlabel.stages.prepare import PrepareSettings
from fewlabel.stages.prepare import run as prepare
from kit.segmenters import make_segmenter, prepared_discs, raw_folder


def test_paths_below_a_folder(tmp_path):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    home = tmp_path / "data"
    for path in (home / "a.nii", home / "sub" / "b.h5#image,zyx,1.0x1.0x1.0", f"{home}#dicom:p1_s2"):
        text = below(path, home)
        assert str(tmp_path) not in text
        assert "data" not in text
        assert located(text, tmp_path / "store", home) == str(path)
    assert located(in_store("masks/a.nii"), tmp_path / "store", home) == str(tmp_path / "store/masks/a.nii")
    assert located("/elsewhere/x.nii", tmp_path, home) == "/elsewhere/x.nii"
    assert located("a.nii", tmp_path, None) == "a.nii"
    assert holding([home, home / "sub" / "b.nii"]) == home
    assert holding([home / "sub", tmp_path / "other" / "b.nii"]) == tmp_path
    assert holding([f"{home}#dicom:p1"]) == home


def test_texts_without_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "data"
    told = {"a": [f"1 files: {home}/s/b.nii: odd", f"see ({home}/c.nii)", "data/d.nii", "mydata/e.nii", 3, None]}
    kept = ["1 files: s/b.nii: odd", "see (c.nii)", "d.nii", "mydata/e.nii", 3, None]
    assert without_folder(told, home) == {"a": kept}


def texts(folder):
    """All that is written in the records of a folder."""
    for path in folder.rglob("*.json"):
        yield path, path.read_text()
    for path in folder.rglob("*.csv"):
        yield path, path.read_text()
    for path in folder.rglob("*.parquet"):
        yield path, pd.read_parquet(path).to_json()


@pytest.fixture
def prepared(tmp_path):
    """Scans and the store made of them, in one folder."""
    home = tmp_path / "before"
    home.mkdir()
    return prepared_discs(home)


def test_no_record_holds_an_absolute_path(prepared, tmp_path):
    for path, text in texts(prepared):
        assert str(tmp_path).replace("/", "\\/") not in text, path
        assert str(tmp_path) not in text, path


def test_scans_and_store_move_together(prepared, tmp_path):
    cases = PreparedStore(prepared).cases
    (tmp_path / "before").rename(tmp_path / "after")
    moved = PreparedStore(tmp_path / "after" / "prepared").cases
    assert [case.images[0].replace("before", "after") for case in cases] == [case.images[0] for case in moved]
    assert moved[0].label == str(tmp_path / "after" / "raw" / "labelsTr" / "s1.nii.gz")


def test_the_content_is_the_same_wherever_the_scans_lie(tmp_path):
    hashes = {PreparedStore(prepared_discs(tmp_path / name)).artifact.content_hash for name in ("a", "b")}
    assert len(hashes) == 1


def test_scans_that_moved_alone_are_found_again(prepared, tmp_path, capsys):
    segmenter = make_segmenter(tmp_path / "segmenter", PreparedStore(prepared).plan, [prepared])
    (tmp_path / "before" / "raw").rename(tmp_path / "elsewhere")
    values = {"data": prepared, "segmenter": segmenter, "out": tmp_path / "scores", "device": "cpu"}
    with pytest.raises(DataError) as refused:
        evaluate(EvaluateSettings.parse(values))
    assert f"say where: fewlabel prepare NEW_DATA --out {prepared}, with the words" in str(refused.value)
    with pytest.raises(DataError, match="fewlabel prepare NEW_DATA --out"):
        run_values("predict", {"model": segmenter, "scans": prepared, "out": tmp_path / "m", "cases": ["s1"]})
    before = PreparedStore(prepared).artifact.content_hash
    again = {"data": tmp_path / "elsewhere", "out": prepared, "reader": "nnunet", "workers": 1}
    native = {"spacing": [2.0, 1.5], "size": [32, 32], "split": str(tmp_path / "before" / "split.json")}
    prepare(PrepareSettings.parse({**again, **native}))
    assert PreparedStore(prepared).artifact.content_hash == before
    assert read_data_folder(prepared) == tmp_path / "elsewhere"
    evaluate(EvaluateSettings.parse(values))


def test_masks_of_a_prepared_folder_name_scans_from_where_they_lie(prepared, tmp_path):
    segmenter = make_segmenter(tmp_path / "segmenter", PreparedStore(prepared).plan, [prepared])
    out = tmp_path / "masks"
    for _ in range(2):
        run_values("predict", {"model": segmenter, "scans": prepared, "out": out, "cases": ["s1"], "device": "cpu"})
        assert pd.read_csv(out / "predictions.csv")["input"].tolist() == ["../before/raw/imagesTr/s1_0000.nii.gz"]
    for path, text in texts(out):
        assert str(tmp_path) not in text, path


def test_links_keep_their_names(tmp_path):
    (tmp_path / "real" / "Name").mkdir(parents=True)
    (tmp_path / "data").symlink_to(tmp_path / "real" / "Name")
    assert path_from(tmp_path / "run", tmp_path / "data") == "../data"
    (tmp_path / "runs").symlink_to(tmp_path / "real")
    # A folder behind a link is left by its true place.
    told = path_from(tmp_path / "runs" / "run", tmp_path / "data")
    assert told == "../../data"
    assert located_from(tmp_path / "runs" / "run", told) == str(tmp_path / "data")


def test_a_store_of_before_keeps_its_absolute_paths(prepared, tmp_path):
    """Written by versions that had no folder of the data."""
    (prepared / DATA_FOLDER).unlink()
    assert located("/data/a.nii", prepared, read_data_folder(prepared)) == "/data/a.nii"
    assert PreparedStore(prepared).cases[0].images[0] == "imagesTr/s1_0000.nii.gz"


def test_train_goes_on_where_everything_has_moved(tmp_path, capsys):
    home = tmp_path / "before"
    raw_folder(home / "raw", [f"s{number}" for number in range(1, 6)])
    small = {"prepare": {"size": [32, 32]}, "finetune": {"steps": 2, "batch": 2, "network": {"width": 4, "depth": 2}}}
    train.run(train.train_settings({"data": home / "raw", "out": home / "run", **small, "device": "cpu"}))
    home.rename(tmp_path / "after")
    run = tmp_path / "after" / "run"
    for path, text in texts(run):
        assert str(tmp_path) not in text, path
    made = (run / "segmenter" / "manifest.json").read_bytes()
    shutil.rmtree(run / "scores")
    train.run(train.train_settings({"out": run, "resume": True}))
    assert (run / "segmenter" / "manifest.json").read_bytes() == made
    assert (run / "scores" / "summary.json").is_file()
    later = run / "rounds" / "1" / "prepared"
    shutil.copytree(run / "prepared", later)
    write_data_folder(later, read_data_folder(run / "prepared"))
    # The data alone: the old place is named, and the new one is taken.
    (tmp_path / "after" / "raw").rename(tmp_path / "raw")
    with pytest.raises(DataError, match=r"after/raw does not exist\. Check the path, or name the data set"):
        train.run(train.train_settings({"out": run, "resume": True}))
    shutil.rmtree(run / "scores")
    train.run(train.train_settings({"data": tmp_path / "raw", "out": run, "resume": True}))
    assert (run / "segmenter" / "manifest.json").read_bytes() == made
    assert (run / "scores" / "summary.json").is_file()
    assert json.loads((run / "run.json").read_text())["asked"]["data"] == "../../raw"
    assert read_data_folder(later) == tmp_path / "raw"


def test_the_remedy_for_moved_scans_of_a_run_does_no_harm(tmp_path):
    raw_folder(tmp_path / "raw", [f"s{number}" for number in range(1, 6)])
    small = {"prepare": {"size": [32, 32]}, "finetune": {"steps": 2, "batch": 2, "network": {"width": 4, "depth": 2}}}
    run = tmp_path / "my run"
    train.run(train.train_settings({"data": tmp_path / "raw", "out": run, **small, "device": "cpu"}))
    (tmp_path / "raw").rename(tmp_path / "new")
    values = {"model": run, "scans": run / "prepared", "out": tmp_path / "m", "cases": ["s1"], "device": "cpu"}
    with pytest.raises(DataError) as refused:
        run_values("predict", values)
    assert f"fewlabel train NEW_DATA --out '{run}' --resume" in str(refused.value)
    assert moved_remedy(run / "rounds" / "1" / "prepared") == moved_remedy(run / "prepared")
    before = PreparedStore(run / "prepared").artifact.content_hash
    with pytest.raises(SettingsError, match=r"segmenter.* beside it"):
        prepare(PrepareSettings.parse({"data": tmp_path / "new", "out": run / "prepared", "workers": 1}))
    assert PreparedStore(run / "prepared").artifact.content_hash == before
    train.run(train.train_settings({"data": tmp_path / "new", "out": run, "resume": True}))
    assert PreparedStore(run / "prepared").artifact.content_hash == before
    run_values("predict", values)
