"""Masks find their scans by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.masks_added_later import find_annotations, look_through
from fewlabel.data.store import PreparedCase


def case(name: str, image: str) -> PreparedCase:
    return PreparedCase(name, name[:2], 0, 1, (image,), None, {})


CASES = (case("p1_ed", "/scans/a.b.nii.gz"), case("p1", "/scans/x/img.nii.gz"), case("p2", "/scans/y/img.nii.gz"))


@pytest.mark.parametrize(
    ("file", "scan"),
    [
        ("p1_ed.nii.gz", "p1_ed"),
        ("p1.nrrd", "p1"),
        ("a.b.nii", "p1_ed"),
        ("p2_seg.nii.gz", "p2"),
        ("p1_ed-label.nrrd", "p1_ed"),
        ("deeper/p2.seg.nrrd", "p2"),
        ("p2_mask_new.mha", "p2"),
    ],
)
def test_by_the_id_of_a_scan_or_its_file(tmp_path: Path, file: str, scan: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    for other in ("notes.csv", ".hidden.nii.gz", "who.json"):
        (tmp_path / other).touch()
    assert find_annotations(tmp_path, CASES) == {scan: path}


def test_every_fault_is_named(tmp_path: Path) -> None:
    for file in ("p1_edx.nii.gz", "p2_2.nii.gz", "img.nii.gz", "p1.nii", "p1_seg.nii"):
        (tmp_path / file).touch()
    with pytest.raises(DataError) as error:
        find_annotations(tmp_path, CASES)
    words = str(error.value)
    assert "p1_edx.nii.gz: belongs to no prepared scan. Did you mean p1_ed?" in words
    assert "p2_2.nii.gz: belongs to no prepared scan" in words
    assert "img.nii.gz: may belong to p1, p2. Name it by one of these" in words
    assert "p1: has 2 masks" in words
    with pytest.raises(DataError, match="does not exist"):
        find_annotations(tmp_path / "nowhere", CASES)


def test_folders_that_go_while_it_is_looked_through_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process makes a hidden folder for each mask that it saves, and a person may take any away."""
    for name in (".saving-x", "gone", "shut", "kept"):
        (tmp_path / name).mkdir()
    (tmp_path / "kept" / "a.nii.gz").touch()
    usual, errors = os.scandir, {"gone": FileNotFoundError, ".saving-x": FileNotFoundError, "shut": PermissionError}

    def scandir(path: Any = ".") -> Any:
        if error := errors.get(Path(path).name):
            raise error(2, "not there", str(path))
        return usual(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = look_through(tmp_path, [PreparedCase("a", "a", 0, 0, ("in/a.nii.gz",), None, {})])
    assert found.masks == {"a": tmp_path / "kept" / "a.nii.gz"}
    assert [(fault.problem.split(":")[0], fault.where) for fault in found.strays] == [
        ("cannot be looked through", str(tmp_path / "shut"))
    ]
