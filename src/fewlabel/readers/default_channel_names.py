"""Names of the channels of images that nobody named."""

from __future__ import annotations

from collections.abc import Iterable

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case
from fewlabel.data.io.volume_reading import read_geometry

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_COLOURS = ("red", "green", "blue")


def channel_names(cases: Iterable[Case], usual: str = "image") -> tuple[str, ...]:
    """Channels of the first scan that can be read, from its header: colours of a picture, else numbers.

    Args:
        cases: Of one file each.
        usual: Name of the channel where there is one.
    """
    for case in cases:
        path = case.images[0]
        try:
            count = sum(read_geometry(image).components for image in case.images)
        except DataError:
            continue
        if count == 1:
            break
        if count == len(_COLOURS) and len(case.images) == 1 and path.name.partition("#")[0].lower().endswith(_PICTURES):
            return _COLOURS
        return tuple(f"channel {index}" for index in range(count))
    return (usual,)
