"""Segmentations and structure sets on the grid of their series: where they lie, what overlaps, what does not fit."""

import highdicom
import numpy as np
import pydicom
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.dicom.address import DicomMask, parse_dicom
from fewlabel.data.io.dicom.data_set_index import open_archive
from fewlabel.data.io.dicom.slice_grid import SliceGrid
from fewlabel.data.io.dicom.structure_headers import owner_of
from fewlabel.data.io.volume_reading import mask_faults, read_geometry, read_mask
from kit.dicom import axes, write_segmentation, write_slices, write_structure_set
from kit.scans import rotation

SHAPE = (5, 12, 10)
OBLIQUE = tuple((rotation(20, 0) @ rotation(12, 2)).T[:2].ravel().tolist())
ORIGIN = (-10.0, -20.0, 30.0)


def blob(z=slice(1, 4), y=slice(3, 8), x=slice(2, 6)):
    mask = np.zeros(SHAPE, bool)
    mask[z, y, x] = True
    return mask


def world(points, orientation=OBLIQUE, distance=2.0):
    """Places in mm of (column, row, slice)."""
    return np.asarray(points, float) * (0.5, 0.75, distance) @ axes(orientation) + ORIGIN


def square(left, top, right, bottom, z):
    return world([[left, top, z], [right, top, z], [right, bottom, z], [left, bottom, z]])


@pytest.fixture
def series(tmp_path):
    return write_slices(tmp_path / "ct", np.zeros(SHAPE, np.uint16), orientation=OBLIQUE)


def path_of(root, names, ordered=False):
    archive = open_archive(root, anew=True)
    [scan] = archive.scans
    values = tuple((name, number) for number, name in enumerate(names, start=1))
    return DicomMask(root, scan, tuple(archive.objects), values, ordered).path


def read(root, *names, ordered=False, notes=None):
    return read_mask(path_of(root, names, ordered), notes)


def refused(root, text, *names, ordered=False):
    with pytest.raises(DataError, match=text):
        read(root, *names, ordered=ordered)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_segments_lie_where_they_were_drawn(tmp_path, series, kind):
    one, two = blob(), blob(z=slice(0, 2), y=slice(9, 11))
    shares = {"one": one * 0.75, "two": two * 0.5} if kind == "FRACTIONAL" else {"one": one, "two": two}
    if kind == "FRACTIONAL":
        shares["one"][0] = 0.4
    # Files are given in another order than that of the slices.
    file = write_segmentation(tmp_path / "seg", series[::-1], {name: each[::-1] for name, each in shares.items()}, kind)
    notes = []
    mask = read(tmp_path, "one", "two", notes=notes)
    assert np.array_equal(mask, one + 2 * two)
    assert ("shares of voxels" in "".join(notes)) == (kind == "FRACTIONAL")
    if kind == "BINARY":
        volume = highdicom.seg.segread(file).get_volume(segment_numbers=[1], combine_segments=True)
        assert volume.array.sum() == one.sum()
    address = path_of(tmp_path, ["one"])
    assert mask_faults(address, read_geometry(address), address)[1] == []


def test_a_frame_may_run_the_other_way_and_cover_a_part(tmp_path, series):
    one = blob()
    file = write_segmentation(tmp_path / "seg", series, {"one": one})
    made = pydicom.dcmread(file)
    grid = SliceGrid.of(open_archive(tmp_path, anew=True).series(next(iter(open_archive(tmp_path).scans))).planes)
    part = one[:, 2:9, 1:8]
    for flip_rows, flip_columns, transpose in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 1), (0, 0, 1)]:
        onto = np.zeros(SHAPE, bool)
        for z in range(SHAPE[0]):
            frame = part[z]
            corner, along, down = np.array([1, 2, z]), np.array([1, 0, 0]), np.array([0, 1, 0])
            spacing = (0.75, 0.5)
            if flip_rows:
                frame, corner, down = frame[::-1], corner + 6 * down, -down
            if flip_columns:
                frame, corner, along = frame[:, ::-1], corner + 6 * along, -along
            if transpose:
                frame, along, down, spacing = frame.T, down, along, spacing[::-1]
            unit = axes(OBLIQUE)
            orientation = tuple((along @ unit).tolist() + (down @ unit).tolist())
            plane = type(grid.planes[0])(
                file, 0, 1, "", None, frame.shape, tuple(world([corner])[0].tolist()), orientation, spacing
            )
            assert grid.paste(frame, plane, onto) == ""
        assert np.array_equal(onto, one)
    assert made.SegmentationType == "BINARY"


def test_contours_are_filled_on_their_slices(tmp_path, series):
    hole = [square(1.5, 2.5, 6.5, 8.5, 1), square(2.5, 3.5, 4.5, 5.5, 1), square(0.5, 0.5, 3.5, 1.5, 3)]
    write_structure_set(tmp_path / "rt", series, {"ring": hole, "mark": [world([[3, 3, 2]])]})
    notes = []
    mask = read(tmp_path, "ring", "mark", notes=notes)
    expected = np.zeros(SHAPE, int)
    expected[1, 3:9, 2:7] = 1
    expected[1, 4:6, 3:5] = 0
    expected[3, 1:2, 1:4] = 1
    assert np.array_equal(mask, expected)
    assert notes == ["mark: points are left out (1)"]


def test_contours_beside_the_slices(tmp_path, series):
    write_structure_set(tmp_path / "rt", series, {"far": [square(1, 1, 4, 4, 2), square(1, 1, 4, 4, 9)]})
    notes = []
    assert read(tmp_path, "far", notes=notes).sum() == 9
    assert "far: contours or frames beyond the first or last slice are left out (1)" in notes[0]
    write_structure_set(tmp_path / "rt", series, {"off": [square(1, 1, 4, 4, 2), square(1, 1, 4, 4, 2.5)]})
    refused(tmp_path, "structure off: has contours or frames between two slices", "off")


