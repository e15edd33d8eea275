"""Every format: what its header promises is held against what is there, before anything is read or allocated."""

import bz2
import gzip
import os
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case
from fewlabel.data.io import stored_voxel_checks
from fewlabel.data.io.file_integrity import examine
from fewlabel.data.io.itk_image import colours_of, header_if_readable
from fewlabel.data.io.nrrd_header import nrrd_stored, raw_copy, read_nrrd_header
from fewlabel.data.io.stored_voxel_checks import Finite, Part, unpacked_blocks
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.data.scan_inspection import inspect_case
from kit.scans import noise, write_scan

SHAPE = (4, 9, 7)
VOXELS = np.arange(4 * 9 * 7, dtype=np.int16).reshape(SHAPE)


def written(path, packed, array=VOXELS):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.5, 1.25, 8.0))
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path


def nrrd(path, encoding, content, sizes="7 9 4", kind="short", more=""):
    head = f"NRRD0004\ntype: {kind}\ndimension: {len(sizes.split())}\nsizes: {sizes}\nendian: little\n"
    path.write_bytes(f"{head}encoding: {encoding}\n{more}\n".encode() + content)
    return path


def refused(path, text):
    for read in (read_geometry, read_volume, read_mask):
        with pytest.raises(DataError, match=text):
            read(path)


@pytest.mark.parametrize(
    ("name", "packed", "text"),
    [
        ("s.nrrd", False, r"\d+ bytes of the 504 that its header promises"),
        ("s.nrrd", True, "damaged gzip content"),
        ("s.mha", False, r"\d+ bytes of the 504 that its header promises"),
        ("s.mha", True, "damaged gzip content"),
        ("s.gipl", False, r"\d+ bytes of the 504 that its header promises"),
        ("s.gipl.gz", True, "damaged gzip content"),
        ("s.tif", False, r"\d+ bytes of the \d+ that its header promises|\d+ bytes of at least"),
    ],
)
@pytest.mark.parametrize("kept", [0.6, 0.97])
def test_files_cut_short_are_named(tmp_path, name, packed, text, kept):
    path = written(tmp_path / name, packed)
    assert examine(path).missing == ""
    np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(path, rf"{name}: is incomplete or damaged: ({text})")


@pytest.mark.parametrize(
    ("name", "voxels", "packed"),
    [
        ("s.mhd", "s.raw", False),
        ("s.mhd", "s.zraw", True),
        ("s.nhdr", "s.raw", False),
        ("s.nhdr", "s.raw.gz", True),
    ],
)
def test_detached_voxels(tmp_path, name, voxels, packed):
    path = written(tmp_path / name, packed)
    data = tmp_path / voxels
    content = data.read_bytes()
    np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)
    data.write_bytes(content[: len(content) - 5])
    refused(path, "damaged gzip content" if packed else rf"499 bytes in {voxels} of the 504 that its header promises")
    data.write_bytes(content)
    np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)
    data.unlink()
    refused(path, rf"its voxels are to lie in {voxels}, and there is no such file")


@pytest.mark.parametrize("kind", ["mhd list", "mhd pattern", "nhdr list", "nhdr pattern"])
def test_voxels_in_a_row_of_files(tmp_path, kind):
    for number, plane in enumerate(VOXELS):
        (tmp_path / f"p{number:02d}.raw").write_bytes(plane.tobytes())
    names = "\n".join(f"p{number:02d}.raw" for number in range(4))
    if kind.startswith("mhd"):
        path = tmp_path / "s.mhd"
        where = f"LIST\n{names}" if "list" in kind else "p%02d.raw 0 3 1"
        path.write_text(
            "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 7 9 4\n"
            f"ElementType = MET_SHORT\nElementDataFile = {where}\n"
        )
    else:
        where = f"LIST\n{names}" if "list" in kind else "p%02d.raw 0 3 1"
        path = nrrd(tmp_path / "s.nhdr", "raw", b"", more=f"data file: {where}\n")
        path.write_bytes(path.read_bytes()[:-1])
    np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)
    whole = (tmp_path / "p02.raw").read_bytes()
    (tmp_path / "p02.raw").write_bytes(whole[:-3])
    refused(path, r"123 bytes in p02\.raw of the 126")
    (tmp_path / "p02.raw").unlink()
    refused(path, r"its voxels are to lie in p02\.raw, and there is no such file")


