"""Rows of ``check``: what masks that cannot be used leave to say."""

from pathlib import Path

from fewlabel.data.catalog import Case
from fewlabel.data.label_values import LabelMap
from fewlabel.data.scan_inspection import CaseFacts
from fewlabel.stages.prepare.check_report_rows import label_rows


def test_masks_that_cannot_be_used_are_not_said_to_be_missing():
    def rows(label):
        case = Case("a", "a", (Path("a.nii"),), label)
        return label_rows(LabelMap((0,), ("background",), None, (0,)), [CaseFacts(case, None, None)])

    assert rows(None) == [("classes", "none: no scan has a label")]
    assert rows(Path("mask.nii")) == [("classes", "not known: no mask can be used")]
