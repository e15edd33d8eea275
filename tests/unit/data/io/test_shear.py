"""Axes that are not at right angles, voxel sizes that cannot be, forms that disagree."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case
from fewlabel.data.io.mask_writing import write_map, write_mask, write_probabilities
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.data.scan_inspection import inspect_case
from kit.scans import blob, noise, write_scan

SHAPE = (40, 31, 27)
SIZES = np.array([1.5, 1.25, 4.0])


def sheared(path, array, degrees, kind=nibabel.Nifti1Image):
    """A file whose third axis leans towards the second, by its sform alone."""
    affine = np.diag([*SIZES, 1.0])
    affine[:3, 3] = (-10, 20, 30)
    affine[1, 2] = SIZES[2] * np.sin(np.deg2rad(degrees))
    affine[2, 2] = SIZES[2] * np.cos(np.deg2rad(degrees))
    image = kind(array.transpose(2, 1, 0), affine)
    image.set_sform(affine, 1)
    image.header["qform_code"] = 0
    nibabel.save(image, path)
    return path, affine


def ramp(affine, shape=SHAPE):
    """A scan whose intensity is a linear function of the place in the patient."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape[::-1]], indexing="ij"), -1)
    place = index @ affine[:3, :3].T + affine[:3, 3]
    return (place @ np.array([0.5, 2.0, -1.0])).transpose(2, 1, 0).astype(np.float32)


def test_a_small_shear_is_resampled_onto_a_grid_at_right_angles(tmp_path):
    _, affine = sheared(tmp_path / "s.nii", noise(SHAPE), 1.5)
    path, _ = sheared(tmp_path / "s.nii", ramp(affine), 1.5)
    volume = read_volume(path)
    geometry = volume.geometry
    axes = geometry.axes()
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    assert geometry.shape == SHAPE
    assert geometry.spacing == pytest.approx((4.0, 1.25, 1.5), abs=1e-5)
    assert "1.5 degrees off a right angle" in geometry.notes[0]
    assert "is resampled" in geometry.notes[0]
    # The same linear function of the place, away from the edges: the voxels lie where the geometry says.
    steps = axes * np.asarray(geometry.spacing)[:, None]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    place = (np.asarray(geometry.origin) + index @ steps) * (-1, -1, 1)
    expected = place @ np.array([0.5, 2.0, -1.0])
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(volume.array[0][inner], expected[inner], atol=1e-3)


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_masks_come_back_on_the_grid_of_the_file(tmp_path, suffix):
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:39, 9:20, 8:17] = 1
    mask[7:32, 12:16, 10:14] = 5
    scan, affine = sheared(tmp_path / "s.nii.gz", noise(SHAPE), 1.5)
    label, _ = sheared(tmp_path / "m.nii.gz", mask, 1.5)
    if suffix != "nii.gz":
        direction = np.diag([-1.0, -1, 1]) @ affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        origin = np.diag([-1.0, -1, 1]) @ affine[:3, 3]
        scan = write_scan(tmp_path / f"s.{suffix}", noise(SHAPE), SIZES, origin, direction)
        label = write_scan(tmp_path / f"m.{suffix}", mask, SIZES, origin, direction)
    assert inspect_case(Case("a", "a", (scan,), label), 1).faults == ()
    upright = read_mask(label)
    assert (upright != mask).any()
    back = tmp_path / "out" / f"m.{suffix}"
    write_mask(back, upright.astype(np.uint8), scan)
    if suffix == "nii.gz":
        found = np.asarray(nibabel.load(back).dataobj).transpose(2, 1, 0)
        np.testing.assert_allclose(nibabel.load(back).affine, nibabel.load(scan).affine)
    else:
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(back)))
        assert sitk.ReadImage(str(back)).GetDirection() == pytest.approx(sitk.ReadImage(str(scan)).GetDirection())
    # There and back by nearest voxels moves no border by more than one voxel of the axis that leans.
    assert set(np.unique(found)) == set(np.unique(upright)) == {0, 1, 5}
    interior = np.zeros(SHAPE, bool)
    interior[3:37, 11:18, 8:17] = True
    assert (found[interior] > 0).all()
    assert abs(int((found > 0).sum()) - int((mask > 0).sum())) < 0.05 * (mask > 0).sum()
    again = read_mask(back)
    assert (again != upright).mean() < 0.01