def test_a_segmentation_on_other_pixels_is_named(tmp_path, series):
    file = write_segmentation(tmp_path / "seg", series, {"one": blob()})
    made = pydicom.dcmread(file)
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [1.5, 1.0]
    made.save_as(file)
    refused(tmp_path, r"frames with other pixels than the series \(3\).*Resample", "one")


def test_the_later_structure_has_shared_voxels(tmp_path, series):
    whole, part, inner = blob(y=slice(1, 10)), blob(x=slice(5, 9)), blob(y=slice(4, 6))
    write_segmentation(tmp_path / "seg", series, {"whole": whole, "part": part, "inner": inner})
    notes = []
    mask = read(tmp_path, "whole", "inner", "part", notes=notes)
    expected = np.where(part, 3, np.where(inner, 2, np.where(whole, 1, 0)))
    assert np.array_equal(mask, expected)
    assert f"{(whole & inner).sum()} voxels lie in whole and in inner: the latter has them" in notes
    # One that others cover is asked about, and nothing is asked once an order is given.
    order = r"structures=\[whole,part,inner\]"
    refused(tmp_path, f"most voxels of inner lie in other structures.*{order}", "inner", "part", "whole")
    assert set(np.unique(read(tmp_path, "inner", "part", "whole", ordered=True))) == {0, 2, 3}


def test_a_structure_in_two_objects_of_one_scan(tmp_path, series):
    write_segmentation(tmp_path / "seg", series, {"organ": blob()})
    write_structure_set(tmp_path / "rt", series, {"vessel": [square(0.5, 0.5, 3.5, 1.5, 0)]})
    mask = read(tmp_path, "organ", "vessel")
    assert (mask == 1).sum() == blob().sum()
    assert (mask == 2).sum() == 3


def test_an_object_belongs_to_the_volume_it_refers_to(tmp_path):
    images = np.zeros(SHAPE, np.uint16)
    files = {
        name: write_slices(tmp_path / name, images, SeriesInstanceUID=f"1.2.{number}")
        for number, name in enumerate("ab", start=1)
    }
    write_structure_set(tmp_path / "rt", files["b"], {"x": [square(1, 1, 4, 4, 1)]})
    archive = open_archive(tmp_path, anew=True)
    [held] = archive.objects.values()
    owner, problem = owner_of(held, archive.scans)
    assert (archive.scans[owner].head.series, problem) == ("1.2.2", "")
    # Without its images, a system of coordinates that two series share does not say which.
    others = {scan: each for scan, each in archive.scans.items() if scan != owner}
    assert owner_of(held, others)[0] != owner
    nobody = type(held)(**{**vars(held), "instances": frozenset(), "series": frozenset()})
    assert "2 volumes fit it alike" in owner_of(nobody, archive.scans)[1]
    lost = type(held)(**{**vars(nobody), "frames_of_reference": frozenset()})
    assert "of no series" in owner_of(lost, archive.scans)[1]


def test_addresses_hold_no_file_and_come_back(tmp_path):
    mask = DicomMask(tmp_path, "p1_s1", ("o1", "o2"), (("left: lung #1/2", 1), ("Lunge é", 2)), True)
    assert parse_dicom(mask.path) == mask
    assert parse_dicom(tmp_path / "a#b.nii.gz") is None


def test_real_overlapping_segments_are_those_of_highdicom(shared_data, tmp_path):
    for file in (shared_data / "dicom_seg" / "ct").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    source = shared_data / "dicom_seg" / "partial_overlaps_seg.dcm"
    (tmp_path / "seg").write_bytes(source.read_bytes())
    given = highdicom.seg.segread(source)
    names = [given.get_segment_description(number).segment_label for number in given.segment_numbers]
    images = sorted((pydicom.dcmread(file, stop_before_pixels=True) for file in tmp_path.glob("*.dcm")),
                    key=lambda image: image.ImagePositionPatient[2])  # fmt: skip
    expected = np.zeros((3, 512, 512), int)
    for number in given.segment_numbers:
        inside = given.get_pixels_by_source_instance(
            [image.SOPInstanceUID for image in images], segment_numbers=[number], assert_missing_frames_are_empty=True,
            ignore_spatial_locations=True,
        )[..., 0]  # fmt: skip
        expected[inside > 0] = number
    assert np.array_equal(read(tmp_path, *names, ordered=True), expected)


def test_a_real_structure_set(shared_data, tmp_path):
    for file in [*(shared_data / "dicom_rt" / "ct").iterdir(), shared_data / "dicom_rt" / "rt.dcm"]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    mask = read(tmp_path, "ROI-1")
    # A square with a hole on the first slice: the shoelace formula gives the areas of the two contours.
    region = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence[0]
    areas = []
    for contour in region.ContourSequence:
        x, y = np.array(contour.ContourData, float).reshape(-1, 3)[:, :2].T
        areas.append(abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2)
    assert mask[1].sum() == 0
    assert mask[0].sum() * 0.488281**2 == pytest.approx(areas[0] - areas[1], rel=0.03)


def test_a_segmentation_of_no_known_type_is_named_without_its_text(tmp_path, series):
    file = write_segmentation(tmp_path / "seg", series, {"one": blob()})
    made = pydicom.dcmread(file)
    made.SegmentationType = "QQPLANT"
    made.save_as(file)
    with pytest.raises(DataError, match="SegmentationType") as caught:
        read(tmp_path, "one")
    assert "QQPLANT" not in str(caught.value)
