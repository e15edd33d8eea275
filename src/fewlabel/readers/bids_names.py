"""Names of files of a BIDS data set: entities, suffix, and which mask is of which image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.whole_numbers import is_whole_number
from fewlabel.data.io.catalog_paths import scan_stem

_ENTITY = re.compile(r"(?P<key>[a-zA-Z]+)-(?P<value>[a-zA-Z0-9+.]+)$")
_MASKS = frozenset({"dseg", "mask", "seg", "roi", "label", "labels", "segmentation", "lesion", "lesionseg", "gmseg"})
#: Files that are neither image nor mask.
_NEITHER = frozenset({"probseg", "xfm", "warp", "sbref", "bvec", "bval", "events", "defacemask", "probabilities"})
#: Entities of a mask that say how it was made or what it shows, not what of.
_OWN = frozenset({"desc", "label", "res", "den", "space", "from", "to", "mode", "seg", "atlas", "hemi", "roi", "rater"})
#: Entities that tell scans of one kind apart.
_REPEATS = frozenset({"ses", "run", "acq", "rec", "ce"})
#: Folders of one kind of image each.
_DATATYPES = frozenset({"anat", "func", "dwi", "fmap", "perf", "pet", "ct", "micr"})
#: Values of ``space`` that mean the image's own grid.
_OWN_SPACES = frozenset({"orig", "native", "individual", "scanner", "t1w", "t2w", "flair", "anat"})


@dataclass(frozen=True)
class BidsFile:
    """An image file of a BIDS data set.

    Attributes:
        path: Relative to the root.
        entities: Key → value, such as ``sub`` → ``01``.
        suffix: What follows the entities: ``T1w``, ``dseg``.
        pipeline: Folder of ``derivatives`` it lies in; empty for the raw data.
        of_suffix: Suffix of the image that a mask names: ``T2w`` of ``sub-01_T2w_seg-manual``.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    pipeline: str
    of_suffix: str = ""

    @property
    def is_mask(self) -> bool:
        """Whether it is a mask of discrete labels."""
        return self.suffix.lower() in _MASKS

    @property
    def is_image(self) -> bool:
        """Whether it is an image."""
        return not self.is_mask and not self.of_suffix and self.suffix.lower() not in _NEITHER

    @property
    def of_scan(self) -> dict[str, str]:
        """Entities that say which scan it is of; whole numbers without leading zeros."""
        return {key: _plain(value) for key, value in self.entities.items() if key not in _OWN}

    def is_of(self, image: BidsFile, *, all_of: bool = True) -> bool:
        """Whether it is a mask on the grid of an image: its entities are those of the image, and it is in its space.

        Args:
            image: The image.
            all_of: Whether a mask must name the session, run and acquisition of an image that has them.
        """
        if self.of_suffix not in {"", image.suffix} or not self.of_scan.items() <= image.of_scan.items():
            return False
        if all_of and any(key in {"ses", "run", "acq"} and key not in self.entities for key in image.entities):
            # A mask of the subject is not one of each of its sessions and runs.
            return False
        return self._fits(image)

    def may_be_of(self, image: BidsFile) -> bool:
        """Whether a mask on the grid of an image may be its, though it names a visit or run that the image does not."""
        more = set(self.of_scan) - set(image.of_scan)
        return self.is_near(image) and more <= _REPEATS and self.of_suffix in {"", image.suffix} and self._fits(image)

    def is_near(self, image: BidsFile) -> bool:
        """Whether no entity that both a mask and an image have differs."""
        others = image.of_scan
        return all(others[key] == value for key, value in self.of_scan.items() if key in others)

    def _fits(self, image: BidsFile) -> bool:
        """Whether a mask is in the space of an image, and of its kind by their folders."""
        kinds = {file.path.parent.name for file in (self, image)} & _DATATYPES
        if len(kinds) > 1:
            return False
        space = self.entities.get("space")
        return space in {None, image.entities.get("space")} or str(space).lower() in {
            *_OWN_SPACES,
            image.suffix.lower(),
        }


def _plain(value: str) -> str:
    return str(int(value)) if is_whole_number(value) else value


def parse_name(path: Path) -> BidsFile | None:
    """Entities and suffix of a file; None if its name does not begin with ``sub-``.

    Args:
        path: Relative to the root.
    """
    *words, suffix = scan_stem(path).split("_")
    entities: dict[str, str] = {}
    of_suffix = ""
    for word in words:
        entity = _ENTITY.match(word)
        if entity is None and (of_suffix or not word.isalnum()):
            return None
        if entity is None:
            of_suffix = word
        else:
            entities[entity["key"].lower()] = entity["value"]
    if (entity := _ENTITY.match(suffix)) is not None:
        # As the Spinal Cord Toolbox names masks: sub-01_T2w_seg-manual.
        suffix = entity["key"]
        entities["desc"] = entity["value"]
    if "sub" not in entities:
        return None
    parts = path.parts
    inside = parts.index("derivatives") + 1 if "derivatives" in parts[:-2] else 0
    pipeline = parts[inside] if inside and not parts[inside].startswith("sub-") else ("derivatives" if inside else "")
    return BidsFile(path, entities, suffix, pipeline, of_suffix)


def scan_name(file: BidsFile, *, suffix: bool) -> str:
    """Entities of an image as its id, with the suffix where a data set has scans of several."""
    words = [f"{key}-{value}" for key, value in file.entities.items()]
    return "_".join([*words, file.suffix] if suffix else words)
