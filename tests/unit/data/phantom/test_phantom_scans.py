"""Synthetic hearts keep the anatomy that the task rests on, and the files say what they are."""

from __future__ import annotations

import csv
from itertools import pairwise

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from fewlabel.core.artifact.files import file_hash
from fewlabel.core.errors import SettingsError
from fewlabel.data.phantom.hearts import LABEL_NAMES, LV, MYOCARDIUM, RV
from fewlabel.data.phantom.scans import PHASES, SCANNERS, render, sample_patient, write_phantom
from fewlabel.readers.table import TableReader

PATIENTS = [sample_patient(number, seed) for seed in (0, 7) for number in range(1, 7)]


@pytest.fixture(scope="module")
def scans():
    return {(n, phase): render(patient, phase) for n, patient in enumerate(PATIENTS) for phase in PHASES}


def areas(mask, label):
    return (mask == label).sum(axis=(1, 2))


def test_cavity_lies_inside_the_muscle(scans):
    for _, mask in scans.values():
        for plane in mask:
            cavity = plane == LV
            rim = ndimage.binary_dilation(cavity) & ~cavity
            assert np.all(plane[rim] == MYOCARDIUM)


def test_ventricle_shrinks_from_base_to_apex(scans):
    for _, mask in scans.values():
        outer = areas(mask, LV) + areas(mask, MYOCARDIUM)
        present = np.flatnonzero(outer)
        assert np.array_equal(present, np.arange(present[0], present[-1] + 1))
        inner = outer[present]
        # Sampling on pixels moves an area by about its outline times half a pixel.
        assert np.all(np.diff(inner) < 0.06 * inner[:-1])
        assert inner[-1] < 0.75 * inner[0]


def test_right_ventricle_ends_before_the_left(scans):
    for _, mask in scans.values():
        right, left = np.flatnonzero(areas(mask, RV)), np.flatnonzero(areas(mask, MYOCARDIUM))
        assert right.size > 2
        assert right[0] == left[0]
        assert right[-1] < left[-1] or left[-1] == mask.shape[0] - 1
        assert areas(mask, RV)[right[-1]] < 0.75 * areas(mask, RV).max()


def test_systole_empties_the_cavity_and_lowers_the_valve_plane(scans):
    for number in range(len(PATIENTS)):
        relaxed, squeezed = scans[number, "ED"][1], scans[number, "ES"][1]
        assert (squeezed == LV).sum() < 0.75 * (relaxed == LV).sum()
        assert (squeezed == RV).sum() < (relaxed == RV).sum()
        assert np.flatnonzero(areas(squeezed, LV))[0] >= np.flatnonzero(areas(relaxed, LV))[0]


def test_wall_thickens_in_systole(scans):
    for number, patient in enumerate(PATIENTS):
        middle = patient.stack.shape[0] // 2
        thickness = [
            np.sqrt(areas(mask, MYOCARDIUM)[middle] + areas(mask, LV)[middle]) - np.sqrt(areas(mask, LV)[middle])
            for mask in (scans[number, "ED"][1], scans[number, "ES"][1])
        ]
        assert thickness[1] > thickness[0]


def test_sizes_and_spacings_are_those_of_cardiac_scans():
    for patient in PATIENTS:
        slices, rows, columns = patient.stack.shape
        assert slices in {8, 9}
        assert 96 <= rows <= 112
        assert 96 <= columns <= 112
        assert 8.0 <= patient.stack.spacing[0] <= 10.0
        assert 1.5 <= patient.stack.spacing[1] == patient.stack.spacing[2] <= 2.0


def test_blood_is_brighter_than_muscle_but_not_alone(scans):
    for image, mask in scans.values():
        blood, muscle = image[mask == LV].mean(), image[mask == MYOCARDIUM].mean()
        assert blood > 1.15 * muscle
        outside = image[mask == 0]
        # Confounders: as many bright voxels outside the heart as there are in its cavity.
        assert (outside > blood).sum() > 0.5 * (mask == LV).sum()


def test_scanners_differ_in_gain_and_alternate():
    names = [sample_patient(number, 0).scanner.name for number in range(1, 7)]
    assert set(names) == {scanner.name for scanner in SCANNERS}
    assert all(first != second for first, second in pairwise(names))
    means = {name: [] for name in names}
    for number in range(1, 7):
        patient = sample_patient(number, 0)
        means[patient.scanner.name].append(render(patient, "ED")[0].mean())
    assert np.mean(means["B"]) > 2 * np.mean(means["A"])


def test_patients_differ_and_do_not_depend_on_how_many_there_are(tmp_path):
    few = write_phantom(tmp_path / "few", patients=2, labelled=1, test=1, seed=5)
    more = write_phantom(tmp_path / "more", patients=3, labelled=1, test=1, seed=5)
    again = write_phantom(tmp_path / "again", patients=2, labelled=1, test=1, seed=5)
    other = write_phantom(tmp_path / "other", patients=2, labelled=1, test=1, seed=6)
    names = sorted(path.relative_to(few) for path in few.rglob("*.*"))
    assert [file_hash(few / name) for name in names] == [file_hash(again / name) for name in names]
    first = "images/patient01_ED.nii.gz"
    assert file_hash(few / first) == file_hash(more / first)
    assert file_hash(few / first) != file_hash(other / first)
    assert file_hash(few / first) != file_hash(few / "images/patient02_ED.nii.gz")


def test_files_carry_geometry_and_the_table_names_them(tmp_path):
    folder = write_phantom(tmp_path, patients=4, labelled=1, test=2, seed=1)
    with (folder / "scans.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["image", "label", "subject", "phase", "scanner", "part"]
    assert [(row["subject"], row["phase"]) for row in rows[:2]] == [("patient01", "ED"), ("patient01", "ES")]
    assert {row["subject"] for row in rows if row["label"]} == {"patient01", "patient03", "patient04"}
    assert {row["subject"] for row in rows if row["part"] == "test"} == {"patient03", "patient04"}
    assert sorted(path.name for path in (folder / "labels").iterdir()) == [
        row["label"].removeprefix("labels/") for row in rows if row["label"]
    ]
    patient = sample_patient(1, 1)
    image = sitk.ReadImage(str(folder / rows[0]["image"]))
    mask = sitk.ReadImage(str(folder / rows[0]["label"]))
    assert image.GetSpacing() == pytest.approx(patient.stack.spacing[::-1], abs=1e-4)
    assert mask.GetSpacing() == image.GetSpacing()
    assert mask.GetOrigin() == image.GetOrigin()
    assert np.array_equal(sitk.GetArrayFromImage(mask), render(patient, "ED")[1])
    assert np.array_equal(sitk.GetArrayFromImage(image), render(patient, "ED")[0])


def test_the_table_reader_takes_it_as_it_is(tmp_path):
    catalog = TableReader(TableReader.Config()).read(write_phantom(tmp_path, patients=3, labelled=1, test=1, seed=2))
    assert catalog.subjects == ("patient01", "patient02", "patient03")
    assert catalog.labelled_subjects == ("patient01", "patient03")
    assert {case.subject for case in catalog.cases if case.part == "test"} == {"patient03"}
    assert dict(catalog.label_names) == LABEL_NAMES
    assert {column.name: column.kind for column in catalog.columns} == {
        "phase": "categorical",
        "scanner": "categorical",
    }


def test_counts_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="labelled=2 and test=2 patients do not fit into patients=3"):
        write_phantom(tmp_path, patients=3, labelled=2, test=2)
