"""One mask file for each structure of a scan, as TotalSegmentator and many annotation tools write them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io.composite_paths import Structures
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.copies import without_copies
from fewlabel.readers.default_channel_names import channel_names
from fewlabel.readers.image_names import NamedFile, is_neither, understood
from fewlabel.readers.listing import scans_below
from fewlabel.readers.scan_ids import Placed, case_ids, subjects_of

_SEPARATORS = " _-."
_MOST_SHOWN = 3
#: Masks of one structure by several people, or joined of theirs.
_OF_RATERS = re.compile(r"aggregated|annotation|annotator|instance|rater|reader|observer", re.IGNORECASE)

#: Stages of one mask, of which one is to be chosen.
_OF_VERSIONS = re.compile(
    r"(?:old|new|final|orig(?:inal)?|initial|draft|latest|first|second|corr(?:ected)?|edit(?:ed)?|review(?:ed)?|copy"
    r"|backup|bak|auto(?:matic)?|manual|expert|gt|pred(?:iction|icted)?|ai|nnunet|alt|neu|korrigiert|v|ver|version)?"
    r"[ _.-]*\d*",
    re.IGNORECASE,
)


@dataclass
class _Scan:
    """An image and its masks by structure."""

    image: NamedFile
    masks: dict[str, NamedFile] = field(default_factory=dict)


class StructuresReader(Reader):
    """One mask file for each structure, such as TotalSegmentator's (Wasserthal et al., Radiology: AI 2023).

    ``s0000/ct.nii.gz`` with ``s0000/segmentations/liver.nii.gz``, ``spleen.nii.gz`` and so on; or ``images/p1.nii.gz``
    with ``masks/p1/liver.nii.gz``, ``masks/liver/p1.nii.gz`` or ``masks/p1_liver.nii.gz``. What is not 0 in such a file
    is the structure. Names of files are the names of classes, in the order of the alphabet and the same for all scans;
    where structures overlap, the later has the voxel, which is said. A scan that lacks the file of a structure does not
    have it; one without any is unlabelled.
    """

    class Config(Reader.Config):
        """No settings."""

        name: str = "mask_per_structure"

    summary: ClassVar[str] = (
        "one mask file per structure (TotalSegmentator): s0000/ct.nii.gz, segmentations/liver.nii.gz"
    )

    @classmethod
    def match(cls, root: Path) -> Match:
        """By names of masks that occur with several scans."""
        if not root.is_dir():
            return Match(0.0, ("not a folder",))
        scans, strays = _scans(without_copies(scans_below(root), root, []))
        several = sum(len(scan.masks) > 1 for scan in scans)
        shared = Counter(name for scan in scans for name in scan.masks)
        common = [name for name, count in shared.items() if count > 1 or len(scans) == 1]
        if not several:
            return Match(0.0, ("no scan has several masks of a structure each",))
        reasons = (f"{several} of {len(scans)} scans have several masks, of {len(shared)} structures",)
        labelled = sum(bool(scan.masks) for scan in scans)
        raters = sum(_OF_RATERS.search(name) is not None for name in shared)
        versions = all(_OF_VERSIONS.fullmatch(name) for name in shared)
        fits = (
            len(common) > 1
            and not (raters or versions)
            and 2 * several >= labelled
            and len(strays) <= labelled
            and "" not in shared
        )
        return Match(0.9 if fits else 0.3, reasons)

    def collect(self, root: Path) -> Catalog:
        """One case per image; its label joins the masks."""
        faults: list[Fault] = []
        scans, strays = _scans(without_copies(scans_below(root), root, faults))
        if not scans:
            faults.append(Fault(f"{root} holds no images"))
        faults.extend(
            Fault(f"{root / mask.path} is the mask of no image", remedy="Rename it, or take it out of the data set")
            for mask in strays
        )
        names = sorted({name for scan in scans for name in scan.masks})
        placed = [Placed(scan.image.home, scan.image.bare, scan.image.path.parent.parts) for scan in scans]
        placed = [_by_home(place) for place in placed]
        ids = case_ids(placed)
        cases = []
        for scan, name, subject in zip(scans, ids, subjects_of(placed, ids), strict=True):
            parts = tuple((names.index(each) + 1, root / scan.masks[each].path) for each in names if each in scan.masks)
            cases.append(
                Case(
                    id=name,
                    subject=subject,
                    images=(root / scan.image.path,),
                    label=Structures(parts).path if parts else None,
                    part=scan.image.part,
                )
            )
        return Catalog(
            name=root.name,
            root=root,
            reader="mask_per_structure",
            cases=tuple(sorted(cases, key=lambda case: case.id)),
            label_names={0: "background", **{index + 1: name for index, name in enumerate(names)}},
            channels=channel_names(cases),
            notes=tuple(_notes(scans, names, ids)),
            faults=tuple(faults),
        )


def _by_home(place: Placed) -> Placed:
    """A scan named ``ct`` or the like is named by its folder."""
    plain = place.home and re.fullmatch(r"|ct|mr|mri|pet|cbct|t1|t2|flair", place.name, re.IGNORECASE)
    return Placed(place.home, "", place.folders) if plain else place


def _notes(scans: Sequence[_Scan], names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Which scans lack structures."""
    notes = []
    lacking: dict[str, list[str]] = defaultdict(list)
    for scan, called in zip(scans, ids, strict=True):
        if scan.masks:
            for name in names:
                if name not in scan.masks:
                    lacking[name].append(called)
    for name, missing in sorted(lacking.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:_MOST_SHOWN]:
        shown = ", ".join(missing[:_MOST_SHOWN]) + (", …" if len(missing) > _MOST_SHOWN else "")
        notes.append(f"{len(missing)} labelled scans have no file of {name} and are taken not to have it: {shown}")
    if len(lacking) > _MOST_SHOWN:
        notes.append(f"{len(lacking) - _MOST_SHOWN} more structures have no file in some labelled scans")
    return notes


