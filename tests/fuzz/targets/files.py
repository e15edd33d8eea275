"""A scan with its mask in each kind of file, looked at and read as ``check``, ``prepare`` and ``predict`` do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
from PIL import Image

from fewlabel.data.catalog import Case
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.data.scan_inspection import inspect_case
from fuzz.targets.base import Target
from fuzz.targets.readers import SHAPE, named
from kit.pictures import classes, photo, write_picture
from kit.scans import blob, noise, write_scan


def look(image: str, mask: str) -> Callable[[Path, int], None]:
    """Look at a scan and its mask, then read both; what the look names is not read."""

    def meet(folder: Path, index: int) -> None:
        label = folder / mask
        case = Case("a", "a", (folder / image,), label if mask and label.exists() else None)
        facts = inspect_case(case, 1)
        named(facts.faults)
        volume = read_volume(case.images)
        if case.label is not None:
            read_mask(case.label, [], volume.geometry)

    return meet


def in_format(suffix: str, *, compress: bool = False) -> Callable[[], None]:
    """A scan and a mask in a format of ITK."""

    def build() -> None:
        import SimpleITK as sitk

        for name, array in (("image", noise(SHAPE)), ("mask", blob(SHAPE))):
            path = write_scan(Path(f"{name}{suffix}"), array, (1.0, 1.0, 4.0))
            if compress:
                sitk.WriteImage(sitk.ReadImage(str(path)), str(path), useCompression=True)

    return build


def analyze_pair() -> None:
    """``.hdr`` and ``.img``."""
    for name, array in (("image", noise(SHAPE)), ("mask", blob(SHAPE))):
        nibabel.save(nibabel.Nifti1Pair(array.T, np.diag([1.0, 1.0, 4.0, 1.0])), f"{name}.hdr")


def segments() -> None:
    """A segmentation as 3D Slicer writes it."""
    import SimpleITK as sitk

    write_scan(Path("image.nrrd"), noise(SHAPE), (1.0, 1.0, 4.0))
    path = write_scan(Path("mask.seg.nrrd"), blob(SHAPE), (1.0, 1.0, 4.0))
    made = sitk.ReadImage(str(path))
    for key, value in {
        "Segment0_ID": "Segment_1",
        "Segment0_Name": "organ",
        "Segment0_LabelValue": "1",
        "Segment0_Layer": "0",
        "Segment0_Extent": "0 9 0 11 0 2",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }.items():
        made.SetMetaData(key, value)
    sitk.WriteImage(made, str(path))


def pictures(suffix: str, mask: str) -> Callable[[], None]:
    """A grey picture and its mask."""

    def build() -> None:
        truth = classes(size=(24, 28))
        write_picture(Path(f"image{suffix}"), photo(truth)[..., 0])
        write_picture(Path(f"mask{mask}"), truth)

    return build


def tiff_stack() -> None:
    """Pages of one file are slices."""
    pages = [Image.fromarray(page) for page in (noise(SHAPE) / 2).astype(np.uint8)]
    pages[0].save("image.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    pages = [Image.fromarray(page) for page in blob(SHAPE)]
    pages[0].save("mask.tif", save_all=True, append_images=pages[1:])


def hdf5() -> None:
    """Image and label in one file."""
    with h5py.File("scan.h5", "w") as file:
        file.create_dataset("image", data=noise(SHAPE), compression="gzip")
        file["label"] = blob(SHAPE)


def npz() -> None:
    """Image and label as members of one archive."""
    np.savez("scan.npz", image=noise(SHAPE), label=blob(SHAPE))


def arrays(name: str, reader: str) -> Callable[[Path, int], None]:
    """Look at an array file through the reader that knows such files."""

    def meet(folder: Path, index: int) -> None:
        from fewlabel.readers.base import collect_catalog

        _, catalog = collect_catalog(folder / name if reader == "ssl4mis" else folder, reader)
        faults = list(catalog.faults)
        for case in catalog.cases:
            if wrong := inspect_case(case, 1).faults:
                faults += wrong
            else:
                read_volume(case.images)
        named(faults)

    return meet


def _file(name: str, build: Callable[[], None], meet: Callable[[Path, int], None], **more: Any) -> Target:
    return Target(f"file-{name}", "file", build, meet, confined=True, **more)


FILES = [
    _file("nii", in_format(".nii"), look("image.nii", "mask.nii")),
    _file("nii-gz", in_format(".nii.gz"), look("image.nii.gz", "mask.nii.gz")),
    _file("hdr-img", analyze_pair, look("image.hdr", "mask.hdr")),
    _file("nrrd", in_format(".nrrd"), look("image.nrrd", "mask.nrrd")),
    _file("nrrd-packed", in_format(".nrrd", compress=True), look("image.nrrd", "mask.nrrd")),
    _file("nhdr", in_format(".nhdr"), look("image.nhdr", "mask.nhdr")),
    _file("seg-nrrd", segments, look("image.nrrd", "mask.seg.nrrd")),
    _file("mha", in_format(".mha"), look("image.mha", "mask.mha")),
    _file("mha-packed", in_format(".mha", compress=True), look("image.mha", "mask.mha")),
    _file("mhd", in_format(".mhd"), look("image.mhd", "mask.mhd")),
    _file("png", pictures(".png", ".png"), look("image.png", "mask.png")),
    _file("jpeg", pictures(".jpg", ".png"), look("image.jpg", "mask.png"), spare=frozenset({"mask.png"})),
    _file("bmp", pictures(".bmp", ".bmp"), look("image.bmp", "mask.bmp")),
    _file("tiff", pictures(".tif", ".tif"), look("image.tif", "mask.tif")),
    _file("tiff-stack", tiff_stack, look("image.tif", "mask.tif")),
    _file("h5", hdf5, arrays("scan.h5", "ssl4mis")),
    _file("npz", npz, arrays("", "npz")),
]
