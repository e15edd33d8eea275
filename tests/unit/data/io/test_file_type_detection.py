"""Files that are not what their name says, and DICOM: the true cause is named."""

import gzip
import locale
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import DataError
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.file_type_detection import look_into
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from kit.scans import blob, noise, write_scan

SHAPE = (4, 9, 7)


def refused(path, text):
    for read in (read_geometry, read_volume, read_mask):
        with pytest.raises(DataError, match=text):
            read(path)


@pytest.fixture
def plain(tmp_path):
    return write_scan(tmp_path / "plain.nii", noise(SHAPE))


@pytest.mark.parametrize(
    ("at", "value", "text"),
    [
        (344, b"nx1\0", "does not say that it is NIfTI: it has b'nx1"),
        (344, b"\0\0\0\0", "does not say that it is NIfTI"),
        (108, np.float32(np.nan).tobytes(), "vox_offset in its header is not a finite number"),
    ],
)
def test_one_file_without_the_mark_of_nifti_or_the_place_of_its_voxels(plain, at, value, text):
    """Without its mark it would be read as Analyze, which has no orientation."""
    content = bytearray(plain.read_bytes())
    content[at : at + 4] = value
    plain.write_bytes(content)
    refused(plain, text)


@pytest.mark.parametrize("name", ["s.nii", "s.nii.gz", "s.hdr"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_header_of_a_wrong_length_is_not_left_to_itk(tmp_path, name, version):
    """ITK goes by the mark, and reads as many frames as such a header says, whatever there is."""
    kinds = {(1, False): nibabel.Nifti1Image, (1, True): nibabel.Nifti1Pair, (2, False): nibabel.Nifti2Image,
             (2, True): nibabel.Nifti2Pair}  # fmt: skip
    image = kinds[version, name == "s.hdr"](noise(SHAPE).T, np.diag([1.0, 1, 1, 1]))
    nibabel.save(image, tmp_path / name)
    opened = gzip.open if name.endswith(".gz") else open
    with opened(tmp_path / name, "rb") as stream:
        content = bytearray(stream.read())
    content[:4] = (77).to_bytes(4, "little")
    with opened(tmp_path / name, "wb") as stream:
        stream.write(content)
    right = 348 if version == 1 else 540
    text = f"its header is damaged: it says that it has 77 bytes, and one with its mark has {right}. Copy"
    refused(tmp_path / name, text)
    if name == "s.hdr":
        refused(tmp_path / "s.img", text)


@pytest.fixture
def packed(tmp_path):
    return write_scan(tmp_path / "packed.nii.gz", noise(SHAPE))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.nii", r"s\.nii: is a gzip file of NIfTI, though its name ends in \.nii. Rename it to s\.nii\.gz"),
        ("s", r"s: is a gzip file of NIfTI, though its name has no suffix. Rename it to s\.nii\.gz"),
        ("s.gz", r"s\.gz: is a NIfTI file, though its name does not say so. Rename it to s\.nii\.gz"),
        ("s.nrrd", r"is a gzip file of NIfTI, though its name ends in \.nrrd. Rename it to s\.nii\.gz"),
    ],
)
def test_gzip_under_another_name(tmp_path, packed, name, text):
    shutil.copy(packed, tmp_path / name)
    refused(tmp_path / name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.nii.gz", r"is a NIfTI file that is not packed, though its name ends in \.gz. Rename it to s\.nii\."),
        ("s.gz", r"is a NIfTI file that is not packed, though its name ends in \.gz. Rename it to s\.nii\."),
        ("s", r"is a NIfTI file, though its name does not say so. Rename it to s\.nii\."),
        ("s.mha", r"is a NIfTI file, though its name says MetaImage. Rename it to s\.nii\."),
    ],
)
def test_nifti_under_another_name(tmp_path, plain, name, text):
    shutil.copy(plain, tmp_path / name)
    refused(tmp_path / name, text)