def _scans(files: Sequence[Path]) -> tuple[list[_Scan], list[NamedFile]]:
    """Images with their masks by structure, and masks of no image."""
    named = [understood(path) for path in files if not is_neither(path)]
    scans = [_Scan(file) for file in named if not file.mask]
    by_home: dict[tuple[str, ...], list[_Scan]] = defaultdict(list)
    by_name: dict[str, list[_Scan]] = defaultdict(list)
    for scan in scans:
        by_home[scan.image.home].append(scan)
        by_name[scan.image.bare].append(scan)
    strays = []
    for mask in (file for file in named if file.mask):
        owner, structure = _owner(mask, by_home, by_name)
        if owner is None or structure in owner.masks:
            strays.append(mask)
        else:
            owner.masks[structure] = mask
    return scans, strays


def _owner(
    mask: NamedFile, by_home: dict[tuple[str, ...], list[_Scan]], by_name: dict[str, list[_Scan]]
) -> tuple[_Scan | None, str]:
    """The scan of a mask, and the structure it shows."""
    beside = by_home.get(mask.home, [])
    if mask.home and len(beside) == 1:
        image = beside[0].image.bare
        # A mask called like the image is of all structures: none is named.
        return beside[0], "" if mask.bare == image else _after(image, mask.bare) or mask.bare
    for above in range(len(mask.home) - 1, -1, -1):
        # masks/liver/p1.nii.gz and masks/p1/liver.nii.gz.
        rest = mask.home[:above] + mask.home[above + 1 :]
        if (owner := _one(by_name.get(mask.bare, []), rest)) is not None:
            return owner, mask.home[above]
        if (owner := _one(by_name.get(mask.home[above], []), rest)) is not None:
            return owner, mask.bare
    fitting = [(scan, after) for scan in beside if (after := _after(scan.image.bare, mask.bare))]
    if fitting:
        return max(fitting, key=lambda pair: len(pair[0].image.bare))
    same = [scan for scan in beside if scan.image.bare == mask.bare]
    return (same[0], "") if len(same) == 1 else (None, "")


def _one(scans: Sequence[_Scan], home: tuple[str, ...]) -> _Scan | None:
    fitting = [scan for scan in scans if scan.image.home == home]
    return fitting[0] if len(fitting) == 1 else None


def _after(image: str, mask: str) -> str:
    """What a mask's name has after that of its image: ``liver`` of ``p1_liver``; empty if it does not begin so."""
    if image and mask.startswith(image) and mask[len(image) :][:1] in tuple(_SEPARATORS):
        return mask[len(image) :].strip(_SEPARATORS)
    return ""
