"""How large a packed table becomes, asked before it is unpacked: a few kilobytes may stand for gigabytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

from fewlabel.core.memory_limit import too_large
from fewlabel.readers.parquet_pages import parquet_sizes

#: Bytes of a workbook, and cells of a table, that anything may have.
_HARMLESS_BYTES, _HARMLESS_CELLS = 1 << 24, 1 << 20
#: Packed, XML of real sheets is a tenth to a thirtieth of itself, and no more than so many cells share a byte.
_DENSEST_XML, _DENSEST_CELLS = 200, 64
#: Rows that Excel has, and empty cells that are gone through in seconds.
_MOST_ROWS, _MOST_EMPTY_CELLS = 1 << 20, 1 << 26
_ROWS_AT_ONCE = 1024
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


class SheetSize:
    """Sums up the rows of a sheet as they are read, so that a few cells far apart do not stand for millions.

    A stray cell in the last row or column costs nothing: what counts are the filled cells and the empty ones before
    them in their rows.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._rows = self._gone_through = self._kept = self._filled = 0

    def problem(self, width: int, kept: int, filled: int) -> str:
        """Why no more rows can be read after this one; empty where they can.

        Args:
            width: Cells of the row as they were gone through.
            kept: Cells up to the last filled one.
            filled: Filled cells.
        """
        self._rows += 1
        self._gone_through += width
        self._kept += kept
        self._filled += filled
        if self._rows > _MOST_ROWS:
            return f"the sheet {self._title} has more than {_MOST_ROWS} rows"
        most = _DENSEST_CELLS * self._filled
        if self._kept > max(_HARMLESS_CELLS, most) or self._gone_through > max(_MOST_EMPTY_CELLS, most):
            return f"of the {self._gone_through} cells of the sheet {self._title} only {self._filled} are filled"
        return "" if self._rows % _ROWS_AT_ONCE else too_large(_CELL * self._kept)


def parquet_problem(path: Path) -> str:
    """Why a Parquet file cannot be read as a whole; empty where it can.

    Raises:
        MisfitError: If its pages are not what its footer says.
        OSError: If it cannot be read.
    """
    sizes = parquet_sizes(path)
    cells = sizes.rows * max(1, sizes.columns)
    if max(cells, sizes.values) > max(_HARMLESS_CELLS, _DENSEST_CELLS * path.stat().st_size):
        # Lists have more values than rows.
        return _too_dense(path, f"{sizes.rows} rows" if cells >= sizes.values else f"{sizes.values} values")
    return too_large(_CELL * max(cells, sizes.values) + 2 * sizes.unpacked)


def _too_dense(path: Path, promised: str) -> str:
    return f"it has {path.stat().st_size} bytes and promises {promised}"
