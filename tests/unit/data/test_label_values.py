"""Raw values of masks as classes, and the questions that odd ones raise."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.label_values import label_map
from fewlabel.data.preprocess import Plan, class_indices, indices_of_values
from fewlabel.data.scan_inspection import CaseFacts

ROOT = Path("/data")


def build(masks, names=None, suffix=".nii.gz"):
    """A catalog and facts of masks given as raw value → voxels; None for a scan without a mask."""
    cases, facts = [], []
    for index, counts in enumerate(masks):
        label = None if counts is None else ROOT / f"m{index}{suffix}"
        case = Case(f"c{index}", f"s{index}", (ROOT / f"i{index}.nii.gz",), label)
        cases.append(case)
        facts.append(CaseFacts(case, None, counts))
    return Catalog("toy", ROOT, "table", tuple(cases), label_names=names or {}), facts


def faults_of(masks, names=None, meanings=None, suffix=".nii.gz"):
    return [str(fault) for fault in label_map(*build(masks, names, suffix), meanings)[1]]


DECLARED = {0: "background", 1: "tumor"}
BINARY = [{0: 90, 255: 10}] * 5


def test_found_and_declared_values_become_classes():
    names = {0: "background", 7: "declared", 600: "organ", 9: "Ignore", 3: "mass"}
    labels, faults = label_map(*build([{0: 28, 600: 2, 9: 1}, {0: 30, 3: 1}], names))
    assert faults == []
    assert labels.values == (0, 3, 600)
    assert labels.names == ("background", "mass", "organ")
    assert labels.ignore == 9
    assert labels.voxels == (58, 1, 2)
    # Declared, but in no mask: neither learnt nor scored.
    assert labels.notes == ("no mask holds label 7 (declared), which is declared: it is neither learnt nor scored",)


def test_classes_that_no_mask_holds_are_said_in_one_sentence():
    catalog, facts = build([{0: 9, 1: 1}, {0: 9, 1: 1}], {1: "a", 2: "b", 4: "c"})
    assert label_map(catalog, facts)[0].notes == (
        "no mask holds labels 2 (b), 4 (c), which are declared: they are neither learnt nor scored",
    )
    # A mask that cannot be read may hold them.
    facts[1] = replace(facts[1], labels=None)
    assert label_map(catalog, facts)[0].notes == ()


def test_without_masks_all_that_is_declared_is_kept():
    labels, faults = label_map(*build([None, None], {0: "background", 1: "a", 2: "b"}))
    assert (labels.values, faults, labels.notes) == ((0, 1, 2), [], ())


def test_a_map_of_values_that_no_mask_holds_is_said():
    labels, faults = label_map(*build([{0: 9, 1: 1}] * 2), {225: 1, 1: 1})
    assert faults == []
    assert labels.notes == ("labels names 225, which no mask holds",)


def test_a_class_absent_from_one_mask_stays():
    labels, faults = label_map(*build([{0: 9}, {0: 8, 1: 1}, {0: 7, 1: 1, 2: 1}], {1: "a", 2: "b"}))
    assert (labels.values, faults) == ((0, 1, 2), [])


def test_255_for_the_declared_1_is_asked_with_the_map():
    (fault,) = faults_of(BINARY, DECLARED)
    assert "masks hold 255 (in 5 of 5 masks: /data/m0.nii.gz, /data/m1.nii.gz, /data/m2.nii.gz, …)" in fault
    assert "none holds 1 (tumor)" in fault
    assert 'prepare with "labels={255: 1}"' in fault


def test_with_the_map_the_class_has_its_name_and_predictions_write_the_raw_value():
    labels, faults = label_map(*build(BINARY, DECLARED), {255: 1})
    assert faults == []
    assert (labels.values, labels.names, labels.aliases) == ((0, 255), ("background", "tumor"), {})
    assert labels.notes == ("label 255 in masks stands for 1 (tumor); predictions write 255",)


def test_two_ways_to_write_one_class_are_one_class():
    labels, faults = label_map(*build([{0: 9, 1: 1}, {0: 9, 255: 2}], DECLARED), {255: 1})
    assert faults == []
    assert (labels.values, labels.aliases, labels.voxels) == ((0, 1), {255: 1}, (18, 3))


def test_several_values_in_order_of_those_declared():
    masks = [{0: 9, 85: 3, 170: 3}, {0: 9, 85: 2, 170: 4}]
    (fault,) = faults_of(masks, {1: "a", 2: "b"})
    assert '"labels={85: 1, 170: 2}"' in fault
    # All off by one.
    (fault,) = faults_of([{0: 9, 2: 3, 3: 3}] * 3, {1: "a", 2: "b"})
    assert '"labels={2: 1, 3: 2}"' in fault
    assert "2 stands for 1, 3 stands for 2" in fault
    # BraTS: 1, 2, 4 where 1, 2, 3 are declared.
    (fault,) = faults_of([{0: 9, 1: 3, 2: 3, 4: 2}] * 3, {1: "a", 2: "b", 3: "c"})
    assert '"labels={4: 3}"' in fault


def test_an_undeclared_value_beside_all_declared_ones():
    masks = [{0: 90, 1: 20}, {0: 90, 1: 20, 5: 20}, {0: 90, 1: 20}]
    (fault,) = faults_of(masks, DECLARED)
    assert "masks hold 5 (in 1 of 3 masks: /data/m1.nii.gz), which is not declared; declared are 1 (tumor)" in fault
    assert '"labels={5: 0}" makes it background, "labels={5: ignore}" leaves it out' in fault
    assert faults_of(masks, DECLARED, {5: "ignore"}) == []


@pytest.mark.parametrize("names", [None, {1: "a", 2: "b"}])
def test_a_stray_voxel_is_named_as_such(names):
    masks = [{0: 900, 1: 50, 2: 40}, {0: 900, 1: 40, 2: 50, 77: 1}, {0: 900, 1: 40, 2: 20}]
    (fault,) = faults_of(masks, names)
    assert fault.startswith("/data/m1.nii.gz: holds 77 in 1 voxel and no other mask does: probably a stray value.")
    assert '"labels={77: 0}" makes it background' in fault
    labels, faults = label_map(*build(masks, names), {77: 0})
    assert (labels.values, labels.aliases, faults) == ((0, 1, 2), {77: 0}, [])


def test_one_mask_with_a_class_of_its_own():
    masks = [{0: 90, 1: 50, 2: 40}] * 3 + [{0: 90, 1: 50, 3: 40}]
    (fault,) = faults_of(masks)
    assert fault.startswith("/data/m3.nii.gz: holds 3 (40 voxels), which none of the other 3 masks holds.")
    assert '"labels={3: 2}" takes it for 2' in fault
    assert '"labels={3: 3}" keeps it as a class' in fault
    assert faults_of(masks, meanings={3: 3}) == []
    assert faults_of(masks, meanings={3: 2}) == []


def test_0_and_255_everywhere_is_one_class_and_said():
    labels, faults = label_map(*build(BINARY))
    assert (labels.values, faults) == ((0, 255), [])
    assert labels.notes == ("masks hold 0 and 255 only: 255 is the one class, and predictions write 255",)


def test_some_masks_with_1_and_some_with_255():
    (fault,) = faults_of([{0: 9, 1: 5}] * 3 + [{0: 9, 255: 5}] * 2)
    assert "some masks hold 255 (in 2 of 5 masks" in fault
    assert 'prepare with "labels={255: 1}"' in fault


def test_255_beside_small_values_is_asked():
    (fault,) = faults_of([{0: 90, 1: 5, 2: 5, 255: 20}] * 2)
    assert '"labels={255: ignore}" leaves it out' in fault
    assert faults_of([{0: 9, 85: 5, 170: 5, 255: 5}] * 2) == []


def test_a_value_for_what_nobody_annotated():
    masks = [{0: 30, 1: 20, 2: 20, 4: 2000}] * 3
    (fault,) = faults_of(masks)
    assert "4 fills 97% of the masks" in fault
    assert 'Say what it is: "labels={4: ignore}" leaves it out' in fault
    labels, faults = label_map(*build(masks), {4: "ignore"})
    assert (labels.values, labels.ignore, faults) == ((0, 1, 2), 4, [])
    for name in ("ignore", "Unlabelled", "unlabeled"):
        labels, faults = label_map(*build(masks, {1: "a", 2: "b", 4: name}))
        assert (labels.values, labels.ignore, faults) == ((0, 1, 2), 4, [])


def test_negative_values():
    (fault,) = faults_of([{-1: 30, 0: 30, 1: 9}] * 2)
    assert "masks hold -1 (in 2 of 2 masks" in fault
    assert '"labels={-1: ignore}" leaves it out' in fault
    labels, faults = label_map(*build([{-1: 30, 0: 30, 1: 9}] * 2), {-1: "ignore"})
    assert (labels.values, labels.ignore, faults) == ((0, 1), -1, [])


def test_background_may_be_left_out_and_another_value_be_background():
    # Scribbles that write 0 where nobody looked, and 1 for background.
    labels, faults = label_map(*build([{0: 90, 1: 5, 2: 5}] * 2), {0: "ignore", 1: 0})
    assert faults == []
    assert (labels.values, labels.ignore, labels.voxels) == ((1, 2), 0, (10, 10))


def test_jpeg_masks_are_named_as_lossy():
    ringing = dict.fromkeys([*range(1, 20), *range(236, 255)], 3)
    masks = [{0: 900, 255: 300, **ringing}] * 4
    (fault,) = faults_of(masks, suffix=".jpg")
    assert "4 masks are JPEG pictures, which does not keep values: /data/m0.jpg holds 40 of them" in fault
    # The same picture, saved as PNG since.
    (fault,) = faults_of(masks, suffix=".png")
    assert "probably they were saved with loss" in fault
    # A hundred organs are a hundred organs.
    assert faults_of([{0: 10**6, **{value: 10 * value for value in range(1, 105)}}] * 4) == []


def test_class_indices_follow_aliases_and_what_is_ignored():
    plan = Plan(
        (1, 1),
        (2, 2),
        label_values=(0, 255),
        ignore_value=4,
        label_names=("background", "x"),
        label_aliases={1: 255, 9: 4, 7: 0},
    )
    plan = Plan.load(json.loads(json.dumps(plan.record())))
    mask = np.array([[[0, 255, 1, 4, 9, 7]]])
    assert class_indices(mask, {"shape": [1, 1, 6]}, plan).tolist() == [[[0, 1, 1, 255, 255, 0]]]
    with pytest.raises(DataError, match=r"must be among \[0, 255, 4, 1, 9, 7\], but \[41\] occur"):
        indices_of_values(np.array([7, 41]), plan)
