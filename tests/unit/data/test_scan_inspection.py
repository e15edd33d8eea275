import json
from pathlib import Path

import numpy as np
import pytest

from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.label_values import label_map
from fewlabel.data.pixel_grid_plan import make_plan
from fewlabel.data.scan_inspection import catalog_faults, in_threads, inspect, inspect_case
from fewlabel.data.source_fingerprint import SOURCES, source_files, source_key
from fewlabel.protocol.splits import make_split
from kit.scans import blob, noise, write_scan


def build(tmp_path, specs, names=None):
    """Cases from (id, image shape, spacing, mask or None)."""
    cases = []
    for name, shape, spacing, mask in specs:
        image = write_scan(tmp_path / f"{name}.nii.gz", noise(shape), spacing)
        label = write_scan(tmp_path / f"{name}_l.nii.gz", mask, spacing) if mask is not None else None
        cases.append(Case(name, name, (image,), label))
    return Catalog("toy", tmp_path, "table", tuple(cases), label_names=names or {})


def test_facts_of_a_sound_case(tmp_path):
    catalog = build(tmp_path, [("a", (4, 8, 6), (1, 1, 5), blob((4, 8, 6), 3))])
    facts = inspect_case(catalog.cases[0], 1)
    assert facts.geometry.shape == (4, 8, 6)
    voxels = int((blob((4, 8, 6)) > 0).sum())
    assert facts.labels == {0: 4 * 8 * 6 - voxels, 3: voxels}
    assert facts.faults == ()
    assert facts.odd == ()


def test_all_faults_of_all_cases_at_once(tmp_path):
    catalog = build(tmp_path, [(n, (4, 8, 6), (1, 1, 5), blob((4, 8, 6))) for n in "abcdef"])
    write_scan(tmp_path / "a_l.nii.gz", blob((4, 8, 7)), (1, 1, 5))
    write_scan(tmp_path / "b_l.nii.gz", blob((4, 8, 6)), (1, 2, 5))
    write_scan(tmp_path / "c_l.nii.gz", noise((4, 8, 6)), (1, 1, 5))
    (tmp_path / "d.nii.gz").write_bytes((tmp_path / "d.nii.gz").read_bytes()[:-20])
    (tmp_path / "e_l.nii.gz").unlink()
    write_scan(tmp_path / "f_l.nii.gz", np.zeros((4, 8, 6), dtype=np.uint8), (1, 1, 5))
    facts = inspect(catalog, 2)
    assert [len(fact.faults) for fact in facts] == [1, 1, 1, 1, 1, 0]
    text = "\n".join(str(fault) for fact in facts for fault in fact.faults)
    for case, words in [
        ("a", f"has shape (4, 8, 7), but {tmp_path / 'a.nii.gz'} has (4, 8, 6)"),
        ("b", "has spacing (5, 2, 1) mm, but "),
        ("c", "whole numbers"),
        ("d", "is incomplete or damaged"),
        ("e", "no such file"),
    ]:
        line = next(line for line in text.splitlines() if line.startswith(f"case {case},"))
        assert words in line
    assert facts[5].odd == ("its mask is all background",)


def test_wrong_number_of_channels(tmp_path):
    catalog = build(tmp_path, [("a", (4, 8, 6), (1, 1, 5), None)])
    (fault,) = inspect_case(catalog.cases[0], 2).faults
    assert "must have 2 channels, not 1" in str(fault)


def test_images_given_as_masks_are_a_fault(tmp_path):
    mask = np.arange(400, dtype=np.int16).reshape(1, 20, 20)
    catalog = build(tmp_path, [("a", (1, 20, 20), (1, 1, 5), mask)])
    (facts,) = inspect(catalog, 1)
    assert facts.labels is None
    (fault,) = facts.faults
    assert "a_l.nii.gz: holds 400 different values" in str(fault)


