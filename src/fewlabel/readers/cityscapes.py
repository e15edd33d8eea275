"""Cityscapes: streets seen from a car, with classes for each pixel."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import ClassVar

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Case, Catalog, Column
from fewlabel.data.io.composite_paths import Colour, Coloured
from fewlabel.readers.base import Match, Reader

_IMAGES, _LABELS = "leftImg8bit", "gtFine"
_PARTS = {"train": "", "val": "validation", "test": "test"}
_NAME = re.compile(r"(?P<scene>(?P<city>.+)_\d{6}_\d{6})_leftImg8bit\.(?:png|jpg)$")
#: The labels, best first: classes of training, colours, all classes.
_KINDS = ("labelTrainIds", "color", "labelIds")
_IGNORE = 255
#: Class of training → its name, its number among all classes and its colour (Cordts et al., CVPR 2016).
_CLASSES: tuple[tuple[str, int, Colour], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
_VOID: tuple[tuple[str, int, Colour], ...] = (
    ("unlabelled", 0, (0, 0, 0)),
    ("dynamic", 5, (111, 74, 0)),
    ("ground", 6, (81, 0, 81)),
    ("parking", 9, (250, 170, 160)),
    ("rail track", 10, (230, 150, 140)),
    ("guard rail", 14, (180, 165, 180)),
    ("bridge", 15, (150, 100, 100)),
    ("tunnel", 16, (150, 120, 90)),
    ("caravan", 29, (0, 0, 90)),
    ("trailer", 30, (0, 0, 110)),
)


class CityscapesReader(Reader):
    """Cityscapes (Cordts et al., CVPR 2016) as distributed.

    ``leftImg8bit/train/CITY/CITY_000000_000019_leftImg8bit.png`` with ``gtFine/train/CITY/…_gtFine_labelTrainIds.png``.
    Where those are missing, ``…_color.png`` gives the same 19 classes; with ``…_labelIds.png`` alone all classes are
    learnt, void ones too. 255 is ignored. ``val`` is for validation; labels of ``test`` are not public and not read.
    The city is metadata.
    """

    class Config(Reader.Config):
        """No settings."""

        name: str = "cityscapes"

    markers: ClassVar[tuple[str, ...]] = ("leftImg8bit",)
    summary: ClassVar[str] = (
        "Cityscapes: leftImg8bit/train/CITY/SCENE_leftImg8bit.png, gtFine/train/CITY/SCENE_gtFine_labelIds.png"
    )

    @classmethod
    def match(cls, root: Path) -> Match:
        """By the folders ``leftImg8bit`` and ``gtFine``."""
        if not (root / _IMAGES).is_dir():
            return Match(0.0, (f"no folder {_IMAGES}",))
        image = next(iter(_images(root)), None)
        if image is None:
            return Match(0.3, (f"no CITY_000000_000000_leftImg8bit.png in {_IMAGES}",))
        labels = (root / _LABELS).is_dir()
        return Match(1.0 if labels else 0.7, (f"images in {_IMAGES}", _LABELS if labels else f"no {_LABELS}"))

    def collect(self, root: Path) -> Catalog:
        """One case per image."""
        faults: list[Fault] = []
        cases: list[Case] = []
        kinds: Counter[str] = Counter()
        unlabelled = 0
        for path, part, scene, city in _images(root):
            kind, label = ("", None) if part == "test" else _label(root, path, scene)
            kinds[kind] += bool(kind)
            unlabelled += label is None and part != "test"
            cases.append(Case(scene, scene, (path,), label, {"city": city}, _PARTS[part]))
        if not cases:
            faults.append(Fault(f"{root / _IMAGES} holds no images named CITY_000000_000000_leftImg8bit.png"))
        used = [kind for kind in _KINDS if kinds[kind]]
        all_ids = used == ["labelIds"]
        if len(used) > 1 and "labelIds" in used:
            problem = f"labels are of several kinds: {', '.join(f'{kinds[kind]} {kind}' for kind in used)}"
            faults.append(Fault(problem, str(root / _LABELS), "Make labelTrainIds of all with cityscapesScripts"))
        notes = []
        if all_ids:
            notes.append(
                "labelIds hold void classes too, which are learnt as the others; labelTrainIds, which "
                "cityscapesScripts makes, leave them out"
            )
        if any(case.part == "test" for case in cases):
            notes.append("labels of test are not public: its images are unlabelled")
        if unlabelled:
            notes.append(f"{unlabelled} images of train and val have no label in {_LABELS}")
        names = {index: name for index, (name, _, _) in enumerate(_CLASSES)}
        if all_ids:
            names = {number: name for name, number, _ in (*_VOID, *_CLASSES)}
        return Catalog(
            name="Cityscapes",
            root=root,
            reader="cityscapes",
            cases=tuple(sorted(cases, key=lambda case: case.id)),
            columns=(Column("city", "categorical", "name of the file"),),
            label_names=names if all_ids else {**names, _IGNORE: "ignore"},
            channels=("red", "green", "blue"),
            notes=tuple(notes),
            faults=tuple(faults),
        )


def _images(root: Path) -> list[tuple[Path, str, str, str]]:
    """Image, part, scene and city."""
    return [
        (path, part, named["scene"], named["city"])
        for part in _PARTS
        for path in sorted((root / _IMAGES / part).glob("*/*"))
        if (named := _NAME.match(path.name))
    ]


def _label(root: Path, image: Path, scene: str) -> tuple[str, Path | None]:
    home = root / _LABELS / image.parent.relative_to(root / _IMAGES)
    for kind in _KINDS:
        path = home / f"{scene}_gtFine_{kind}.png"
        if path.is_file():
            return kind, Coloured(path, _colours()).path if kind == "color" else path
    return "", None


def _colours() -> tuple[tuple[Colour, int], ...]:
    classes = {colour: index for index, (_, _, colour) in enumerate(_CLASSES)}
    return tuple({**{colour: _IGNORE for _, _, colour in _VOID}, **classes}.items())
