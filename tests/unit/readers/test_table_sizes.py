"""A few kilobytes that stand for gigabytes are refused before they are unpacked."""

import importlib.util
import json
import zipfile

import pytest

from fewlabel.readers.table_file import read_table
from fuzz.watching import Memory

needs_openpyxl = pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="openpyxl is not installed")


def told(path, most=None):
    """The faults of a table that has no rows for it, found within 64 MiB."""
    memory, faults = Memory(), []
    assert read_table(path, faults, [], most).rows == ()
    assert memory.grown_mib() < 64
    return [str(fault) for fault in faults]


def workbook(path, part="", content=b"", cell=""):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["image", "age"])
    book.active.append(["a.nii.gz", 41.5])
    if cell:
        book.active[cell] = "x"
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


@needs_openpyxl
def test_one_cell_far_away_is_no_table(tmp_path):
    path = tmp_path / "scans.xlsx"
    workbook(path, cell="XFD1048576")
    (fault,) = told(path)
    assert "1048576 rows and 16384 columns, nearly all of them empty" in fault
    workbook(path, cell="J2000")
    assert [number for number, _ in read_table(path, [], []).rows] == [2, 2000]


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
