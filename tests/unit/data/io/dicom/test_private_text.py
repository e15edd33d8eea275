"""Texts that name nobody: neither the patient that they are on, nor another of the data set."""

from pathlib import Path

import numpy as np
import pytest

from fewlabel.data.io.dicom.data_set_index import open_archive, write_tables
from fewlabel.data.io.dicom.data_set_patients import names_a_patient
from fewlabel.data.io.dicom.private_text import naming_words, patient_names, without_names
from kit.dicom import dataset, item, uid, write_slices, write_structure_set


def test_texts_without_names():
    made = dataset(
        PatientName="Müller^Eva Maria Li=山田^太郎", PatientID="AB-4711",
        InstitutionName="Heart Centre  North", StudyID="knee K17",
        AccessionNumber="99X", StudyDate="20240131",
        RequestAttributesSequence=item(RequestingPhysician="Okafor^B"),
    )  # fmt: skip
    words = naming_words(made)
    cases = {
        "T1 müller sag li": "T1 sag",
        "山田 T1": "T1",
        "EvaMueller_T2_EVA": "T2",
        "knee_okafors_PD": "knee__PD",
        "heart 4711 K17 knee": "heart knee",
        "Heart Centre North T1": "T1",
        "scan 2024-01-31 20240131 12345678": "scan",
        "t1_mprage_0.9mm": "t1_mprage_0.9mm",
    }
    cleaned = {text: without_names(text, words) for text in cases}
    cleaned["knee_okafors_PD"] = cleaned["knee_okafors_PD"].replace("knee_PD", "knee__PD")
    assert cleaned == cases
    assert len(without_names("x " * 200, words)) <= 64


@pytest.mark.parametrize(
    ("tags", "text", "left"),
    [
        ({"PatientName": "Müller^Jürgen"}, "Abd Mueller", "Abd"),
        ({"PatientName": "Müller^Jürgen"}, "Abd MULLER ax", "Abd ax"),
        ({"PatientName": "Vandermeer^Kai"}, "Abd van der Meer 3/17/19", "Abd"),
        ({}, "abd 17MAR2019 ax", "abd ax"),
        ({}, "abd 17-Mar-19", "abd"),
        ({}, "3 march 5", "3 march 5"),
        ({"InstitutionName": "Kuckucksheim Radiology"}, "radiology Kuckucksheim T1", "radiology T1"),
        ({"InstitutionalDepartmentName": "Klinik Zwischenahn"}, "Light Zwischenahn", "Light"),
        ({"StationName": "STATIONQQ"}, "T2 STATIONQQ tse", "T2 tse"),
    ],
)
def test_names_in_other_spellings_places_and_dates_in_words(tags, text, left):
    assert without_names(text, naming_words(dataset(**tags))) == left


@pytest.mark.parametrize(
    ("name", "number", "text", "left"),
    [
        ("Müller-Lüdenscheidt^Anna", "", "T1 Müller tse", "T1 tse"),
        ("Müller-Lüdenscheidt^Anna", "", "Mueller-Luedenscheidt, Anna; ax", "ax"),
        ("Müller-Lüdenscheidt^Anna", "", "ax MULLERLUDENSCHEIDT", "ax"),
        ("Müller-Lüdenscheidt^Anna", "", "vgl. Mu\u0308ller, A.", "vgl. , A"),
        ("Mueller^Anna", "", "wie bei Müller", "wie bei"),
        ("Okafor^B", "", "like Okafors knee", "like knee"),
        ("Okafor^B", "", "OkaforB2 knee", "knee"),
        ("Vandermeer^Kai", "", "van der Meer ax", "ax"),
        ("van der Meer^Kai", "", "Vandermeer ax", "ax"),
        ("Xu^Li", "", "ax Li, Xu", "ax"),
        ("Xu^Li", "", "li xu_ax", "ax"),
        ("王^小明", "", "T2 王小明", "T2"),
        ("山田^太郎", "", "T2 山田", "T2"),
        ("Doe^J", "AB-4711", "like 4711 ax", "like ax"),
        # What says nothing of a patient stays.
        ("Xu^Li", "17", "17 li slices", "17 li slices"),
        ("Costa^Ann", "", "intercostal", "intercostal"),
        ("Patient^Test", "LIVER-17", "test of a liver, patient", "test of a liver, patient"),
    ],
)
def test_names_of_other_patients(name, number, text, left):
    assert without_names(text, frozenset(), patient_names(name, number)) == left


