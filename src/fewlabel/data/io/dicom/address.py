"""Volumes and masks of DICOM as paths of a catalog: the folder that was given, and pseudonyms for what lies in it.

No path below that folder, which may hold the name of a patient, is in such a path: ``DATA#dicom:p3fa90c1b22_s0d41ce``.
:func:`fewlabel.data.io.dicom.data_set_index.open_archive` says which files it stands for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

_ADDRESS = re.compile(r"(?P<root>.+)#(?P<kind>dicom|dicom-mask):(?P<details>[^#/]+)$")


@dataclass(frozen=True)
class DicomScan:
    """A volume of a DICOM series.

    Attributes:
        root: The folder, or file, that was given.
        scan: Pseudonym of the volume in it, which is the id of its case.
    """

    root: Path
    scan: str

    @property
    def path(self) -> Path:
        """The volume as the path of a catalog."""
        return self.root.with_name(f"{self.root.name}#dicom:{self.scan}")

    def __str__(self) -> str:
        return f"DICOM series {self.scan}"


@dataclass(frozen=True)
class DicomMask:
    """Structures of DICOM segmentations or structure sets, on the grid of the volume that they are of.

    Attributes:
        root: The folder that was given.
        scan: Pseudonym of the volume.
        objects: Pseudonyms of the segmentations or structure sets.
        values: Name of each structure of the data set, whether this volume has it or not → its value in the mask, in
            the order in which structures take voxels: the later one has a voxel that lies in several. Other structures
            are left out.
        ordered: Whether somebody has said that this is the order.
    """

    root: Path
    scan: str
    objects: tuple[str, ...]
    values: tuple[tuple[str, int], ...]
    ordered: bool = False

    @property
    def path(self) -> Path:
        """The mask as the path of a catalog."""
        details = json.dumps([self.scan, self.objects, self.values, self.ordered], separators=(",", ":"))
        return self.root.with_name(f"{self.root.name}#dicom-mask:{quote(details, safe='')}")

    def __str__(self) -> str:
        return f"the structures of DICOM series {self.scan}"


def dicom_roots(paths: Iterable[Path]) -> list[Path]:
    """The folders, or files, of DICOM that paths of a catalog lie in, sorted."""
    return sorted({dicom.root for path in paths if (dicom := parse_dicom(path)) is not None})


def parse_dicom(path: Path) -> DicomScan | DicomMask | None:
    """What of DICOM a path of a catalog stands for; None for any other."""
    match = _ADDRESS.match(path.name)
    if match is None:
        return None
    root = path.with_name(match["root"])
    if match["kind"] == "dicom":
        return DicomScan(root, match["details"])
    try:
        scan, objects, values, ordered = json.loads(unquote(match["details"]))
    except ValueError:
        return None
    named = tuple((str(name), int(value)) for name, value in values)
    return DicomMask(root, scan, tuple(objects), named, bool(ordered))
