import shutil

import nibabel
import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.composite_paths import Frame, parse_composite
from fewlabel.readers.acdc import AcdcReader
from fewlabel.readers.base import choose_reader, collect_catalog, read_catalog
from kit.scans import acdc_subset, blob, noise, write_scan


def read(root):
    return AcdcReader(AcdcReader.Config()).read(root)


def patient(
    root, number, frames=(1, 12), info="ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n", gt=True
):
    folder = root / f"patient{number:03d}"
    for frame in frames:
        stem = folder / f"patient{number:03d}_frame{frame:02d}"
        write_scan(stem.with_name(stem.name + ".nii.gz"), noise((2, 4, 4)))
        if gt:
            write_scan(stem.with_name(stem.name + "_gt.nii.gz"), noise((2, 4, 4)))
    if info is not None:
        (folder / "Info.cfg").write_text(info)
    return folder


def test_a_patient_folder_as_published(tmp_path):
    folder = patient(tmp_path, 1)
    for litter in ("._patient001_frame01.nii.gz", ".DS_Store", "MANDATORY_CITATION.md"):
        (folder / litter).write_text("x")
    (tmp_path / "._patient001").write_text("x")
    write_scan(folder / "patient001_4d.nii.gz", noise((2, 4, 4)))
    catalog = read(tmp_path)
    assert [case.id for case in catalog.cases] == ["patient001_frame01", "patient001_frame12"]
    first, second = catalog.cases
    assert first.subject == second.subject == "patient001"
    assert dict(first.metadata) == {"phase": "ED", "group": "DCM", "height": 184.0, "weight": 95.0}
    assert second.metadata["phase"] == "ES"
    assert first.images == (folder / "patient001_frame01.nii.gz",)
    assert first.label == folder / "patient001_frame01_gt.nii.gz"
    assert catalog.label_names == {0: "background", 1: "RV", 2: "myocardium", 3: "LV"}
    kinds = {column.name: column.kind for column in catalog.columns}
    assert kinds == {"phase": "categorical", "group": "categorical", "height": "continuous", "weight": "continuous"}


def test_patient090_has_its_phases_right(tmp_path, shared_data):
    """Its end diastole is frame 4, not 1; the lower frame number is end diastole."""
    catalog = read(acdc_subset(tmp_path / "acdc", shared_data, (90, 91)))
    phases = {case.id: case.metadata["phase"] for case in catalog.cases}
    assert phases["patient090_frame04"] == "ED"
    assert phases["patient090_frame11"] == "ES"


def test_all_of_acdc(shared_data):
    catalog = read(shared_data / "acdc")
    assert len(catalog.cases) == 200
    assert len(catalog.subjects) == len(catalog.labelled_subjects) == 100
    by_subject = {}
    for case in catalog.cases:
        by_subject.setdefault(case.subject, []).append(case.metadata["phase"])
    assert all(phases == ["ED", "ES"] for phases in by_subject.values())


def test_without_info_the_lower_of_two_frames_is_end_diastole(tmp_path):
    patient(tmp_path, 3, (4, 11), info=None)
    patient(tmp_path, 5, (1, 2, 3), info=None)
    phases = {case.id: case.metadata["phase"] for case in read(tmp_path).cases}
    assert phases["patient003_frame04"] == "ED"
    assert phases["patient003_frame11"] == "ES"
    assert phases["patient005_frame02"] is None


def test_missing_metadata_and_labels_are_allowed(tmp_path):
    patient(tmp_path, 1, info="ED: 1\nES: 12\nHeight: nan\n", gt=False)
    case = read(tmp_path).cases[0]
    assert case.label is None
    assert dict(case.metadata) == {"phase": "ED", "group": None, "height": None, "weight": None}


@pytest.mark.parametrize("home", ["", "database/"])
def test_official_folders_keep_their_test_part(tmp_path, home):
    patient(tmp_path / f"{home}training", 1)
    patient(tmp_path / f"{home}testing", 101, gt=False)
    parts = {case.id: case.part for case in read(tmp_path).cases}
    assert parts["patient001_frame01"] == ""
    assert parts["patient101_frame01"] == "test"
    assert choose_reader(tmp_path).name == "acdc"


def test_one_patient_folder_is_a_data_set(tmp_path):
    folder = patient(tmp_path, 7)
    assert len(read(folder).cases) == 2
    assert choose_reader(folder).name == "acdc"


def test_every_fault_is_named_at_once(tmp_path):
    first, second = patient(tmp_path, 1), patient(tmp_path, 2)
    (first / "patient001_frame12.nii.gz").unlink()
    (second / "Info.cfg").write_text("ED: 1\nES: 12\nWeight: heavy\n")
    shutil.rmtree(tmp_path / "patient003", ignore_errors=True)
    (tmp_path / "patient003").mkdir()
    with pytest.raises(DataError) as error:
        read(tmp_path)
    text = str(error.value)
    assert "ES must be a frame that exists, not 12: there is frame 1" in text
    assert "there is no patient001_frame12" in text
    assert 'weight must be a number, not "heavy"' in text
    assert str(tmp_path / "patient003") in text


def test_score(tmp_path):
    assert AcdcReader.match(tmp_path).score == 0
    patient(tmp_path, 1)
    assert AcdcReader.match(tmp_path).score == 1
    patient(tmp_path, 2, info=None)
    assert AcdcReader.match(tmp_path).score == pytest.approx(0.85)


