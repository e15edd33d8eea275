"""Files that claim to be larger than they can be, or than memory, are refused before anything is allocated for them.

Readers run in a process whose address space ends 500 MB above what the program itself takes, and whose peak of
resident memory is read afterwards.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from kit.dicom import dataset, with_pixels
from kit.scans import noise, write_scan

SCRIPT = """
import json, resource, sys
from pathlib import Path
import torch, SimpleITK, nibabel, h5py, pydicom, PIL.PngImagePlugin, PIL.TiffImagePlugin
from fewlabel.core.errors import DataError
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.data.io.dicom.series import open_series
import fewlabel.data.duplicates
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 500 * 2**20,) * 2)
Path("/proc/self/clear_refs").write_text("5")
before = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
told = {}
for text in sys.argv[1:]:
    path = Path(text)
    reads = [lambda p: open_series(p).read()] if path.is_dir() else [read_geometry, read_volume, read_mask]
    for read in reads:
        try:
            read(path)
            told.setdefault(text, []).append("read")
        except DataError as error:
            told.setdefault(text, []).append("; ".join(fault.problem for fault in error.faults))
after = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
print(json.dumps({"told": told, "grown": (after - before) * 1024}))
"""


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def deflated_zeros(count: int, wbits: int = 15) -> bytes:
    """So many zeros, without having them all at once."""
    pack, parts = zlib.compressobj(1, wbits=wbits), []
    for first in range(0, count, 1 << 20):
        parts.append(pack.compress(bytes(min(1 << 20, count - first))))
    return b"".join([*parts, pack.flush()])


def nifti(sizes: tuple[int, ...], code: int = 4, bits: int = 16) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(sizes), *sizes, *[1] * (7 - len(sizes)))
    struct.pack_into("<hh", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, 1, *[1.0] * 7)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header)


def png(side: int, body: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(side: int) -> bytes:
    body = deflated_zeros(side * side // 8)
    tags = [(256, 4, side), (257, 4, side), (258, 3, 1), (259, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, side), (279, 4, len(body))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


def npz(path: Path, shape: tuple[int, ...], body: int) -> None:
    head = io.BytesIO()
    npy.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w") as stream,
    ):
        stream.write(head.getvalue())
        for first in range(0, body, 1 << 20):
            stream.write(bytes(min(1 << 20, body - first)))


def h5(path: Path, shape: tuple[int, ...]) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("a", shape=shape, dtype="f4", chunks=(1, 64, 64), fillvalue=7.0)


def dicom(folder: Path, *, syntax: str = "", **tags: int) -> Path:
    made = with_pixels(dataset(), np.zeros((4, 4), np.int16))
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing = [1, 1]
    if syntax:
        made.file_meta.TransferSyntaxUID = syntax
        from pydicom.encaps import encapsulate

        made.PixelData = encapsulate([bytes(64)])
        made["PixelData"].VR = "OB"
    for name, value in tags.items():
        setattr(made, name, value)
    folder.mkdir()
    made.save_as(folder / "a.dcm", enforce_file_format=True)
    return folder


def deflated_dicom(folder: Path, size: int) -> Path:
    """A file that is packed as a whole, with so many zeros in a private element."""
    plain = dicom(folder) / "a.dcm"
    from pydicom.filereader import read_file_meta_info

    content = plain.read_bytes()
    start = 144 + int(read_file_meta_info(plain).FileMetaInformationGroupLength)
    # The longer name of the syntax takes two bytes more.
    old, new = b"UI\x14\x001.2.840.10008.1.2.1\x00", b"UI\x16\x001.2.840.10008.1.2.1.99"
    meta = content[:start].replace(old, new)
    grown = struct.pack("<I", struct.unpack_from("<I", meta, 140)[0] + 2)
    pack = zlib.compressobj(1, wbits=-15)
    body = [pack.compress(content[start:] + struct.pack("<HH2sHI", 0x7FE1, 0x1001, b"OB", 0, size))]
    body += [pack.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    plain.write_bytes(meta[:140] + grown + meta[144:] + b"".join([*body, pack.flush()]))
    return folder


def build(home: Path) -> dict[Path, str]:
    """Files, and what is to be said of them."""
    files: dict[str, tuple[bytes, str]] = {
        "sides.nii": (nifti((32767,) * 3), "352 bytes of the"),
        "sides.nii.gz": (gzip.compress(nifti((32767,) * 3)), "more than .* bytes of gzip can hold"),
        "time.nii.gz": (gzip.compress(nifti((512, 512, 500, 500))), "more than .* bytes of gzip can hold"),
        "zeros.nii.gz": (
            # As much as could hold it.
            gzip.compress(nifti((2048, 1024, 200))) + bytes(1 << 20),
            "needs .* GB of memory",
        ),
        "more.nii.gz": (
            gzip.compress(nifti((8, 8, 8)) + bytes(1024)) + deflated_zeros(300 << 20, 31),
            "more than twice the 1376 bytes",
        ),
        "sizes.nrrd": (
            b"NRRD0004\ntype: short\ndimension: 3\nsizes: 99999 99999 99999\nencoding: raw\n\n0000",
            "bytes of the",
        ),
        "gzip.nrrd": (
            b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 512 512 300\nencoding: gzip\n\n" + gzip.compress(bytes(64)),
            "more than .* bytes of gzip can hold",
        ),
        "files.nhdr": (
            b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: x%d.raw 0 99999999999 1\n",
            "no such file",
        ),
        "files.mhd": (
            b"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\n"
            b"ElementDataFile = x%d.raw 0 99999999999 1\n",
            "no such file",
        ),
        "sizes.mha": (
            b"ObjectType = Image\nNDims = 3\nDimSize = 99999 99999 9\nElementType = MET_SHORT\n"
            b"ElementDataFile = LOCAL\n00",
            "bytes of the",
        ),
        "bomb.png": (png(30000, deflated_zeros(30000 * 3751)), "needs .* GB of memory"),
        "bomb.tif": (tiff(32768), "needs .* GB of memory"),
    }
    told = {}
    for name, (content, text) in files.items():
        (home / name).write_bytes(content)
        told[home / name] = text
    npz(home / "shape.npz", (5000, 512, 512), 64)
    npz(home / "held.npz", (80, 512, 512), 64)
    npz(home / "bomb.npz", (256, 512, 512), 1 << 28)
    h5(home / "fill.h5", (5000, 2048, 2048))
    h5(home / "some.h5", (32, 1024, 1024))
    told |= {
        home / "shape.npz#a,zyx,1.0x1.0x1.0": "needs .* GB of memory",
        home / "held.npz#a,zyx,1.0x1.0x1.0": "has 0 bytes in the file, which cannot hold",
        home / "bomb.npz#a,zyx,1.0x1.0x1.0": "needs .* GB of memory",
        home / "fill.h5#a,zyx,1.0x1.0x1.0": "needs .* GB of memory",
        home / "some.h5#a,zyx,1.0x1.0x1.0": "has 0 bytes in the file, which cannot hold",
        dicom(home / "rows", Rows=65535, Columns=65535): "smaller than its pixels",
        dicom(home / "frames", NumberOfFrames=2**31 - 1): "smaller than its pixels",
        dicom(home / "j2k", syntax="1.2.840.10008.1.2.4.90", Rows=65535, Columns=65535): "smaller than its pixels",
        dicom(home / "rle", syntax="1.2.840.10008.1.2.5", NumberOfFrames=2**31 - 1): "smaller than its pixels",
        deflated_dicom(home / "deflated", 300 << 20): "it is deflated and needs .* GB of memory",
    }
    return told


def test_nothing_is_allocated_for_what_cannot_be_there(tmp_path: Path) -> None:
    wanted = build(tmp_path)
    words = [sys.executable, "-c", SCRIPT, *map(str, wanted)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    for path, text in wanted.items():
        for told in found["told"][str(path)]:
            assert re.search(text, told), (path.name, told)
    assert found["grown"] < 100 << 20


def test_one_bomb_is_one_row_and_the_other_scans_go_on(tmp_path: Path) -> None:
    from kit.segmenters import disc_plan, make_segmenter

    home = tmp_path / "in"
    home.mkdir()
    with (home / "b.nii").open("wb") as stream:
        stream.write(nifti((32767, 32767, 3000)))
        # A hole: it takes no room, and nobody can read it into memory.
        stream.truncate(1 << 43)
    for name in "ac":
        write_scan(home / f"{name}.nii", noise())
    model = make_segmenter(tmp_path / "m", disc_plan())
    words = [sys.executable, "-m", "fewlabel", "predict", model, home, "--out", tmp_path / "out", "device=cpu"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "2 of 3 scans" in " ".join(done.stdout.split()) + " ".join(done.stderr.split())
    assert "b.nii" in done.stderr
    assert "of memory" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii")) == ["a.nii", "c.nii"]
