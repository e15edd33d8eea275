import shutil
import sys
import threading

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import DataError
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.file_integrity import examine
from fewlabel.data.io.geometry import Geometry, grid_faults
from fewlabel.data.io.itk_image import is_scan
from fewlabel.data.io.itk_log import collected_warnings
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.data.voxel_counts import value_counts
from kit.scans import TILTED, acdc_like, blob, noise, write_scan


@pytest.mark.parametrize(
    ("name", "scan", "stem"),
    [
        ("a.nii.gz", True, "a"),
        ("a.b.nii", True, "a.b"),
        ("A.NRRD", True, "A"),
        ("._a.nii.gz", False, "._a"),
        (".DS_Store", False, None),
        ("MANDATORY_CITATION.md", False, None),
        ("x.png", True, "x"),
    ],
)
def test_names_of_scans(tmp_path, name, scan, stem):
    assert is_scan(tmp_path / name) is scan
    if stem is not None:
        assert scan_stem(tmp_path / name) == stem


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_header_and_volume_agree_on_an_awkward_grid(tmp_path, suffix):
    raw = noise((3, 5, 7))
    path = write_scan(tmp_path / f"s.{suffix}", raw, (0.7, 1.3, 4.0), (5, -6, 7), TILTED)
    scan = read_volume(path)
    assert np.allclose(scan.array[0], raw)
    assert scan.geometry.shape == (3, 5, 7)
    assert scan.spacing == pytest.approx((4.0, 1.3, 0.7), abs=1e-5)
    assert np.allclose(np.array(scan.geometry.direction).reshape(3, 3), TILTED, atol=1e-6)
    header = read_geometry(path)
    assert header.shape == scan.geometry.shape
    assert np.allclose(header.corners(), scan.geometry.corners(), atol=1e-5)
    image = sitk.ReadImage(str(path))
    last = image.TransformIndexToPhysicalPoint((6, 4, 2))
    assert np.allclose(header.corners()[-1], last, atol=1e-4)


def test_axes_follow_the_array_order():
    axes = Geometry((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.arange(9.0))).axes()
    assert axes.tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]


def test_two_dimensional_and_coloured_and_four_dimensional_images(tmp_path):
    flat = write_scan(tmp_path / "a.png", np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert read_volume(flat).array.shape == (1, 1, 3, 4)
    assert read_geometry(flat).shape == (1, 3, 4)
    colour = sitk.GetImageFromArray(np.zeros((3, 4, 3), dtype=np.uint8), isVector=True)
    sitk.WriteImage(colour, str(tmp_path / "c.png"))
    assert read_volume(tmp_path / "c.png").array.shape == (3, 1, 3, 4)
    assert read_geometry(tmp_path / "c.png").components == 3
    four = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(5, 4, 3, 2)
    nibabel.save(nibabel.Nifti1Image(four, np.diag([1, 2, 3, 1])), tmp_path / "m.nii.gz")
    read = read_volume(tmp_path / "m.nii.gz")
    assert read.array.shape == (2, 3, 4, 5)
    assert read_geometry(tmp_path / "m.nii.gz").components == 2
    assert np.array_equal(read.array, four.transpose(3, 2, 1, 0))


def test_channels_must_share_a_grid(tmp_path):
    one = write_scan(tmp_path / "1.nii.gz", noise((2, 4, 4)))
    two = write_scan(tmp_path / "2.nii.gz", noise((2, 4, 4), 1))
    assert read_volume((one, two)).array.shape == (2, 2, 4, 4)
    other = write_scan(tmp_path / "3.nii.gz", noise((2, 4, 5)))
    with pytest.raises(DataError, match=r"3\.nii\.gz: has .*, but .*1\.nii\.gz has"):
        read_volume((one, other))


def test_missing_damaged_and_fractional_files_are_faults_that_name_them(tmp_path):
    with pytest.raises(DataError, match=r"gone\.nii\.gz.*no such file"):
        read_volume(tmp_path / "gone.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to("archive.nii.gz")
    with pytest.raises(DataError, match=r"no such file: it is a link to archive\.nii\.gz\. Restore it"):
        read_volume(tmp_path / "link.nii.gz")
    (tmp_path / "text.nii.gz").write_text("hello")
    with pytest.raises(DataError, match=r"text\.nii\.gz"):
        read_geometry(tmp_path / "text.nii.gz")
    half = write_scan(tmp_path / "half.nii.gz", np.full((2, 3, 3), 0.5, dtype=np.float32))
    with pytest.raises(DataError, match=r"half\.nii\.gz: 18 voxels are not whole numbers"):
        read_mask(half)
    assert read_mask(write_scan(tmp_path / "f.nii.gz", np.full((2, 3, 3), 2, dtype=np.float32))).tolist()[0][0][0] == 2


@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "nrrd", "mha"])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.9999])
def test_truncated_files_are_faults(tmp_path, suffix, kept, capfd):
    """ITK itself reads a truncated NIfTI as zeros, without a word."""
    whole = write_scan(tmp_path / f"whole.{suffix}", noise((4, 30, 30)))
    assert read_volume(whole).array.shape == (1, 4, 30, 30)
    cut = tmp_path / f"cut.{suffix}"
    content = whole.read_bytes()
    cut.write_bytes(content[: min(len(content) - 5, int(len(content) * kept))])
    with pytest.raises(DataError, match=r"cut\.n?[a-z.]+: (is incomplete|cannot be read)"):
        read_volume(cut)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", ["nii.gz", "nii"])