def cine_patient(root, frames=8):
    home = root / "patient007"
    for frame in (1, 5):
        write_scan(home / f"patient007_frame{frame:02d}.nii.gz", noise((3, 8, 6), frame))
        write_scan(home / f"patient007_frame{frame:02d}_gt.nii.gz", blob((3, 8, 6)))
    image = nibabel.Nifti1Image(np.stack([noise((6, 8, 3), t + 1) for t in range(frames)], -1), np.eye(4))
    nibabel.save(image, home / "patient007_4d.nii.gz")
    (home / "Info.cfg").write_text("ED: 1\nES: 5\nGroup: DCM\nHeight: 170\nWeight: 70\nNbFrame: 8\n")
    return root


def test_other_frames_of_a_cine_are_unlabelled_scans_when_asked(tmp_path):
    root = cine_patient(tmp_path)
    _, plain = read_catalog(root)
    assert [case.id for case in plain.cases] == ["patient007_frame01", "patient007_frame05"]
    assert plain.notes[0].startswith("1 patients have all frames in patientNNN_4d, which are left out")
    _, catalog = read_catalog(root, {"name": "acdc", "cine": True})
    assert [case.id for case in catalog.cases] == [f"patient007_frame{frame:02d}" for frame in range(1, 9)]
    assert [case.label is not None for case in catalog.cases] == [frame in {1, 5} for frame in range(1, 9)]
    assert [case.metadata["phase"] for case in catalog.cases] == ["ED", None, None, None, "ES", None, None, None]
    assert [case.metadata["quarter"] for case in catalog.cases] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert {case.metadata["group"] for case in catalog.cases} == {"DCM"}
    assert catalog.subjects == ("patient007",)
    third = parse_composite(catalog.cases[2].images[0])
    assert third == Frame(root / "patient007/patient007_4d.nii.gz", 2)


def test_the_cycle_of_a_cine_begins_at_end_diastole_and_goes_round(tmp_path):
    root = cine_patient(tmp_path)
    (root / "patient007/Info.cfg").write_text("ED: 5\nES: 1\n")
    _, catalog = read_catalog(root, {"name": "acdc", "cine": True})
    assert [case.metadata["phase"] for case in catalog.cases][:5] == ["ES", None, None, None, "ED"]
    assert [case.metadata["quarter"] for case in catalog.cases] == [2, 2, 3, 3, 0, 0, 1, 1]


def test_no_other_frame_of_a_test_patient_is_read(tmp_path):
    for part in ("training", "testing"):
        cine_patient(tmp_path / "database" / part)
    (tmp_path / "database/testing/patient007").rename(tmp_path / "database/testing/patient107")
    for path in (tmp_path / "database/testing/patient107").glob("patient007*"):
        path.rename(path.with_name(path.name.replace("007", "107")))
    _, catalog = read_catalog(tmp_path, {"name": "acdc", "cine": True})
    cases = {part: [case for case in catalog.cases if case.part == part] for part in ("", "test")}
    assert [len(part) for part in cases.values()] == [8, 2]
    assert all(case.label is not None for case in cases["test"])
    assert [case.metadata["quarter"] for case in cases["test"]] == [0, 2]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:400]), "is incomplete or damaged"),
        (lambda path: write_scan(path, noise((3, 8, 6))), "must hold the frames of a cine along a fourth axis"),
    ],
)
def test_a_cine_without_frames_is_a_fault_where_cines_are_asked_for(tmp_path, damage, text):
    path = cine_patient(tmp_path) / "patient007/patient007_4d.nii.gz"
    damage(path)
    _, catalog = collect_catalog(tmp_path, {"name": "acdc", "cine": True})
    assert [fault.where for fault in catalog.faults] == [str(path)]
    assert text in catalog.faults[0].problem
    _, plain = collect_catalog(tmp_path, {"name": "acdc"})
    assert not plain.faults


def test_a_patient_without_a_cine_is_read_as_before(tmp_path):
    cine_patient(tmp_path)
    patient(tmp_path, 1)
    _, catalog = read_catalog(tmp_path, {"name": "acdc", "cine": True})
    assert [case.metadata["quarter"] for case in catalog.cases if case.subject == "patient001"] == [None, None]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_description_with_a_mark_of_its_encoding_is_read(tmp_path, encoding):
    folder = patient(tmp_path, 1, info=None)
    (folder / "Info.cfg").write_text("ED: 12\nES: 1\nGroup: DCM\n", encoding=encoding)
    assert [case.metadata["phase"] for case in read(tmp_path).cases] == ["ES", "ED"]


def test_a_file_called_as_a_patient_hides_no_other_fault(tmp_path):
    patient(tmp_path, 2, info="ED: 7\nES: 12\n")
    (tmp_path / "patient001").write_text("x")
    (patient(tmp_path, 3) / "Info.cfg").write_bytes(b"ED: 1\nGroup: \xe4\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    told = [str(fault) for fault in caught.value.faults]
    assert len(told) == 3
    assert "patient001 cannot be read" in told[0]
    assert "ED must be a frame that exists, not 7" in told[1]
    assert "must be UTF-8 text, but has the byte 0xe4" in told[2]
