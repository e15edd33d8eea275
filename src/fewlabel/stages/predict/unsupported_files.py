"""Files that are no scans to us and yet hold images: each kind with its reason and what to do about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.io.itk_image import is_scan
from fewlabel.data.io.unread_formats import DICOM, NO_IMAGE, why_unreadable
from fewlabel.data.mask_names import is_mask_name
from fewlabel.stages.predict.listing import Listing

_MOST_NAMED = 3


def unreadable_faults(listing: Listing, understood: Set[str], root: Path, *, private: bool = False) -> list[Fault]:
    """One fault for each reason why files of a folder cannot be read, with their number and first names.

    Files that look like scans are not looked at: each is tried, and fails by itself.

    Args:
        listing: Of the folder.
        understood: Suffixes of files that a reader knows.
        root: The folder, for masks by the names of its folders: dangling links of these do not count.
        private: Whether names of files may be those of persons, so that none is said; the reader of the folder is then
            that of DICOM, and has said what it could not read of that.
    """
    kinds: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in listing.files:
        if is_scan(path) or path.suffix.lower() in understood or is_mask_name(path, root):
            continue
        if (kind := why_unreadable(path)) is not None and not (private and kind[0] == DICOM):
            kinds[kind].append(path)
    for path in listing.dangling:
        if not NO_IMAGE.search(path.name) and not is_mask_name(path, root):
            kinds["links that lead to nothing", "Restore what they point to, or remove them"].append(path)
    for folder, why in ({} if private else listing.closed).items():
        kinds[f"folders that cannot be listed ({why})", "Allow reading them, or move them away"].append(folder)
    return [
        Fault(f"{len(paths)} not read, {problem}{_named(paths, private=private or problem == DICOM)}", remedy=remedy)
        for (problem, remedy), paths in kinds.items()
    ]


def _named(paths: list[Path], *, private: bool) -> str:
    """Names after a colon; none where they may be those of persons."""
    if private:
        return ""
    shown = ", ".join(str(path) for path in paths[:_MOST_NAMED])
    return f": {shown}" + (f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else "")


def no_image_file(path: Path) -> Fault:
    """What keeps a single file from being a scan."""
    if path.is_symlink() and not path.exists():
        return Fault(f"{path} is a link that leads to nothing", remedy="Restore what it points to")
    kind = why_unreadable(path)
    if kind is None:
        return Fault(
            f"{path} is no image file", remedy="Give a scan, a folder of scans, or a table with an image column"
        )
    return Fault(f"{path} cannot be read ({kind[0]})", remedy=kind[1])
