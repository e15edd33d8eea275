"""What a Parquet file says that it holds: its pages are held against its footer before the library allocates them.

The footer is read here, too: pyarrow ends the process where it is asked about a column whose facts are damaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fewlabel.readers.parquet_thrift import INT32, INT64, LIST, STRUCT, BadThriftError, Thrift

#: Bytes other than text of a footer and of a page's header: real ones have about 100 for each column, and below 200.
_MOST_OF_FOOTER, _MOST_OF_HEADER = 1 << 23, 4096
#: Pages without any value that a column may have: its dictionary, an index, and a page for an empty table.
_PAGES_WITHOUT_VALUES = 16
#: parquet-mr to 1.2.8 leaves the header of the dictionary out of the size of a column; pyarrow reads so much more.
_LEFT_OUT = 100
#: Fields of a header: data, a dictionary, data of the second version; each says first how many values it has.
_HAVING_VALUES = (5, 7, 8)
_LONGEST_NAME = 60
#: Length of the footer, and the file's mark.
_TAIL = 8


class MisfitError(ValueError):
    """Pages that are not what the footer says, or bytes that are none."""


@dataclass
class ParquetSizes:
    """What a footer promises.

    Attributes:
        rows: Rows.
        columns: Columns, those within others counted singly.
        values: Values of all columns, which are more than cells where cells are lists.
        unpacked: Their bytes.
    """

    rows: int = 0
    columns: int = 0
    values: int = 0
    unpacked: int = 0


def parquet_sizes(path: Path) -> ParquetSizes:
    """What a Parquet file holds, by its footer and the headers of its pages, which alone are read.

    Args:
        path: The file. Its columns share no bytes, so that it is gone through once at most.

    Raises:
        MisfitError: If pages do not fit in what the footer says of them, or one of both cannot be read.
        OSError: If it cannot be read.
    """
    sizes, size, packed = ParquetSizes(), path.stat().st_size, 0
    with path.open("rb") as foot, path.open("rb") as body:
        foot.seek(max(0, size - _TAIL))
        length = int.from_bytes(foot.read(4), "little")
        foot.seek(max(0, size - _TAIL - length))
        try:
            for column in _columns(Thrift(foot, length, _MOST_OF_FOOTER), sizes):
                sizes.values += column.values
                sizes.unpacked += column.unpacked
                packed += column.packed
                if packed > size:
                    raise MisfitError(f"{column.name}: the columns up to it have {packed} bytes, and the file {size}")
                _check_pages(body, size, column)
        except BadThriftError as error:
            raise MisfitError(f"its footer cannot be read ({error})") from None
    return sizes


class _Column(NamedTuple):
    """A column of a row group, as the footer has it."""

    name: str
    values: int
    unpacked: int
    packed: int
    data: int
    dictionary: int


def _columns(footer: Thrift, sizes: ParquetSizes) -> Iterator[_Column]:
    groups = rows = 0
    for number, kind in footer.fields():
        if (number, kind) == (3, INT64):
            sizes.rows = max(sizes.rows, footer.number(INT64))
        elif (number, kind) == (4, LIST):
            for _ in footer.elements():
                groups, columns = groups + 1, 0
                for inner, of in footer.fields():
                    if (inner, of) == (1, LIST):
                        for _ in footer.elements():
                            columns += 1
                            yield _column(footer, groups)
                    elif (inner, of) == (3, INT64):
                        rows += max(0, footer.number(INT64))
                    else:
                        footer.skip(of)
                sizes.columns = max(sizes.columns, columns)
        else:
            footer.skip(kind)
    sizes.rows = max(sizes.rows, rows)


def _column(footer: Thrift, group: int) -> _Column:
    """The column whose struct comes next."""
    facts, name = {11: 0}, ""
    for number, kind in footer.fields():
        if (number, kind) != (3, STRUCT):
            footer.skip(kind)
            continue
        for inner, of in footer.fields():
            if (inner, of) == (3, LIST):
                name = ".".join(footer.text(_LONGEST_NAME) for _ in footer.elements())[:_LONGEST_NAME]
            elif of == INT64:
                facts[inner] = footer.number(INT64)
            else:
                footer.skip(of)
    name = f"column {name} of row group {group}"
    if not facts.keys() >= {5, 6, 7, 9} or min(facts[place] for place in (5, 6, 7, 9, 11)) < 0:
        raise MisfitError(f"{name}: its sizes in the footer are missing or below 0")
    return _Column(name, *(facts[place] for place in (5, 6, 7, 9, 11)))


def _check_pages(stream: BinaryIO, size: int, column: _Column) -> None:
    # Without rows there may be a dictionary alone; and no page is at byte 0, where the file's mark is.
    at = min(column.data or column.dictionary, column.dictionary or column.data)
    end = at + column.packed
    if end > size:
        raise MisfitError(f"{column.name}: it ends at byte {end}, and the file at byte {size}")
    most = min(end + _LEFT_OUT, size)
    pages = values = unpacked = 0
    while at < end or (values < column.values and at < most):
        begins = f"{column.name}: the page at byte {at}"
        stream.seek(at)
        try:
            page = _page(Thrift(stream, most - at, _MOST_OF_HEADER))
        except BadThriftError as error:
            raise MisfitError(f"{begins} has no header ({error})") from None
        at = stream.tell() + page.packed
        pages, values, unpacked = pages + 1, values + page.values, unpacked + page.unpacked
        if min(page) < 0:
            raise MisfitError(f"{begins} has a size or a number of values below 0")
        if at > most:
            raise MisfitError(f"{begins} has {page.packed} bytes, and its column ends at byte {end}")
        # Headers should count as well; that they need not leaves room for writers that forget them.
        if unpacked > column.unpacked:
            raise MisfitError(f"{begins} unpacks to {page.unpacked} bytes, of {column.unpacked} in all")
        if values > column.values:
            raise MisfitError(f"{begins} has {page.values} values, of {column.values} in all")
        if page.distinct > max(1, page.unpacked):
            raise MisfitError(f"{begins} is a dictionary of {page.distinct} values in {page.unpacked} bytes")
        if pages > column.values + _PAGES_WITHOUT_VALUES:
            raise MisfitError(f"{begins} is one of more than {pages - 1} for {column.values} values")


class _Page(NamedTuple):
    """What a header says of its page: bytes unpacked and packed, values, and values of a dictionary."""

    unpacked: int
    packed: int
    values: int
    distinct: int


def _page(header: Thrift) -> _Page:
    sizes: dict[int, int] = {}
    values = dict.fromkeys(_HAVING_VALUES, 0)
    for number, kind in header.fields():
        if kind == INT32:
            sizes[number] = header.number(INT32)
        elif number in values and kind == STRUCT:
            for inner, of in header.fields():
                if (inner, of) == (1, INT32):
                    values[number] = header.number(INT32)
                else:
                    header.skip(of)
        else:
            header.skip(kind)
    if not sizes.keys() >= {2, 3}:
        raise BadThriftError("it has no sizes")
    data, dictionary, newer = values.values()
    return _Page(sizes[2], sizes[3], data + newer, dictionary)
