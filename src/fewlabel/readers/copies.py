"""Scans and masks that lie in one folder in two formats: which of them is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.file_names import SCAN_SUFFIXES, is_segmentation
from fewlabel.data.mask_names import is_mask_name

_MOST = 3


def without_copies(files: Sequence[Path], root: Path, faults: list[Fault]) -> list[Path]:
    """Files, with one of those that have one name but for the format: the others would be read as other scans.

    Args:
        files: Images and masks, relative to ``root``.
        root: Folder of the data set.
        faults: Takes what is there in several formats.
    """
    named: dict[tuple[Path, str, bool], list[Path]] = defaultdict(list)
    for path in files:
        # An image and its segmentation by 3D Slicer have one name.
        named[(path.parent, scan_stem(path), is_segmentation(path) or is_mask_name(path))].append(path)
    copies = [sorted(paths, key=_preference) for paths in named.values() if len(paths) > 1]
    for paths in copies[:_MOST] if len(copies) <= _MOST else copies[:1]:
        first, *others = paths
        names = ", ".join(path.name for path in others)
        problem = f"{root / first} is there in another format, too, under the same name: {names}"
        if len(copies) > _MOST:
            problem += f"; so are {len(copies) - 1} more files"
        faults.append(Fault(problem, remedy="Keep one of each"))
    left_out = {path for paths in copies for path in paths[1:]}
    return [path for path in files if path not in left_out]


def _preference(path: Path) -> int:
    low = path.name.lower()
    return next(place for place, suffix in enumerate(SCAN_SUFFIXES) if low.endswith(suffix))
