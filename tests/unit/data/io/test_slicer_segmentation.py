"""Segmentations by 3D Slicer: names, layers that overlap, extents that are cropped, numbers that differ by file."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.colours_and_segments import with_file_facts
from fewlabel.data.io.composite_paths import Segments, parse_composite
from fewlabel.data.io.slicer_segmentation import read_segments, segment_names
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.data.scan_inspection import inspect_case
from kit.scans import TILTED, noise, write_scan

SHAPE = (6, 12, 10)
SIZES = (1.5, 1.25, 4.0)
ORIGIN = (5.0, -6.0, 7.0)


def segmentation(path, layers, segments, start=(0, 0, 0), origin=ORIGIN, direction=TILTED):
    """Write layers (n, z, y, x) as Slicer does; segments are (name, value, layer)."""
    layers = np.asarray(layers, np.uint8)
    array = np.moveaxis(layers, 0, -1) if len(layers) > 1 else layers[0]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=len(layers) > 1)
    image.SetSpacing(SIZES)
    image.SetDirection(np.asarray(direction).ravel().tolist())
    steps = np.asarray(direction) * np.asarray(SIZES)
    image.SetOrigin((np.asarray(origin) + steps @ np.asarray(start[::-1])).tolist())
    for number, (name, value, layer) in enumerate(segments):
        facts = {"Name": name, "LabelValue": value, "Layer": layer, "Color": "1 0.5 0", "ID": f"S{number}"}
        for key, text in facts.items():
            image.SetMetaData(f"Segment{number}_{key}", str(text))
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


@pytest.fixture
def scan(tmp_path):
    return write_scan(tmp_path / "s.nrrd", noise(SHAPE), SIZES, ORIGIN, TILTED)


def shapes():
    one, two = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    one[1:4, 2:7, 3:8] = 1
    two[2:5, 5:9, 4:6] = 1
    return one, two


def test_names_values_and_colours(tmp_path, scan):
    one, two = shapes()
    mask = one * 3 + two * 5 * (one == 0)
    path = segmentation(tmp_path / "m.seg.nrrd", [mask], [("liver", 3, 0), ("left lung", 5, 0)])
    assert segment_names(path) == {3: "liver", 5: "left lung"}
    assert read_segments(path)[0].colour == (255, 128, 0)
    np.testing.assert_array_equal(read_mask(path), mask)
    assert inspect_case(Case("a", "a", (scan,), path), 1).faults == ()
    assert segment_names(scan) == {}


def test_layers_are_joined_and_what_overlaps_is_counted(tmp_path, scan):
    one, two = shapes()
    path = segmentation(tmp_path / "m.seg.nrrd", [one, two], [("liver", 1, 0), ("tumour", 1, 1)])
    notes = []
    mask = read_mask(path, notes)
    np.testing.assert_array_equal(mask, np.where(two, 2, one))
    assert segment_names(path) == {1: "liver", 2: "tumour"}
    assert notes == [f"{int((one & two).sum())} voxels lie in liver and in tumour: the latter has them"]
    facts = inspect_case(Case("a", "a", (scan,), path), 1)
    assert (facts.faults, facts.labels[2]) == ((), int(two.sum()))


@pytest.mark.parametrize("start", [(1, 2, 3), (0, 5, 0), (-2, 3, -1), (3, -4, 2)])
def test_a_cropped_extent_is_put_into_its_place(tmp_path, scan, start):
    rng = np.random.default_rng(0)
    box = rng.integers(0, 3, (4, 6, 5)).astype(np.uint8)
    path = segmentation(tmp_path / "m.seg.nrrd", [box], [("a", 1, 0), ("b", 2, 0)], start)
    expected = np.zeros(SHAPE, np.int64)
    for at in np.ndindex(box.shape):
        place = tuple(a + b for a, b in zip(at, start, strict=True))
        if all(0 <= p < n for p, n in zip(place, SHAPE, strict=True)):
            expected[place] = box[at]
    notes = []
    np.testing.assert_array_equal(read_mask(path, notes, read_geometry(scan)), expected)
    lost = int((box > 0).sum() - (expected > 0).sum())
    assert any(f"{lost} voxels" in note for note in notes) is (lost > 0)
    facts = inspect_case(Case("a", "a", (scan,), path), 1)
    assert facts.faults == ()
    assert sum(facts.labels.values()) == expected.size


def test_a_cropped_extent_between_voxels_is_a_fault(tmp_path, scan):
    path = segmentation(tmp_path / "m.seg.nrrd", [np.ones((4, 6, 5))], [("a", 1, 0)], (1.4, 2, 3))
    (fault,) = inspect_case(Case("a", "a", (scan,), path), 1).faults
    assert "has shape (4, 6, 5)" in fault.problem
    with pytest.raises(DataError, match="does not lie on the voxels of its scan"):
        read_mask(path, None, read_geometry(scan))


def test_values_of_no_segment_are_a_fault(tmp_path):
    one, two = shapes()
    path = segmentation(tmp_path / "m.seg.nrrd", [one * 7, two], [("liver", 1, 0), ("tumour", 1, 1)])
    with pytest.raises(DataError, match="holds values of no segment: 7"):
        read_mask(path)
    path = segmentation(tmp_path / "n.seg.nrrd", [one, two], [])
    with pytest.raises(DataError, match="has 2 layers, and does not say which segments"):
        read_mask(path)


def catalog(tmp_path, labels, names=None):
    cases = tuple(Case(f"c{n}", f"c{n}", (tmp_path / "s.nrrd",), label) for n, label in enumerate(labels))
    return Catalog("toy", tmp_path, "table", cases, label_names=names or {})


def test_names_of_a_data_set(tmp_path):
    one, two = shapes()
    mask = np.where(two, 2, one)
    labels = [segmentation(tmp_path / f"{n}.seg.nrrd", [mask], [("liver", 1, 0), ("lung", 2, 0)]) for n in range(2)]
    read = with_file_facts(catalog(tmp_path, labels), {})
    assert read.label_names == {0: "background", 1: "liver", 2: "lung"}
    assert [case.label for case in read.cases] == labels
    other = with_file_facts(catalog(tmp_path, labels, {0: "background", 1: "a"}), {})
    assert (other.label_names[1], other.notes) == ("a", ())
    labels.append(segmentation(tmp_path / "3.seg.nrrd", [mask], [("liver", 2, 0), ("lung", 1, 0)]))
    other = with_file_facts(catalog(tmp_path, labels, {0: "background", 1: "a"}), {})
    assert "the numbers count" in other.notes[0]


@pytest.mark.parametrize("declared", [None, {0: "background", 4: "Lung", 9: "liver"}])
def test_files_that_number_their_segments_differently_are_matched_by_name(tmp_path, declared):
    one, two = shapes()
    liver, lung = one * (two == 0), two
    first = segmentation(tmp_path / "a.seg.nrrd", [liver + 2 * lung], [("liver", 1, 0), ("lung", 2, 0)])
    second = segmentation(tmp_path / "b.seg.nrrd", [2 * liver + lung], [("lung", 1, 0), ("Liver", 2, 0)])
    read = with_file_facts(catalog(tmp_path, [first, second], declared), {})
    values = {name.lower(): value for value, name in read.label_names.items()}
    expected = values["liver"] * liver.astype(int) + values["lung"] * lung
    for case in read.cases:
        np.testing.assert_array_equal(read_mask(case.label), expected)
    assert "matched by name" in read.notes[-1]
    composite = parse_composite(read.cases[1].label)
    assert isinstance(composite, Segments)
    assert composite.path == read.cases[1].label
    assert str(composite) == str(second)


def test_a_segment_that_a_data_set_does_not_know(tmp_path):
    one, _ = shapes()
    path = segmentation(tmp_path / "a.seg.nrrd", [one], [("spleen", 1, 0)])
    with pytest.raises(DataError, match="its segments spleen stand for no class"):
        read_mask(Segments(path, (("liver", 1),)).path)


def test_real_segmentations(shared_data):
    home = shared_data / "slicer"
    scan, plain, layered = (home / f"ct_chest{suffix}" for suffix in (".nrrd", ".seg.nrrd", "_overlapping.seg.nrrd"))
    names = segment_names(plain)
    assert names[5] == "right lung"
    assert list(names) == [1, 2, 3, 4, 5, 6, 7]
    geometry = read_geometry(scan)
    mask, notes = read_mask(plain, None, geometry), []
    assert mask.shape == read_volume(scan).geometry.shape == (34, 128, 128)
    joined = read_mask(layered, notes, geometry)
    more = segment_names(layered)
    assert len(more) == len(read_segments(layered)) > len(names)
    assert notes
    own = np.isin(joined, list(names))
    np.testing.assert_array_equal(joined[own], mask[own])
    assert set(np.unique(joined)) <= {0, *more}
    for label in (plain, layered):
        assert inspect_case(Case("a", "a", (scan,), label), 1).faults == ()
    json.dumps(more)
