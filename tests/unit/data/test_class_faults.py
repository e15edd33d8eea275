"""Classes that could not be learnt, though each mask can be read."""

from __future__ import annotations

from pathlib import Path

from fewlabel.data.catalog import Case
from fewlabel.data.class_faults import class_faults
from fewlabel.data.label_values import LabelMap
from fewlabel.data.scan_inspection import CaseFacts


def facts(*masks):
    case = Case("a", "a", (Path("a"),))
    return [CaseFacts(case, None, labels) for labels in masks]


def test_masks_of_background_alone():
    labels = LabelMap((0, 1), ("background", "organ"), ignore=4)
    [fault] = class_faults(labels, facts({0: 5}, {0: 2, 4: 1}, None), "/data")
    assert fault.problem == "all masks that can be read (2) hold background only"
    assert fault.where == "/data"
    assert fault.remedy
    assert class_faults(labels, facts({0: 5}, {0: 2, 1: 1}), "/data") == []
    assert class_faults(labels, facts(None, None), "/data") == []


def test_two_classes_of_one_name():
    labels = LabelMap((0, 1, 2, 5), ("background", "LV", "RV", "LV"))
    [fault] = class_faults(labels, facts({1: 1}), "/data")
    assert fault.problem == 'label values 1, 5 have the same name, "LV"'