@pytest.mark.parametrize("skip", ["byte skip: 11\n", "byte skip: -1\n", "line skip: 1\nbyte skip: 0\n"])
def test_bytes_before_detached_voxels_are_none(tmp_path, skip):
    before = b"0123456789\n"
    (tmp_path / "v.raw").write_bytes(before + VOXELS.tobytes())
    path = nrrd(tmp_path / "s.nhdr", "raw", b"", more=f"data file: v.raw\n{skip}")
    np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)
    # Of voxels that are the last bytes of a file, those before them cannot be told from them.
    cut = 20 if "-1" in skip else 5
    (tmp_path / "v.raw").write_bytes(before + VOXELS.tobytes()[:-cut])
    assert "bytes in v.raw of the 504" in examine(path).missing


def test_encodings_of_nrrd(tmp_path):
    raw = VOXELS.tobytes()
    whole = {
        "gzip": gzip.compress(raw),
        "bzip2": bz2.compress(raw),
        "hex": raw.hex().encode(),
        "ascii": " ".join(map(str, VOXELS.ravel())).encode(),
    }
    for encoding, content in whole.items():
        path = nrrd(tmp_path / f"{encoding}.nrrd", encoding, content)
        assert examine(path).missing == ""
        np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)
        path = nrrd(tmp_path / f"{encoding}_cut.nrrd", encoding, content[: len(content) // 2])
        refused(path, "is incomplete or damaged: ")


def test_a_damaged_stream_is_named_though_it_has_its_length(tmp_path):
    content = bytearray(gzip.compress(VOXELS.tobytes(), compresslevel=0))
    content[200] ^= 1
    assert "damaged gzip content" in examine(nrrd(tmp_path / "s.nrrd", "gzip", bytes(content))).missing


@pytest.mark.parametrize("side", [10**5, 2**40])
def test_headers_that_promise_the_impossible_are_refused_before_anything_is_made(tmp_path, side):
    path = nrrd(tmp_path / "s.nrrd", "raw", b"\0" * 100, sizes=f"{side} {side} 3")
    refused(path, "100 bytes of the ")
    path = nrrd(tmp_path / "z.nrrd", "gzip", gzip.compress(b"\0" * 100), sizes=f"{side} {side} 3")
    refused(path, "more than .* bytes of gzip can hold")
    head = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = {side} {side} 3\nElementType = MET_SHORT\n"
    (tmp_path / "s.mha").write_bytes(f"{head}ElementDataFile = LOCAL\n".encode() + b"\0" * 100)
    refused(tmp_path / "s.mha", "100 bytes of the ")


def test_a_metaimage_is_one_by_its_name_in_whatever_order_its_lines_are(tmp_path):
    """Of other axes than it has room for, MetaIO writes past its arrays, and the process is gone."""
    lines = ["BinaryDataByteOrderMSB = False", "NDims = 65536", "ElementType = MET_UCHAR", "ElementDataFile = LOCAL"]
    (tmp_path / "s.mha").write_bytes("\n".join([*lines, "DimSize = 10 12 3", ""]).encode() + b"\0" * 360)
    refused(tmp_path / "s.mha", "its header lacks NDims, DimSize")


def test_what_no_memory_holds_is_refused(tmp_path, monkeypatch):
    path = write_scan(tmp_path / "s.nii.gz", noise(SHAPE))
    # The machine's own limit is read once a process: a change of it would show or not by the order of the tests.
    monkeypatch.setattr("fewlabel.core.memory_limit._outer_limit", lambda: 400)
    with pytest.raises(DataError, match=r"needs .* GB of memory, and this process may have"):
        read_volume(path)


def png_of_size(width, height, body=b"x"):
    import zlib

    def part(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(body)) + part(b"IEND", b"")


def test_pictures_that_promise_too_many_pixels(tmp_path):
    (tmp_path / "s.png").write_bytes(png_of_size(60000, 60000))
    refused(tmp_path / "s.png", "promises 60000 x 60000 pixels, more than")
    (tmp_path / "z.png").write_bytes(png_of_size(0, 5))
    refused(tmp_path / "z.png", "promises 0 x 5 pixels")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "s.jpg")
    content = bytearray((tmp_path / "s.jpg").read_bytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 65000, 65000)
    (tmp_path / "s.jpg").write_bytes(content)
    refused(tmp_path / "s.jpg", "promises 65000 x 65000 pixels, more than")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "s.tif")
    content = bytearray((tmp_path / "s.tif").read_bytes())
    for tag in (256, 257):
        at = content.index(struct.pack("<HHI", tag, 4, 1)) + 8
        content[at : at + 4] = struct.pack("<I", 65000)
    (tmp_path / "s.tif").write_bytes(content)
    refused(tmp_path / "s.tif", "promises 65000 x 65000 pixels, more than")


@pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.bmp", "p.tif", "p.gif"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.999])
def test_pictures_cut_short_are_named(tmp_path, name, kept):
    path = tmp_path / name
    Image.fromarray(noise((1, 60, 50))[0].clip(0, 255).astype(np.uint8)).save(path)
    assert examine(path).missing == ""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(path, rf"{name}: is incomplete or damaged: ")


def test_a_thumbnail_in_a_cut_jpeg_is_not_its_end(tmp_path):
    exif = Image.Exif()
    path = tmp_path / "p.jpg"
    Image.fromarray(noise((1, 60, 50))[0].clip(0, 255).astype(np.uint8)).save(path, exif=exif)
    content = path.read_bytes()
    thumbnail = b"Exif\0\0" + b"\xff\xd8 small \xff\xd9"
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    path.write_bytes(content[:2] + segment + content[2:])
    assert examine(path).missing == ""
    path.write_bytes((content[:2] + segment + content[2:])[:-400])
    assert "without its end mark" in examine(path).missing


def test_a_png_with_a_wrong_checksum(tmp_path):
    path = tmp_path / "p.png"
    Image.fromarray(noise((1, 60, 50))[0].clip(0, 255).astype(np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    refused(path, "the checksum of its part IDAT")


@pytest.mark.parametrize("name", ["s.nii", "s.nii.gz", "s.nrrd", "s.mha", "s.tif", "s.gipl"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scans_without_a_finite_voxel_are_refused_at_check(tmp_path, name, value):
    path = write_scan(tmp_path / name, np.full(SHAPE, value, np.float32))
    (fault,) = inspect_case(Case("a", "a", (path,)), 1).faults
    assert fault.problem == "has no finite voxel"
    some = np.full(SHAPE, value, np.float32)
    some[3, 8, 6] = 1
    assert inspect_case(Case("a", "a", (write_scan(tmp_path / name, some),)), 1).faults == ()


def test_a_channel_without_a_finite_voxel_is_named(tmp_path):
    array = np.stack([noise(SHAPE), np.full(SHAPE, np.nan, np.float32), noise(SHAPE)])
    interleaved = sitk.GetImageFromArray(np.moveaxis(array, 0, -1).copy(), isVector=True)
    frames = sitk.JoinSeries([sitk.GetImageFromArray(frame) for frame in array])
    for name, image in (("v.mha", interleaved), ("v.nrrd", interleaved), ("f.nii", frames), ("f.mha", frames)):
        sitk.WriteImage(image, str(tmp_path / name))
        (fault,) = inspect_case(Case("a", "a", (tmp_path / name,)), 3).faults
        assert fault.problem == "channel 2 of 3 has no finite voxel", name


def test_bytes_after_the_voxels_are_no_voxels(tmp_path):
    path = written(tmp_path / "s.mha", packed=False, array=np.full(SHAPE, np.nan, np.float32))
    path.write_bytes(path.read_bytes() + np.ones(9, np.float32).tobytes())
    assert examine(path).blank == (0,)


def test_finite_values_over_blocks():
    values = np.array([1.0, np.nan, 2.0, np.nan, np.nan, np.nan, 3.0, np.nan])
    for cut in range(9):
        together, apart = Finite(8, 2, interleaved=True), Finite(8, 4)
        for finite in (together, apart):
            for first, part in ((0, values[:cut]), (cut, values[cut:])):
                if part.size:
                    finite.add(first, part)
        assert (together.blank, together.all) == ((1,), False)
        assert apart.blank == (2,)


def test_raw_files_of_whole_numbers_are_measured_not_read(tmp_path, monkeypatch):
    path = written(tmp_path / "s.mha", packed=False)

    def read(*words):
        raise AssertionError("it was read")

    monkeypatch.setattr("fewlabel.data.io.stored_voxel_checks._count", read)
    assert examine(path).missing == ""


def test_pairs_without_their_other_half(tmp_path):
    import nibabel

    for name in ("a", "b", "c"):
        nibabel.save(nibabel.Nifti1Pair(VOXELS.T, np.diag([1.5, 1.5, 8, 1])), tmp_path / f"{name}.img")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.img").array[0], VOXELS)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.hdr").array[0], VOXELS)
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-7])
    for name in ("a.img", "a.hdr"):
        refused(tmp_path / name, "497 bytes.* of the 504 that its header promises")
    (tmp_path / "b.img").unlink()
    refused(tmp_path / "b.hdr", r"its voxels are missing: there is no b\.img beside it")
    (tmp_path / "c.hdr").unlink()
    refused(tmp_path / "c.img", r"its header is missing: there is no c\.hdr beside it")


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("NDims = 3", "NDims = 99999"),
        ("NDims = 3", "NDims = 2"),
        ("NDims = 3", "NDims = x"),
        ("NDims = 3\n", ""),
        ("NDims = 3", "NDims = 99999\nNDims = 3"),
        ("DimSize = 7 9 4", f"DimSize = {'1 ' * 50}"),
    ],
)
def test_a_metaimage_has_the_axes_that_it_says(tmp_path, line, other):
    """MetaIO writes past its arrays otherwise, which ends the process."""
    path = written(tmp_path / "s.mha", packed=False)
    head, _, voxels = path.read_bytes().partition(b"ElementDataFile")
    assert line.encode() in head
    path.write_bytes(head.replace(line.encode(), other.encode()) + b"ElementDataFile" + voxels)
    refused(path, "its header lacks NDims, DimSize")
    assert header_if_readable(path) is None
    assert colours_of(path) == 1


