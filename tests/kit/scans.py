"""Writes small scans with known geometry, awkward ones among them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk


def rotation(degrees: float, axis: int) -> np.ndarray:
    """Rotation matrix about one patient axis."""
    a = np.deg2rad(degrees)
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(a)
    matrix[i, j], matrix[j, i] = -np.sin(a), np.sin(a)
    return matrix


#: File axes run posterior-anterior, feet-head and right-left, and the whole is tilted.
PERMUTED = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
TILTED = rotation(20, 0) @ rotation(12, 2) @ PERMUTED


def write_scan(path: Path, array: np.ndarray, spacing=(1.0, 1.0, 1.0), origin=(0, 0, 0), direction=None) -> Path:
    """Write ``array`` (z, y, x); spacing and origin are (x, y, z), direction a 3x3 matrix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if array.ndim == 3:
        image.SetSpacing([float(s) for s in spacing])
        image.SetOrigin([float(o) for o in origin])
        if direction is not None:
            image.SetDirection(np.asarray(direction, dtype=float).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def blob(shape=(5, 21, 17), value=1) -> np.ndarray:
    """A mask with an off-centre box, different along every axis."""
    mask = np.zeros(shape, dtype=np.uint8)
    z, y, x = shape
    mask[1 : z - 1, y // 3 : y // 3 + 5, x // 2 : x // 2 + 4] = value
    return mask


def noise(shape=(5, 21, 17), seed=0) -> np.ndarray:
    """Noise in raw intensities."""
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def nnunet_folder(root: Path, cases=("a", "b"), labelled=None, test=(), shape=(4, 24, 20), labels=None) -> Path:
    """An nnU-Net v2 folder of small scans."""
    labelled = cases if labelled is None else labelled
    described = {"channel_names": {"0": "MR"}, "labels": labels or {"background": 0, "organ": 1}, "name": "toy"}
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(described))
    for number, case in enumerate([*cases, *test]):
        part = "Ts" if case in test else "Tr"
        image = noise(shape, number) + 80 * blob(shape)
        write_scan(root / f"images{part}" / f"{case}_0000.nii.gz", image, (1.0, 1.0, 5.0))
        if case in labelled:
            write_scan(root / f"labels{part}" / f"{case}.nii.gz", blob(shape), (1.0, 1.0, 5.0))
    return root


def acdc_subset(root: Path, source: Path, patients: tuple[int, ...]) -> Path:
    """A folder of links to some ACDC patients."""
    root.mkdir(parents=True, exist_ok=True)
    for number in patients:
        name = f"patient{number:03d}"
        (root / name).symlink_to(source / "acdc" / name, target_is_directory=True)
    return root


def acdc_like(path, array):
    """A NIfTI whose sform lies about the spacing, as in ACDC: diag(-1, -1, 1), with the truth in pixdim."""
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), None)
    image.header["pixdim"][1:4] = (1.5, 1.5, 10.0)
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    image.header["srow_x"], image.header["srow_y"] = (-1, 0, 0, 0), (0, -1, 0, 0)
    image.header["srow_z"] = (0, 0, 1, 0)
    image.header["descrip"] = b"as found"
    image.header["xyzt_units"] = 10
    image.header["cal_max"] = 400
    # The array is written under the header as it is: nibabel would mend the matrices otherwise.
    with path.open("wb") as stream:
        image.header["magic"] = b"n+1"
        image.header["vox_offset"] = 352
        image.header.write_to(stream)
        stream.write(b"\0" * 4)
        stream.write(np.asfortranarray(array.transpose(2, 1, 0)).tobytes(order="F"))
    return path
