"""What lies packed or unreadable among scans is named, in every layout; archives of what is there are not."""

from __future__ import annotations

import gzip
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.archive_contents import packed_images
from fewlabel.readers.base import collect_catalog
from fewlabel.readers.unread_files import unread_files
from kit.pictures import classes, photo, write_picture
from kit.scans import blob, nnunet_folder, noise, write_scan

SHAPE = (3, 8, 6)


def pair(image: Path, label: Path) -> None:
    write_scan(image, noise(SHAPE, hash(image.name) % 999))
    write_scan(label, blob(SHAPE))


def flat(root: Path) -> Path:
    for name in "abc":
        pair(root / f"p{name}.nii.gz", root / f"p{name}_mask.nii.gz")
    return root


def patients(root: Path) -> Path:
    for number in range(3):
        pair(root / f"case_{number:05d}/imaging.nii.gz", root / f"case_{number:05d}/segmentation.nii.gz")
    return root


def nnunet(root: Path) -> Path:
    nnunet_folder(root)
    return root / "imagesTr"


def decathlon(root: Path) -> Path:
    for name in "ab":
        pair(root / f"imagesTr/x_{name}.nii.gz", root / f"labelsTr/x_{name}.nii.gz")
    listed = [{"image": f"./imagesTr/x_{name}.nii.gz", "label": f"./labelsTr/x_{name}.nii.gz"} for name in "ab"]
    described = {"training": listed, "test": [], "modality": {"0": "MR"}, "labels": {"0": "bg", "1": "organ"}}
    (root / "dataset.json").write_text(json.dumps(described))
    return root / "imagesTr"


def bids(root: Path) -> Path:
    for name in ("01", "02"):
        pair(
            root / f"sub-{name}/anat/sub-{name}_T1w.nii.gz",
            root / f"derivatives/m/sub-{name}/anat/sub-{name}_dseg.nii.gz",
        )
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    return root


def acdc(root: Path) -> Path:
    for number in (1, 2):
        home = root / f"patient{number:03d}"
        for frame in (1, 9):
            stem = f"{home.name}_frame{frame:02d}"
            pair(home / f"{stem}.nii.gz", home / f"{stem}_gt.nii.gz")
        (home / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: NOR\nHeight: 170\nWeight: 70\n")
    return root


def structures(root: Path) -> Path:
    for name in ("s1", "s2"):
        pair(root / name / "ct.nii.gz", root / name / "segmentations/liver.nii.gz")
        write_scan(root / name / "segmentations/spleen.nii.gz", blob(SHAPE))
    return root


def npz(root: Path) -> Path:
    root.mkdir(parents=True)
    for name in ("c1", "c2"):
        for z in range(2):
            np.savez(root / f"{name}_slice{z}.npz", image=np.full((4, 5), z, float), label=np.ones((4, 5), np.uint8))
    return root


def pictures(root: Path) -> Path:
    for number in range(4):
        write_picture(root / f"images/x{number}y.png", photo(classes(), number))
        write_picture(root / f"masks/x{number}y.png", classes())
    return root / "images"


LAYOUTS = (flat, patients, nnunet, decathlon, bids, acdc, structures, npz, pictures)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("name", ["more.zip", "more.tar", "more.tar.gz", "more.rar", "more.7z", "more.nii.bz2"])
def test_packed_files_are_a_fault_in_every_layout(tmp_path: Path, layout, name: str) -> None:
    home = layout(tmp_path / "data")
    assert collect_catalog(tmp_path / "data")[1].faults == ()
    member = write_scan(tmp_path / "other.nii.gz", noise(SHAPE))
    if name.endswith(".zip"):
        with zipfile.ZipFile(home / name, "w") as archive:
            archive.write(member, "p9/other.nii.gz")
    elif ".tar" in name:
        with tarfile.open(home / name, "w:gz" if name.endswith(".gz") else "w") as archive:
            archive.add(member, "p9/other.nii.gz")
    else:
        (home / name).write_bytes(b"\0\1\2")
    (fault,) = collect_catalog(tmp_path / "data")[1].faults
    where = str((home / name).relative_to(tmp_path / "data"))
    assert fault.problem == f"1 packed file among the scans cannot be read: {where}"
    assert fault.remedy.startswith("Unpack what holds scans")


def test_archives_of_what_is_there_or_of_no_images_are_passed_over(tmp_path: Path) -> None:
    root = patients(tmp_path / "data")
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        for path in sorted(root.rglob("*.nii.gz")):
            archive.write(path, Path("data") / path.relative_to(root))
    with zipfile.ZipFile(root / "case_00001.zip", "w") as archive:
        archive.write(root / "case_00001/imaging.nii.gz", "imaging.nii.gz")
    with tarfile.open(root / "notes.tgz", "w:gz") as archive:
        archive.add(root / "all.zip", "papers.pdf")
    (root / "clinical.csv.gz").write_bytes(gzip.compress(b"a,b\n"))
    assert unread_files(root) == ([], [])
    # One patient of an archive is not there: files of all patients are called alike.
    (root / "case_00002/imaging.nii.gz").unlink()
    (fault,), _ = unread_files(root)
    assert "cannot be read: all.zip" in fault.problem


def test_formats_that_are_not_read_are_noted(tmp_path: Path) -> None:
    root = flat(tmp_path / "data")
    (root / "x.mgz").write_bytes(b"\0" * 40)
    (root / "y.gz").write_bytes((root / "pa.nii.gz").read_bytes())
    (root / "features.bin").write_bytes(b"\0" * 40)
    (root / "anna.dcm").write_bytes(b"\0" * 128 + b"DICM")
    faults, notes = unread_files(root)
    assert faults == []
    assert notes == [
        "1 not read, DICOM. Give the folder of the DICOM files by itself, or reader=dicom",
        "1 not read, files of the unknown format .mgz: x.mgz. Convert them to NIfTI, for example with mri_convert",
        "1 not read, NIfTI files without the suffix .nii.gz: y.gz. Rename them to end in .nii.gz",
    ]


def test_a_folder_of_packed_files_alone_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "scans.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"Unknown layout: 1 ZIP file.* Unpack its packed files"):
        collect_catalog(tmp_path)


def test_what_is_in_a_packed_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("x/1.nii.gz", "__MACOSX/x/._1.nii.gz", "x/.2.png", "x/readme.txt", "x/IM1.dcm"):
            archive.writestr(name, b"")
    assert [str(path) for path in packed_images(tmp_path / "a.zip") or ()] == ["x/1.nii.gz", "x/IM1.dcm"]
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    (tmp_path / "broken.tar.gz").write_bytes(b"no tar")
    for name in ("broken.zip", "broken.tar.gz", "x.rar", "x.7z", "x.gz"):
        assert packed_images(tmp_path / name) is None
    assert [str(path) for path in packed_images(tmp_path / "x.mha.xz") or ()] == ["x.mha"]
    assert packed_images(tmp_path / "x.csv.bz2") == ()
