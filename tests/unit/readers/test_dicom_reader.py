"""The reader of DICOM: which series are scans, what they are called, what is known of them, and their labels."""

import json
from pathlib import Path

import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.dicom.data_set_index import open_archive
from fewlabel.data.io.dicom.pseudonyms import FOLDER
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.readers.base import choose_reader, collect_catalog
from fewlabel.readers.catalog_as_table import write_table
from kit.dicom import uid, write_segmentation, write_slices, write_structure_set
from kit.scans import noise, write_scan

SHAPE = (4, 12, 10)


def images(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 900, shape).astype(np.uint16)


def patient(root, number, names=("T2 tse",), folder=None, shape=SHAPE, **tags):
    """A study of a patient; files of each series by its name."""
    files = {}
    for place, name in enumerate(names, start=1):
        own = {
            "PatientID": f"id{number}", "PatientName": f"Name{number}^Ann", "StudyInstanceUID": uid("study", number),
            "SeriesInstanceUID": uid("series", number, name), "FrameOfReferenceUID": uid("frame", number),
            "SeriesDescription": name, "SeriesNumber": place, "Modality": "MR",
        }  # fmt: skip
        files[name] = write_slices(
            root / (folder or f"p{number}") / f"s{place}", images(10 * number + place, shape), **{**own, **tags}
        )
    return files


def read(root, **settings):
    return collect_catalog(root, {"name": "dicom", **settings} if settings else "auto")


