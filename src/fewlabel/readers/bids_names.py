"""Names of files of a BIDS data set: entities, suffix, and which mask is of which image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fewlabel.data.io.catalog_paths import scan_stem

_ENTITY = re.compile(r"(?P<key>[a-zA-Z]+)-(?P<value>[a-zA-Z0-9+.]+)$")
_MASKS = frozenset({"dseg", "mask", "seg", "roi", "label", "labels", "segmentation", "lesion", "lesionseg", "gmseg"})
#: Files that are neither image nor mask.
_NEITHER = frozenset({"probseg", "xfm", "warp", "sbref", "bvec", "bval", "events", "defacemask", "probabilities"})
#: Entities of a mask that say how it was made or what it shows, not what of.
_OWN = frozenset({"desc", "label", "res", "den", "space", "from", "to", "mode", "seg", "atlas", "hemi", "roi", "rater"})
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

    def is_of(self, image: BidsFile, *, all_of: bool = True) -> bool:
        """Whether it is a mask on the grid of an image: its entities are those of the image, and it is in its space.

        Args:
            image: The image.
            all_of: Whether a mask must name the session, run and acquisition of an image that has them.
        """
        if self.of_suffix not in {"", image.suffix}:
            return False
        for key, value in self.entities.items():
            if key in _OWN:
                continue
            if key not in image.entities or image.entities[key] != value:
                return False
        if all_of and any(key in {"ses", "run", "acq"} and key not in self.entities for key in image.entities):
            # A mask of the subject is not one of each of its sessions and runs.
            return False
        space = self.entities.get("space")
        return space in {None, image.entities.get("space")} or str(space).lower() in {
            *_OWN_SPACES,
            image.suffix.lower(),
        }


def parse_name(path: Path) -> BidsFile | None:
    """Entities and suffix of a file; None if its name does not begin with ``sub-``.

    Args:
        path: Relative to the root.
    """
    *words, suffix = scan_stem(path).split("_")
    entities: dict[str, str] = {}
    of_suffix = ""
    for word in words:
        found = _ENTITY.match(word)
        if found is None and (of_suffix or not word.isalnum()):
            return None
        if found is None:
            of_suffix = word
        else:
            entities[found["key"].lower()] = found["value"]
    if (found := _ENTITY.match(suffix)) is not None:
        # As the Spinal Cord Toolbox names masks: sub-01_T2w_seg-manual.
        suffix = found["key"]
        entities["desc"] = found["value"]
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
