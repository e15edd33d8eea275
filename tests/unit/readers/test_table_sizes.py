"""A few kilobytes that stand for gigabytes are refused before they are unpacked."""

import importlib.util
import json
import time
import zipfile

import pytest

from fewlabel.readers.table_file import read_table
from fuzz.watching import Memory

needs_openpyxl = pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="openpyxl is not installed")


MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def told(path, most=None):
    """The faults of a table that has no rows for it, found within 64 MiB."""
    memory, faults = Memory(), []
    assert read_table(path, faults, [], most).rows == ()
    assert memory.grown_mib() < 64
    return [str(fault) for fault in faults]


def workbook(path, part="", content=b""):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["image", "age"])
    book.active.append(["a.nii.gz", 41.5])
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, old in (parts | ({part: content} if part else {})).items():
            archive.writestr(name, old)


@needs_openpyxl
@pytest.mark.parametrize("part", ["xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"])
def test_a_workbook_of_packed_zeros_is_not_unpacked(tmp_path, part):
    path = tmp_path / "scans.xlsx"
    workbook(path, part, bytes(200 << 20))
    assert path.stat().st_size < 300_000
    (fault,) = told(path)
    assert "promises 200 MB of XML" in fault
    assert "Save its filled rows" in fault


def stray(path, *cells, fill=False):
    """An ordinary table, and cells far below and beside it."""
    import openpyxl
    from openpyxl.styles import PatternFill

    book = openpyxl.Workbook()
    book.active.append(["image", "age"])
    book.active.append(["a.nii.gz", 41.5])
    for cell in cells:
        if fill:
            book.active[cell].fill = PatternFill("solid", "FFFF00")
        else:
            book.active[cell] = "x"
    book.save(path)


@needs_openpyxl
@pytest.mark.parametrize("fill", [True, False])
@pytest.mark.parametrize("cell", ["A1048576", "XFD1", "XFD1048576", "J2000"])
def test_a_stray_cell_far_away_is_no_obstacle(tmp_path, cell, fill):
    path, faults, notes = tmp_path / "scans.xlsx", [], []
    stray(path, cell, fill=fill)
    memory, began = Memory(), time.process_time()
    table = read_table(path, faults, notes)
    assert memory.grown_mib() < 64
    assert time.process_time() - began < 10
    assert faults == []
    if fill:
        assert table.rows == ((2, {"image": "a.nii.gz", "age": "41.5"}),)
        assert notes == []
    elif cell == "A1048576":
        assert [row["image"] for _, row in table.rows] == ["a.nii.gz", "x"]


@needs_openpyxl
def test_a_filled_cell_beside_the_header_is_said(tmp_path):
    path, notes = tmp_path / "scans.xlsx", []
    stray(path, "J2")
    read_table(path, [], notes)
    assert notes == ["scans.xlsx has a column without a name: it is left out"]


@needs_openpyxl
def test_cells_at_the_end_of_many_rows_are_refused(tmp_path):
    path = tmp_path / "scans.xlsx"
    rows = "".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 20_000))
    sheet = f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>'
    workbook(path, "xl/worksheets/sheet1.xml", sheet.encode())
    (fault,) = told(path)
    assert "cells of the sheet Sheet only 65 are filled" in fault


@needs_openpyxl
@pytest.mark.parametrize(
    "inner",
    [
        '<row r="99999999999"><c r="A99999999999"><v>1</v></c></row>',
        '<row r="1"><c r="A1"><v>1</v></c></row></sheetData>'
        '<mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells><sheetData>',
    ],
)
def test_rows_and_merged_cells_without_end_take_no_time(tmp_path, inner):
    path, began = tmp_path / "scans.xlsx", time.process_time()
    sheet = f'<worksheet xmlns="{MAIN}"><sheetData>{inner}</sheetData></worksheet>'
    workbook(path, "xl/worksheets/sheet1.xml", sheet.encode())
    memory, faults = Memory(), []
    table = read_table(path, faults, [])
    assert memory.grown_mib() < 64
    assert time.process_time() - began < 10
    assert table.rows == ()
    assert bool(faults) is ("mergeCell" not in inner)


@pytest.mark.parametrize("most", [None, 20])
def test_a_parquet_file_of_one_value_over_and_over_is_not_unpacked(tmp_path, most):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "scans.parquet"
    column = pa.DictionaryArray.from_arrays(pa.array(bytes(4_000_000), pa.uint8()), pa.array(["a.nii.gz"]))
    pq.write_table(pa.table(dict.fromkeys(("image", "label", "age"), column)), path)
    assert path.stat().st_size < 100_000
    (fault,) = told(path, most)
    assert "promises 4000000 rows" in fault


def test_a_large_table_of_scans_is_none_of_these(tmp_path):
    import pandas as pd

    path = tmp_path / "scans.parquet"
    count = 120_000
    pd.DataFrame({"image": [f"{n}.nii.gz" for n in range(count)], **dict.fromkeys("abcdefghij", 1)}).to_parquet(path)
    faults = []
    assert len(read_table(path, faults, [], 5).rows) == 5
    assert faults == []


def test_json_is_as_large_as_it_looks(tmp_path):
    """Nothing is packed in it: long numbers and deep lists are refused by Python, which no reader lets through."""
    from fewlabel.readers.labels_json import read_label_names

    for content in ("9" * 100_000, "[" * 100_000, json.dumps({"1": "x" * 1_000_000})):
        (tmp_path / "labels.json").write_text(content)
        memory, faults = Memory(), []
        names = read_label_names(tmp_path / "labels.json", faults).names
        assert bool(faults) is not content.startswith("{")
        assert len(names.get(1, "")) == (1_000_000 if content.startswith("{") else 0)
        assert memory.grown_mib() < 64
