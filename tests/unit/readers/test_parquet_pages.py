"""Parquet files whose pages are not what the footer says are refused unread; all that writers make is read."""

import io
import time
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fewlabel.readers.table_file import read_table
from fuzz.watching import Memory

AGES = [40.5 + n for n in range(40)]


def zigzag(number):
    """A number as Thrift's compact protocol writes it."""
    number, out = (number << 1) ^ (number >> 63), bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def header(unpacked, packed, values, kind=0):
    """The header of a data page (kind 0) or of a dictionary (kind 2) without statistics, as pyarrow writes it."""
    sizes = b"".join(b"\x15" + zigzag(number) for number in (kind, unpacked, packed))
    if kind == 2:
        return sizes + b"\x4c\x15" + zigzag(values) + b"\x15\x00\x12\x00\x00"
    return sizes + b"\x2c\x15" + zigzag(values) + b"\x15\x00\x15\x06\x15\x06\x1c\x00\x00\x00"


def packed_table(columns, **how):
    stream = io.BytesIO()
    settings = {"compression": "gzip", "use_dictionary": False, "write_statistics": False, "store_schema": False}
    pq.write_table(pa.table(columns), stream, **settings | how)
    return stream.getvalue()


def first_page(content, values, kind=0):
    """Where the first page of a file's first column is: byte, length of header, bytes packed and unpacked."""
    column = pq.read_metadata(io.BytesIO(content)).row_group(0).column(0)
    at = column.dictionary_page_offset if kind == 2 else column.data_page_offset
    for packed in range(column.total_compressed_size):
        for unpacked in range(column.total_uncompressed_size):
            head = header(unpacked, packed, values, kind)
            if content.startswith(head, at):
                return at, len(head), packed, unpacked
    raise AssertionError("pyarrow writes other headers")


def with_header(content, at, old, new):
    """The file with another header, which takes from its page what it is longer: every offset stays."""
    return content[:at] + new + content[at + max(old, len(new)) :]


def faults_of(path, content, most=None):
    """What is said of a file, which must be refused by a few MiB and within a second."""
    path.write_bytes(content)
    memory, began, faults = Memory(), time.process_time(), []
    assert read_table(path, faults, [], most).rows == ()
    assert memory.grown_mib() < 64
    assert time.process_time() - began < 1
    [fault] = faults
    return str(fault)


@pytest.mark.parametrize("most", [None, 20])
@pytest.mark.parametrize(
    ("unpacked", "packed", "values", "said"),
    [
        (2_000_000_000, None, 40, "unpacks to 2000000000 bytes, of"),
        (None, 1_000_000, 40, "has 1000000 bytes, and its column ends at byte"),
        (None, 2**31 - 1, 40, "has 2147483647 bytes, and its column ends at byte"),
        (-1, None, 40, "has a size or a number of values below 0"),
        (None, -1, 40, "has a size or a number of values below 0"),
        (None, None, -40, "has a size or a number of values below 0"),
        (None, None, 2**31 - 1, "has 2147483647 values, of 40 in all"),
    ],
)
def test_a_page_that_does_not_fit_in_what_the_footer_says(tmp_path, unpacked, packed, values, said, most):
    content = packed_table({"age": AGES, "image": ["a"] * 40})
    at, old, true_packed, true_unpacked = first_page(content, 40)
    new = header(true_unpacked if unpacked is None else unpacked, true_packed if packed is None else packed, values)
    fault = faults_of(tmp_path / "scans.parquet", with_header(content, at, old, new), most)
    assert "scans.parquet: its pages are not what its footer says: column age of row group 1: the page at" in fault
    assert f"byte {at} {said}" in fault
    assert "Save it anew with the program that made it" in fault


def test_a_dictionary_of_more_values_than_it_has_bytes(tmp_path):
    content = packed_table({"image": ["a", "b"] * 20}, use_dictionary=True)
    at, old, packed, unpacked = first_page(content, 2, kind=2)
    assert unpacked == 10
    fault = faults_of(tmp_path / "scans.parquet", with_header(content, at, old, header(10, packed, 2**30, kind=2)))
    assert f"the page at byte {at} is a dictionary of 1073741824 values in 10 bytes" in fault