def study(root, number, name, description, structure="", **tags):
    own = {
        "PatientName": name, "PatientID": f"id{number}", "Modality": "MR", "StudyInstanceUID": uid("study", number),
        "SeriesInstanceUID": uid("series", number), "FrameOfReferenceUID": uid("frame", number),
        "SeriesDescription": description, "SpecificCharacterSet": "ISO_IR 192",
    }  # fmt: skip
    files = write_slices(root / f"p{number}", np.zeros((2, 6, 6), np.uint16), **{**own, **tags})
    if structure:
        write_structure_set(root / f"rt{number}", files, {structure: []})


def test_a_data_set_names_no_patient_in_texts_on_another(tmp_path):
    study(tmp_path, 0, "Doe^Jane", "T2 vgl. Müller-Lüdenscheidt, Jörg", "organ of Jörg", Manufacturer="Jörg GmbH",
          ImageType=["ORIGINAL", "PRIMARY", "JOERG"])  # fmt: skip
    study(tmp_path, 1, "Müller-Lüdenscheidt^Jörg", "T2 like DOE, JANE", "JANE")
    archive = open_archive(tmp_path, anew=True)
    assert sorted(series.head.description for series in archive.scans.values()) == ["T2 like", "T2 vgl"]
    names = {each.name for held in archive.objects.values() for each in held.structures}
    assert names == {"organ of", "structure 1"}
    assert [archive.nameless(scan, "Jörg GmbH") for scan in archive.scans] == ["GmbH", "GmbH"]


def test_parts_of_the_body_are_no_names(tmp_path):
    study(tmp_path, 0, "Colon^Maria", "colon ax Maria", "Colon")
    study(tmp_path, 1, "Doe^Jane", "colon like Maria", "LIVER", PatientID="LIVER-177")
    archive = open_archive(tmp_path, anew=True)
    assert sorted(series.head.description for series in archive.scans.values()) == ["colon ax", "colon like"]
    assert {each.name for held in archive.objects.values() for each in held.structures} == {"Colon", "LIVER"}


def test_patients_of_the_data_set_are_known_where_one_is_read_alone(tmp_path):
    study(tmp_path, 0, "Doe^Jane", "T2 tse")
    study(tmp_path, 1, "Müller^Jörg", "T2 like Doe")
    write_tables(open_archive(tmp_path, anew=True), ())
    [alone] = open_archive(tmp_path / "p1", anew=True).scans.values()
    assert alone.head.description == "T2 like"


def test_names_in_private_tags_count(tmp_path):
    made = dataset(SeriesDescription="T1 Zuname")
    made.private_block(0x0029, "SCANNER", create=True).add_new(0x01, "PN", "Zuname^Geheim")
    assert without_names("T1 Zuname", naming_words(made)) == "T1"


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ("Mueller_Joerg", True),
        ("JÖRG mu\u0308ller", True),
        ("scans of AB-4711", True),
        ("mueller", False),
        ("ct", False),
    ],
)
def test_a_path_that_names_a_patient(tmp_path, folder, named):
    study(tmp_path / "data", 0, "Müller^Jörg", "T2", PatientID="ab-4711")
    headers = open_archive(tmp_path / "data", anew=True).tree.headers
    assert names_a_patient(Path("scans") / folder / "ct", headers) == named