def test_both_nifti_versions_and_several_gzip_members_are_complete(tmp_path, kind, suffix):
    import gzip

    path = tmp_path / f"s.{suffix}"
    nibabel.save(kind(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)), path)
    assert examine(path).missing == ""
    if suffix == "nii.gz":
        content = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(content[:200]) + gzip.compress(content[200:]))
        assert examine(path).missing == ""
        path.write_bytes(gzip.compress(content[:-3]))
    else:
        path.write_bytes(path.read_bytes()[:-3])
    assert "promises" in examine(path).missing


def test_grid_faults_name_what_differs(tmp_path):
    def geometry(shape=(2, 4, 4), spacing=(5.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
        return Geometry(shape, spacing, origin, tuple(np.eye(3).ravel()))

    def found(other):
        return [str(fault) for fault in grid_faults(tmp_path / "i", geometry(), tmp_path / "l", other)]

    assert found(geometry()) == []
    assert found(geometry(spacing=(5.0, 1.0002, 1.0))) == []
    assert found(geometry(origin=(0.4, 0.0, 0.0))) == []
    assert f"has shape (2, 4, 5), but {tmp_path / 'i'} has (2, 4, 4)" in found(geometry(shape=(2, 4, 5)))[0]
    assert (
        f"has spacing (5, 1.1, 1) mm, but {tmp_path / 'i'} has (5, 1, 1) mm"
        in found(geometry(spacing=(5.0, 1.1, 1.0)))[0]
    )
    assert "0.6 mm apart" in found(geometry(origin=(0.6, 0.0, 0.0)))[0]
    turned = Geometry((2, 4, 4), (5.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    assert "corners" in found(turned)[0]


@pytest.mark.parametrize("values", [[0, 1, 1, 3], [-4, 0, 600, 600], [0, 0], [5], [0, 10**7]])
def test_value_counts(values):
    names, counts = np.unique(values, return_counts=True)
    assert value_counts(np.array(values)) == dict(zip(names.tolist(), counts.tolist(), strict=True))


def test_itk_warnings_are_kept_not_printed(tmp_path, capfd):
    """One oddity over many files is one text with its files; nothing reaches stderr, from no thread."""
    first = acdc_like(tmp_path / "a.nii", blob((4, 9, 7)).astype(np.int16))
    shutil.copy(first, tmp_path / "b.nii")
    collected_warnings(clear=True)
    read_volume(first)
    worker = threading.Thread(target=read_geometry, args=(tmp_path / "b.nii",))
    worker.start()
    worker.join()
    found = collected_warnings(clear=True)
    assert found == {"the file has unexpected scales in sform": (str(first), str(tmp_path / "b.nii"))}
    assert collected_warnings() == {}
    sys.stderr.flush()
    assert capfd.readouterr().err == ""


def test_values_close_to_whole_numbers_are_read_as_them_and_said(tmp_path):
    near = blob((3, 9, 8)).astype(np.float32)
    near[0, 0, :3] = (0.0009, 1.0005, 2.99995)
    notes = []
    path = write_scan(tmp_path / "m.nii.gz", near)
    assert np.array_equal(read_mask(path, notes), np.rint(near))
    assert notes == ["3 voxels of m.nii.gz were rounded: they lie within 0.001 of whole numbers"]
    assert read_mask(write_scan(tmp_path / "e.nii.gz", blob((3, 9, 8)).astype(np.float32)), notes).max() == 1
    assert len(notes) == 1
    near[0, 0, 0] = 0.002
    with pytest.raises(DataError, match=r"1 voxels are not whole numbers, such as 0\.002\. Resample masks"):
        read_mask(write_scan(path, near))


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz", "m.img"])
def test_masks_that_a_scale_has_rounded_are_read_or_the_scale_is_named(tmp_path, name):
    classes = np.random.default_rng(0).integers(0, 4, (6, 5, 4))
    kind = nibabel.Nifti1Pair if name == "m.img" else nibabel.Nifti1Image
    image = kind(classes.astype(float), np.eye(4))
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / name)
    assert np.array_equal(read_mask(tmp_path / name), classes.T)
    # 3 is stored as 8 steps of 0.37.
    stored = kind(np.rint(classes / 0.37).astype(np.uint8), np.eye(4))
    stored.header.set_slope_inter(0.37, 0)
    nibabel.save(stored, tmp_path / name)
    text = rf"{name}: \d+ voxels are not whole numbers, such as .*its header scales the stored numbers by 0.37"
    with pytest.raises(DataError, match=text) as caught:
        read_mask(tmp_path / name)
    assert "scl_slope" in caught.value.faults[0].remedy