def test_probabilities_and_maps_come_back_too(tmp_path):
    scan, _ = sheared(tmp_path / "s.nii.gz", noise(SHAPE), 1.5)
    share = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    share /= share.sum(0)
    write_probabilities(tmp_path / "p.nii.gz", share, scan)
    written = np.asarray(nibabel.load(tmp_path / "p.nii.gz").dataobj)
    np.testing.assert_allclose(written.sum(-1), 1, atol=1e-5)
    write_map(tmp_path / "u.nii.gz", np.ones(SHAPE, np.float32), scan)
    values = np.asarray(nibabel.load(tmp_path / "u.nii.gz").dataobj)
    assert values[5:-5, 5:-5, 5:-5].min() == pytest.approx(1)
    assert values.shape == SHAPE[::-1]


def test_a_tiny_shear_leaves_the_voxels_alone(tmp_path):
    """Files of registrations, whose rounding ITK refuses."""
    path, _ = sheared(tmp_path / "s.nii.gz", noise(SHAPE), 0.06)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], noise(SHAPE))
    assert "voxels stay as they are" in volume.geometry.notes[0]
    write_mask(tmp_path / "m.nii.gz", blob(SHAPE), path)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "m.nii.gz").affine, nibabel.load(path).affine)
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "m.nii.gz").dataobj).T, blob(SHAPE))


@pytest.mark.parametrize("degrees", [2.5, 10.6, 25])
def test_a_large_shear_is_a_fault_that_says_how_large(tmp_path, degrees):
    path, affine = sheared(tmp_path / "s.nii.gz", noise(SHAPE), degrees)
    text = rf"y and z are {degrees:.1f} degrees off a right angle.* Resample scan and mask .*resample_to_output"
    with pytest.raises(DataError, match=text):
        read_volume(path)
    direction = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    for suffix in ("nrrd", "mha"):
        with pytest.raises(DataError, match=text):
            read_geometry(write_scan(tmp_path / f"s.{suffix}", noise(SHAPE), SIZES, direction=direction))


