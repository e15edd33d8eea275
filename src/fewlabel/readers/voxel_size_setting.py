"""What the setting ``spacing`` of readers of pictures and arrays may be."""

from __future__ import annotations


def three_sizes(value: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """The voxel size (slice, row, column) in mm, or None, as it is; for ``field_validator("spacing")``.

    Raises:
        ValueError: If it is not three numbers above 0.
    """
    if value is not None and (len(value) != 3 or min(value) <= 0):
        raise ValueError("must be three positive numbers: slice, row, column")
    return value
