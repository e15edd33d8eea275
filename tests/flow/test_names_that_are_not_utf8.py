"""Names of files that are not valid UTF-8, which ITK does not survive: refused, and nothing else with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.annotation_saving import save_annotation
from fewlabel.data.io.hdf5_and_npz_arrays import Address
from fewlabel.data.io.image_writing import write_volume
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.data.store import PreparedCase
from fewlabel.service.view.page_state import Viewing, page_state
from fewlabel.service.view.predictions_on_demand import PredictionQueue
from fewlabel.service.view.viewed_scans import viewed_scans
from kit.scans import blob, noise, write_scan
from kit.segmenters import disc_plan, make_segmenter
from kit.tiny import checked, run_predict

ODD = os.fsdecode(b"scan_\xff")


def put(path: Path, array: np.ndarray) -> Path:
    """A scan, by a name that ITK cannot be told."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = write_scan(path.parent.parent / "plain.nii.gz", array)
    written.rename(path)
    return path


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".gipl", ".hdr"])
def test_whoever_reads_a_file_refuses_it_by_its_name(tmp_path, suffix):
    path = put(tmp_path / "in" / f"{ODD}{suffix}", noise())
    for read in (read_geometry, read_volume, read_mask):
        with pytest.raises(DataError, match="not valid UTF-8") as refused:
            read(path)
        text = str(refused.value)
        assert rf"scan_\xff{suffix}" in text
        assert "Rename it" in text
        text.encode()


def test_arrays_in_such_files_are_refused_too(tmp_path):
    path = tmp_path / f"{ODD}.h5"
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["image"], file["label"] = noise(), blob()
    (tmp_path / "plain.h5").rename(path)
    for read, key in ((read_geometry, "image"), (read_volume, "image"), (read_mask, "label")):
        with pytest.raises(DataError, match="not valid UTF-8"):
            read(Address(path, key, "zyx", (1.0, 1.0, 1.0)).path)


def test_a_folder_with_such_a_name_is_told_from_the_file(tmp_path):
    path = put(tmp_path / ODD / "a.nii.gz", noise())
    with pytest.raises(DataError, match="lies in a folder whose name is not valid UTF-8"):
        read_volume(path)


def test_check_names_the_scan_and_the_mask_beside_what_else_is_wrong(tmp_path):
    home = tmp_path / "data"
    for number, stem in enumerate(["a", "b", "c", ODD]):
        put(home / "images" / f"{stem}.nii.gz", noise(seed=number) + 50 * blob())
        put(home / "labels" / f"{stem}.nii.gz", blob())
    (home / "images" / "c.nii.gz").write_bytes(b"")
    report = checked(home, workers=1)
    told = [str(fault) for fault in report.faults]
    assert sum("not valid UTF-8" in line and r"scan_\xff.nii.gz" in line for line in told) == 2
    assert any("c.nii.gz" in line for line in told)
    "\n".join([*told, *report.lines]).encode()


def test_in_predict_it_is_one_row_and_the_others_go_on(tmp_path, capsys):
    model = make_segmenter(tmp_path / "model", disc_plan())
    for stem in ("a", "b"):
        put(tmp_path / "in" / f"{stem}.nii.gz", noise())
    put(tmp_path / "in" / f"{ODD}.nii.gz", noise())
    with pytest.raises(DataError, match="1 of 3 scans could not be segmented"):
        run_predict(model, tmp_path / "in", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/predictions.csv").set_index("input")
    assert table["status"].to_dict() == {
        str(tmp_path / "in" / "a.nii.gz"): "ok",
        str(tmp_path / "in" / "b.nii.gz"): "ok",
        str(tmp_path / "in" / r"scan_\xff.nii.gz"): "failed",
    }
    assert "Rename it" in table["fault"][str(tmp_path / "in" / r"scan_\xff.nii.gz")]
    # Again: what is done stays, and the same is refused.
    with pytest.raises(DataError, match="1 of 3 scans could not be segmented"):
        run_predict(model, tmp_path / "in", tmp_path / "out")


def test_where_masks_would_go_may_not_have_such_a_name(tmp_path):
    model = make_segmenter(tmp_path / "model", disc_plan())
    scan = put(tmp_path / "in" / "a.nii.gz", noise())
    with pytest.raises(SettingsError, match=r"out_\\xff.*not valid UTF-8"):
        run_predict(model, tmp_path / "in", tmp_path / os.fsdecode(b"out_\xff"))
    with pytest.raises(DataError, match="not valid UTF-8"):
        write_volume(tmp_path / f"{ODD}.nii.gz", noise(), read_geometry(scan))
    case = PreparedCase("a", "a", 0, 0, (str(scan),), None, {})
    plan = viewed_scans(tmp_path / "in", classes=["organ"]).plan
    with pytest.raises(DataError, match="not valid UTF-8"):
        save_annotation(tmp_path / ODD, [case], case, plan, blob())


def test_view_leaves_it_out_and_says_so(tmp_path):
    for stem in ("a", ODD):
        put(tmp_path / "in" / f"{stem}.nii.gz", noise())
    scans = viewed_scans(tmp_path / "in", classes=["organ"])
    assert [scan.case.id for scan in scans.scans] == ["a"]
    assert any(r"scan_\xff.nii.gz" in note and "Rename it" in note for note in scans.notes)
    told = page_state(Viewing(scans, PredictionQueue()), os.fsdecode(b"title\xff\x1b"))
    assert told["title"] == r"title\xff\x1b"
    str(told).encode()
    shutil.rmtree(tmp_path / "in")
    put(tmp_path / "in" / f"{ODD}.nii.gz", noise())
    with pytest.raises(DataError, match="not valid UTF-8"):
        viewed_scans(tmp_path / "in")


def test_the_command_ends_by_a_message_and_not_inside_itk(tmp_path):
    path = put(tmp_path / "in" / f"{ODD}.nii.gz", noise())
    for place in (path, path.parent):
        done = subprocess.run(
            [sys.executable, "-m", "fewlabel", "view", str(place)], capture_output=True, timeout=120, check=False
        )
        assert done.returncode == 3
        assert rb"scan_\xff.nii.gz" in done.stderr
        assert b"Rename it" in done.stderr