def test_grids_are_compared_as_they_are_in_the_files(tmp_path):
    scan, _ = sheared(tmp_path / "s.nii.gz", noise(SHAPE), 1.5)
    label, _ = sheared(tmp_path / "m.nii.gz", blob(SHAPE), -1.5)
    (fault,) = inspect_case(Case("a", "a", (scan,), label), 1).faults
    assert "does not lie where" in fault.problem


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (2, 0), (0, 1), (1, 2), (2, 1), (4, 4)])
def test_the_second_version_of_nifti_is_read_as_the_first(tmp_path, codes):
    turn = np.diag([-1.5, 1.25, 4.0, 1.0])
    turn[:3, :3] = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ turn[:3, :3]
    turn[:3, 3] = (-10, 20, 30)
    for kind, name in ((nibabel.Nifti1Image, "one.nii.gz"), (nibabel.Nifti2Image, "two.nii.gz")):
        image = kind(noise(SHAPE).T, turn)
        image.header.set_xyzt_units("mm", "sec")
        image.set_sform(turn, codes[0])
        image.set_qform(turn, codes[1])
        nibabel.save(image, tmp_path / name)
    one, two = read_volume(tmp_path / "one.nii.gz"), read_volume(tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(one.array, two.array)
    np.testing.assert_allclose(one.geometry.corners(), two.geometry.corners(), atol=1e-3)
    np.testing.assert_allclose(one.geometry.direction, two.geometry.direction, atol=1e-5)
    write_mask(tmp_path / "m.nii.gz", blob(SHAPE), tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz"), blob(SHAPE))
    assert isinstance(nibabel.load(tmp_path / "m.nii.gz"), nibabel.Nifti2Image)
    write_mask(tmp_path / "m.nrrd", blob(SHAPE), tmp_path / "two.nii.gz")
    np.testing.assert_allclose(read_geometry(tmp_path / "m.nrrd").corners(), two.geometry.corners(), atol=1e-3)


def test_the_second_version_in_time_and_in_colours(tmp_path):
    frames = np.stack([noise(SHAPE, seed) for seed in range(3)])
    nibabel.save(nibabel.Nifti2Image(frames.transpose(3, 2, 1, 0), np.eye(4)), tmp_path / "t.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "t.nii.gz").array, frames)
    assert read_geometry(tmp_path / "t.nii.gz").frames == 3
    vectors = np.stack([noise(SHAPE, seed) for seed in range(2)]).transpose(3, 2, 1, 0)[:, :, :, None]
    nibabel.save(nibabel.Nifti2Image(vectors, np.eye(4)), tmp_path / "v.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "v.nii.gz").array, vectors[:, :, :, 0].transpose(3, 2, 1, 0))
    colours = np.random.default_rng(0).integers(0, 255, (7, 6, 5, 3)).astype(np.uint8)
    stored = colours.copy().view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    for kind, name in ((nibabel.Nifti1Image, "c1.nii"), (nibabel.Nifti2Image, "c2.nii")):
        nibabel.save(kind(stored, np.eye(4)), tmp_path / name)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, colours.transpose(3, 2, 1, 0))
        geometry = read_geometry(tmp_path / name)
        assert (geometry.components, geometry.frames) == (3, 1)


def with_header(path, array=None, **fields):
    image = nibabel.Nifti1Image((noise(SHAPE) if array is None else array).T, np.diag([1.5, 1.5, 8, 1.0]))
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + bytes(content[348:]))
    return path


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ((1, 1, 0), r"has a voxel size of 0: \(1, 1, 0\) mm"),
        ((1, -1, 2), "voxel sizes must be positive"),
        ((1, 1, 1e-9), "cannot be true"),
        ((1e9, 1, 1), "cannot be true"),
        ((1, np.nan, 1), "voxel sizes must be numbers"),
    ],
)
def test_voxel_sizes_that_cannot_be(tmp_path, sizes, text):
    path = with_header(tmp_path / "s.nii", pixdim=[1, *sizes, 0, 0, 0, 0])
    label = with_header(tmp_path / "m.nii", blob(SHAPE), pixdim=[1, *sizes, 0, 0, 0, 0])
    faults = inspect_case(Case("a", "a", (path,), label), 1).faults
    assert [fault.where for fault in faults] == [f"case a, {path}", f"case a, {label}"]
    for fault in faults:
        assert __import__("re").search(text, fault.problem)


@pytest.mark.parametrize("size", [0.0, -1.0, 1e-9, 1e9])
@pytest.mark.parametrize("suffix", ["mhd", "nhdr"])
def test_voxel_sizes_of_other_formats(tmp_path, size, suffix):
    path = write_scan(tmp_path / f"s.{suffix}", noise(SHAPE))
    old = {"mhd": "ElementSpacing = 1 1 1", "nhdr": "space directions: (1,0,0)"}[suffix]
    new = {"mhd": f"ElementSpacing = {size} 1 1", "nhdr": f"space directions: ({size},0,0)"}[suffix]
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    if suffix == "nhdr" and size < 0:
        # A direction, not a size.
        assert read_geometry(path).spacing == (1, 1, 1)
        return
    with pytest.raises(DataError, match=rf"s\.{suffix}: .*([Vv]oxel size)"):
        read_geometry(path)


@pytest.mark.parametrize("form", ["sform", "qform"])
def test_forms_that_are_not_finite_are_named(tmp_path, form):
    fields = {"sform": {"srow_x": [np.nan] * 4, "sform_code": 1}, "qform": {"quatern_b": np.nan, "qform_code": 1}}
    path = with_header(tmp_path / "s.nii", **{"sform_code": 0, "qform_code": 0, **fields[form]})
    with pytest.raises(DataError, match=f"{form} holds numbers that are not finite.*{form}_code to 0"):
        read_geometry(path)
    with_header(tmp_path / "s.nii", **{**fields[form], f"{form}_code": 0})
    assert read_geometry(tmp_path / "s.nii").shape == SHAPE


