"""How large a packed table becomes, asked before it is unpacked: a few kilobytes may stand for gigabytes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from fewlabel.core.memory_limit import too_large

#: Bytes of a workbook, and cells of a table, that anything may have.
_HARMLESS_BYTES, _HARMLESS_CELLS = 1 << 24, 1 << 20
#: Packed, XML of real sheets is a tenth to a thirtieth of itself, and no more than so many cells share a byte.
_DENSEST_XML, _DENSEST_CELLS = 200, 64
#: Memory of a cell as text within a row, and of a byte of XML as openpyxl holds it, in bytes.
_CELL, _XML = 64, 50


def workbook_problem(path: Path) -> str:
    """Why a workbook cannot be unpacked; empty where it can.

    Args:
        path: The file. Its own list of members is believed: zipfile unpacks no more than that says.

    Raises:
        OSError: If it cannot be read.
        zipfile.BadZipFile: If it is none.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > _HARMLESS_BYTES and unpacked > _DENSEST_XML * path.stat().st_size:
        return _too_dense(path, f"{unpacked / 2**20:.0f} MB of XML")
    return too_large(_XML * unpacked)


def sheet_problem(sheet: Any) -> str:
    """Why the rows of an openpyxl sheet cannot be gone through; empty where they can.

    One cell in the last column of the last row stands for 17 thousand million empty ones.
    """
    area = sheet.max_row * sheet.max_column
    if area <= _HARMLESS_CELLS or area <= _DENSEST_CELLS * len(sheet._cells):
        return too_large(_CELL * area)
    return f"the sheet {sheet.title} has {sheet.max_row} rows and {sheet.max_column} columns, nearly all of them empty"


def parquet_problem(path: Path) -> str:
    """Why a Parquet file cannot be read as a whole; empty where it can.

    Raises:
        OSError: If it cannot be read, or is none.
    """
    import pyarrow.parquet

    facts = pyarrow.parquet.read_metadata(path)
    cells = facts.num_rows * max(1, facts.num_columns)
    unpacked = sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))
    if cells > _HARMLESS_CELLS and cells > _DENSEST_CELLS * path.stat().st_size:
        return _too_dense(path, f"{facts.num_rows} rows")
    return too_large(_CELL * cells + 2 * max(0, unpacked))


def _too_dense(path: Path, promised: str) -> str:
    return f"it has {path.stat().st_size} bytes and promises {promised}"