@pytest.mark.parametrize("line", ["x", "x" * 1100, "x" * 3000 + ": 3", "kinds: " + "x" * 1100])
def test_a_line_of_an_nrrd_that_is_no_field_does_not_reach_itk(tmp_path, line):
    """ITK writes a long one into its message, for which there is no room."""
    voxels = np.arange(8, dtype=np.int16).tobytes()
    path = nrrd(tmp_path / "s.nrrd", "raw", voxels, "2 2 2", more=f"{line}\n")
    refused(path, "its header has a line that is no field")
    long = "content: " + "x" * 5000 + "\nnote:=" + "y" * 5000 + "\n# " + "z" * 5000 + "\n"
    read_volume(nrrd(tmp_path / "t.nrrd", "raw", voxels, "2 2 2", more=long))


@pytest.mark.parametrize(
    "fields",
    [
        ("data file: small.raw", "datafile: large.raw"),
        ("DataFile: small.raw", "Data File : large.raw"),
        ("sizes: 2 2 2", "sizes: 20000 20000 20000"),
        ("encoding: raw", "Encoding: gzip"),
        ("byte skip: 0", "byteskip: -1"),
        ("centers: cell cell cell", "centerings: cell cell cell"),
    ],
)
def test_a_field_of_an_nrrd_that_is_there_twice_does_not_reach_itk(tmp_path, fields):
    """Which of the two ITK goes by decides how much it makes room for."""
    (tmp_path / "small.raw").write_bytes(bytes(16))
    (tmp_path / "large.raw").write_bytes(bytes(1 << 16))
    basic = {"type": "short", "dimension": "3", "sizes": "2 2 2", "encoding": "raw", "endian": "little"}
    given = {field.partition(":")[0].strip().lower() for field in fields}
    lines = [f"{name}: {value}" for name, value in basic.items() if name not in given]
    path = tmp_path / "s.nhdr"
    path.write_text("\n".join(["NRRD0004", *lines, *fields, "", ""]))
    refused(path, "its header has the field .* twice")
    path.write_text("\n".join(["NRRD0004", *lines, fields[0], "note:=a", "note:=b", "", ""]))
    assert read_nrrd_header(path).unparsed == ""


