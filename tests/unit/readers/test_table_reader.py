import pandas as pd
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.composite_paths import Structures
from fewlabel.readers.table import TableReader
from kit.scans import noise, write_scan


def read(root):
    return TableReader(TableReader.Config()).read(root)


@pytest.fixture
def folder(tmp_path):
    for name in ("s1/a", "s1/b", "s2/a", "c2"):
        write_scan(tmp_path / f"{name}.nii.gz", noise((2, 4, 4)))
        write_scan(tmp_path / f"{name}_m.nii.gz", noise((2, 4, 4)))
    return tmp_path


ROWS = [
    {"image": "s1/a.nii.gz", "label": "s1/a_m.nii.gz", "subject": "007", "site": "x", "age": "41.5", "grade": "2"},
    {"image": "s1/b.nii.gz", "label": "", "subject": "007", "site": "", "age": "", "grade": "1"},
    {"image": "s2/a.nii.gz", "label": "", "subject": "008", "site": "y", "age": "50", "grade": "2"},
]


def write(folder, name, rows=ROWS):
    frame = pd.DataFrame(rows)
    path = folder / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if name.endswith("tsv") else ",")
    return path


@pytest.mark.parametrize("name", ["scans.csv", "scans.tsv", "scans.parquet"])
@pytest.mark.parametrize("whole_folder", [False, True])
def test_every_format(folder, name, whole_folder):
    path = write(folder, name)
    catalog = read(folder if whole_folder else path)
    assert [case.id for case in catalog.cases] == ["s1_a", "s1_b", "s2_a"]
    assert [case.subject for case in catalog.cases] == ["007", "007", "008"]
    assert [case.label is not None for case in catalog.cases] == [True, False, False]
    assert catalog.cases[0].images == (folder / "s1/a.nii.gz",)
    assert dict(catalog.cases[1].metadata) == {"site": None, "age": None, "grade": 1}
    kinds = {column.name: column.kind for column in catalog.columns}
    assert kinds == {"site": "categorical", "age": "continuous", "grade": "ordinal"}
    assert TableReader.match(path).score == 1
    assert TableReader.match(folder).score == pytest.approx(0.85)


@pytest.mark.parametrize(
    "rows", [[{"image": "s1/a.nii.gz;s1/b.nii.gz"}], [{"image": "s1/a.nii.gz", "image_2": "s1/b.nii.gz"}]]
)
def test_several_channels(folder, rows):
    catalog = read(write(folder, "scans.csv", rows))
    assert [path.name for path in catalog.cases[0].images] == ["a.nii.gz", "b.nii.gz"]
    assert catalog.channels == ("channel 0", "channel 1")


def test_own_names_and_parts_and_guessed_subjects(folder):
    rows = [
        {"image": "s1/a.nii.gz", "case": "p1_ED", "part": "Test"},
        {"image": "s1/b.nii.gz", "case": "p1_ES", "part": "test"},
        {"image": "c2.nii.gz", "case": "p 2/x", "part": "train"},
    ]
    catalog = read(write(folder, "scans.csv", rows))
    assert [case.id for case in catalog.cases] == ["p1_ED", "p1_ES", "p_2_x"]
    assert [case.subject for case in catalog.cases] == ["p1", "p1", "p_2_x"]
    assert [case.part for case in catalog.cases] == ["test", "test", ""]


def test_every_fault_names_its_line(folder):
    rows = [
        {"image": "gone.nii.gz", "label": ""},
        {"image": "", "label": ""},
        {"image": "c2.nii.gz", "label": "no.nii"},
    ]
    with pytest.raises(DataError) as error:
        read(write(folder, "scans.csv", rows))
    text = str(error.value)
    assert f"line 2: the image {folder / 'gone.nii.gz'} does not exist" in text
    assert "line 3: names no image" in text
    assert f"line 4: the label {folder / 'no.nii'} does not exist" in text


def test_scores_and_near_misses(folder):
    assert TableReader.match(folder).score == 0
    other = write(folder, "other.csv", [{"path": "x"}])
    assert TableReader.match(other).score == pytest.approx(0.2)
    assert TableReader.match(folder).reasons == ("other.csv has no column image",)
    write(folder, "a.csv")
    write(folder, "b.csv")
    assert TableReader.match(folder).score < 0.5
    with pytest.raises(DataError, match=r"a\.csv, b\.csv"):
        read(folder)
    (folder / "notes.txt").write_text("image")
    assert TableReader.match(folder / "notes.txt").score == 0