def organ(shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[1:3, 3:8, 2:6] = True
    return mask


def test_a_tree_of_patients(tmp_path):
    for number in range(3):
        patient(tmp_path, number, Manufacturer="ACME", ManufacturerModelName="One", MagneticFieldStrength=1.5,
                BodyPartExamined="HEART", ContrastBolusAgent="Gd", PatientPosition="HFS")  # fmt: skip
    choice, catalog = read(tmp_path)
    assert choice.name == "dicom"
    assert catalog.faults == ()
    assert len(catalog.cases) == len(catalog.subjects) == 3
    case = catalog.cases[0]
    assert case.id.startswith(f"{case.subject}_s")
    assert dict(case.metadata) == {
        "modality": "MR", "scanner": "ACME One", "field_strength": 1.5, "sequence": "T2 tse", "body_part": "heart",
        "contrast": "yes", "plane": "axial", "patient_position": "HFS",
    }  # fmt: skip
    assert read_geometry(case.images[0]).spacing == (2.0, 0.75, 0.5)
    assert read_volume(case.images).array.shape == (1, *SHAPE)
    # The same names the next time, wherever the files lie, and for one patient alone.
    (tmp_path / "p0").rename(tmp_path / "moved")
    assert [case.id for case in read(tmp_path)[1].cases] == [case.id for case in catalog.cases]
    [alone] = read(tmp_path / "moved")[1].cases
    assert alone.id in {case.id for case in catalog.cases}
    # Reading writes nothing into the data; a run does.
    assert not (tmp_path / FOLDER).exists()
    choice, catalog = read(tmp_path)
    table = open_archive(tmp_path).names.user_folder / "scans.csv"
    assert any(f"{table} says for which" in note for note in catalog.notes)
    rows = table.read_text()
    assert all(f"id{number}" in rows for number in range(3))
    settled = choice.reader.settle(catalog)
    assert any("; .fewlabel-dicom/scans.csv beside the data says for which" in note for note in settled.notes)
    assert (tmp_path / FOLDER / "scans.csv").read_text() == rows
    assert not table.exists()
    assert read(tmp_path)[1].cases == catalog.cases == settled.cases
    assert read(tmp_path)[1].notes == settled.notes


def test_a_path_from_within_the_data_has_the_same_names(tmp_path, monkeypatch):
    for number in range(2):
        patient(tmp_path, number)
    choice, catalog = read(tmp_path)
    choice.reader.settle(catalog)
    table = (tmp_path / FOLDER / "scans.csv").read_text()
    monkeypatch.chdir(tmp_path / "p0")
    for place in (Path(), Path("../p0"), Path("s1")):
        alone = choice.reader.collect(place)
        assert alone.cases[0].id in {case.id for case in catalog.cases}
        assert read_volume(alone.cases[0].images).array.shape == (1, *SHAPE)
        # The table says it already.
        assert any(".fewlabel-dicom/scans.csv beside the data" in note for note in alone.notes)
    assert (tmp_path / FOLDER / "scans.csv").read_text() == table


def test_a_table_of_series_finds_them_by_the_same_key(tmp_path):
    data = tmp_path / "data"
    for number in range(2):
        patient(data, number)
    (tmp_path / "scans.csv").write_text(write_table(data).text)
    assert not (data / FOLDER).exists()
    choice, catalog = collect_catalog(tmp_path / "scans.csv")
    assert choice.name == "table"
    assert read_volume(catalog.cases[0].images).array.shape == (1, *SHAPE)
    choice.reader.settle(catalog)
    assert (data / FOLDER / "key").is_file()
    assert read_volume(collect_catalog(tmp_path / "scans.csv")[1].cases[0].images).array.shape == (1, *SHAPE)


def test_one_series_of_each_study_by_rule(tmp_path):
    patient(tmp_path, 0, ("loc", "T1", "T2 tse", "dwi"))
    patient(tmp_path, 1, ("T2 tse", "T1"))
    patient(tmp_path, 2, ("t2 TSE fast", "3-plane Survey"))
    patient(tmp_path, 3, ("scout",), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_structure_set(tmp_path / "rt", sorted((tmp_path / "p0" / "s3").iterdir()), {"organ": []})
    _, catalog = read(tmp_path)
    assert sorted(case.metadata["sequence"] for case in catalog.cases) == ["T2 tse", "T2 tse", "t2 TSE fast"]
    assert 'series "T2 tse", MR, 4 slices of 12x10: taken of 2 studies' in catalog.notes
    assert "left out: localizers (2)" in catalog.notes
    assert any("left out: T1 (2)" in note and "reader.series=WORDS" in note for note in catalog.notes)
    _, named = read(tmp_path, series="t1 | dwi", all_series=True)
    assert sorted(case.metadata["sequence"] for case in named.cases) == ["T1", "T1", "dwi"]
    # Without a label, what most studies have.
    (tmp_path / "rt").unlink()
    patient(tmp_path, 4, ("T1",))
    patient(tmp_path, 5, ("T1",))
    assert {case.metadata["sequence"] for case in read(tmp_path)[1].cases} == {"T1", "t2 TSE fast"}


def test_phases_of_a_series_are_scans(tmp_path):
    for phase in range(8):
        patient(tmp_path, 0, folder=f"phase{phase}", each=lambda z, phase=phase: {"TriggerTime": 30 * phase + z})
    _, catalog = read(tmp_path)
    assert len(catalog.cases) == 8
    assert [case.metadata["phase"] for case in catalog.cases] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(catalog.subjects) == 1


def test_labels_by_name(tmp_path):
    for number, names in enumerate([("Liver", "spleen"), ("spleen", "liver")]):
        files = patient(tmp_path, number)["T2 tse"]
        masks = {name: np.roll(organ(), 6 * place, axis=1) for place, name in enumerate(names)}
        write_segmentation(tmp_path / f"p{number}" / "seg", files, masks)
    patient(tmp_path, 2)
    _, catalog = read(tmp_path)
    assert dict(catalog.label_names) == {0: "background", 1: "Liver", 2: "spleen"}
    masks = {case.subject: read_mask(case.label) for case in catalog.cases if case.label is not None}
    assert len(masks) == 2
    one, other = masks.values()
    assert (one == 1).sum() == (other == 1).sum() == organ().sum()
    assert not np.array_equal(one, other)
    _, alone = read(tmp_path, structures=["spleen"])
    assert dict(alone.label_names) == {0: "background", 1: "spleen"}
    assert any("does not name are left out: Liver" in note or "left out: liver" in note for note in alone.notes)
    with pytest.raises(AssertionError, match="Did you mean spleen"):
        assert read(tmp_path, structures=["splen"])[1].faults == ()


def test_of_two_labels_of_a_structure_the_newer_counts(tmp_path):
    files = patient(tmp_path, 0)["T2 tse"]
    for name, date in (("new", "20240501"), ("old", "20230101")):
        write_structure_set(tmp_path / name, files, {"organ": []}, StructureSetDate=date, StructureSetLabel=name)
    _, catalog = read(tmp_path)
    assert any("that a newer one of their series holds are left out (1)" in note for note in catalog.notes)
    _, chosen = read(tmp_path, labels="old")
    assert any("reader.labels does not name" in note for note in chosen.notes)
    assert chosen.cases[0].label != catalog.cases[0].label


def test_what_predict_wrote_is_no_label_unless_it_is_asked_for(tmp_path):
    files = patient(tmp_path, 0)["T2 tse"]
    made = {"Manufacturer": "fewlabel", "ManufacturerModelName": "fewlabel"}
    write_structure_set(
        tmp_path / "predicted", files, {"organ": []}, StructureSetDate="20240501", StructureSetLabel="fewlabel", **made
    )
    _, alone = read(tmp_path)
    assert all(case.label is None for case in alone.cases)
    assert any("that fewlabel predicted are left out (1)" in note for note in alone.notes)
    write_structure_set(
        tmp_path / "drawn", files, {"organ": []}, StructureSetDate="20230101", StructureSetLabel="by me"
    )
    _, catalog = read(tmp_path)
    assert catalog.cases[0].label == read(tmp_path, labels="by me")[1].cases[0].label is not None
    assert read(tmp_path, labels="fewlabel")[1].cases[0].label not in (None, catalog.cases[0].label)


def test_faults_name_pseudonyms_and_a_table(tmp_path):
    patient(tmp_path, 0)
    files = patient(tmp_path, 1, folder="Name1_Ann")["T2 tse"]
    files[2].unlink()
    broken = patient(tmp_path, 2)["T2 tse"]
    broken[1].write_bytes(broken[1].read_bytes()[:300])
    stray = patient(tmp_path, 3)["T2 tse"]
    write_structure_set(tmp_path / "rt", stray, {"organ": []})
    for file in stray:
        file.unlink()
    _, catalog = read(tmp_path)
    faults = "\n".join(map(str, catalog.faults))
    unreadable = open_archive(tmp_path).names.user_folder / "unreadable.csv"
    for text in ("lacks 1 slice of 4", f"DICOM files or folders that cannot be read: 1; {unreadable} names them",
                 "is of no series that is there"):  # fmt: skip
        assert text in faults
    assert "Name1" not in faults
    assert len(catalog.cases) == 1
    assert str(broken[1]) in unreadable.read_text()


def test_a_path_that_names_a_patient_is_refused(tmp_path):
    patient(tmp_path / "name0_ANN", 0)
    _, catalog = read(tmp_path / "name0_ANN")
    assert "its path names a patient" in str(catalog.faults[0])
    (tmp_path / "link").symlink_to(tmp_path / "name0_ANN")
    assert read(tmp_path / "link")[1].faults == ()
    assert read(tmp_path)[1].faults == ()


def test_studies_without_a_patient(tmp_path):
    for number in range(2):
        patient(tmp_path, number, PatientID=["", "ANONYMOUS"][number])
    _, catalog = read(tmp_path)
    assert len(catalog.subjects) == 2
    assert any("each of which counts as a person: 2" in note for note in catalog.notes)


def test_a_folder_of_other_images_with_some_dicom_is_no_dicom(tmp_path):
    for number in range(9):
        write_scan(tmp_path / f"p{number}.nii.gz", noise())
        write_scan(tmp_path / f"p{number}_mask.nii.gz", (noise() > 110).astype(np.uint8))
    patient(tmp_path, 0)
    assert choose_reader(tmp_path).name == "folders"
    _, catalog = read(tmp_path, series=None)
    assert any("images that are not DICOM (18)" in note for note in catalog.notes)


def test_one_file_of_a_series_is_no_scan(tmp_path):
    files = patient(tmp_path, 0)["T2 tse"]
    with pytest.raises(DataError, match=r"is one file of a DICOM series of 4.*Give the folder"):
        read(files[1])
    for file in files[1:]:
        file.unlink()
    assert len(read(files[0])[1].cases) == 1


def test_a_question_on_the_order_lists_all_structures_of_the_data_set(tmp_path):
    one, other = patient(tmp_path, 0)["T2 tse"], patient(tmp_path, 1)["T2 tse"]
    body = np.zeros(SHAPE, bool)
    body[:, 1:11, 1:9] = True
    dot = np.zeros(SHAPE, bool)
    dot[1, 4, 3] = True
    write_segmentation(tmp_path / "p0" / "seg", one, {"organ": organ(), "wrap": body})
    write_segmentation(tmp_path / "p1" / "seg", other, {"vest": body, "dot": dot})
    _, catalog = read(tmp_path)
    texts = {}
    for case in catalog.cases:
        with pytest.raises(DataError) as caught:
            read_mask(case.label)
        texts.setdefault(str(caught.value).split("reader.structures=")[1], []).append(case.id)
    # The same in each fault: pasted, it leaves nothing out.
    assert len(texts) == 1
    assert next(iter(texts)).startswith(("[vest,wrap,organ,dot]", "[wrap,vest,organ,dot]"))
    names = next(iter(texts)).split("]")[0][1:].split(",")
    _, ordered = read(tmp_path, structures=names)
    masks = [read_mask(case.label) for case in ordered.cases]
    assert sorted(len(np.unique(mask)) for mask in masks) == [3, 3]


def test_files_that_earlier_runs_made_are_counted(tmp_path):
    patient(tmp_path, 0)
    home = tmp_path / "earlier"
    home.mkdir()
    masks = {f"case{number}": {"files": [f"case{number}.dcm", f"case{number}.txt"]} for number in range(2)}
    (home / "run_report.json").write_text(json.dumps({"masks": masks}))
    for name in ("case0.dcm", "case0.txt", "case1.dcm"):
        (home / name).touch()
    _, catalog = read(tmp_path)
    assert "left out: files made by fewlabel (3)" in catalog.notes


def test_patients_who_share_uids_are_parted(tmp_path):
    own = {"StudyInstanceUID": uid("shared"), "SeriesInstanceUID": uid("shared series")}
    for number in range(2):
        patient(tmp_path, number, **own)
    # Some files of a study without the number are no other patient's.
    patient(tmp_path, 2, each=lambda z: {"PatientID": "id2" if z else ""})
    _, catalog = read(tmp_path)
    assert len(catalog.subjects) == len(catalog.cases) == 3
    assert catalog.faults == ()
    assert any("of several patients, by their numbers: 1" in note for note in catalog.notes)


def test_a_localizer_within_a_series_is_left_out_and_counted(tmp_path):
    patient(tmp_path, 0)
    patient(tmp_path, 0, folder="across", shape=(1, 12, 10), orientation=(1, 0, 0, 0, 0, -1),
            ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])  # fmt: skip
    _, catalog = read(tmp_path)
    assert [read_geometry(case.images[0]).shape for case in catalog.cases] == [SHAPE]
    assert "left out: localizers (1)" in catalog.notes


def test_screenshots_are_left_out_and_microscopy_is_none(tmp_path):
    patient(tmp_path, 0)
    capture, slides = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.77.1.6"
    patient(tmp_path, 1, SOPClassUID=slides)
    for number, kind in enumerate([capture, f"{capture}.2"], start=2):
        patient(tmp_path, number, SOPClassUID=kind)
    _, catalog = read(tmp_path)
    assert "left out: screenshots (2)" in catalog.notes
    assert len(catalog.cases) == 2
