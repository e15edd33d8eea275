"""SUN RGB-D: rooms, with classes for each pixel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Case, Catalog
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.listing import files_below, scans_below

_IMAGE = re.compile(r"img-(?P<number>\d{6})\.jpg$")
_LABEL = re.compile(r"img(?P<classes>13|37)?(?:labels)?-(?P<number>\d{6})\.png$")
#: Numbers up to this are of the test part, as the authors split the images.
_LAST_TEST = 5050
_37 = [
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "blinds",
    "desk",
    "shelves",
    "curtain",
    "dresser",
    "pillow",
    "mirror",
    "floor_mat",
    "clothes",
    "ceiling",
    "books",
    "fridge",
    "tv",
    "paper",
    "towel",
    "shower_curtain",
    "box",
    "whiteboard",
    "person",
    "night_stand",
    "toilet",
    "sink",
    "lamp",
    "bathtub",
    "bag",
]
_13 = [
    "bed",
    "books",
    "ceiling",
    "chair",
    "floor",
    "furniture",
    "objects",
    "picture",
    "sofa",
    "table",
    "tv",
    "wall",
    "window",
]


class SunRgbdReader(Reader):
    """SUN RGB-D (Song et al., CVPR 2015) with its labels as pictures, as the literature passes it around.

    ``img-000001.jpg`` with ``img-000001.png`` or ``img37labels-000001.png`` (37 classes) or ``img13labels-000001.png``
    (13), in any folders, such as ``SUNRGBD-train_images``, ``SUNRGBD-test_images`` and ``sunrgbd_train_test_labels``.
    Numbers up to 5050 are the test part. 0 is a pixel without a class. Depth is not read.
    """

    class Config(Reader.Config):
        """No settings."""

        name: str = "sunrgbd"

    summary: ClassVar[str] = "SUN RGB-D: img-000001.jpg with img-000001.png, img37labels- or img13labels-000001.png"

    @classmethod
    def match(cls, root: Path) -> Match:
        """By names ``img-000001.jpg``."""
        if not root.is_dir():
            return Match(0.0, ("not a folder",))
        images, labels = _files(root)
        if images and labels:
            return Match(0.95, (f"{len(images)} images img-000000.jpg", f"{len(labels)} labels"))
        if any(path.name == "seg.mat" for path in files_below(root)):
            return Match(0.4, ("labels are in seg.mat, which is not read: get them as pictures (sunrgbd-meta-data)",))
        return Match(0.0, ("no images img-000000.jpg with labels",))

    def collect(self, root: Path) -> Catalog:
        """One case per image."""
        images, labels = _files(root)
        faults = [] if images else [Fault(f"{root} holds no images named img-000000.jpg")]
        kinds = {classes for classes, _ in labels.values()}
        if len(kinds) > 1:
            faults.append(Fault(f"{root} holds labels of 13 and of 37 classes", remedy="Take one kind away"))
        names = _13 if kinds == {"13"} else _37
        strays = sorted(set(labels) - set(images))
        if strays:
            shown = ", ".join(str(labels[number][1]) for number in strays[:3]) + (", …" if len(strays) > 3 else "")
            faults.append(Fault(f"{len(strays)} labels have no image: {shown}", str(root), "Restore the images"))
        cases = tuple(
            Case(
                id=path.stem,
                subject=path.stem,
                images=(root / path,),
                label=root / labels[number][1] if number in labels else None,
                part="test" if number <= _LAST_TEST else "",
            )
            for number, path in sorted(images.items())
        )
        return Catalog(
            name="SUN RGB-D",
            root=root,
            reader="sunrgbd",
            cases=cases,
            label_names={0: "background", **{index + 1: name for index, name in enumerate(names)}},
            channels=("red", "green", "blue"),
            notes=("pixels of value 0 have no class in SUN RGB-D; they are learnt as background",),
            faults=tuple(faults),
        )


def _files(root: Path) -> tuple[dict[int, Path], dict[int, tuple[str, Path]]]:
    """Images, and labels with how many classes they have, by number."""
    images: dict[int, Path] = {}
    labels: dict[int, tuple[str, Path]] = {}
    for path in scans_below(root):
        if match := _IMAGE.match(path.name):
            images[int(match["number"])] = path
        elif (match := _LABEL.match(path.name)) and "depth" not in path.as_posix().lower():
            labels[int(match["number"])] = (match["classes"] or "37", path)
    return images, labels
