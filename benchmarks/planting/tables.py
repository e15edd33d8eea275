"""A table of scans whose files are spoilt in every way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from planting.files import AFFINE, DICOM, SHAPE, cut, edit, flip_bits, image, mask, write, write_colours
from planting.planted import DataSet

_DAMAGED = "incomplete|damaged|truncated|cut|bytes"
_SHEARED = np.array([[-1.5, 0.9, 0, 0], [0, -1.5, 0, 0], [0, 0, 8.0, 0], [0, 0, 0, 1]])


class _Rows:
    """A table that grows; each scan is sound until it is spoilt."""

    def __init__(self, root: Path, columns: str) -> None:
        self.root, self.lines, self.number = root, [columns], 0

    def scan(self, name: str, suffix: str = ".nii.gz", *, labelled: bool = True, more: str = "") -> tuple[Path, Path]:
        """A sound scan with its mask, and its row."""
        self.number += 1
        scan = write(self.root / f"{name}{suffix}", image(self.number))
        label = self.root / f"{name}_m.nii.gz"
        if labelled:
            # Formats other than NIfTI do not know its axes: their masks have their own format.
            label = write(label if ".nii" in suffix else self.root / f"{name}_m.nrrd", mask())
        self.row(f"{scan.name},{label.name if labelled else ''},{name}{more}")
        return scan, label

    def row(self, text: str) -> str:
        """One more row; where it is."""
        self.lines.append(text)
        return f"line {len(self.lines)}"

    def save(self, name: str = "scans.csv") -> Path:
        """Write the table."""
        path = self.root / name
        path.write_text("\n".join(self.lines) + "\n")
        return path


def spoilt_files(root: Path) -> DataSet:
    """A table of scans in many formats: what can be wrong with an image or a mask."""
    root.mkdir(parents=True)
    rows = _Rows(root, "image,label,subject")
    data = DataSet(root / "scans.csv")
    for number in range(4):
        rows.scan(f"sound{number}")
    _cut_files(rows, data)
    _wrong_content(rows, data)
    _wrong_headers(rows, data)
    _wrong_masks(rows, data)
    _wrong_rows(rows, data)
    (root / "labels.json").write_text('{"1": "ventricle", "2": "muscle"}')
    rows.save()
    return data


def _cut_files(rows: _Rows, data: DataSet) -> None:
    for suffix in (".nii.gz", ".nii", ".nrrd", ".mha"):
        scan, _ = rows.scan(f"cut_{suffix.replace('.', '')}", suffix, labelled=".nii" in suffix)
        data.plant(f"truncated {suffix}", cut(scan), _DAMAGED)
    for suffix, other in ((".mhd", ".raw"), (".hdr", ".img")):
        scan, _ = rows.scan(f"half_{suffix[1:]}", suffix, labelled=False)
        next(path for path in rows.root.glob(f"{scan.stem}.*") if path.suffix != suffix).unlink()
        data.plant(f"{suffix} without its {other}", scan, r"missing|without|no such|not there|\.(raw|zraw|img)")
    scan, _ = rows.scan("cut_img", ".hdr", labelled=False)
    cut(scan.with_suffix(".img"))
    data.plant("truncated .img", scan, _DAMAGED)
    _, label = rows.scan("cut_mask")
    data.plant("truncated mask", cut(label), _DAMAGED)
    scan, _ = rows.scan("flipped_bits")
    data.plant("flipped bits in a gzip file", flip_bits(scan), _DAMAGED)


def _wrong_content(rows: _Rows, data: DataSet) -> None:
    contents: dict[str, tuple[bytes, str]] = {
        "text": (b"this is no image", "damaged|not a|cannot be read|text"),
        "nothing": (b"", "empty|0 bytes|nothing"),
        "dicom_inside": (DICOM, "DICOM"),
    }
    for name, (content, cause) in contents.items():
        scan, _ = rows.scan(name)
        scan.write_bytes(content)
        data.plant(f"file of {name.replace('_', ' ')} named .nii.gz", scan, cause)
    packed, _ = rows.scan("gzip_inside", ".nii")
    packed.write_bytes((rows.root / "sound0.nii.gz").read_bytes())
    data.plant("gzip named .nii", packed, "gzip|packed|compressed")
    scan, _ = rows.scan("all_nan", ".nii")
    data.plant("image without a finite voxel", write(scan, image(1) * np.nan), "finite|NaN")
    scan, _ = rows.scan("two_channels", labelled=False)
    data.plant("4D image among 3D ones", write(scan, image(201, (2, *SHAPE))), "channel|frame|4D", noted=True)
    scan, _ = rows.scan("colours", labelled=False)
    write_colours(scan, np.zeros((*SHAPE, 3), np.uint8))
    data.plant("colours among grey scans", scan, "channel|colour")
    scan, _ = rows.scan("five_axes", labelled=False)
    data.plant("5D image", write(scan, image(202, (2, 2, *SHAPE))), "axes|dimension|5D")


def _wrong_headers(rows: _Rows, data: DataSet) -> None:
    nan = float("nan")
    edits: dict[str, tuple[str, int, tuple[float, ...], str]] = {
        "size_0": ("<3f", 80, (0, 1.5, 8), "voxel size|spacing"),
        "size_tiny": ("<3f", 80, (1e-9, 1e-9, 1e-9), "voxel size|spacing"),
        "size_nan": ("<3f", 80, (nan, nan, nan), "voxel size|spacing|number"),
        "affine_nan": ("<12f", 280, (nan,) * 12, "number|finite|NaN"),
        "data_type": ("<h", 70, (9999,), "data type|datatype|cannot be read|not recognized"),
        "huge": ("<8h", 40, (3, 32767, 32767, 32767, 1, 1, 1, 1), _DAMAGED + "|memory"),
        "magic": ("<4s", 344, (b"nx1\0",), "NIfTI"),  # type: ignore[dict-item]
        "no_voxels": ("<8h", 40, (3, 0, 20, 6, 1, 1, 1, 1), "voxels|shape|size|cannot be read"),
    }
    for name, (form, at, values, cause) in edits.items():
        scan, _ = rows.scan(name, ".nii", labelled=False)
        edit(scan, form, at, *values)
        if name.startswith("size"):
            # Neither form says anything: the sizes count.
            edit(scan, "<2h", 252, 0, 0)
        data.plant(f"header: {name.replace('_', ' ')}", scan, cause)
    scan, label = rows.scan("sheared", ".nii")
    write(scan, image(203), _SHEARED)
    write(label, mask(), _SHEARED)
    data.plant("axes that are not at right angles", scan, "angle|shear|orthonormal")
    scan, _ = rows.scan("two_forms", ".nii", labelled=False)
    made = nibabel.Nifti1Image(image(204).T, AFFINE)
    made.header.set_qform(np.diag([1.0, 1.0, 3.0, 1.0]), code=1)
    made.header.set_sform(np.diag([-1.5, -1.5, 8.0, 1.0]), code=1)
    nibabel.save(nibabel.Nifti1Image(image(204).T, None, made.header), scan)
    data.plant("sform and qform disagree", scan, "sform|qform")


def _wrong_masks(rows: _Rows, data: DataSet) -> None:
    def other(name: str, kind: str, cause: str, change: Callable[[Path], object], suffix: str = ".nii.gz") -> None:
        _, label = rows.scan(name, suffix)
        change(label)
        data.plant(kind, label, cause)

    turned = AFFINE.copy()
    turned[0] *= -1
    moved = AFFINE.copy()
    moved[:3, 3] = (30, -20, 8)
    stray = mask()
    stray[0, 0, 0] = 77
    other("m_shape", "mask of another shape", "shape", lambda at: write(at, mask((6, 20, 23))))
    fine = np.diag([1, 1, 8, 1.0])
    other("m_spacing", "mask of another voxel size", "spacing|size", lambda at: write(at, mask(), fine))
    other("m_moved", "mask elsewhere", "origin|lie|apart", lambda at: write(at, mask(), moved))
    other("m_turned", "mask the other way round", "direction|lie|orientation", lambda at: write(at, mask(), turned))
    other("m_halves", "interpolated mask", "whole numbers", lambda at: write(at, mask() * np.float32(0.37)))
    other("m_nan", "mask with NaN", "whole numbers|NaN|finite", lambda at: write(at, mask() * np.float32("nan")))
    other("m_4d", "mask of two channels", "channel|4D", lambda at: write(at, mask((2, *SHAPE))))
    other("m_stray", "a stray voxel of a class of its own", "77", lambda at: write(at, stray))
    other("m_255", "255 where 1 is declared", "255", lambda at: write(at, mask() * np.uint8(255)))
    other("m_minus", "negative label", "-1", lambda at: write(at, -mask().astype(np.int16)))


def _wrong_rows(rows: _Rows, data: DataSet) -> None:
    data.plant("image that is not there", rows.row("gone.nii.gz,,g1"), "does not exist|no such|missing")
    data.plant("row without an image", rows.row(",sound0_m.nii.gz,g2"), "no image|names no")
    rows.scan("label_gone", labelled=False)
    rows.lines[-1] = "label_gone.nii.gz,label_gone_m.nii.gz,g3"
    data.plant("label that is not there", "label_gone_m.nii.gz", "does not exist|no such|missing")
    (rows.root / "link.nii.gz").symlink_to(rows.root / "nowhere.nii.gz")
    data.plant("link that leads to nothing", "link.nii.gz", "link|does not exist")
    rows.row("link.nii.gz,,g4")
    (rows.root / "folder.nii.gz").mkdir()
    data.plant("folder in place of a file", "folder.nii.gz", "folder|directory|no file|does not exist")
    rows.row("folder.nii.gz,,g5")
    scan, _ = rows.scan("copy_a")
    (rows.root / "copy_b.nii.gz").write_bytes(scan.read_bytes())
    rows.row("copy_b.nii.gz,,g6")
    data.plant("one scan under two subjects", "copy_b.nii.gz", "same|equal|twice|identical|duplicate")
    scan, _ = rows.scan("own_mask", labelled=False)
    rows.lines[-1] = "own_mask.nii.gz,own_mask.nii.gz,g7"
    data.plant("image given as its own label", scan, "same|own|itself|whole numbers")
    rows.scan("shared")
    rows.scan("sharing", labelled=False)
    rows.lines[-1] = "sharing.nii.gz,shared_m.nii.gz,g8"
    data.plant("one mask for two scans", "shared_m.nii.gz", "same|twice|another|already|two")
    rows.row("sound2.nii.gz,sound2_m.nii.gz,g10")
    data.plant("one image in two rows", "sound2.nii.gz", "same|twice|another|already|two")
    data.plant("a name too long for a file", rows.row("y" * 5000 + ".nii.gz,,g9"), "too long|does not exist")
