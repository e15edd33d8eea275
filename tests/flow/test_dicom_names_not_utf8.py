"""DICOM in folders and files whose names are not valid UTF-8: read, or refused by name where the name must be kept."""

from __future__ import annotations

import csv
import os

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fewlabel.cli import app
from kit.dicom import uid, write_slices, write_structure_set
from kit.segmenters import disc_plan, make_segmenter

ODD = os.fsdecode(b"caf\xe9")
#: As it is shown.
SEEN = r"caf\xe9"
SHAPE = (3, 16, 16)


def series(home, number, **tags):
    """A series with its structure set, all of it under names that are not UTF-8."""
    array = np.random.default_rng(number).integers(100, 900, SHAPE).astype(np.uint16)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    tags = {
        "PatientID": f"4711{number}", "Modality": "MR", "StudyInstanceUID": uid("study", number),
        "SeriesInstanceUID": uid("series", number), "FrameOfReferenceUID": uid("frame", number), **tags,
    }  # fmt: skip
    files = write_slices(home / f"{ODD}{number}", array, names=f"{ODD}{{:03d}}", **tags)
    corners = [
        np.stack(
            [0.5 * (8 + 4 * np.cos(angles)) - 10, 0.75 * (8 + 4 * np.sin(angles)) - 20, np.full(40, 30.0 + 2 * z)], 1
        )
        for z in range(SHAPE[0])
    ]
    write_structure_set(home / f"{ODD}{number}.rt", files, {"organ": corners})
    return files


def said(code, *words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def rows(table):
    with table.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("numbered", [True, False])
def test_series_below_a_folder_are_read_and_the_way_back_is_kept(tmp_path, numbered):
    data = tmp_path / "data"
    none = {} if numbered else {"PatientID": "", "StudyInstanceUID": "", "SeriesInstanceUID": ""}
    for number in range(3):
        series(data / ODD, number, **none)
    assert "No faults" in said(0, "check", data)
    said(0, "prepare", data, "--out", tmp_path / "prepared")
    catalog = pd.read_parquet(tmp_path / "prepared" / "catalog.parquet")
    assert len(catalog) == 3
    keys = data / ".fewlabel-dicom"
    assert len(bytes.fromhex((keys / "key").read_text())) == 32
    table = {row["scan"]: row for row in rows(keys / "scans.csv") if row["used"]}
    assert set(table) == set(catalog["case"])
    # The very folder, byte for byte.
    folders = {row["folder"] for row in table.values()}
    assert folders == {str(data / SEEN / f"{SEEN}{number}") for number in range(3)}
    if not numbered:
        assert {row["series"] for row in table.values()} == {f"folder {folder}" for folder in folders}
    # Said once and for all: whoever comes next changes nothing, and is led to the same table.
    before = (keys / "scans.csv").read_bytes()
    model = make_segmenter(tmp_path / "model", disc_plan())
    assert ".fewlabel-dicom/scans.csv beside the data" in said(0, "predict", model, data, "--out", tmp_path / "out")
    assert (keys / "scans.csv").read_bytes() == before
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {f"{scan}.nii.gz" for scan in table}


def test_a_damaged_file_is_named_in_the_table_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    for number in range(2):
        files = series(tmp_path / "data", number)
    files[0].write_bytes(files[0].read_bytes()[:300])
    output = said(3, "check", tmp_path / "data")
    assert "DICOM files or folders that cannot be read: 1" in output
    assert SEEN not in output
    [table] = (tmp_path / "user").rglob("unreadable.csv")
    assert [row["file"] for row in rows(table)] == [str(tmp_path / "data" / f"{SEEN}1" / f"{SEEN}000")]


@pytest.mark.parametrize("inside", [False, True])
def test_a_data_set_of_such_a_name_is_refused_by_it(tmp_path, inside):
    """Each scan's path begins by it, which settings, catalogs and reports keep as text."""
    data = tmp_path / ODD / "data" if inside else tmp_path / ODD
    for number in range(2):
        series(data, number)
    model = make_segmenter(tmp_path / "model", disc_plan())
    shown = str(tmp_path / SEEN / "data" if inside else tmp_path / SEEN)
    problem = "lies in a folder whose name is not valid UTF-8" if inside else "has a name that is not valid UTF-8"
    for words in (
        ("check", data),
        ("prepare", data, "--out", tmp_path / "prepared"),
        ("predict", model, data, "--out", tmp_path / "out"),
        ("predict", model, data, "--out", tmp_path / "out", "reader=dicom"),
    ):
        output = said(3, *words)
        # Lines are broken within long paths.
        assert f"{shown}: {problem}".replace(" ", "") in output.replace(" ", "")
        assert "Rename" in output
    assert not (data / ".fewlabel-dicom").exists()
