"""Pseudonyms: one for a patient wherever the key is the same, and texts that name nobody."""

import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.dicom import pseudonyms
from fewlabel.data.io.dicom.private_text import naming_words, without_names
from fewlabel.data.io.dicom.pseudonyms import FOLDER, load_pseudonyms
from kit.dicom import dataset, item


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))


def test_a_folder_keeps_its_key_and_gives_it_to_those_below(tmp_path):
    below = tmp_path / "data" / "p1"
    below.mkdir(parents=True)
    above = load_pseudonyms(tmp_path / "data")
    code = above.code("patient", "", "4711")
    assert len(code) == 10
    assert load_pseudonyms(tmp_path / "data").code("patient", "", "4711") == code
    assert load_pseudonyms(below).code("patient", "", "4711") == code
    assert above.code("study", "", "4711") != code
    (tmp_path / "other").mkdir()
    assert load_pseudonyms(tmp_path / "other").code("patient", "", "4711") != code
    assert not (below / FOLDER).exists()


def test_where_the_data_cannot_be_written_to_the_user_keeps_it(tmp_path, monkeypatch):
    data = tmp_path / "data"
    (data / "p1").mkdir(parents=True)
    made = pseudonyms._created

    def refuse(path):
        if path.is_relative_to(data):
            raise PermissionError(13, "Permission denied")
        return made(path)

    monkeypatch.setattr(pseudonyms, "_created", refuse)
    first = load_pseudonyms(data)
    assert first.home.is_relative_to(tmp_path / "own")
    assert "data" not in first.home.name
    assert load_pseudonyms(data / "p1").key == first.key
    monkeypatch.setattr(pseudonyms, "_created", lambda path: refuse(data))
    (tmp_path / "third").mkdir()
    with pytest.raises(DataError, match=r"no place for the key.*Allow writing"):
        load_pseudonyms(tmp_path / "third")


def test_a_damaged_key_is_not_replaced(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "key").write_text("beef")
    with pytest.raises(DataError, match="is no key of pseudonyms"):
        load_pseudonyms(tmp_path)


def test_tables_keep_rows_of_other_data(tmp_path):
    (tmp_path / "a").mkdir()
    names = load_pseudonyms(tmp_path)
    assert names.write_tables([{"scan": "p1", "patient": "4711"}], [(tmp_path / "x", "is cut off")]) == names.home
    load_pseudonyms(tmp_path / "a").write_tables([{"scan": "p2", "patient": "4712"}], [])
    rows = (names.home / "scans.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["scan", "p1", "p2"]
    assert not (names.home / "unreadable.csv").exists()


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
