"""Slices of patients in one folder: a slip in one of them must not part a patient's slices."""

import json

import numpy as np
import pytest

from fewlabel.data.io.volume_reading import read_geometry
from fewlabel.readers.base import collect_catalog
from fewlabel.readers.slice_number_detection import NumberedName, numbered_name
from fewlabel.stages.prepare import PrepareSettings, check
from kit.pictures import write_picture
from kit.scans import blob, noise, write_scan

STYLES = ("p{:02d}_slice{:03d}", "patient{}_{:02d}", "patient{}_{:04d}")


def pictures(root, style, size=(12, 10), image="{}.png", label="{}_mask.png"):
    for patient in range(1, 5):
        for number in range(6):
            name = style.format(patient, number)
            write_picture(root / image.format(name), np.full(size, 10 * patient + number, np.uint8))
            write_picture(root / label.format(name), np.full(size, number % 2, np.uint8))


def remove(root, style, *numbers):
    for number in numbers:
        for suffix in (".png", "_mask.png"):
            (root / f"{style.format(2, number)}{suffix}").unlink()


def subjects_of(root, reader="auto"):
    catalog = collect_catalog(root, reader)[1]
    return len(catalog.cases), len(catalog.subjects), catalog


@pytest.mark.parametrize("style", STYLES)
def test_a_missing_slice_is_a_note(tmp_path, style):
    pictures(tmp_path, style)
    remove(tmp_path, style, 3)
    cases, subjects, catalog = subjects_of(tmp_path)
    assert (cases, subjects, catalog.faults) == (4, 4, ())
    assert [read_geometry(case.images[0]).shape[0] for case in catalog.cases] == [6, 5, 6, 6]
    assert any("gaps in 1 of 4 volumes (p" in note and "2: 2 then 4)" in note for note in catalog.notes)


@pytest.mark.parametrize("style", STYLES[:2])
def test_missing_first_slices_and_a_picture_without_a_number(tmp_path, style):
    pictures(tmp_path, style)
    remove(tmp_path, style, 0, 1)
    write_picture(tmp_path / "overview.png", np.zeros((12, 10), np.uint8))
    cases, subjects, catalog = subjects_of(tmp_path)
    assert (cases, subjects) == (5, 5)
    assert "pictures without a number are scans of one slice: overview.png" in catalog.notes


@pytest.mark.parametrize("style", STYLES[:2])
def test_a_slice_of_another_size_is_the_one_that_is_named(tmp_path, style):
    pictures(tmp_path, style)
    odd = f"{style.format(2, 0)}.png"
    write_picture(tmp_path / odd, np.zeros((12, 14), np.uint8))
    assert subjects_of(tmp_path)[:2] == (4, 4)
    (fault,) = check(PrepareSettings(data=tmp_path, out=tmp_path, workers=1)).faults
    assert odd in fault.where
    assert "has shape (12, 14), but" in fault.problem
    assert fault.remedy


def test_a_number_that_is_there_twice(tmp_path):
    pictures(tmp_path, STYLES[1])
    for suffix in (".png", "_mask.png"):
        write_picture(tmp_path / f"patient3_3{suffix}", np.zeros((12, 10), np.uint8))
    cases, subjects, catalog = subjects_of(tmp_path)
    assert (cases, subjects) == (4, 4)
    (fault,) = catalog.faults
    assert str(fault) == (
        f"{tmp_path}/patient3_03.png and {tmp_path}/patient3_3.png are both slice 3. Keep one of the two."
    )


def test_slices_that_are_not_stacked_are_of_one_subject_all_the_same(tmp_path):
    pictures(tmp_path / "folders", STYLES[1])
    remove(tmp_path / "folders", STYLES[1], 3)
    assert subjects_of(tmp_path / "folders", {"name": "folders", "stack": "never"})[:2] == (23, 4)
    by_patient = tmp_path / "by_patient"
    pictures(by_patient, "p{}/{}")
    remove(by_patient, "p{}/{}", 3)
    assert subjects_of(by_patient, {"name": "folders", "stack": "never"})[:2] == (23, 4)

    nnunet = tmp_path / "nnunet"
    pictures(nnunet, STYLES[1], image="imagesTr/{}_0000.png", label="labelsTr/{}.png")
    (nnunet / "dataset.json").write_text(json.dumps({"channel_names": {"0": "x"}, "labels": {"bg": 0, "a": 1}}))
    assert subjects_of(nnunet)[:2] == (24, 4)

    table = tmp_path / "table"
    pictures(table, STYLES[1])
    names = sorted(path.name for path in table.glob("*_mask.png"))
    (table / "scans.csv").write_text(
        "\n".join(["image,label", *(f"{name.replace('_mask', '')},{name}" for name in names)])
    )
    assert subjects_of(table)[:2] == (24, 4)

    volumes = tmp_path / "volumes"
    for name in (f"patient{patient}_{number:02d}" for patient in (1, 2) for number in range(4)):
        write_scan(volumes / f"{name}.nii.gz", noise((1, 12, 10)))
        write_scan(volumes / f"{name}_mask.nii.gz", blob((1, 12, 10)))
    assert subjects_of(volumes)[:2] == (8, 2)
    for path in volumes.iterdir():
        write_scan(path, blob((3, 12, 10)))
    assert subjects_of(volumes)[:2] == (8, 8)


@pytest.mark.parametrize("style", ["class{}_{}", "2d_{:d}{:03d}", "site_{}_{:03d}", "{:03d}{:03d}"])
def test_pictures_of_many_sizes_are_scans_of_their_own(tmp_path, style):
    for patient in range(1, 4):
        for number in range(4):
            name = style.format(patient, number)
            write_picture(tmp_path / f"{name}.png", np.zeros((12, 10 + number), np.uint8))
            write_picture(tmp_path / f"{name}_mask.png", np.ones((12, 10 + number), np.uint8))
    assert subjects_of(tmp_path)[:2] == (12, 12)


def test_what_numbers_at_the_end_of_names_say():
    assert numbered_name("p01_slice003") == NumberedName("p01", 3, True)
    assert numbered_name("p01_slice_003", "p01_003") == NumberedName("p01", 3, True)
    assert numbered_name("p01-z12") == NumberedName("p01", 12, True)
    assert numbered_name("xyz12", "xyz12") == NumberedName("xyz", 12, False)
    assert numbered_name("overview") is None
