"""Files among the scans of a data set that hold images nobody reads: packed ones, and formats that are not read."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.io.archive_contents import packed_images
from fewlabel.data.io.hdf5_and_npz_arrays import NPZ, SUFFIX
from fewlabel.data.io.itk_image import is_scan
from fewlabel.data.io.unread_formats import CONVERTERS, DICOM, PACKED, UNKNOWN, why_unreadable
from fewlabel.readers.listing import files_below

_MOST_SHOWN = 3


def unread_files(root: Path) -> tuple[list[Fault], list[str]]:
    """Packed files whose images are not there unpacked as well, as one fault; notes on formats that are not read.

    Args:
        root: Folder of a data set.
    """
    files = files_below(root)
    # Files by their names and those of their folders: every patient's scan may be called alike.
    there = {(path.parent.name, path.name) for path in files}
    kinds: dict[tuple[str, str], list[Path]] = defaultdict(list)
    packed: list[Path] = []
    for path in files:
        if is_scan(path) or path.suffix.lower() in {NPZ, SUFFIX}:
            continue
        kind = why_unreadable(root / path)
        if kind is None:
            continue
        if kind[0] == PACKED:
            packed.extend([path] if _holds_more(root, path, there) else [])
        elif not kind[0].startswith(UNKNOWN) or path.suffix.lower() in CONVERTERS:
            # What else there is need not be an image.
            kinds[kind].append(path)
    faults = []
    if packed:
        problem = f"{_counted(len(packed), 'packed file')} among the scans cannot be read: {_named(packed)}"
        faults.append(Fault(problem, str(root), "Unpack what holds scans or masks, and move the packed files away"))
    return faults, [
        # Names of DICOM files may be those of persons.
        f"{len(paths)} not read, {problem}{'' if problem == DICOM else f': {_named(paths)}'}. {remedy}"
        for (problem, remedy), paths in kinds.items()
    ]


def _holds_more(root: Path, path: Path, there: set[tuple[str, str]]) -> bool:
    """Whether a packed file may hold images that do not lie unpacked in the folder."""
    images = packed_images(root / path)
    if images is None:
        return True
    # Unpacked here, or into a folder that is called like the packed file.
    homes = (path.parent.name, path.name.split(".")[0])
    return not all(
        any((home, image.name) in there for home in ([image.parent.name] if image.parent.name else homes))
        for image in images
    )


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _named(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:_MOST_SHOWN])) + (", …" if len(paths) > _MOST_SHOWN else "")
