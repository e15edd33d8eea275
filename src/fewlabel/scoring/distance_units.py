"""Units of distances and volumes: mm and ml, or voxels where nobody knows how large a voxel is.

Within the program measures keep one name each, such as ``hd95_mm``; in files in voxels they end in ``_voxels``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Key of a ``summary.json`` that says so where measures are in voxels.
KEY = "units"
VOXELS = "voxels"
#: Name of a measure in files that are in voxels → its name within the program.
NAMES = {
    f"{name}_{VOXELS}": f"{name}{ending}"
    for ending, names in {
        "_mm": ("hd95", "assd"),
        "_ml": ("reference", "predicted", "stray", "removed"),
    }.items()
    for name in names
}


@dataclass(frozen=True)
class Units:
    """Names of the units that distances and volumes are in."""

    distance: str = "mm"
    volume: str = "ml"


def units_of(summary: Mapping[str, Any]) -> Units:
    """The units of the measures in a ``summary.json``."""
    return Units(VOXELS, VOXELS) if summary.get(KEY) == VOXELS else Units()


def named_in_voxels(values: Any) -> Any:
    """The same nested values, with keys such as ``hd95_mm`` and ``stray_ml`` as ``hd95_voxels``, ``stray_voxels``."""
    return _renamed(values, {name: written for written, name in NAMES.items()})


def named_as_usual(values: Any) -> Any:
    """What :func:`named_in_voxels` did, undone."""
    return _renamed(values, NAMES)


def _renamed(values: Any, names: Mapping[str, str]) -> Any:
    if isinstance(values, Mapping):
        return {names.get(key, key): _renamed(value, names) for key, value in values.items()}
    return [_renamed(value, names) for value in values] if isinstance(values, list) else values
