"""What reading an odd or damaged NIfTI file says, it says by a fault or a note: no library writes past us."""

from __future__ import annotations

import contextlib
import struct
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from kit.scans import noise, write_scan

SHAPE = (5, 21, 17)


def plain(path: Path) -> bytes:
    return write_scan(path, np.rint(noise(SHAPE)).astype(np.int16)).read_bytes()


def by_nibabel(path: Path, kind: type) -> bytes:
    """A file that nibabel reads: of NIfTI-2, or with sheared axes."""
    affine = np.diag([1.5, 1.5, 6.0, 1.0])
    affine[1, 2] = 6 * np.sin(0.02)
    image = kind(noise(SHAPE).T, affine)
    image.set_sform(affine, 1)
    image.header["qform_code"] = 0
    nibabel.save(image, path)
    return path.read_bytes()


def read_all_ways(path: Path) -> list[str]:
    told = []
    for read in (read_geometry, read_volume, read_mask):
        try:
            read(path)
        except DataError as error:
            told.append(str(error))
    return told


@pytest.fixture(autouse=True)
def nibabel_writes_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Its handler holds the stream that was there when it was imported."""
    for handler in nibabel.imageglobals.logger.handlers:
        monkeypatch.setattr(handler, "stream", sys.stderr)


@pytest.mark.parametrize(
    ("form", "at", "value", "words"),
    [
        ("<h", 40, -1, "its header gives it -1 axes"),
        ("<h", 40, 0, "its header gives it 0 axes"),
        ("<h", 42, 0, "its first axis has 0 voxels"),
        ("<h", 70, 0, "its voxels are of type 0"),
        ("<h", 70, 1, "its voxels are of type 1"),
        ("<h", 70, 7, "its voxels are of type 7"),
        ("<f", 256, float("inf"), "qform holds numbers that are not finite"),
        ("<f", 280, 0.0, "sform gives an axis no direction"),
        ("<f", 80, -1.0, ""),
        ("<f", 84, 0.0, "pixdim"),
        ("<h", 252, -1, ""),
        ("<h", 254, -1, ""),
        ("<f", 112, 1e30, ""),
        ("<f", 108, -1.0, ""),
        ("<h", 72, 7, ""),
    ],
)
@pytest.mark.filterwarnings("error")
def test_odd_headers_are_said_by_us_alone(tmp_path, capfd, form, at, value, words):
    kinds = {"plain.nii": plain(tmp_path / "x.nii"), "sheared.nii": by_nibabel(tmp_path / "y.nii", nibabel.Nifti1Image)}
    for name, content in kinds.items():
        changed = bytearray(content)
        struct.pack_into(form, changed, at, value)
        (tmp_path / name).write_bytes(bytes(changed))
        told = read_all_ways(tmp_path / name)
        if words and name == "plain.nii":
            assert len(told) == 3
            assert all(words in each for each in told)
        # What a scan cannot be written like, or not be read, is a fault of ours or of nibabel, by an exception.
        with contextlib.suppress(DataError, nibabel.spatialimages.HeaderDataError):
            write_mask(tmp_path / "made" / name, np.zeros(SHAPE, np.uint8), tmp_path / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("field", "value"), [("datatype", 0), ("datatype", -1), ("qform_code", -1), ("scl_slope", 1e30), ("vox_offset", 0)]
)
def test_odd_headers_of_the_second_version_too(tmp_path, capfd, field, value):
    content = bytearray(by_nibabel(tmp_path / "x.nii", nibabel.Nifti2Image))
    header = nibabel.Nifti2Header(bytes(content[:540]), check=False)
    header[field] = value
    content[:540] = header.binaryblock
    (tmp_path / "odd.nii").write_bytes(bytes(content))
    read_all_ways(tmp_path / "odd.nii")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 1)])
@pytest.mark.filterwarnings("error")
def test_an_axis_of_one_slice_needs_no_direction(tmp_path: Path, capfd: pytest.CaptureFixture[str], shape) -> None:
    image = nibabel.Nifti1Image(np.rint(noise(shape)).astype(np.int16), np.diag([2.0, 2.0, 1.0, 1.0]))
    image.header["sform_code"], image.header["qform_code"] = 2, 1
    nibabel.save(image, tmp_path / "slice.nii")
    content = bytearray((tmp_path / "slice.nii").read_bytes())
    # As programs leave it that write no step across the slice.
    struct.pack_into("<3f", content, 280, 2, 0, 0)
    struct.pack_into("<3f", content, 296, 0, 2, 0)
    struct.pack_into("<4f", content, 312, 0, 0, 0, 0)
    (tmp_path / "slice.nii").write_bytes(bytes(content))
    assert read_all_ways(tmp_path / "slice.nii") == []
    if len(shape) == 2:
        # Nobody asks for the third axis of a picture that has no step along it.
        struct.pack_into("<h", content, 252, 0)
        struct.pack_into("<f", content, 88, 0)
        (tmp_path / "slice.nii").write_bytes(bytes(content))
        assert read_all_ways(tmp_path / "slice.nii") == []
    assert capfd.readouterr() == ("", "")