@pytest.mark.parametrize("name", ["s.mha", "s.nrrd", "s.nii"])
@pytest.mark.parametrize("kind", ["float", "short"])
def test_a_header_of_millions_of_components_takes_no_memory(tmp_path, name, kind):
    """A few kilobytes on the disk, for most of the file is a hole."""
    path, count = tmp_path / name, 50_000_000
    size = 4 if kind == "float" else 2
    if name == "s.nrrd":
        path.write_text(
            f"NRRD0004\ntype: {kind}\ndimension: 4\nsizes: {count} 1 1 1\nendian: little\nencoding: raw\n"
            "kinds: vector domain domain domain\n\n"
        )
    elif name == "s.mha":
        path.write_text(
            f"ObjectType = Image\nNDims = 3\nDimSize = 1 1 1\nElementType = MET_{kind.upper()}\n"
            f"ElementNumberOfChannels = {count}\nElementDataFile = LOCAL\n"
        )
    else:
        header = nib.Nifti2Header()
        header.set_data_dtype(np.float32 if kind == "float" else np.int16)
        header.set_data_shape((1, 1, 1, count))
        header["vox_offset"] = 544
        path.write_bytes(header.binaryblock + bytes(4))
    os.truncate(path, path.stat().st_size + size * count)
    tracemalloc.start()
    try:
        refused(path, "50000000 values of each voxel, or volumes")
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()


def test_finite_values_of_more_parts_than_can_be():
    with pytest.raises(ValueError, match="at most 65536"):
        Finite(1 << 20, (1 << 16) + 1)
    left_over = Finite(7, 3)
    left_over.add(0, np.array([np.nan, np.nan, 1.0, np.nan, np.nan, np.nan, 1.0]))
    assert left_over.blank == (0, 2)


def test_more_lines_to_skip_than_there_are_end_with_the_file(tmp_path):
    """Counting on to a number out of a header never ends."""
    voxels = np.arange(8, dtype=np.int16).tobytes()
    path = nrrd(tmp_path / "s.nrrd", "raw", voxels, "2 2 2", more="line skip: 999999999999\n")
    refused(path, "0 bytes of the 16 that its header promises")
    one = nrrd(tmp_path / "t.nrrd", "raw", b"a line\n" + voxels, "2 2 2", more="line skip: 1\n")
    np.testing.assert_array_equal(read_volume(one).array.ravel(), np.arange(8))


@pytest.mark.parametrize("sizes", ["20000 20000 2.0", "twenty"])
def test_sizes_that_only_itk_takes_do_not_reach_it(tmp_path, sizes):
    path = nrrd(tmp_path / "s.nrrd", "gzip", gzip.compress(bytes(1000)), sizes=sizes)
    refused(path, "its sizes are no whole numbers")