@pytest.mark.parametrize(
    "new",
    [
        bytes(40),
        b"\xff" * 40,
        b"\x15" + b"\x80" * 40,
        # Structs in structs, lists in lists, a list of a billion truths, a text of 2 GB, a map of a billion.
        b"\x1c" * 200,
        b"\x19" * 200,
        b"\x19\xf1\xff\xff\xff\xff\x03",
        b"\x18\xff\xff\xff\xff\x07",
        b"\x1b\xff\xff\xff\xff\x03\x55",
        # Sizes that are longer than 32 bits: Thrift would cut them.
        b"\x15\x00\x15" + zigzag(2**40) + b"\x15\x00\x00",
        # Sizes of 64 bits in fields for 32, and none at all.
        b"\x15\x00\x16\x02\x16\x02\x00",
        b"\x15\x00\x00",
    ],
)
def test_bytes_that_are_no_header(tmp_path, new):
    content = packed_table({"image": [f"{n:07}" for n in range(50_000)]})
    at = pq.read_metadata(io.BytesIO(content)).row_group(0).column(0).data_page_offset
    fault = faults_of(tmp_path / "scans.parquet", with_header(content, at, 0, new))
    assert f"column image of row group 1: the page at byte {at} has no header" in fault


def test_a_page_that_would_unpack_to_much_more_is_not_unpacked(tmp_path):
    """A true one: its values are those that were written, with 300 MB of zeros behind them."""
    names = [np.random.default_rng(n).bytes(20).hex() for n in range(20_000)]
    content = packed_table({"image": names}, data_page_size=1 << 30)
    column = pq.read_metadata(io.BytesIO(content)).row_group(0).column(0)
    at, end = column.data_page_offset, column.data_page_offset + column.total_compressed_size
    begin = content.index(b"\x1f\x8b", at)
    values = zlib.decompress(content[begin:end], 47) + bytes(300 << 20)
    press = zlib.compressobj(9, wbits=31)
    bomb = press.compress(values) + press.flush()
    new = header(len(values), len(bomb), 20_000) + bomb
    foot = content[end:].replace(zigzag(end - at), zigzag(len(new)))
    assert len(foot) == len(content) - end
    content = content[:at] + new + foot
    # The library does not mind.
    assert pq.read_table(io.BytesIO(content)).column("image").to_pylist() == names
    fault = faults_of(tmp_path / "scans.parquet", content)
    assert f"the page at byte {at} unpacks to {len(values)} bytes, of {column.total_uncompressed_size} in all" in fault


def test_columns_that_share_their_bytes_are_refused(tmp_path):
    """Else a footer of a thousand columns would have each page gone through a thousand times."""
    texts = [np.random.default_rng(n).bytes(50).hex() for n in range(40)]
    content = packed_table({"image": texts, "age": AGES})
    facts = pq.read_metadata(io.BytesIO(content)).row_group(0)
    first, second = facts.column(0), facts.column(1)
    end = second.data_page_offset + second.total_compressed_size
    foot = content[end:]
    # Each number has two bytes; the second column is given those of the first.
    for fact in ("total_uncompressed_size", "total_compressed_size", "data_page_offset"):
        old, given = getattr(second, fact), getattr(first, fact)
        assert foot.count(zigzag(old)) == 1
        foot = foot.replace(zigzag(old), bytes([zigzag(given)[0] | 0x80, *zigzag(given)[1:], 0][:2]))
    fault = faults_of(tmp_path / "scans.parquet", content[:end] + foot)
    assert "column age of row group 1: the columns up to it have" in fault
    assert f"{2 * first.total_compressed_size} bytes, and the file {len(content)}" in fault


