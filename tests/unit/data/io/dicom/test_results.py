"""Segmentations and structure sets that are written for a series: read back by other programs and by this one."""

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import DataError
from fewlabel.data.io.dicom.segmentation_writing import write_segmentation
from fewlabel.data.io.dicom.series import open_series
from fewlabel.data.io.dicom.slice_grid import SliceGrid
from fewlabel.data.io.dicom.structure_set import StructureSetFile
from fewlabel.data.io.dicom.structure_set_writing import write_structure_set
from fewlabel.data.io.dicom.undrawn_structures import Problems
from fewlabel.data.io.label_tables import class_colour, labels_of
from fewlabel.data.io.shear import straighten
from kit.dicom import write_frames, write_slices
from kit.scans import rotation

SHAPE = (5, 24, 20)
OBLIQUE = tuple((rotation(20, 0) @ rotation(12, 2)).T[:2].ravel().tolist())
NAMES = ("background", "Herzmuskel (außen)", "cavity", "absent")
LABELS = labels_of(NAMES, range(4))
PERSON = {
    "PatientName": "Müller^Jörg", "PatientID": "4711", "PatientBirthDate": "19330401", "PatientSex": "M",
    "SpecificCharacterSet": "ISO_IR 100", "StudyDate": "20240102", "StudyTime": "101112", "StudyID": "7",
    "AccessionNumber": "8", "ReferringPhysicianName": "Doe^Jane", "SeriesNumber": 4,
}  # fmt: skip


def ring():
    """A ring around a cavity, two slices empty, one with a hole that is background."""
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    radius = np.hypot(y - 11 - z, x - 9)
    mask = np.where(radius < 6, 1, 0)
    mask[radius < 3] = np.where(z == 3, 0, 2)[radius < 3]
    mask[(z == 0) | (z == 4)] = 0
    return mask.astype(np.uint8)


@pytest.fixture(params=["axial", "oblique", "backwards", "frames"])
def series(request, tmp_path):
    home = tmp_path / "ct"
    array = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.uint16)
    if request.param == "frames":
        home.mkdir()
        write_frames(home / "enhanced", array, [36.0, 30.0, 34.0, 38.0, 32.0], **PERSON)
    elif request.param == "backwards":
        write_slices(home, array, step=(0.0, 0.0, -2.0), **PERSON)
    else:
        write_slices(home, array, orientation=OBLIQUE if request.param == "oblique" else (1, 0, 0, 0, 1, 0), **PERSON)
    return open_series(home)


def refused_by_dciodvfy(path):
    """The errors of dicom3tools' check, which knows no label maps."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def belongs_to(made, series):
    source = series.header(0)
    assert str(made.PatientName) == "Müller^Jörg"
    for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "AccessionNumber"):
        assert made[name].value == source[name].value
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert made.Manufacturer == "fewlabel"


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_is_read_back_by_highdicom(series, tmp_path, kind):
    path = tmp_path / "out" / "seg.dcm"
    write_segmentation(path, ring(), LABELS, series, kind)
    made = highdicom.seg.segread(path)
    belongs_to(made, series)
    assert made.SegmentationType == kind
    described = [made.get_segment_description(number) for number in (1, 2, 3)]
    assert [each.segment_label for each in described] == list(NAMES[1:])
    assert {each.algorithm_type.value for each in described} == {"AUTOMATIC"}
    if series.planes[0].frames == 1:
        instances = [plane.instance for plane in series.planes]
        found = made.get_pixels_by_source_instance(instances, combine_segments=True, ignore_spatial_locations=True)
    else:
        frames = [plane.frame + 1 for plane in series.planes]
        found = made.get_pixels_by_source_frame(
            series.planes[0].instance, frames, combine_segments=True, ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )  # fmt: skip
    np.testing.assert_array_equal(found, ring())
    # Where the voxels lie, whatever they refer to.
    volume = made.get_volume(combine_segments=True)
    lie = volume.map_indices_to_reference(np.argwhere(volume.array == 1))
    np.testing.assert_allclose(in_order(lie), in_order(places(series, ring() == 1)), atol=1e-3)


def places(series, mask):
    """(n, 3) in mm of the voxels of a mask, as the headers of the slices have them."""
    found = []
    for plane, slice_ in zip(series.planes, mask, strict=True):
        rows, columns = np.nonzero(slice_)
        axes = np.array(plane.orientation).reshape(2, 3)
        down, across = plane.spacing
        found.append(plane.position + np.stack([columns * across, rows * down], axis=1) @ axes)
    return np.concatenate(found)


def in_order(points):
    return np.array(sorted(map(tuple, np.round(points, 2).tolist())))


def drawn(path, series, number):
    """A structure as this program's reader draws it on the slices."""
    mask, problems = np.zeros(series.shape, bool), Problems("structure", "set")
    StructureSetFile(path, "set").draw(number, SliceGrid.of(series.planes), mask, problems)
    assert problems.faults == []
    return mask


