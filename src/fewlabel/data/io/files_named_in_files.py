"""Files that other files name, as a header names the file of its voxels: only those in its own folder and below.

Whoever sends a folder of scans decides what stands in their headers. A name that leads elsewhere would have any file of
this machine read as voxels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.named_files import file_is_there
from fewlabel.data.io.stored_voxel_checks import MOST_FILES

#: What to do about a name that leads elsewhere.
REMEDY = "Put that file beside it, and name it so"
_MOST_LINKS = 16
_COUNTING = re.compile(r"[^%]*%\d{0,2}[diu][^%]*")


def leading_outside(own: Path, named: Iterable[Path]) -> tuple[Path, ...]:
    """Those of the named files that lie neither in the folder of the file that names them nor below.

    Names count, not links in the file system, which are the user's; nothing is opened.

    Args:
        own: The file that names them.
        named: Their paths.

    Example:
        >>> leading_outside(Path("scans/a.mhd"), [Path("scans/a.raw"), Path("scans/../b.raw")])
        (PosixPath('scans/../b.raw'),)
    """
    home = _plain(own.parent)
    return tuple(file for file in named if not _plain(file).is_relative_to(home))


def numbered_names(pattern: str, numbers: Sequence[int]) -> list[str]:
    """Names of files that a header counts, as ``slice%03d.raw``; none where these are too many, or the pattern is none.

    Args:
        pattern: With one number of at most two digits' width: with more, a name would fill the memory.
        numbers: To be put in.
    """
    if len(numbers) > MOST_FILES or not _COUNTING.fullmatch(pattern):
        return []
    return [pattern % number for number in numbers]


def outside_problem(name: str) -> str:
    """The problem of a file that names another one elsewhere."""
    return f"names {name}, which lies outside of its folder"


def check_h5_links(group: Any, name: str) -> None:
    """Refuse an entry of an HDF5 file whose voxels would come from a file elsewhere.

    Such are external links, soft links through them, arrays with external storage and virtual arrays.

    Args:
        group: An open HDF5 file, or a group in it.
        name: Of an entry there.

    Raises:
        DataError: If so; no such file has been opened.
        KeyError: If a link leads to nothing.
        OSError: If a file in its folder to which a link leads cannot be opened.
    """
    _walk(group, [name], _MOST_LINKS, set())


def _walk(group: Any, names: list[str], links: int, known: set[tuple[Path, str]]) -> None:
    """Follow a path in a file.

    Args:
        group: Where it begins.
        names: The path.
        links: That may still be followed.
        known: Arrays that were looked at; takes more. Virtual arrays of virtual arrays come by the million else.
    """
    import h5py

    place, own = group, Path(group.file.filename)
    for number, name in enumerate(names):
        if not isinstance(place, h5py.Group):
            raise KeyError(name)
        link = place.get(name, getlink=True)
        if links == 0:
            raise KeyError(name)
        if isinstance(link, h5py.ExternalLink):
            with h5py.File(_inside(own, link.filename), "r") as other:
                _walk(other, [*_words(link.path), *names[number + 1 :]], links - 1, known)
            return
        if isinstance(link, h5py.SoftLink):
            start = group.file if link.path.startswith("/") else place
            _walk(start, [*_words(link.path), *names[number + 1 :]], links - 1, known)
            return
        place = place[name]
    if isinstance(place, h5py.Dataset):
        _check_storage(place, own, links, known)


def _check_storage(array: Any, own: Path, links: int, known: set[tuple[Path, str]]) -> None:
    import h5py

    if (own, array.name) in known:
        return
    known.add((own, array.name))
    for name, *_ in array.external or ():
        _inside(own, name)
    for source in array.virtual_sources() if array.is_virtual else ():
        if source.file_name == ".":
            _walk(array.file, _words(source.dset_name), links - 1, known)
            continue
        file = _inside(own, source.file_name)
        if file_is_there(file):
            with h5py.File(file, "r") as other:
                _walk(other, _words(source.dset_name), links - 1, known)


def _inside(own: Path, name: str) -> Path:
    file = own.parent / name
    if leading_outside(own, [file]):
        raise DataError("A file cannot be read:", [Fault(outside_problem(name), str(own), REMEDY)])
    return file


def _words(path: str) -> list[str]:
    return [word for word in path.split("/") if word not in ("", ".")]


def _plain(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.absolute keeps "..", and resolve follows links