def test_a_list_of_one_value_over_and_over_is_not_unpacked(tmp_path):
    path = tmp_path / "scans.parquet"
    values = pa.ListArray.from_arrays(pa.array([0, 4_000_000], pa.int32()), pa.array(bytes(4_000_000), pa.uint8()))
    pq.write_table(pa.table({"image": values}), path)
    assert path.stat().st_size < 100_000
    assert "promises 4000000 values" in faults_of(path, path.read_bytes())


COLUMNS = {
    "image": [f"scan {n}" for n in range(40)],
    "site": (["a", "b", None, "a"] * 10),
    "age": AGES,
    "grade": pa.array([1, None, 3, 4] * 10, pa.int32()),
    "healthy": [True, False, None, True] * 10,
    "nothing": pa.nulls(40),
    "empty": pa.nulls(40, pa.string()),
    "tags": [["a", "b"], [], None, ["c"]] * 10,
    "deep": [{"x": 1, "y": [{"z": 2.5}]}, None, {"x": None, "y": []}, {"x": 4, "y": None}] * 10,
    "map": pa.array([[("k", 1)], [], None, [("l", 2), ("m", 3)]] * 10, pa.map_(pa.string(), pa.int8())),
}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"row_group_size": 7},
        {"data_page_size": 1, "write_batch_size": 1},
        {"write_statistics": False, "write_page_index": False},
        {"write_page_index": True, "write_page_checksum": True},
    ],
)
def test_what_pyarrow_writes_is_read(tmp_path, version, compression, dictionary, how):
    path, faults, notes = tmp_path / "scans.parquet", [], []
    pq.write_table(
        pa.table(COLUMNS), path, data_page_version=version, compression=compression, use_dictionary=dictionary, **how
    )
    table = read_table(path, faults, notes)
    assert faults == []
    assert table.columns == tuple(COLUMNS)
    assert [row["image"] for _, row in table.rows] == COLUMNS["image"]
    assert [row["age"] for _, row in table.rows] == [str(age) for age in AGES]
    assert [row["grade"] for _, row in table.rows] == ["1", "", "3", "4"] * 10
    assert [row["tags"] for _, row in table.rows][3] == "['c']"
    assert {row["nothing"] + row["empty"] for _, row in table.rows} == {""}
    assert read_table(path, faults, notes, 5).rows == table.rows[:5]
    assert faults == []


@pytest.mark.parametrize(
    "encoding",
    ["PLAIN", "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "BYTE_STREAM_SPLIT"],
)
def test_every_encoding_is_read(tmp_path, encoding):
    path, faults = tmp_path / "scans.parquet", []
    kind = pa.int64() if encoding == "DELTA_BINARY_PACKED" else pa.float64() if "SPLIT" in encoding else pa.string()
    values = pa.array([str(n) for n in range(3000)]).cast(kind)
    pq.write_table(pa.table({"image": values}), path, use_dictionary=False, column_encoding={"image": encoding})
    assert [row["image"] for _, row in read_table(path, faults, []).rows] == [str(n) for n in range(3000)]
    assert faults == []


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("groups", [0, 1, 2])
def test_tables_without_rows_have_their_columns(tmp_path, dictionary, groups):
    path, faults = tmp_path / "scans.parquet", []
    table = pa.table(COLUMNS).slice(0, 0)
    with pq.ParquetWriter(path, table.schema, use_dictionary=dictionary) as writer:
        for _ in range(groups):
            writer.write_table(table)
    assert pq.read_metadata(path).num_row_groups == groups
    read = read_table(path, faults, [])
    assert (read.columns, read.rows, faults) == (tuple(COLUMNS), (), [])


def test_texts_longer_than_what_is_read_at_once(tmp_path):
    """A page's statistics hold them, and so do headers."""
    path, faults = tmp_path / "scans.parquet", []
    texts = ["x" * 500_000, "y" * 3_000_000]
    pq.write_table(pa.table({"image": texts}), path, compression="none", use_dictionary=False, data_page_size=1)
    assert [row["image"] for _, row in read_table(path, faults, []).rows] == texts
    assert faults == []
