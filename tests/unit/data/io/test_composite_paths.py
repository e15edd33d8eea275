"""Images that are composed of several files, or are a part of one."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import DataError
from fewlabel.data.io.catalog_paths import files_behind, is_file_path, is_there, scan_stem, shown
from fewlabel.data.io.composite_paths import Coloured, Frame, Stack, Structures, parse_composite
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=array.ndim == 3), str(path))
    return path


def nifti(path, array, affine=None):
    """``array`` in file order (x, y, z[, t])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.5, 2.0, 8.0, 1.0]) if affine is None else affine), path)
    return path


def test_a_path_says_what_it_is_composed_of(tmp_path):
    folder = tmp_path / "a b#c,%"
    composites = [
        Frame(folder / "cine#1.nii.gz", 3),
        Stack((folder / "s:1.png", folder / "other" / "s2.png"), (8.0, 1.5, 1.25)),
        Stack((folder / "s1.png",)),
        Structures(((2, folder / "seg" / "liver.nii.gz"), (5, folder.parent / "spleen.nii.gz"))),
        Coloured(folder / "mask.png", (((0, 0, 0), 0), ((255, 10, 3), 7))),
    ]
    for composite in composites:
        path = composite.path
        assert path.parent == composite.files[0].parent
        assert parse_composite(path) == composite
        assert files_behind(path) == composite.files
        assert not is_file_path(path)
        assert not is_there(path)
        assert shown(path) == str(composite)
    for ordinary in (folder / "cine#1.nii.gz", folder / "x#frame:nonsense", folder / "x#other:1"):
        assert parse_composite(ordinary) is None
        assert files_behind(ordinary) == (ordinary,)
        assert is_file_path(ordinary)


def test_names(tmp_path):
    assert scan_stem(Frame(tmp_path / "patient001_4d.nii.gz", 0).path) == "patient001_4d"
    assert scan_stem(Stack((tmp_path / "p3_000.png", tmp_path / "p3_001.png")).path) == "p3"
    assert scan_stem(Stack((tmp_path / "007.png",)).path) == "007"


def test_a_frame_of_a_cine_is_a_volume_of_its_own(tmp_path):
    cine = np.random.default_rng(0).integers(0, 900, (5, 4, 3, 6)).astype(np.int16)
    file = nifti(tmp_path / "cine.nii.gz", cine)
    for index in (0, 4):
        path = Frame(file, index).path
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, cine[..., index].transpose(2, 1, 0)[None])
        assert volume.geometry == read_geometry(path)
        assert volume.geometry.shape == (3, 4, 5)
        assert volume.geometry.components == 1
        np.testing.assert_array_equal(read_mask(path), cine[..., index].transpose(2, 1, 0))
    with pytest.raises(DataError, match="has 6 frames, so there is no frame 7"):
        read_volume(Frame(file, 6).path)


def test_a_frame_keeps_what_is_not_finite(tmp_path):
    cine = np.random.default_rng(0).normal(size=(5, 4, 3, 2)).astype(np.float32)
    cine[1, 2, 0, 1] = np.nan
    path = Frame(nifti(tmp_path / "cine.nii", cine), 1).path
    np.testing.assert_array_equal(read_volume(path).array[0], cine[..., 1].transpose(2, 1, 0))


def test_a_mask_of_a_frame_has_the_header_of_the_cine(tmp_path):
    affine = np.array([[0, -1.5, 0, 7], [2.0, 0, 0, -3], [0, 0, 8, 5], [0, 0, 0, 1]])
    file = nifti(tmp_path / "cine.nii.gz", np.zeros((5, 4, 3, 2), np.int16), affine)
    mask = np.random.default_rng(0).integers(0, 3, (3, 4, 5)).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", mask, Frame(file, 1).path)
    written = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(written.affine, affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask.transpose(2, 1, 0))


