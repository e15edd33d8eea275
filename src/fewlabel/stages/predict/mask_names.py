"""What to call the masks: each by its scan, all different, and all below the folder of the output."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.output_paths import as_file_name
from fewlabel.core.printable import is_utf8, printable
from fewlabel.core.settings.base import path_from
from fewlabel.data.io.catalog_paths import is_file_path, mask_suffix, recorded

#: The images of a scan, one path per channel, and what it is called.
Group = tuple[tuple[Path, ...], str]


@dataclass(frozen=True)
class Scan:
    """One scan to segment.

    Attributes:
        images: One file per channel.
        output: Path of its mask, relative to the output folder; without ``..``.
    """

    images: tuple[Path, ...]
    output: Path


def input_of(scan: Scan, home: Path | None = None) -> str:
    """A scan as the table names it: its files, or the pseudonym of a DICOM series.

    Args:
        scan: The scan.
        home: Folder from which files are named; None for their paths as they were given.
    """
    names = map(recorded, scan.images)
    named = ";".join(name if home is None or not Path(name).is_absolute() else path_from(home, name) for name in names)
    # A table is UTF-8, whatever names of files are.
    return named if is_utf8(named) else printable(named)


def named_scans(groups: Iterable[Group], root: Path, suffix: str = "") -> tuple[Scan, ...]:
    """Masks are named by their scan; where names meet, the folders that the scans lie in are kept.

    Args:
        groups: The scans.
        root: Folder that they are expected in. Where scans whose names meet lie elsewhere too, as rows of a table may,
            their folders are kept from the first that not all share.
        suffix: Of the masks; empty for that of each scan, or of a format of its family that can hold a mask.

    Raises:
        DataError: If two scans differ in nothing but what a mask cannot keep, such as ``a.jpg`` and ``a.png``.
    """
    named: dict[Path, list[tuple[tuple[Path, ...], Path]]] = defaultdict(list)
    for images, stem in groups:
        # Only names of files are sure to be names of files.
        name = stem if is_file_path(images[0]) else as_file_name(stem)
        flat = Path(f"{name}{suffix or mask_suffix(images[0])}")
        named[flat].append((images, flat))
    scans = []
    for flat, members in named.items():
        if len(members) == 1:
            scans.append(Scan(members[0][0], flat))
            continue
        homes = [_without_dots(images[0].parent) for images, _ in members]
        top = _without_dots(root)
        if not all(home.is_relative_to(top) for home in homes):
            top = Path(os.path.commonpath(homes))
        scans.extend(
            Scan(images, home.relative_to(top) / flat) for home, (images, _) in zip(homes, members, strict=True)
        )
    return distinct(scans)


def distinct(scans: Iterable[Scan]) -> tuple[Scan, ...]:
    """The scans in the order of their masks.

    Raises:
        DataError: If two would have one mask.
    """
    scans = tuple(scans)
    outputs: dict[Path, list[Scan]] = defaultdict(list)
    for scan in scans:
        outputs[scan.output].append(scan)
    faults = [
        Fault(f"{output} would be the mask of {', '.join(str(scan.images[0]) for scan in members)}")
        for output, members in outputs.items()
        if len(members) > 1
    ]
    if faults:
        raise DataError("Masks would overwrite each other; segment these scans one folder at a time:", faults)
    return tuple(sorted(scans, key=lambda scan: scan.output))


def _without_dots(folder: Path) -> Path:
    """The absolute path without ``..``, which a name may lead out of a folder by; links stay as they are."""
    return Path(os.path.abspath(folder))  # noqa: PTH100  # Path.absolute keeps "..", and resolve follows links