@pytest.mark.parametrize("width", ["03", "3", ""])
def test_files_are_counted_with_few_digits(tmp_path, width):
    for number in (1, 2):
        (tmp_path / (f"v%{width}d.raw" % number)).write_bytes(bytes(14 * 9))
    counted = f"data file: v%{width}d.raw 1 2 1\n"
    path = nrrd(tmp_path / "s.nhdr", "raw", b"", sizes="7 9 2", more=counted)
    assert examine(path).problems == ()


@pytest.mark.parametrize("pattern", ["%0300000000d", "%s", "%*d", "%d%d", "%.300000000d"])
def test_a_name_does_not_grow_by_the_number_in_its_pattern(tmp_path, pattern):
    path = nrrd(tmp_path / "s.nhdr", "raw", b"", sizes="7 9 2", more=f"data file: {pattern} 1 2 1\n")
    refused(path, "there is no such file")
    lines = f"NDims = 3\nDimSize = 7 9 2\nElementType = MET_SHORT\nElementDataFile = {pattern} 1 2 1\n"
    other = tmp_path / "s.mhd"
    other.write_text(lines)
    refused(other, "there is no such file")


def test_numbers_of_text_are_counted_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_voxel_checks, "_BLOCK", 64)
    path = tmp_path / "numbers"
    for separator in ("\n", " ", ",", "\n" * 200):
        path.write_text(separator.join(["12", "3456", "7"] * 5))
        assert sum(map(len, unpacked_blocks(Part(path, 15, packing="text")))) == 15
    path.write_bytes(b"1" * 1000)
    assert sum(map(len, unpacked_blocks(Part(path, 1, packing="text")))) == 1


@pytest.mark.parametrize("content", [b"1\n" * 50_000, b"1" * 100_000], ids=["lines", "one number"])
def test_numbers_of_text_are_counted_block_by_block(tmp_path, monkeypatch, content):
    monkeypatch.setattr(stored_voxel_checks, "_BLOCK", 1 << 14)
    path = tmp_path / "numbers"
    path.write_bytes(content)
    tracemalloc.start()
    count = sum(map(len, unpacked_blocks(Part(path, 1, packing="text"))))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == len(content.split())
    assert most < 90_000


def test_bzip2_is_unpacked_no_further_than_promised(tmp_path):
    path = nrrd(tmp_path / "s.nrrd", "bzip2", bz2.compress(VOXELS.tobytes() + bytes(1 << 20)))
    header = read_nrrd_header(path)
    copy = raw_copy(header, nrrd_stored(header), tmp_path)
    assert copy.stat().st_size < 1000
    np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)


def test_what_follows_the_promised_voxels_is_not_unpacked_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_voxel_checks, "HARMLESS", 1000)
    monkeypatch.setattr(stored_voxel_checks, "_BLOCK", 1024)
    unpacked = []
    whole = stored_voxel_checks.unpacked_blocks
    monkeypatch.setattr(
        stored_voxel_checks, "unpacked_blocks", lambda part: (unpacked.append(len(b)) or b for b in whole(part))
    )
    path = nrrd(tmp_path / "s.nrrd", "bzip2", bz2.compress(VOXELS.tobytes() + bytes(1 << 20)))
    assert examine(path).problems == ()
    assert sum(unpacked) < 5000


def test_tags_of_a_tiff_that_share_one_place_are_refused(tmp_path):
    count = 1 << 20
    tags = [(tag, 1, count) for tag in (258, 273, 279, 320, 324, 325)] * 2
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    place = len(head) + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", *tag, place) for tag in tags)
    path = tmp_path / "s.tif"
    path.write_bytes(head + entries + bytes(4) + bytes(count))
    refused(path, "more than 1048734 bytes can hold")
