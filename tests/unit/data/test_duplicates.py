import gzip
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.duplicates import equal_scans
from fewlabel.data.io.composite_paths import Frame
from fewlabel.data.scan_inspection import inspect
from kit.scans import noise, write_scan


def compared(tmp_path, images, same_scans="refuse", **catalog):
    """Faults and notes on images: (subject, paths of channels)."""
    cases = tuple(Case(f"c{at}", subject, tuple(paths)) for at, (subject, *paths) in enumerate(images))
    channels = tuple(f"channel {at}" for at in range(len(cases[0].images)))
    data = Catalog("x", tmp_path, "table", cases, channels=channels, **catalog)
    faults, notes = equal_scans(data, inspect(data, 1), 2, same_scans)
    return [fault.problem for fault in faults], notes


def test_copies_under_two_subjects_are_a_fault_that_names_both(tmp_path):
    a = write_scan(tmp_path / "a.nii.gz", noise((3, 8, 8)))
    b = tmp_path / "b.nii.gz"
    shutil.copy(a, b)
    c = write_scan(tmp_path / "c.nii.gz", noise((3, 8, 8), 1))
    problem = f"{a} (subject p) and {b} (subject q) hold the same voxels"
    assert compared(tmp_path, [("p", a), ("q", b), ("r", c)]) == ([problem], [])
    noted = "equal voxels under different subjects, left as they are: c0 of p and c1 of q"
    assert compared(tmp_path, [("p", a), ("q", b), ("r", c)], "accept") == ([], [noted])
    known = {"known_equal": (frozenset({"p", "q"}),)}
    assert compared(tmp_path, [("p", a), ("q", b), ("r", c)], **known) == ([], [noted])
    assert compared(tmp_path, [("p", a), ("r", b), ("q", c)], **known)[0] != []
    assert compared(tmp_path, [("p", a), ("p", b), ("r", c)]) == ([], ["equal voxels twice: c0 and c1"])


def test_equal_voxels_in_other_files_are_found(tmp_path):
    array = noise((3, 8, 8)).round()
    first = write_scan(tmp_path / "a.nii.gz", array)
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(gzip.decompress(first.read_bytes()), 1))
    other = write_scan(tmp_path / "c.nrrd", array.astype(np.int16), (2, 2, 5))
    near = array.copy()
    near[0, 0, 0] += 1
    images = [("p", first), ("q", packed), ("r", other), ("s", write_scan(tmp_path / "d.nii.gz", near))]
    (problem,), notes = compared(tmp_path, images)
    assert problem == f"{first} (subject p), {packed} (subject q) and {other} (subject r) hold the same voxels"
    assert notes == []


def test_images_of_one_value_and_equal_masks_are_no_evidence(tmp_path):
    flat = [write_scan(tmp_path / f"{name}.nii.gz", np.zeros((3, 8, 8), np.float32)) for name in "ab"]
    assert compared(tmp_path, [("p", flat[0]), ("q", flat[1])]) == ([], [])


def test_channels_frames_and_pictures(tmp_path):
    a = write_scan(tmp_path / "a.nii.gz", noise((3, 8, 8)))
    b = write_scan(tmp_path / "b.nii.gz", noise((3, 8, 8), 1))
    assert compared(tmp_path, [("p", a, a), ("q", b, write_scan(tmp_path / "c.nii.gz", noise((3, 8, 8), 2)))]) == (
        [],
        ["equal voxels twice: 2 channels of c0"],
    )
    frames = np.stack([noise((8, 8, 3), seed) for seed in (3, 4, 3)], -1)
    nibabel.save(nibabel.Nifti1Image(frames, np.eye(4)), tmp_path / "cine.nii.gz")
    cine = [("p", Frame(tmp_path / "cine.nii.gz", index).path) for index in range(3)]
    assert compared(tmp_path, cine) == ([], ["equal voxels twice: c0 and c2"])
    one = write_scan(tmp_path / "a.png", noise((1, 8, 8)).astype(np.uint8)[0])
    two = tmp_path / "b.png"
    shutil.copy(one, two)
    assert compared(tmp_path, [("p", one), ("q", two)])[0] == [
        f"{one} (subject p) and {two} (subject q) hold the same voxels"
    ]


def test_two_patients_of_acdc_are_known_to_be_equal(shared_data):
    from fewlabel.readers.acdc import AcdcReader

    catalog = AcdcReader(AcdcReader.Config()).collect(shared_data / "acdc")
    wanted = [case for case in catalog.cases if case.subject in {"patient074", "patient075", "patient076"}]
    catalog = replace(catalog, cases=tuple(wanted))
    facts = inspect(catalog, 1)
    faults, (note,) = equal_scans(catalog, facts, 1)
    assert faults == []
    assert "patient074_frame01 of patient074 and patient076_frame01 of patient076" in note
    refused, _ = equal_scans(replace(catalog, known_equal=()), facts, 1)
    assert len(refused) == 2


@pytest.mark.parametrize("suffix", ["nii", "mha"])
def test_the_slice_compared_first_is_where_it_is_said_to_be(tmp_path, suffix):
    array = noise((5, 8, 8))
    other = array.copy()
    other[4] += 1
    first, second = (write_scan(tmp_path / f"{name}.{suffix}", data) for name, data in (("a", array), ("b", other)))
    assert compared(tmp_path, [("p", first), ("q", second)]) == ([], [])
