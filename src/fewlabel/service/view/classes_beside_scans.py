"""What masks beside scans hold, where no run has looked at them: names as the data set says them, or values alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fewlabel.core.errors import DataError
from fewlabel.core.progress import task
from fewlabel.data.added_mask_reading import plan_with_ignored
from fewlabel.data.io.volume_reading import needs_grid, read_geometry, read_mask
from fewlabel.data.label_values import IGNORE_NAMES, MOST_CLASSES
from fewlabel.data.preprocess import Plan
from fewlabel.data.scan_inspection import cores, in_threads
from fewlabel.data.voxel_counts import value_counts


def names_of_values(masks: Mapping[tuple[Path, ...], Path]) -> dict[int, str]:
    """A name for each value that masks hold, which takes reading all of them; none where there are too many.

    A mask that cannot be read has no say here: who opens it is told why.

    Args:
        masks: Images of a scan → its mask.
    """

    def values_of(pair: tuple[tuple[Path, ...], Path]) -> set[int]:
        images, mask = pair
        try:
            return set(value_counts(read_mask(mask, grid=read_geometry(images[0]) if needs_grid(mask) else None)))
        except DataError:
            return set()

    values: set[int] = set()
    with task("values of masks", len(masks)) as bar:
        for held in in_threads(values_of, masks.items(), cores()):
            values |= held
            bar.advance()
    values.discard(0)
    return {value: f"label {value}" for value in sorted(values)} if len(values) <= MOST_CLASSES else {}


def plan_of_names(names: Mapping[int, str]) -> Plan:
    """A plan of these classes, with a value for voxels that nobody looked at.

    Args:
        names: Value → name; one that says that a voxel is to be ignored is no class.
    """
    ignored = [value for value, name in names.items() if value and name.lower() in IGNORE_NAMES]
    values = [0, *sorted(value for value in names if value and value not in ignored)]
    return plan_with_ignored(
        Plan(
            (1.0, 1.0),
            (1, 1),
            label_values=tuple(values),
            label_names=tuple(names.get(value, "background") for value in values),
            ignore_value=ignored[0] if ignored else None,
            label_aliases=dict.fromkeys(ignored[1:], ignored[0] if ignored else 0),
        )
    )