def test_a_structure_set_gives_the_mask_back(series, tmp_path):
    path = tmp_path / "out" / "rt.dcm"
    write_structure_set(path, ring(), LABELS, series)
    made = pydicom.dcmread(path)
    belongs_to(made, series)
    assert [region.ROIName for region in made.StructureSetROISequence] == list(NAMES[1:])
    contours = {region.ReferencedROINumber: region for region in made.ROIContourSequence}
    assert [tuple(region.ROIDisplayColor) for region in contours.values()] == [class_colour(n) for n in (1, 2, 3)]
    assert "ContourSequence" not in contours[3]
    for number in (1, 2):
        np.testing.assert_array_equal(drawn(path, series, number), ring() == number)
        # Corners lie on the edges of pixels, and enclose what the pixels do.
        total = 0.0
        for contour in contours[number].ContourSequence:
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            grid = SliceGrid.of(series.planes)
            index, _ = grid.slice_of(points)
            assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID == series.planes[index].instance
            x, y = grid.pixels_of(points, index).T
            assert np.abs(np.mod(np.stack([x, y]), 1) - 0.5).max() < 1e-3
            total += abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())) / 2
        assert total == pytest.approx((ring() == number).sum(), rel=1e-3)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_dicom3tools_finds_no_error(series, tmp_path):
    write_segmentation(tmp_path / "seg.dcm", ring(), LABELS, series, "BINARY")
    write_structure_set(tmp_path / "rt.dcm", ring(), LABELS, series)
    assert refused_by_dciodvfy(tmp_path / "seg.dcm") == []
    assert refused_by_dciodvfy(tmp_path / "rt.dcm") == []


@pytest.mark.skipif(find_spec("dcmqi") is None, reason="dcmqi is not installed")
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_dcmqi_reads_names_and_places(series, tmp_path, kind):
    write_segmentation(tmp_path / "seg.dcm", ring(), LABELS, series, kind)
    said, found = read_by_dcmqi(tmp_path / "seg.dcm", tmp_path)
    assert [said[name] for name in NAMES[1:]] == [class_colour(1), class_colour(2), class_colour(3)]
    for number in (1, 2):
        lie, expected = found[NAMES[number]], places(series, ring() == number)
        np.testing.assert_allclose(in_order(lie), in_order(expected), atol=0.02)


def read_by_dcmqi(file, folder):
    """Name of each segment → its colour, and → (n, 3) in mm of its voxels, as dcmqi's converter has them."""
    program = Path(find_spec("dcmqi").origin).parent / "bin" / "segimage2itkimage"
    words = ["--inputDICOM", file, "--outputDirectory", folder, "--outputType", "nrrd"]
    subprocess.run([program, *words], check=True, capture_output=True)
    colours, found = {}, {}
    listed = json.loads((folder / "meta.json").read_text())["segmentAttributes"]
    for number, segments in enumerate(listed, start=1):
        image = sitk.ReadImage(folder / f"{number}.nrrd")
        array = sitk.GetArrayFromImage(image)
        for segment in segments:
            colours[segment["SegmentLabel"]] = tuple(segment["recommendedDisplayRGBValue"])
            voxels = np.argwhere(array == segment["labelID"])[:, ::-1].tolist()
            found[segment["SegmentLabel"]] = np.array(list(map(image.TransformIndexToPhysicalPoint, voxels)))
    return colours, found


def test_a_mask_of_nothing(series, tmp_path):
    empty = np.zeros(SHAPE, np.uint8)
    for kind in ("BINARY", "LABELMAP"):
        write_segmentation(tmp_path / f"{kind}.dcm", empty, LABELS, series, kind)
        assert not highdicom.seg.segread(tmp_path / f"{kind}.dcm").pixel_array.any()
    write_structure_set(tmp_path / "rt.dcm", empty, LABELS, series)
    assert not drawn(tmp_path / "rt.dcm", series, 1).any()


def test_slices_of_a_tilted_gantry(tmp_path):
    """The mask lies on the grid at right angles; what is written lies on the slices as they are."""
    write_slices(tmp_path / "ct", np.zeros(SHAPE, np.uint16), step=(0.0, 0.06, 2.0), **PERSON)
    series = open_series(tmp_path / "ct")
    assert series.geometry.exact
    on_slices = ring().astype(bool)
    mask = straighten(on_slices.astype(np.uint8), series.geometry, mask=True)
    write_structure_set(tmp_path / "rt.dcm", mask, LABELS, series)
    found = drawn(tmp_path / "rt.dcm", series, 1)
    assert (found != on_slices).mean() < 0.02
    write_segmentation(tmp_path / "seg.dcm", mask, LABELS, series, "BINARY")
    instances = [plane.instance for plane in series.planes]
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    frames = read.get_pixels_by_source_instance(instances, combine_segments=True, ignore_spatial_locations=True)
    np.testing.assert_array_equal(frames == 1, found)


@pytest.mark.parametrize("missing", ["FrameOfReferenceUID", "StudyInstanceUID", "SOPClassUID"])
def test_a_series_without_uids_is_refused_by_name(tmp_path, missing):
    for file in write_slices(tmp_path / "ct", np.zeros(SHAPE, np.uint16), **PERSON):
        made = pydicom.dcmread(file)
        made[missing].value = ""
        made.save_as(file)
    series = open_series(tmp_path / "ct")
    for write in (write_structure_set, lambda *what: write_segmentation(*what, "BINARY")):
        with pytest.raises(DataError, match=rf"has no {missing}.*Leave out format") as caught:
            write(tmp_path / "out" / "mask.dcm", ring(), LABELS, series)
        assert "Müller" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_a_library_says_of_a_patient_is_not_repeated(tmp_path, monkeypatch):
    write_slices(tmp_path / "ct", np.zeros(SHAPE, np.uint16), **PERSON)
    series = open_series(tmp_path / "ct")

    def fails(*_, **__):
        raise ValueError("Müller^Jörg")

    monkeypatch.setattr(highdicom.seg, "Segmentation", fails)
    with pytest.raises(DataError, match=r"cannot be made of what its headers hold \(ValueError\)") as caught:
        write_segmentation(tmp_path / "out" / "mask.dcm", ring(), LABELS, series, "BINARY")
    assert "Müller" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not list((tmp_path / "out").iterdir())
