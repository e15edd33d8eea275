"""Scans of one size in many formats, to measure what each stage keeps of them in memory.

A data set is one large scan and six small ones of the same plane, each with a mask of three classes, in a table; of
DICOM, folders of series without masks.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = ("nii.gz", "nii", "nrrd", "mha", "h5", "npz", "dicom", "png")
SMALL_SLICES, SMALL = 3, 6
_SPACING = (2.0, 1.0, 1.0)


def write_data_set(folder: Path, form: str, dtype: str, shape: Sequence[int]) -> Path:
    """Write a data set.

    Args:
        folder: Where to.
        form: One of :data:`FORMATS`.
        dtype: Of the voxels.
        shape: Voxels of the large scan along (z, y, x).

    Returns:
        The large scan alone, as ``predict`` takes it; the data set is ``folder / "all"``, or the table in it.
    """
    rows = []
    for number in range(1 + SMALL):
        deep = (shape[0] if number == 0 else SMALL_SLICES, *shape[1:])
        image, mask = _voxels(deep, dtype, number)
        name = f"p{number}"
        if form == "dicom":
            _dicom(folder / "all" / name, image, number)
            continue
        (folder / "all").mkdir(parents=True, exist_ok=True)
        if form == "png":
            rows.extend(_pictures(folder / "all", name, image, mask))
            continue
        paths = [_write(folder / "all", f"{name}_{kind}", form, array) for kind, array in (("i", image), ("m", mask))]
        rows.append({"image": paths[0], "label": paths[1], "subject": name})
    if form == "dicom":
        return folder / "all" / "p0"
    for table, chosen in (("scans.csv", rows), ("one.csv", [row for row in rows if row["subject"] == "p0"])):
        with (folder / "all" / table).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(chosen)
    return folder / "all" / "one.csv"


def _voxels(shape: Sequence[int], dtype: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A ball in a ball in noise, made slice by slice."""
    rng = np.random.default_rng(seed)
    image, mask = np.empty(shape, dtype=dtype), np.empty(shape, dtype=np.uint8)
    y, x = np.mgrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    for at, z in enumerate(np.linspace(-1, 1, shape[0])):
        far = np.sqrt(x**2 + y**2 + z**2) * (1 + 0.01 * seed)
        mask[at] = (far < 0.8).astype(np.uint8) + (far < 0.6) + (far < 0.4)
        image[at] = (20 + 50 * mask[at] + rng.integers(0, 20, far.shape)).astype(dtype)
    return image, mask


def _write(folder: Path, name: str, form: str, array: np.ndarray) -> str:
    if form == "h5":
        import h5py

        with h5py.File(folder / f"{name}.h5", "w") as file:
            file.create_dataset("a", data=array, chunks=(1, *array.shape[1:]), compression="gzip", compression_opts=1)
        return f"{name}.h5#a,zyx,2.0x1.0x1.0mm"
    if form == "npz":
        np.savez_compressed(folder / f"{name}.npz", a=array)
        return f"{name}.npz#a,zyx,2.0x1.0x1.0mm"
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(_SPACING[::-1])
    sitk.WriteImage(image, str(folder / f"{name}.{form}"), form != "nii")
    return f"{name}.{form}"


def _pictures(folder: Path, name: str, image: np.ndarray, mask: np.ndarray) -> list[dict[str, Any]]:
    from PIL import Image

    rows = []
    for at in range(len(image)):
        files = [f"{name}_{at:04d}_{kind}.png" for kind in ("i", "m")]
        for file, array in zip(files, (image, mask), strict=True):
            Image.fromarray(array[at]).save(folder / file, compress_level=1)
        rows.append({"image": files[0], "label": files[1], "subject": name, "slice": at, "case": name})
    return rows


def _dicom(folder: Path, image: np.ndarray, number: int) -> None:
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    folder.mkdir(parents=True, exist_ok=True)
    root = f"1.2.826.0.1.3680043.8.1.3.{number + 1}"
    for at, plane in enumerate(image):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        meta.MediaStorageSOPInstanceUID = f"{root}.9.{at + 1}"
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        file.Modality, file.PatientID, file.SeriesNumber, file.InstanceNumber = "MR", f"p{number}", 1, at + 1
        file.StudyInstanceUID, file.SeriesInstanceUID, file.FrameOfReferenceUID = f"{root}.1", f"{root}.2", f"{root}.3"
        file.ImageOrientationPatient, file.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, _SPACING[0] * at]
        file.PixelSpacing, file.SliceThickness = list(_SPACING[1:]), _SPACING[0]
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.Rows, file.Columns = plane.shape
        file.BitsAllocated = file.BitsStored = 16
        file.HighBit, file.PixelRepresentation = 15, 1
        file.PixelData = plane.astype("<i2").tobytes()
        file["PixelData"].VR = "OW"
        file.save_as(folder / f"{at:04d}.dcm", enforce_file_format=True)
