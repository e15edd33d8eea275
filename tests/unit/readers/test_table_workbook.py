import importlib.util

import pytest

from fewlabel.core.errors import DataError
from fewlabel.readers import table, table_file
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
