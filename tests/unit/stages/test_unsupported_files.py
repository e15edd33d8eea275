"""What a folder holds besides scans: each kind is named with its number, its reason and what to do."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.stages.predict.inputs import find_scans
from fewlabel.stages.predict.listing import list_folder
from kit.h5 import write_h5
from kit.scans import noise, write_scan

DICOM = b"\0" * 128 + b"DICM" + b"\0" * 100


@pytest.fixture
def home(tmp_path):
    """A folder with one scan."""
    write_scan(tmp_path / "in/scan.nii.gz", noise())
    return tmp_path / "in"


def faults(home, **files):
    for name, content in files.items():
        (home / name).write_bytes(content)
    found = find_scans(home, 1, home.parent / "out")
    assert [scan.output.name for scan in found.scans] == ["scan.nii.gz"]
    return [str(fault) for fault in found.faults]


@pytest.mark.parametrize("names", [("a.dcm", "b.DCM", "c.IMA", "DICOMDIR"), ("IM0001", "IM0002", "x.1", "y.2")])
def test_dicom_by_suffix_or_content(home, names):
    # More images of other formats, so that the folder is none of DICOM.
    for number in range(5):
        write_scan(home / f"other{number}.nii.gz", noise())
    for name in names:
        (home / name).write_bytes(DICOM)
    [fault] = map(str, find_scans(home, 1, home / "out").faults)
    assert fault == "4 not read, DICOM. Give the folder of the DICOM files by itself, or reader=dicom."


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "x.mgz",
            b"\1\0",
            "the unknown format .mgz: {}. Convert them to NIfTI, for example with mri_convert.",
        ),
        ("x.npy", b"\x93NUMPY\0", "files of the unknown format .npy"),
        ("x.svs", b"II*\0", "files of the unknown format .svs"),
        ("x.img", b"\0\0", "voxels without their header: {}. Put the header file"),
        ("x.raw", b"\0\0", "voxels without their header"),
        ("x.zip", b"PK\3\4\0", "packed files: {}. Unpack them."),
        ("x.nii.bz2", b"BZ\0", "packed files"),
    ],
)
def test_other_formats(home, name, content, told):
    [fault] = faults(home, **{name: content})
    assert fault.startswith("1 not read, ")
    assert told.format(home / name) in fault


def test_nifti_under_another_name(home):
    packed = (home / "scan.nii.gz").read_bytes()
    told = faults(home, **{"a.gz": packed, "b": packed, "c.image": gzip.decompress(packed)})
    assert len(told) == 2
    assert told[0].startswith("2 not read, NIfTI files without the suffix .nii.gz: ")
    assert told[1].startswith("1 not read, NIfTI files without the suffix .nii: ")


def test_documents_and_whole_pairs_are_passed_over(home):
    write_scan(home.parent / "pair" / "p.mhd", noise())
    raw = next(path for path in (home.parent / "pair").iterdir() if path.suffix != ".mhd")
    other = {
        "readme.txt": b"x",
        "t.csv.gz": b"\x1f\x8b",
        "LICENSE": b"free",
        "a.bval": b"0",
        raw.name: raw.read_bytes(),
    }
    for name, content in other.items():
        (home / name).write_bytes(content)
    (home / "p.mhd").write_bytes((home.parent / "pair" / "p.mhd").read_bytes())
    found = find_scans(home, 1, home.parent / "out")
    assert found.faults == ()
    assert [scan.output.name for scan in found.scans] == ["p.mha", "scan.nii.gz"]
    # The header may name voxels that bear another name.
    (home / raw.name).rename(home / "voxels.raw")
    text = (home / "p.mhd").read_bytes().replace(raw.name.encode(), b"voxels.raw")
    (home / "p.mhd").write_bytes(text)
    assert find_scans(home, 1, home.parent / "out").faults == ()


def test_links_that_lead_to_nothing(home):
    (home / "gone.nii.gz").symlink_to(home / "nowhere")
    (home / "patient3").symlink_to(home / "no_folder")
    (home / "notes.txt").symlink_to(home / "no_text")
    (home / "x_mask.nii.gz").symlink_to(home / "no_mask")
    [fault] = faults(home)
    assert fault.startswith("2 not read, links that lead to nothing: ")
    assert "gone.nii.gz" in fault
    assert "patient3" in fault


def test_linked_folders_are_entered_once(home):
    other = home.parent / "elsewhere"
    write_scan(other / "b.nii.gz", noise())
    (home / "p2").symlink_to(other, target_is_directory=True)
    (home / "again").symlink_to(home, target_is_directory=True)
    (other / "loop").symlink_to(home, target_is_directory=True)
    found = find_scans(home, 1, home.parent / "out")
    assert [scan.output.name for scan in found.scans] == ["b.nii.gz", "scan.nii.gz"]


def test_folders_that_may_not_be_listed(home, monkeypatch):
    (home / "closed").mkdir()
    original = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert list_folder(home, home / "out").closed == {home / "closed": "Permission denied"}
    [fault] = faults(home)
    assert fault.startswith(f"1 not read, folders that cannot be listed (Permission denied): {home / 'closed'}. Allow")


def test_a_single_file_says_what_it_is(home):
    (home / "x.dcm").write_bytes(DICOM)
    (home / "gone.nii").symlink_to(home / "nowhere")
    expected = {"x.dcm": "DICOM files or folders that cannot be read: 1", "gone.nii": "link that leads to nothing"}
    for name, told in expected.items():
        with pytest.raises(DataError, match=told):
            find_scans(home / name, 1, home / "out")


def test_a_folder_of_nothing_but_dicom(tmp_path):
    (tmp_path / "a.dcm").write_bytes(DICOM)
    with pytest.raises(DataError, match="holds no scans") as caught:
        find_scans(tmp_path, 1, tmp_path / "out")
    assert "DICOM files or folders that cannot be read: 1" in str(caught.value)


def test_a_table_with_a_row_that_is_gone_keeps_the_others(home):
    (home / "t.csv").write_text("image\nscan.nii.gz\nlost.nii.gz\n")
    for place in (home / "t.csv", home):
        found = find_scans(place, 1, home / "out")
        assert [scan.output.name for scan in found.scans] == ["scan.nii.gz"]
        assert "lost.nii.gz does not exist" in str(found.faults[0])


def test_a_damaged_h5_file_beside_good_ones(tmp_path):
    write_h5(tmp_path / "a.h5", image=np.zeros((3, 4, 5), np.float32))
    (tmp_path / "b.h5").write_bytes(b"none")
    found = find_scans(tmp_path, 1, tmp_path / "out")
    assert [scan.output.name for scan in found.scans] == ["a.nii.gz"]
    assert "b.h5: is not a complete HDF5 file" in str(found.faults[0])
    assert len(found.faults) == 1