def test_pictures_are_slices_in_the_order_given(tmp_path):
    slices = np.random.default_rng(0).integers(0, 255, (3, 6, 5)).astype(np.uint8)
    files = tuple(picture(tmp_path / f"s{index}.png", array) for index, array in enumerate(slices))
    path = Stack(files[::-1], (8.0, 1.5, 1.25)).path
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], slices[::-1])
    assert volume.spacing == (8.0, 1.5, 1.25)
    np.testing.assert_array_equal(read_mask(path), slices[::-1])
    assert read_geometry(Stack(files).path).spacing == (1.0, 1.0, 1.0)
    write_mask(tmp_path / "mask.nii.gz", slices, path)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz"), slices)
    assert read_geometry(tmp_path / "mask.nii.gz").spacing == (8.0, 1.5, 1.25)


def test_coloured_pictures_are_slices_of_three_channels(tmp_path):
    slices = np.random.default_rng(0).integers(0, 255, (2, 6, 5, 3)).astype(np.uint8)
    files = tuple(picture(tmp_path / f"s{index}.png", array) for index, array in enumerate(slices))
    volume = read_volume(Stack(files).path)
    np.testing.assert_array_equal(volume.array, slices.transpose(3, 0, 1, 2))
    assert volume.geometry.components == 3


def test_all_that_does_not_fit_a_stack_is_said(tmp_path):
    files = (
        picture(tmp_path / "a.png", np.zeros((6, 5), np.uint8)),
        picture(tmp_path / "b.png", np.zeros((6, 4), np.uint8)),
        picture(tmp_path / "c.png", np.zeros((6, 5, 3), np.uint8)),
        nifti(tmp_path / "d.nii", np.zeros((5, 6, 2), np.int16)),
    )
    with pytest.raises(DataError) as raised:
        read_geometry(Stack(files).path)
    found = [(fault.where.rsplit("/", 1)[1], fault.problem.split(", but")[0]) for fault in raised.value.faults]
    assert found == [("b.png", "has shape (6, 4)"), ("c.png", "has 3 channels"), ("d.nii", "must be one slice")]


def test_structures_are_joined_and_what_overlaps_is_said(tmp_path):
    liver, spleen = np.zeros((2, 4, 3, 2), np.uint8)
    liver[:2], spleen[1:3] = 1, 200
    files = nifti(tmp_path / "liver.nii.gz", liver), nifti(tmp_path / "spleen.nii.gz", spleen)
    path = Structures(((3, files[0]), (9, files[1]))).path
    notes: list[str] = []
    mask = read_mask(path, notes)
    assert mask.shape == (2, 3, 4)
    assert [sorted(set(column.ravel().tolist())) for column in np.moveaxis(mask, 2, 0)] == [[3], [9], [9], [0]]
    assert notes == ["6 voxels lie in liver.nii.gz and in spleen.nii.gz: the latter has them"]
    assert read_geometry(path).spacing == (8.0, 2.0, 1.5)
    nifti(tmp_path / "spleen.nii.gz", np.zeros((4, 3, 3), np.uint8))
    with pytest.raises(DataError, match="share one grid"):
        read_mask(path)


def test_colours_are_classes_and_others_a_fault(tmp_path):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    classes = np.random.default_rng(0).integers(0, 3, (6, 5))
    file = picture(tmp_path / "mask.png", colours[classes])
    path = Coloured(file, (((0, 0, 0), 0), ((255, 0, 0), 4), ((0, 0, 255), 2))).path
    np.testing.assert_array_equal(read_mask(path), np.array([0, 4, 2])[classes][None])
    with pytest.raises(DataError, match=r"has the colours #0000ff, which stand for no class"):
        read_mask(Coloured(file, (((0, 0, 0), 0), ((255, 0, 0), 4))).path)
    grey = picture(tmp_path / "grey.png", classes.astype(np.uint8))
    with pytest.raises(DataError, match="has the colours #010101, #020202, which stand for no class"):
        read_mask(Coloured(grey, (((0, 0, 0), 0),)).path)
    np.testing.assert_array_equal(read_mask(Coloured(grey, tuple(((n, n, n), n) for n in range(3))).path)[0], classes)
    with pytest.raises(DataError, match="is a mask, not an image"):
        read_volume(path)
