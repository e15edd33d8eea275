"""The DICOM files below a folder, told by their content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.artifact.own_files import own_files
from fewlabel.core.errors import reason
from fewlabel.core.progress import task
from fewlabel.data.io.dicom.headers import Header, read_header
from fewlabel.data.io.dicom_faults import is_dicom

#: Names of files of DICOM that may lack the preamble.
_NAMED = (".dcm", ".dicom", ".ima")
_START = 132


@dataclass(frozen=True)
class Tree:
    """What lies below a folder.

    Attributes:
        headers: Of its DICOM files, by path.
        unreadable: Files and folders that cannot be read, and why.
        others: Files that are no DICOM.
        own: How many files earlier runs made, which are passed over.
    """

    headers: tuple[Header, ...]
    unreadable: tuple[tuple[Path, str], ...]
    others: tuple[Path, ...]
    own: int = 0


def read_tree(root: Path) -> Tree:
    """The header of every DICOM file below a folder; links are followed.

    Hidden files, DICOMDIR and what earlier runs made do not count.

    Args:
        root: The folder, or one file.

    Raises:
        DataError: If pydicom is not installed.
    """
    headers: list[Header] = []
    unreadable: list[tuple[Path, str]] = []
    others: list[Path] = []
    own: set[Path] = set()
    files = [root] if root.is_file() else list(_walked(root, unreadable, own))
    with task("headers", len(files)) as bar:
        for file in files:
            try:
                if is_dicom_file(file):
                    headers.append(read_header(file))
                else:
                    others.append(file)
            except OSError as error:
                unreadable.append((file, f"cannot be read ({reason(error)})"))
            except ValueError as error:
                unreadable.append((file, f"cannot be read as DICOM: {error}"))
            bar.advance()
    return Tree(tuple(headers), tuple(unreadable), tuple(others), sum(path.is_file() for path in own))


def series_files(file: Path) -> int:
    """How many DICOM files in the folder of one are of its series, itself included.

    Raises:
        DataError: If pydicom is not installed.
    """
    count = 0
    try:
        own = read_header(file)
        if own.planes and own.planes[0].frames == 1:
            others = (other for other in sorted(file.parent.iterdir()) if other.is_file() and is_dicom_file(other))
            count = sum(read_header(other).series == own.series for other in others)
    except (OSError, ValueError):
        return 1
    return max(1, count)


def is_dicom_file(file: Path) -> bool:
    """Whether a file is DICOM by its first bytes, or by its name where it begins with a tag of DICOM.

    Raises:
        OSError: If it cannot be read.
    """
    if file.name.upper() == "DICOMDIR":
        return False
    with file.open("rb") as stream:
        start = stream.read(_START)
    if is_dicom(start):
        return True
    return file.suffix.lower() in _NAMED and len(start) == _START and start[:2] in {b"\x08\0", b"\x02\0"}


def _walked(root: Path, unreadable: list[tuple[Path, str]], own: set[Path]) -> Iterator[Path]:
    """Files below a folder, sorted; each folder once, though links may lead to it again.

    Args:
        root: The folder.
        unreadable: Takes folders that cannot be listed, and why.
        own: Takes what earlier runs made, which is no label unless somebody puts it elsewhere.
    """
    entered: set[Path] = set()

    def closed(error: OSError) -> None:
        unreadable.append((Path(error.filename), f"cannot be listed ({reason(error)})"))

    for place, folders, names in os.walk(root, onerror=closed, followlinks=True):
        here = Path(place)
        if (artifact := own_files(here, names)) is not None:
            own |= artifact.files
        if here.resolve() in entered:
            folders.clear()
            continue
        entered.add(here.resolve())
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and here / name not in own and (here / name).is_file():
                yield here / name
