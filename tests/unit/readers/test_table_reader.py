import pandas as pd
import pytest

from fewlabel.core.errors import DataError
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


def test_a_table_in_another_encoding_is_told_from_one_without_images(folder):
    path = folder / "scans.csv"
    path.write_bytes("image,town\ns1/a.nii.gz,K\xf6ln\n".encode("latin-1"))
    assert TableReader.match(path).score == 1
    assert TableReader.match(folder).score == pytest.approx(0.85)
    with pytest.raises(DataError, match=r"scans\.csv, line 2: must be UTF-8 text, but has the byte 0xf6"):
        read(path)
    path.write_bytes("image,town\ns1/a.nii.gz,x\n".encode("utf-16"))
    assert TableReader.match(path).reasons == ("scans.csv is not UTF-8 text",)


def test_a_row_with_more_cells_than_columns_is_a_fault_not_a_shift(folder):
    path = folder / "scans.csv"
    path.write_text("image,label\ns1/a.nii.gz,s1/a_m.nii.gz\nc2.nii.gz,c2_m.nii.gz,\n")
    with pytest.raises(DataError, match=r"line 3: has 3 cells for 2 columns"):
        read(path)