def test_a_part_is_one_of_four_words(folder):
    rows = [
        {"image": f"{name}.nii.gz", "part": part}
        for name, part in zip(("s1/a", "s1/b", "s2/a", "c2"), ("", "Train", "validation", "TEST"), strict=True)
    ]
    catalog = read(write(folder, "scans.csv", rows))
    found = {case.images[0].name[0] + case.images[0].parent.name[:2]: case.part for case in catalog.cases}
    assert (found["as1"], found["bs1"], found["as2"]) == ("", "", "validation")
    assert [case.part for case in catalog.cases].count("test") == 1
    rows[0]["part"], rows[1]["part"] = "testing", "tset"
    with pytest.raises(DataError) as error:
        read(write(folder, "scans.csv", rows))
    text = str(error.value)
    assert 'line 2: part must be train, validation, test or empty, not "testing"' in text
    assert 'line 3: part must be train, validation, test or empty, not "tset"' in text


def test_a_missing_subject_is_no_person(folder):
    rows = [
        {"image": "s1/a.nii.gz", "label": "NA", "subject": "NA", "case": "one"},
        {"image": "s1/b.nii.gz", "label": "", "subject": "nan", "case": "two"},
        {"image": "s2/a.nii.gz", "label": "s2/a_m.nii.gz", "subject": " ", "case": "NA"},
    ]
    catalog = read(write(folder, "scans.csv", rows))
    assert {case.id: case.subject for case in catalog.cases} == {"one": "one", "two": "two", "s2_a": "s2_a"}
    assert [case.id for case in catalog.cases if case.label] == ["s2_a"]


@pytest.mark.parametrize("name", ["scans.csv", "scans.parquet"])
def test_known_columns_go_by_any_case(folder, name):
    rows = [{"Image": "s1/a.nii.gz", "LABEL": "s1/a_m.nii.gz", "Subject": "007", "Site": "x", "Part": "test"}]
    catalog = read(write(folder, name, rows))
    (case,) = catalog.cases
    assert (case.subject, case.part) == ("007", "test")
    assert case.label is not None
    assert dict(case.metadata) == {"Site": "x"}
    assert TableReader.match(folder / name).score == 1
    twice = [{"image": "s1/a.nii.gz", "label": "s1/a_m.nii.gz", "Label": "s1/b_m.nii.gz"}]
    with pytest.raises(DataError, match="columns label and Label have the same name, in any case"):
        read(write(folder, name, twice))


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("cp1252", "Windows-1252"),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encoding_and_separator_are_recognised(folder, encoding, note, separator):
    path = folder / "scans.csv"
    text = "image,label,town\r\ns1/a.nii.gz,s1/a_m.nii.gz,Köln\r\nc2.nii.gz,,Łódź\r\n".replace(",", separator)
    path.write_bytes((text if note != "Windows-1252" else text.replace("Łódź", "Lyon")).encode(encoding))
    assert TableReader.match(path).score == 1
    catalog = read(path)
    by_id = {case.id: case for case in catalog.cases}
    assert by_id["a"].metadata["town"] == "Köln"
    assert by_id["a"].label == folder / "s1/a_m.nii.gz"
    said = {"scans.csv: columns are separated by"} if separator != "," else set()
    said |= {f"scans.csv is not UTF-8 text: it is read as {note}"} if note else set()
    assert {
        text if "UTF" in text else text.rsplit(" ", 1)[0].replace(" vertical", "") for text in catalog.notes
    } == said


def test_what_is_no_text_is_a_fault(folder):
    path = folder / "scans.csv"
    path.write_bytes(b"image\ns1/a\x81.nii.gz\n")
    with pytest.raises(DataError, match=r"line 2: is neither UTF-8 nor Windows-1252 text: it has the byte 0x81"):
        read(path)
    path.write_bytes(b"image\ns1/a.nii.gz\n\0\n")
    with pytest.raises(DataError, match=r"line 3: has zero bytes"):
        read(path)
    path.write_bytes(b"")
    assert TableReader.match(path).score < 0.5
    with pytest.raises(DataError, match=r"scans.csv is empty"):
        read(path)


def test_a_row_with_more_cells_than_columns_is_a_fault_not_a_shift(folder):
    path = folder / "scans.csv"
    path.write_text("image,label\ns1/a.nii.gz,s1/a_m.nii.gz\nc2.nii.gz,c2_m.nii.gz,\n")
    with pytest.raises(DataError, match=r"line 3: has 3 cells for 2 columns"):
        read(path)


