"""Damaged gzip files are faults, and voxels of NIfTI files that are no finite number are NaN, not 0."""

import gzip
import os

import nibabel
import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case
from fewlabel.data.io import file_integrity, nifti_bytes
from fewlabel.data.io.file_integrity import examine
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.data.scan_inspection import inspect_case
from kit.scans import blob, noise, write_scan

SHAPE = (4, 9, 7)


def spoil(path):
    """The sort of damage that a bad disk or cable does: the file keeps its size, its end and its gzip structure."""
    whole = gzip.decompress(path.read_bytes())
    stored = bytearray(gzip.compress(whole, compresslevel=0))
    stored[len(stored) // 2] ^= 0x5A
    path.write_bytes(stored)
    return path


def spoil_stream(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    for at in range(middle, middle + 40):
        content[at] ^= 0x5A
    path.write_bytes(content)
    return path


def awkward(seed=0):
    """Negative intensities with values that are not finite, elsewhere along every axis."""
    array = noise(SHAPE, seed) - 500
    array[0, :3] = np.nan
    array[2, 4, 5] = np.inf
    array[3, 8, 0] = -np.inf
    return array


@pytest.mark.parametrize("damage", [spoil, spoil_stream])
@pytest.mark.parametrize("read", [read_volume, read_geometry, read_mask])
def test_a_checksum_that_does_not_fit_is_a_fault(tmp_path, damage, read):
    path = damage(write_scan(tmp_path / "s.nii.gz", (100 * noise((6, 30, 30))).astype(np.int16)))
    with pytest.raises(DataError, match=r"s\.nii\.gz: is incomplete or damaged"):
        read(path)


def test_packed_files_of_other_formats_are_checked_too(tmp_path):
    path = tmp_path / "s.gipl.gz"
    path.write_bytes(gzip.compress(bytes(range(256)) * 9))
    assert examine(path).missing == ""
    assert "CRC" in examine(spoil(path)).missing


def test_every_member_of_a_gzip_file_is_checked(tmp_path):
    path = write_scan(tmp_path / "s.nii.gz", noise(SHAPE))
    content = gzip.decompress(path.read_bytes())
    parts = [bytearray(gzip.compress(part, compresslevel=0)) for part in (content[:600], content[600:])]
    path.write_bytes(b"".join(parts) + b"\0" * 8)
    assert examine(path).missing == ""
    parts[0][500] ^= 1
    path.write_bytes(b"".join(parts))
    assert "CRC" in examine(path).missing


def test_all_damaged_files_of_a_case_are_named_at_once(tmp_path):
    names = ("1.nii.gz", "2.nii.gz", "label.nii.gz")
    one, two, label = (spoil(write_scan(tmp_path / name, blob(SHAPE))) for name in names)
    found = inspect_case(Case("a", "a", (one, two), label), 2).faults
    assert [fault.where for fault in found] == [f"case a, {path}" for path in (one, two, label)]


def test_a_file_is_read_through_once_until_it_changes(tmp_path, monkeypatch):
    passes = []
    real = file_integrity.read_through
    monkeypatch.setattr(file_integrity, "read_through", lambda *words: passes.append(words[0]) or real(*words))
    path = write_scan(tmp_path / "s.nii.gz", noise(SHAPE))
    read_geometry(path)
    read_volume(path)
    read_volume(path)
    assert passes == [path]
    os.utime(path, ns=(1, 1))
    read_volume(path)
    assert passes == [path, path]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_values_that_are_not_finite_are_nan(tmp_path, monkeypatch, suffix, dtype):
    # A block of five values: places are found across blocks.
    monkeypatch.setattr(nifti_bytes, "_BLOCK", 40)
    array = awkward()
    path = tmp_path / f"s.{suffix}"
    header = nibabel.Nifti1Header(endianness=dtype[0])
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0).astype(dtype), np.diag([-1, -1, 2, 1]), header)
    # An extension moves the voxels.
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 70))
    image.set_data_dtype(dtype)
    nibabel.save(image, path)
    content = path.read_bytes() if suffix == "nii" else gzip.decompress(path.read_bytes())
    found = nifti_bytes.parse_header(content[: nifti_bytes.HEADER_BYTES])
    assert found is not None
    assert found.dtype == np.dtype(dtype)
    assert found.start > 400
    read = read_volume(path).array[0]
    np.testing.assert_array_equal(np.isnan(read), ~np.isfinite(array))
    np.testing.assert_allclose(read[np.isfinite(array)], array[np.isfinite(array)], rtol=1e-6)


@pytest.mark.parametrize("sizes", [(5,), (1, 3), (1,), ()])
def test_they_keep_their_place_in_time_channels_and_planes(tmp_path, sizes):
    array = np.stack([awkward(seed) for seed in range(max(1, *sizes, 0))])
    for number, frame in enumerate(array):
        frame[1, number] = np.nan
    stored = array.transpose(3, 2, 1, 0).reshape(*SHAPE[::-1], *sizes)
    path = tmp_path / "s.nii.gz"
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_intent("vector" if len(sizes) == 2 else "none")
    nibabel.save(image, path)
    read = read_volume(path).array
    np.testing.assert_array_equal(read, np.where(np.isfinite(array), array, np.nan))