def test_more_objects_than_there_may_be_classes_are_a_fault(tmp_path):
    mask = np.kron(np.arange(400).reshape(20, 20), np.ones((4, 4))).astype(np.int16)[None]
    catalog = build(tmp_path, [("a", (1, 80, 80), (1, 1, 5), mask)])
    (fault,) = label_map(catalog, inspect(catalog, 1))[1]
    assert "254 classes, not 400" in str(fault)
    assert "a_l.nii.gz alone 400" in str(fault)


def test_empty_and_ambiguous_catalogs():
    assert "at least one scan" in str(catalog_faults(Catalog("x", Path("r"), "t", ()))[0])
    twice = tuple(Case("a", "a", (Path(f"{n}.nii"),)) for n in "xy")
    assert 'x.nii and y.nii have the same case id, "a"' in str(catalog_faults(Catalog("x", Path("r"), "t", twice))[0])


def test_threads_keep_order_and_pass_errors_on():
    assert list(in_threads(lambda n: n * n, range(20), 3)) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda n: 1 // n, [1, 0, 1], 2))


def test_grid_is_the_median_of_all_but_test_scans(tmp_path):
    shape = (3, 40, 24)
    specs = [(f"s{i}", shape, (p, p, 5), blob(shape)) for i, p in enumerate([1.0, 1.2, 1.6, 9.0, 9.0])]
    catalog = build(tmp_path, specs)
    facts = inspect(catalog, 1)
    labels, _ = label_map(catalog, facts)
    split = {**make_split(catalog), "parts": {"test": ["s3", "s4"], "train": [], "validation": [], "pretrain": []}}
    plan = make_plan(catalog, facts, labels, split)
    assert plan.spacing == (1.2, 1.2)
    # Scans this small are covered whole: 40 pixels of 1.6 mm.
    assert plan.size == (64, 32)
    given = make_plan(catalog, facts, labels, split, spacing=(2.0, 1.0), size=(64, 80), low=0.5, slice_axis="z")
    assert (given.spacing, given.size, given.low, given.slice_axis) == ((2.0, 1.0), (64, 80), 0.5, "z")
    fine = make_plan(catalog, facts, labels, split, spacing=(0.1, 0.1))
    assert fine.size == (256, 256)


def test_key_follows_content_names_and_settings_not_times(tmp_path):
    catalog = build(tmp_path, [("a", (2, 4, 4), (1, 1, 5), blob((2, 8, 8))[:, :4, :4])])
    files = source_files(catalog)
    key = source_key(catalog, files, {"size": [1, 2]})
    assert source_key(catalog, files, {"size": [1, 3]}) != key
    path = catalog.cases[0].images[0]
    path.touch()
    assert source_key(catalog, source_files(catalog), {"size": [1, 2]}) == key
    write_scan(path, noise((2, 4, 4), 5), (1, 1, 5))
    assert source_key(catalog, source_files(catalog), {"size": [1, 2]}) != key


def test_recorded_hashes_are_taken_over_only_for_untouched_files(tmp_path):
    catalog = build(tmp_path, [("a", (2, 4, 4), (1, 1, 5), None)])
    files = source_files(catalog)
    (name,) = files
    planted = {"files": {name: [*files[name][:2], "planted"]}}
    (tmp_path / SOURCES).write_text(json.dumps(planted))
    assert source_files(catalog, tmp_path)[name][2] == "planted"
    Path(name).touch()
    assert source_files(catalog, tmp_path)[name][2] == files[name][2]


def test_one_mask_of_two_subjects_is_a_fault():
    def case(name, subject, label):
        return Case(name, subject, (Path(f"{name}.nii"),), Path(label))

    cases = (case("a", "p1", "m.nii"), case("b", "p1", "m.nii"), case("c", "p2", "m.nii"), case("d", "p2", "n.nii"))
    [fault] = catalog_faults(Catalog("d", Path("/d"), "table", cases))
    assert fault.where == "m.nii"
    assert fault.problem == "is the mask of a and of c, who are two subjects"
