"""Names of the channels of images that nobody named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case
from fewlabel.data.io.volume_reading import read_geometry

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_COLOURS = ("red", "green", "blue")
#: Scans that are looked at.
_SAMPLE = 20


def channel_names(cases: Sequence[Case], usual: str = "image") -> tuple[str, ...]:
    """Channels of most scans, by the headers of a few: colours of pictures, else numbers.

    Args:
        cases: Of one file each.
        usual: Name of the channel where there is one.
    """
    kinds: Counter[tuple[str, ...]] = Counter()
    for case in cases[:: max(1, len(cases) // _SAMPLE)]:
        path = case.images[0]
        try:
            count = sum(read_geometry(image).components for image in case.images)
        except DataError:
            continue
        picture = len(case.images) == 1 and path.name.partition("#")[0].lower().endswith(_PICTURES)
        if count == 1:
            kinds[(usual,)] += 1
        elif count == len(_COLOURS) and picture:
            kinds[_COLOURS] += 1
        else:
            kinds[tuple(f"channel {index}" for index in range(count))] += 1
    return kinds.most_common(1)[0][0] if kinds else (usual,)