def test_a_picture_and_an_array_of_several_files(tmp_path):
    flat = awkward()[0]
    nibabel.save(nibabel.Nifti1Image(flat.T, np.eye(4)), tmp_path / "flat.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "flat.nii").array[0, 0], flat)
    one = write_scan(tmp_path / "1.nii.gz", noise(SHAPE))
    two = write_scan(tmp_path / "2.nii.gz", awkward())
    array = read_volume((one, two)).array
    assert np.isfinite(array[0]).all()
    np.testing.assert_array_equal(np.isnan(array[1]), ~np.isfinite(awkward()))


def test_a_mask_must_not_hide_them(tmp_path):
    mask = blob(SHAPE).astype(np.float32)
    mask[0, 0, :2] = np.nan
    with pytest.raises(DataError, match="2 voxels are not whole numbers, such as nan"):
        read_mask(write_scan(tmp_path / "m.nii.gz", mask))


def test_bytes_after_the_voxels_are_no_voxels(tmp_path):
    path = write_scan(tmp_path / "s.nii", noise(SHAPE))
    path.write_bytes(path.read_bytes() + np.full(9, np.nan, np.float32).tobytes())
    assert np.isfinite(read_volume(path).array).all()


def test_a_file_that_cannot_be_opened_is_a_fault(tmp_path, monkeypatch):
    path = write_scan(tmp_path / "s.nii.gz", noise(SHAPE))

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(file_integrity, "read_header", refused)
    with pytest.raises(DataError, match=r"s\.nii\.gz: cannot be read .*Permission denied"):
        read_volume(path)


@pytest.mark.parametrize("content", [b"", b"\x5c\x01\0\0", b"\x5c\x01\0\0" + b"\xff" * 700])
def test_headers_of_nonsense_are_no_crash(tmp_path, content):
    (tmp_path / "s.nii").write_bytes(content)
    (tmp_path / "s.nii.gz").write_bytes(gzip.compress(content))
    for name in ("s.nii", "s.nii.gz"):
        with pytest.raises(DataError, match=r"is incomplete or damaged|cannot be read"):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair, nibabel.AnalyzeImage])
@pytest.mark.parametrize("packed", [False, True])
def test_a_header_beside_its_voxels_is_held_against_them(tmp_path, kind, packed):
    array = awkward()
    nibabel.save(kind(array.transpose(2, 1, 0).astype(np.float32), np.diag([-1, -1, 2, 1])), tmp_path / "s.hdr")
    voxels = tmp_path / "s.img"
    if packed:
        content = gzip.compress(voxels.read_bytes())
        voxels.unlink()
        voxels = tmp_path / "s.img.gz"
        voxels.write_bytes(content)
    assert examine(tmp_path / "s.hdr").missing == ""
    if kind is nibabel.Nifti1Pair:
        np.testing.assert_array_equal(np.isnan(read_volume(tmp_path / "s.hdr").array[0]), ~np.isfinite(array))
    whole = voxels.read_bytes()
    voxels.write_bytes(whole[:-9])
    wrong = "damaged gzip content" if packed else r"999 bytes in s\.img of the 1008 that its header promises"
    with pytest.raises(DataError, match=wrong):
        read_volume(tmp_path / "s.hdr")


@pytest.mark.parametrize("kind", [nibabel.Nifti1Header, nibabel.Nifti2Header])
def test_a_place_that_no_file_reaches_is_no_crash(tmp_path, kind):
    header = kind()
    header.set_data_shape((7, 9, 4))
    header.set_data_dtype(np.float32)
    header["vox_offset"] = 3e38 if kind is nibabel.Nifti1Header else np.iinfo(np.int64).max
    content = header.binaryblock + b"\0" * 2000
    (tmp_path / "s.nii").write_bytes(content)
    (tmp_path / "s.nii.gz").write_bytes(gzip.compress(content))
    for name in ("s.nii", "s.nii.gz"):
        wrong = rf"{len(content)} bytes.* that its header promises|more than \d+ bytes of gzip can hold"
        with pytest.raises(DataError, match=wrong):
            read_volume(tmp_path / name)


def test_a_file_without_the_mark_of_nifti_is_held_against_its_header(tmp_path):
    """ITK reads it, as Analyze."""
    path = write_scan(tmp_path / "s.nii", noise(SHAPE))
    content = bytearray(path.read_bytes())
    content[344:348] = bytes(4)
    path.write_bytes(content)
    assert examine(path).missing == ""
    path.write_bytes(content[:-3])
    assert "promises" in examine(path).missing