def test_sform_and_qform_that_disagree_are_named_with_both(tmp_path):
    one = np.diag([1.5, 1.5, 8.0, 1.0])
    other = np.diag([-1.5, -1.5, 8.0, 1.0])
    other[:3, 3] = (80, 90, -40)
    image = nibabel.Nifti1Image(noise(SHAPE).T, one)
    image.set_sform(one, 2)
    image.set_qform(other, 1)
    nibabel.save(image, tmp_path / "s.nii.gz")
    with pytest.raises(DataError, match="sform and its qform disagree") as caught:
        read_geometry(tmp_path / "s.nii.gz")
    assert "sform (code 2) is [1.5 0 0 0;" in str(caught.value)
    assert "qform (code 1) is [-1.5 0 0 80;" in str(caught.value)
    near = one.copy()
    near[:3, 3] = (0.3, 0, 0)
    image.set_qform(near, 1)
    nibabel.save(image, tmp_path / "s.nii.gz")
    assert read_geometry(tmp_path / "s.nii.gz").shape == SHAPE


def test_acdc_says_nothing_of_its_forms(shared_data):
    geometry = read_geometry(shared_data / "acdc" / "patient007" / "patient007_frame01.nii.gz")
    assert geometry.notes == ()
    assert geometry.exact == ()


def test_another_origin_alone_may_be_accepted(tmp_path):
    scan = write_scan(tmp_path / "s.nii.gz", noise(SHAPE), SIZES)
    label = write_scan(tmp_path / "m.nii.gz", blob(SHAPE), SIZES, (12, -12, -7))
    case = Case("a", "a", (scan,), label)
    (fault,) = inspect_case(case, 1).faults
    assert "has its origin at (12, -12, -7) mm" in fault.problem
    assert "accept_origin=true" in fault.remedy
    facts = inspect_case(case, 1, accept_origin=True)
    assert facts.faults == ()
    assert any("another origin" in text for text in facts.odd)
    turned = write_scan(tmp_path / "t.nii.gz", blob(SHAPE), SIZES, (12, -12, -7), np.diag([-1.0, -1, 1]))
    assert inspect_case(Case("a", "a", (scan,), turned), 1, accept_origin=True).faults


def test_a_rotation_as_other_programs_leave_it_is_compared_all_the_same(tmp_path):
    turn = np.diag([-1.5, -1.5, 8.0, 1.0])
    image = nibabel.Nifti1Image(noise(SHAPE).T, turn)
    image.set_sform(turn, 1)
    image.set_qform(turn, 1)
    nibabel.save(image, tmp_path / "s.nii")
    header = nibabel.load(tmp_path / "s.nii").header
    quaternion = [float(header[f"quatern_{letter}"]) for letter in "bcd"]
    # A first pixdim of 0, and a rotation that rounding has made too long.
    for first, longer in ((0, 1), (1, 1.0001), (0, 1.001)):
        content = bytearray((tmp_path / "s.nii").read_bytes())
        changed = nibabel.Nifti1Header(bytes(content[:348]), check=False)
        changed["pixdim"][0] = first
        for letter, value in zip("bcd", quaternion, strict=True):
            changed[f"quatern_{letter}"] = value * longer
        (tmp_path / "t.nii").write_bytes(changed.binaryblock + bytes(content[348:]))
        assert read_geometry(tmp_path / "t.nii").shape == SHAPE


def test_a_header_that_lies_about_its_bits_is_held_against_its_type(tmp_path):
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        nibabel.save(kind(noise(SHAPE).T, np.eye(4)), tmp_path / "s.nii")
        content = bytearray((tmp_path / "s.nii").read_bytes())
        own = kind.header_class
        header = own(bytes(content[: own.sizeof_hdr]), check=False)
        header["bitpix"] = 1
        (tmp_path / "s.nii").write_bytes(header.binaryblock + bytes(content[own.sizeof_hdr : -100]))
        with pytest.raises(DataError, match="that its header promises"):
            read_geometry(tmp_path / "s.nii")
