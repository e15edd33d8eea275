"""PASCAL VOC: photographs with the classes of their objects."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import setting
from fewlabel.data.catalog import Case, Catalog
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.text_files import read_text

_IMAGES = "JPEGImages"
_MASKS = ("SegmentationClassAug", "SegmentationClass")
_LISTS = Path("ImageSets") / "Segmentation"
#: Lists, and the part that they stand for; of those of training the longest is taken.
_TRAINING = ("trainaug", "train_aug", "train")
_OTHERS = {"val": "validation", "test": "test"}
_NAMES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
_IGNORE = 255
_MOST = 5
_PICTURES = (".jpg", ".jpeg", ".png")


class VocReader(Reader):
    """PASCAL VOC segmentation (Everingham et al., IJCV 2010) as distributed, or augmented by SBD.

    ``JPEGImages/ID.jpg``, ``SegmentationClass/ID.png`` (or ``SegmentationClassAug``) whose palette indices are the
    classes, 255 ignored, and the lists ``ImageSets/Segmentation/train.txt``, ``val.txt`` (for validation) and
    ``test.txt``; of ``train`` and ``trainaug`` the longer. Images on no list are left out unless ``unlisted`` is true:
    then they are unlabelled scans. Without lists all images count.
    """

    class Config(Reader.Config):
        """Settings of the reader."""

        name: str = "voc"
        unlisted: bool = setting(False, "whether images on no list are read, as unlabelled scans")

    config: Config
    summary: ClassVar[str] = "PASCAL VOC: JPEGImages/ID.jpg, SegmentationClass/ID.png, ImageSets/Segmentation/train.txt"

    @classmethod
    def match(cls, root: Path) -> Match:
        """By the folders ``JPEGImages`` and ``SegmentationClass``."""
        home = _home(root)
        if home is None:
            return Match(0.0, (f"no folder {_IMAGES}",))
        if _masks(home) is None:
            return Match(0.4, (f"{_IMAGES}", f"no {_MASKS[-1]}"))
        lists = any((home / _LISTS).glob("*.txt"))
        return Match(
            1.0 if lists else 0.8, (f"{_IMAGES} and {_MASKS[-1]}", "lists" if lists else f"no lists in {_LISTS}")
        )

    def collect(self, root: Path) -> Catalog:
        """One case per listed image."""
        home = _home(root) or root
        faults: list[Fault] = []
        notes: list[str] = []
        images = {path.stem: path for path in sorted((home / _IMAGES).glob("*")) if path.suffix.lower() in _PICTURES}
        folder = _masks(home)
        masks = {path.stem: path for path in sorted(folder.glob("*.png"))} if folder is not None else {}
        parts = _parts(home, faults)
        cases = []
        for name in sorted(parts or images):
            if name not in images:
                problem = f"{home / _IMAGES / name}.jpg is on the list {parts[name] or 'train'}, but does not exist"
                faults.append(Fault(problem, remedy="Restore it or take it off the list"))
                continue
            cases.append(Case(name, name, (images[name],), masks.get(name), {}, parts.get(name, "")))
        without = [case.id for case in cases if parts and case.label is None and case.part != "test"]
        faults.extend(
            Fault(f"{folder or home / _MASKS[-1]} has no {name}.png, which is on a list", remedy="Restore it")
            for name in without[:_MOST]
        )
        if len(without) > _MOST:
            faults.append(Fault(f"{len(without) - _MOST} more listed images have no mask"))
        unlisted = sorted(set(images) - set(parts)) if parts else []
        if unlisted and self.config.unlisted:
            cases.extend(Case(name, name, (images[name],)) for name in unlisted)
        elif unlisted:
            notes.append(
                f"{len(unlisted)} images are on no list: left out. To read them unlabelled, give reader.name=voc "
                "reader.unlisted=true"
            )
        return Catalog(
            name="PASCAL VOC",
            root=root,
            reader="voc",
            cases=tuple(sorted(cases, key=lambda case: case.id)),
            label_names={**dict(enumerate(_NAMES)), _IGNORE: "ignore"},
            channels=("red", "green", "blue"),
            notes=tuple(notes),
            faults=tuple(faults),
        )


def _home(root: Path) -> Path | None:
    """The folder of one year: the root, or the only one below it."""
    if (root / _IMAGES).is_dir():
        return root
    years = (
        sorted({*root.glob(f"VOC20*/{_IMAGES}"), *root.glob(f"VOCdevkit/VOC20*/{_IMAGES}")}) if root.is_dir() else []
    )
    return years[0].parent if len(years) == 1 else None


def _masks(home: Path) -> Path | None:
    return next((home / name for name in _MASKS if (home / name).is_dir()), None)


def _parts(home: Path, faults: list[Fault]) -> dict[str, str]:
    """Name of an image → its part; empty without lists."""
    parts: dict[str, str] = {}
    training = [_listed(home / _LISTS / f"{name}.txt", faults) for name in _TRAINING]
    for name in max(training, key=len):
        parts[name] = ""
    for word, part in _OTHERS.items():
        for name in _listed(home / _LISTS / f"{word}.txt", faults):
            if name in parts and parts[name] != part:
                problem = f"{name} is on the list {parts[name] or 'train'} too"
                faults.append(Fault(problem, str(home / _LISTS / f"{word}.txt"), "Take it off one of the lists"))
            parts[name] = part
    return parts


def _listed(path: Path, faults: list[Fault]) -> list[str]:
    """Names on a list: alone, or as the paths of image and mask."""
    lines = read_text(path, faults).splitlines() if path.is_file() else []
    return [Path(line.split()[0]).stem for line in lines if line.strip()]