def test_a_hint_of_excel_and_empty_lines_at_the_end_are_no_rows(folder):
    path = folder / "scans.csv"
    path.write_text("sep=;\nimage;subject;\ns1/a.nii.gz;7;\n\nc2.nii.gz;8;\n;;\n;;\n")
    catalog = read(path)
    assert [(case.id, case.subject) for case in catalog.cases] == [("a", "7"), ("c2", "8")]
    path.write_bytes(b"image,subject\rs1/a.nii.gz,7\r")
    assert [case.subject for case in read(path).cases] == ["7"]
    path.write_text("image,subject\ns1/a.nii.gz,7\n\n\n,\ngone.nii.gz,8\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert "line 5: names no image" in str(error.value)
    assert "line 6: the image" in str(error.value)


def test_duplicate_columns_are_named_with_their_places(folder):
    path = folder / "scans.csv"
    path.write_text("image,label,label\ns1/a.nii.gz,s1/a_m.nii.gz,p1\ngone.nii.gz,,\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert "line 1: column label is there 2 times, as columns 2, 3. Rename or remove all but one" in str(error.value)
    assert "line 3: the image" in str(error.value)


@pytest.mark.parametrize(
    "column", ["mask", "Masks", "SEG", "segmentation", "gt", "ground_truth", "annotation", "Mask Path", "seg_filename"]
)
def test_synonyms_of_label_are_the_label_and_said(folder, column):
    path = write(folder, "scans.csv", [{"image": "s1/a.nii.gz", column: "s1/a_m.nii.gz"}])
    catalog = read(path)
    assert catalog.cases[0].label == folder / "s1/a_m.nii.gz"
    assert catalog.columns == ()
    assert catalog.notes == (f"column {column} is read as the mask (label)",)


@pytest.mark.parametrize("column", ["file", "filename", "Path", "filepath", "scan", "volume", "image_path", "img_file"])
def test_synonyms_of_image_are_the_image_and_said(folder, column):
    path = write(folder, "scans.csv", [{column: "s1/a.nii.gz", "label": "s1/a_m.nii.gz"}])
    assert TableReader.match(path).score == 1
    assert TableReader.match(folder).score == pytest.approx(0.7)
    catalog = read(path)
    assert catalog.cases[0].images == (folder / "s1/a.nii.gz",)
    assert catalog.notes == (f"column {column} is read as the image",)


@pytest.mark.parametrize(
    "column",
    [
        "patient",
        "patient_id",
        "participant_id",
        "subject_id",
        "PatientID",
        "case_id",
        "Subject ID",
        "subj",
        "PatientName",
    ],
)
def test_synonyms_of_subject_are_the_subject_and_said(folder, column):
    path = write(folder, "scans.csv", [{"image": "s1/a.nii.gz", column: "p1"}, {"image": "c2.nii.gz", column: "p1"}])
    catalog = read(path)
    assert [case.subject for case in catalog.cases] == ["p1", "p1"]
    assert catalog.columns == ()
    assert catalog.notes == (f"column {column} is read as the subject",)


@pytest.mark.parametrize(
    ("image", "label", "subject", "part", "age"),
    [
        ("Bild", "Maske", "Patient", "Aufteilung", "Alter"),
        ("Bilddatei", "Maskenpfad", "Patientennummer", "Teilmenge", "Größe"),
        ("Chemin", "Masque", "Numéro patient", "Ensemble", "Âge"),
        ("Imagen", "Máscara", "ID paciente", "Partición", "Edad"),
        ("Aufnahme", "Segmentierung", "Proband", "Split", "Alter"),
    ],
)
def test_headers_in_german_french_and_spanish(folder, image, label, subject, part, age):
    columns = [image, label, subject, part, age]
    rows = [("s1/a.nii.gz", "s1/a_m.nii.gz", "p1", "Test", "40"), ("c2.nii.gz", "", "p1", "Validierung", "41")]
    table = folder / "Tabelle.csv"
    table.write_text("\n".join(";".join(row) for row in (columns, *rows)), encoding="utf-8-sig")
    first, second = sorted(read(table).cases, key=lambda case: case.part)
    assert (first.images[0].name, first.label.name, first.subject, first.part) == (
        "a.nii.gz",
        "a_m.nii.gz",
        "p1",
        "test",
    )
    assert (second.label, second.part, dict(second.metadata)) == (None, "validation", {age: 41})


def test_a_synonym_without_files_is_metadata(folder):
    rows = [{"image": "s1/a.nii.gz", "volume": "120.5", "gt": "benign", "slice": "apex", "z": "1.5"}]
    catalog = read(write(folder, "scans.csv", rows))
    assert dict(catalog.cases[0].metadata) == {"volume": 120.5, "gt": "benign", "slice": "apex", "z": 1.5}
    rows = [{"image": "s1/a.nii.gz", "filename": "IM0001.nii.gz", "site": "x"}]
    assert dict(read(write(folder, "scans.csv", rows)).cases[0].metadata) == {"filename": "IM0001.nii.gz", "site": "x"}
    # The name of the case does not make it the person where a column says who that is.
    rows = [{"image": "s1/a.nii.gz", "case_id": "x1", "patient": "p"}]
    (case,) = read(write(folder, "scans.csv", rows)).cases
    assert (case.id, case.subject) == ("x1", "p")


def test_two_columns_of_one_meaning_are_a_fault(folder):
    rows = [
        {"image": "s1/a.nii.gz", "patient": "1", "subject_id": "2", "mask": "s1/a_m.nii.gz", "seg": "s1/b_m.nii.gz"}
    ]
    with pytest.raises(DataError) as error:
        read(write(folder, "scans.csv", rows))
    assert "columns patient and subject_id both name the subject. Rename or remove one" in str(error.value)
    assert "columns mask and seg both name the mask (label)" in str(error.value)


def test_a_metadata_column_of_image_files_is_a_fault_that_asks(folder):
    rows = [{"image": "s1/a.nii.gz", "T2": "s1/b.nii.gz"}, {"image": "c2.nii.gz", "T2": ""}]
    with pytest.raises(
        DataError, match=r"column T2 names image files, such as s1/b.nii.gz, and nothing says what they"
    ):
        read(write(folder, "scans.csv", rows))
    rows[0]["T2"] = "s1/gone.nii.gz"
    assert read(write(folder, "scans.csv", rows)).cases[0].metadata["T2"] == "s1/gone.nii.gz"


def test_a_label_column_of_classes_is_one_fault(folder):
    rows = [{"image": "s1/a.nii.gz", "label": "0"}, {"image": "c2.nii.gz", "label": "1"}]
    with pytest.raises(DataError) as error:
        read(write(folder, "scans.csv", rows))
    (fault,) = error.value.faults
    assert fault.problem == "column label must name mask files, but holds 0, 1"
    rows = [{**row, "mask": "s1/a_m.nii.gz"} for row in rows]
    catalog = TableReader(TableReader.Config()).collect(write(folder, "scans.csv", rows))
    assert [case.label for case in catalog.cases] == [folder / "s1/a_m.nii.gz"] * 2
    (fault,) = catalog.faults
    assert fault.problem == "column label must name mask files, but holds 0, 1"


def test_windows_paths_and_paths_from_elsewhere(folder):
    rows = [
        {"image": "s1\\a.nii.gz", "label": ".\\s1\\a_m.nii.gz"},
        {"image": "C:\\Users\\me\\data\\s1\\b.nii.gz", "label": "/Volumes/me/data/s1/b_m.nii.gz"},
    ]
    catalog = read(write(folder, "scans.csv", rows))
    assert [case.images[0].resolve() for case in catalog.cases] == [folder / "s1/a.nii.gz", folder / "s1/b.nii.gz"]
    assert [case.label.resolve() for case in catalog.cases] == [folder / "s1/a_m.nii.gz", folder / "s1/b_m.nii.gz"]
    assert set(catalog.notes) == {
        "scans.csv: backslashes in 3 paths are read as slashes",
        "scans.csv: 1 paths begin with C:/Users/me/data, which is not here: the files were found beside the table",
        "scans.csv: 1 paths begin with /Volumes/me/data, which is not here: the files were found beside the table",
    }


def test_a_file_that_is_nearly_there_is_asked_for(folder):
    (folder / "link.nii.gz").symlink_to(folder / "nowhere.nii.gz")
    rows = [{"image": name} for name in ("S1/A.nii.gz", "s1/A.NII.GZ", "s1/a", "s1", "link.nii.gz")]
    with pytest.raises(DataError) as error:
        read(write(folder, "scans.csv", rows))
    first, second, third, fourth, fifth = map(str, error.value.faults)
    assert first.endswith("Did you mean s1/a.nii.gz?")
    assert second.endswith(
        "line 3: the image " + str(folder / "s1/A.NII.GZ") + " does not exist. Did you mean s1/a.nii.gz?"
    )
    assert third.endswith("does not exist. Did you mean a.nii.gz?")
    assert "is a folder" in fourth
    assert f"is a link to {folder / 'nowhere.nii.gz'}, which does not exist" in fifth


@pytest.mark.parametrize("column", ["set", "Data Part", "fold", "usage"])
def test_a_column_of_parts_is_known_by_what_it_says(folder, column):
    rows = [{**row, column: part} for row, part in zip(ROWS, ("train", "Training", "test"), strict=True)]
    catalog = read(write(folder, "scans.csv", rows))
    assert [case.part for case in catalog.cases] == ["", "", "test"]
    assert f"column {column} is read as the part" in catalog.notes
    assert column not in [each.name for each in catalog.columns]
    # One word alone, or others beside, say something else; of two such columns nobody knows which.
    for parts in (("train", "train", ""), ("train", "test", "Bonn")):
        rows = [{**row, column: part} for row, part in zip(ROWS, parts, strict=True)]
        assert {case.part for case in read(write(folder, "scans.csv", rows)).cases} == {""}
    rows = [{**row, column: part, "other": part} for row, part in zip(ROWS, ("train", "val", "test"), strict=True)]
    assert {case.part for case in read(write(folder, "scans.csv", rows)).cases} == {""}


def test_a_split_column_keeps_its_parts(folder):
    rows = [{"image": "s1/a.nii.gz", "split": "val"}, {"image": "c2.nii.gz", "split": "Testing"}]
    catalog = read(write(folder, "scans.csv", rows))
    assert {case.id: case.part for case in catalog.cases} == {"a": "validation", "c2": "test"}
    rows[0]["split"] = "vall"
    with pytest.raises(DataError, match='line 2: part must be train, validation, test or empty, not "vall"'):
        read(write(folder, "scans.csv", rows))
    rows[0]["split"], rows[1]["split"] = "left", "right"
    catalog = read(write(folder, "scans.csv", rows))
    assert [case.part for case in catalog.cases] == ["", ""]
    assert [column.name for column in catalog.columns] == ["split"]


def test_decimal_commas_are_numbers(folder):
    rows = [
        {"image": "s1/a.nii.gz", "age": "50,5", "count": "1,234"},
        {"image": "c2.nii.gz", "age": "51", "count": "2,000"},
    ]
    catalog = read(write(folder, "scans.csv", rows))
    assert {case.id: case.metadata["age"] for case in catalog.cases} == {"a": 50.5, "c2": 51.0}
    assert {case.id: case.metadata["count"] for case in catalog.cases} == {"a": "1,234", "c2": "2,000"}
    assert catalog.notes[0] == "column age: commas are read as decimal points (50,5)"
    assert catalog.notes[1].startswith("column count: the comma in 1,234 could be a decimal point or one of thousands")


def test_what_is_composed_of_files_can_be_written_into_a_cell(folder):
    structures = Structures(((1, folder / "s1/a_m.nii.gz"), (2, folder / "s1/b_m.nii.gz"))).path
    rows = [{"image": "s1/a.nii.gz", "label": str(structures.relative_to(folder))}]
    assert read(write(folder, "scans.csv", rows)).cases[0].label == structures


def test_a_workbook_of_another_kind_says_what_to_do(folder):
    (folder / "scans.xls").write_bytes(b"x")
    assert TableReader.match(folder / "scans.xls").reasons == (
        "scans.xls is a workbook of another kind: save it as .xlsx or .csv",
    )


def test_subjects_that_some_rows_lack_are_said(folder):
    rows = [{"image": "s1/a.nii.gz", "subject": "p"}, {"image": "c2.nii.gz", "subject": ""}]
    (note,) = read(write(folder, "scans.csv", rows)).notes
    assert note == "scans.csv: 1 scans have no subject, so the names of their files say who they show"


def test_a_semicolon_may_be_in_a_name(folder):
    write_scan(folder / "a;b.nii.gz", noise((2, 4, 4)))
    rows = [{"image": "a;b.nii.gz"}, {"image": f"{folder}/s1/a.nii.gz;{folder}/s1/b.nii.gz"}]
    found = {case.images for case in read(write(folder, "scans.csv", rows)).cases}
    assert found == {(folder / "a;b.nii.gz",), (folder / "s1/a.nii.gz", folder / "s1/b.nii.gz")}
