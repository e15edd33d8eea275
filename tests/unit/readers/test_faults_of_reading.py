"""What a reader meets and did not expect is an error that names it, beside all others."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.closed_folders import closed_folder_faults
from fewlabel.readers.base import collect_catalog
from kit.h5 import write_h5
from kit.scans import nnunet_folder, noise, write_scan
from kit.tiny import checked


@pytest.fixture
def closed(monkeypatch):
    """Folders of this name cannot be listed, whoever asks."""
    original = os.scandir

    def scandir(path="."):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_closed_folder_is_named_beside_the_other_faults(tmp_path, closed):
    root = nnunet_folder(tmp_path / "data")
    (root / "imagesTr" / "closed").mkdir()
    (root / ".closed").mkdir()
    (root / "labelsTr" / "b.nii.gz").write_bytes(b"broken")
    faults = checked(root).faults
    assert [fault.where for fault in faults if "cannot be listed" in fault.problem] == [str(root / "imagesTr/closed")]
    assert any("labelsTr/b.nii.gz" in fault.where for fault in faults)
    assert closed_folder_faults(root / "dataset.json") == []


def test_a_closed_folder_is_named_where_nothing_else_fits(tmp_path, closed):
    (tmp_path / "closed").mkdir()
    with pytest.raises(DataError) as caught:
        collect_catalog(tmp_path)
    assert [fault.where for fault in caught.value.faults][-1] == str(tmp_path / "closed")


def test_a_description_of_brackets(tmp_path):
    root = nnunet_folder(tmp_path / "data")
    (root / "dataset.json").write_text("[" * 200_000)
    assert any("dataset.json cannot be read as JSON" in str(fault) for fault in checked(root).faults)


def test_a_name_that_no_file_can_have(tmp_path):
    write_scan(tmp_path / "a.nii", noise())
    table = tmp_path / "t.csv"
    table.write_text(f"image\na.nii\n{'y' * 5000}.nii\ngone.nii\n")
    faults = [str(fault) for fault in checked(table).faults]
    assert any("yyyy" in fault and "too long" in fault for fault in faults)
    assert max(map(len, faults)) < 500


def test_h5_files_that_hold_no_scan(tmp_path):
    numbers = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    write_h5(tmp_path / "a.h5", image=numbers, label=(numbers > 30).astype(np.uint8))
    write_h5(tmp_path / "text.h5", image=np.full((3, 4, 5), b"abc"))
    write_h5(tmp_path / "nan.h5", image=numbers * np.nan)
    write_h5(tmp_path / "textlabel.h5", image=numbers, label=np.full((3, 4, 5), b"1"))
    with h5py.File(tmp_path / "link.h5", "w") as content:
        content["image"] = h5py.ExternalLink("nowhere.h5", "/x")
    with h5py.File(tmp_path / "huge.h5", "w") as content:
        content.create_dataset("image", (30_000, 3_000, 30_000), "f4", chunks=(1, 64, 64))
    told = {
        "text.h5": "must hold numbers, not |S3",
        "textlabel.h5": "must hold numbers, not |S1",
        "nan.h5": "has no finite voxel",
        "link.h5": '"image" is a link that leads to nothing',
        "huge.h5": "needs 20116.6 GB of memory",
    }
    faults = checked(tmp_path).faults
    for name, problem in told.items():
        [fault] = [fault for fault in faults if str(tmp_path / name) in fault.where]
        assert problem in fault.problem
        assert fault.remedy
    assert len(faults) == len(told)


def test_what_a_library_raises_is_a_fault_of_that_file(tmp_path, monkeypatch):
    root = nnunet_folder(tmp_path / "data", tuple("abc"))
    from fewlabel.data import scan_inspection

    original = scan_inspection.read_geometry

    def overflow(path):
        if path.name == "b_0000.nii.gz":
            raise OverflowError("too large")
        return original(path)

    monkeypatch.setattr(scan_inspection, "read_geometry", overflow)
    (root / "labelsTr" / "b.nii.gz").write_bytes(b"broken")
    faults = [str(fault) for fault in checked(root).faults]
    assert len(faults) == 2
    assert "b_0000.nii.gz: cannot be read (OverflowError: too large)" in faults[0]
    assert "labelsTr/b.nii.gz" in faults[1]


def test_the_grid_is_that_of_the_scans_without_faults(tmp_path):
    root = nnunet_folder(tmp_path / "data", tuple("abcd"))
    write_scan(root / "imagesTr" / "d_0000.nii.gz", noise((4, 200, 190)), (9.0, 9.0, 5.0))
    report = checked(root)
    assert report.faults
    assert report.plan is not None
    assert report.plan.spacing == (1.0, 1.0)