@pytest.mark.parametrize(("wrote", "name"), [("a.nrrd", "b.mha"), ("a.mha", "b.nrrd"), ("a.png", "b.nii")])
def test_other_formats_under_another_name(tmp_path, wrote, name):
    write_scan(tmp_path / wrote, blob((5, 21, 17))[2] if wrote.endswith("png") else noise(SHAPE))
    shutil.copy(tmp_path / wrote, tmp_path / name)
    refused(tmp_path / name, rf"is a \w+ file, though its name says .*Rename it to b\.{wrote[2:]}")


def test_a_packed_voxel_file_of_a_pair_needs_its_suffix(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(noise(SHAPE).T, np.eye(4)), tmp_path / "s.img")
    content = gzip.compress((tmp_path / "s.hdr").read_bytes())
    (tmp_path / "s.hdr").write_bytes(content)
    with pytest.raises(DataError, match=r"is a gzip file of NIfTI, though its name ends in \.hdr"):
        read_geometry(tmp_path / "s.hdr")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty: it has 0 bytes"),
        (b"PK\x03\x04" + b"\0" * 99, "is a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "is a Git LFS pointer"),
        (b"/annex/objects/MD5E-s5--0", "is a git-annex pointer"),
        (b"\n<!DOCTYPE html><html></html>", "is a web page"),
    ],
)
def test_strangers_are_named(tmp_path, content, text):
    for name in ("s.nii.gz", "s.nrrd", "s.png"):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, text)


def test_voxels_of_a_pair_may_look_like_anything(tmp_path):
    array = np.frombuffer(b"BM\x1f\x8bII*\0" * 63, np.int16).reshape(SHAPE)
    nibabel.save(nibabel.Nifti1Pair(array.T, np.eye(4)), tmp_path / "s.img")
    np.testing.assert_array_equal(read_volume(tmp_path / "s.img").array[0], array)
    assert look_into(tmp_path / "s.img").problem == ""


def dicom(path, modality="MR", series="1.2.3.4", number=1):
    image = sitk.GetImageFromArray(np.full((5, 6), number, np.int16))
    uid = "1.2.826.0.1.3680043.2.1125."
    tags = {"0008|0060": modality, "0020|000e": uid + series, "0020|000d": uid + "1", "0020|0013": str(number)}
    tags |= {"0008|0018": f"{uid}{series}.{number}", "0020|0032": f"0\\0\\{number}"}
    for tag, value in tags.items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path))
    writer.Execute(image)
    return path


def test_looking_at_dicom_leaves_the_encoding_of_the_process(tmp_path):
    """GDCM sets the locale of plain C, and every text file read afterwards would be ASCII."""
    before = locale.setlocale(locale.LC_CTYPE)
    for number in range(1, 4):
        dicom(tmp_path / f"{number}.dcm", number=number)
    refused(tmp_path / "1.dcm", "DICOM")
    assert locale.setlocale(locale.LC_CTYPE) == before


def test_a_dicom_file_of_a_series_is_no_scan(tmp_path):
    for number in range(1, 4):
        dicom(tmp_path / f"{number}.dcm", number=number)
    dicom(tmp_path / "other.dcm", series="9.9")
    refused(
        tmp_path / "1.dcm",
        rf"1\.dcm: is one DICOM file of a series of 3 in {tmp_path}.*give the folder of",
    )
    refused(tmp_path / "other.dcm", "is a DICOM file, which is no image file of a scan")
    refused(tmp_path, "is a folder of 4 files of DICOM")
    for name in ("IM0001", "s.nii", "s.png"):
        shutil.copy(tmp_path / "other.dcm", tmp_path / name)
        refused(tmp_path / name, "DICOM file")


def test_real_dicom_segmentations_and_contours(shared_data):
    for folder, name, kind in (("dicom_seg", "liver_seg.dcm", "SEG"), ("dicom_rt", "rt.dcm", "RTSTRUCT")):
        (path, *_) = sorted((shared_data / folder).rglob(name))
        refused(path, rf"\({kind}\), which is no image file")


def test_stems_of_all_suffixes(tmp_path):
    for name, stem in (
        ("a.seg.nrrd", "a"),
        ("A.SEG.NRRD", "A"),
        ("a.b.nrrd", "a.b"),
        ("a.img", "a"),
        ("a.img.gz", "a"),
    ):
        assert scan_stem(tmp_path / name) == stem


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    refused(tmp_path, "is a folder, not a file")
