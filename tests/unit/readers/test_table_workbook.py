import importlib.util
import zipfile

import pytest

from fewlabel.core.errors import DataError
from fewlabel.readers import table, table_file
from fewlabel.readers.base import collect_catalog
from fewlabel.readers.table import TableReader
from kit.scans import noise, write_scan


def read(root):
    return TableReader(TableReader.Config()).read(root)


@pytest.fixture
def folder(tmp_path):
    write_scan(tmp_path / "a.nii.gz", noise((2, 4, 4)))
    return tmp_path


def test_without_openpyxl_the_extra_is_named(folder, monkeypatch):
    (folder / "scans.xlsx").write_bytes(b"PK\x03\x04")
    for module in (table, table_file):
        monkeypatch.setattr(module, "can_read_excel", lambda: False)
    assert TableReader.match(folder / "scans.xlsx").score == 1
    assert TableReader.match(folder).score == 0.5
    with pytest.raises(DataError, match=r'openpyxl. Install it with pip install "fewlabel\[excel\]"'):
        read(folder)


def test_a_workbook_is_read_as_it_looks(folder):
    if importlib.util.find_spec("openpyxl") is None:
        pytest.skip("openpyxl, of the extra excel, is not installed")
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append([])
    sheet.append(["Image", "patient", "age", "visit"])
    sheet.append(["a.nii.gz", 7, 41.5, None])
    sheet.append(["gone.nii.gz", 8, 50, "x"])
    book.create_sheet("notes").append(["nothing"])
    book.save(folder / "scans.xlsx")
    assert TableReader.match(folder).score == pytest.approx(0.85)
    catalog = TableReader(TableReader.Config()).collect(folder)
    assert [(case.id, case.subject, case.metadata["age"]) for case in catalog.cases] == [("a", "7", 41.5)]
    (fault,) = catalog.faults
    assert fault.where == f"{folder / 'scans.xlsx'}, line 4"
    assert any(note.startswith("scans.xlsx: the sheet Sheet is read, and notes left out") for note in catalog.notes)
    (folder / "scans.xlsx").write_bytes(b"no workbook")
    with pytest.raises(DataError, match="is not a readable table"):
        read(folder / "scans.xlsx")


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("xl/workbook.xml", lambda content: content[:40]),
        ("xl/workbook.xml", lambda content: content.replace(b"workbook", b"w\x80rkbook")),
        ("[Content_Types].xml", lambda content: content.replace(b"Extension=", b"Extensio.=")),
        ("xl/worksheets/sheet1.xml", lambda content: content.replace(b"<v>", b"<v>x")),
        ("xl/worksheets/sheet1.xml", lambda content: b""),
        ("xl/styles.xml", lambda content: b"<styleSheet/>"),
        ("", lambda content: content[:300] + bytes(40) + content[340:]),
    ],
)
def test_a_damaged_workbook_is_named_whatever_its_reader_raises(folder, part, change):
    if importlib.util.find_spec("openpyxl") is None:
        pytest.skip("openpyxl, of the extra excel, is not installed")
    import openpyxl

    book, path = openpyxl.Workbook(), folder / "scans.xlsx"
    book.active.append(["image", "age"])
    book.active.append(["a.nii.gz", 41.5])
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if part:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, change(content) if name == part else content)
    else:
        path.write_bytes(change(path.read_bytes()))
    told = []
    for choice in ("auto", "table"):
        for place in (path, folder):
            try:
                told.extend(collect_catalog(place, choice)[1].faults)
            except DataError as error:
                told.extend(error.faults)
    assert all(fault.remedy for fault in told)
