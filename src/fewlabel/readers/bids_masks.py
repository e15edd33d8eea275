"""Which masks of a BIDS data set are of which image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.io.composite_paths import Structures
from fewlabel.readers.bids_names import BidsFile
from fewlabel.readers.bids_tables import label_table

#: How well a mask says that it is the label of a scan, by its suffix.
_SUFFIXES = ("dseg", "seg", "lesion", "lesionseg", "gmseg", "segmentation", "labels", "label", "roi", "mask")
#: Masks that come with preprocessing: of the brain, not of what is looked for.
_BY_THE_WAY = frozenset({"brain", "head", "skull", "brainmask"})
_MOST = 5


def of_one_pipeline(
    masks: Sequence[BidsFile], wanted: str | None, notes: list[str], faults: list[Fault]
) -> list[BidsFile]:
    """Masks of one folder of derivatives, so that two raters or programs are not mixed."""
    there = Counter(mask.pipeline for mask in masks if mask.entities.get("desc", "") not in _BY_THE_WAY)
    there = there or Counter(mask.pipeline for mask in masks)
    if wanted is not None:
        if wanted not in there:
            present = ", ".join(name or "none" for name in sorted(there)) or "no masks at all"
            faults.append(Fault(f"there are no masks in derivatives/{wanted}, but in {present}", "reader.derivative"))
        return [mask for mask in masks if mask.pipeline == wanted]
    if len(there) < 2:
        return list(masks)
    best = max(there, key=lambda name: (there[name], "manual" in name.lower(), name))
    others = ", ".join(f"{name or 'the raw data'} ({there[name]})" for name in sorted(there) if name != best)
    notes.append(
        f"masks are those of {best or 'the raw data'} ({there[best]}), not of {others}. To take others, give "
        "reader.name=bids reader.derivative=NAME"
    )
    return [mask for mask in masks if mask.pipeline == best]


def masks_of(
    images: Sequence[BidsFile],
    masks: Sequence[BidsFile],
    others: Sequence[BidsFile],
    root: Path,
    notes: list[str],
    faults: list[Fault],
) -> dict[Path, list[BidsFile]]:
    """Image → its masks.

    A mask names the entities of its image. One that leaves some out, or has more, such as a run where the image has
    none, is that of the only image and mask that this leaves; where there are several it is a fault, as is one without
    any image. Masks of images that are not read, and of other grids, are noted.

    Args:
        images: That are read, the first channel of each.
        masks: Of one pipeline.
        others: All images of the data set.
        root: Folder of the data set.
        notes: Takes masks of images that are not read.
        faults: Takes masks that may be of several images, or are of none.
    """
    by_subject: dict[str, list[BidsFile]] = defaultdict(list)
    for image in images:
        by_subject[image.entities["sub"]].append(image)
    of_image: dict[Path, list[BidsFile]] = {image.path: [] for image in images}
    left = []
    for mask in masks:
        fitting = [image for image in by_subject.get(mask.entities["sub"], ()) if mask.is_of(image)]
        for image in fitting:
            of_image[image.path].append(mask)
        left.extend([] if fitting else [mask])
    free = {path for path, own in of_image.items() if not own}
    strays: list[BidsFile] = []
    wrong: list[Fault] = []
    for mask in left:
        near = [
            image
            for image in by_subject.get(mask.entities["sub"], ())
            if image.path in free and mask.is_of(image, all_of=False)
        ]
        near = near or [
            image for image in by_subject.get(mask.entities["sub"], ()) if image.path in free and mask.may_be_of(image)
        ]
        rivals = [other for other in left if len(near) == 1 and _differs(mask, other) and other.may_be_of(near[0])]
        if len(near) == 1 and not rivals:
            of_image[near[0].path].append(mask)
        elif rivals and any(other in left[: left.index(mask)] for other in rivals):
            # Said of the first of them.
            continue
        elif len(near) > 1 or rivals:
            wrong.append(_unclear(mask, near, rivals, root))
        elif any(mask.is_near(image) for image in others):
            strays.append(mask)
        else:
            problem = f"{root / mask.path} is a mask, but has no image: there is none with its entities"
            wrong.append(Fault(problem, remedy="Restore the image, correct the name, or remove the mask"))
    faults.extend(wrong[:_MOST])
    if len(wrong) > _MOST:
        faults.append(Fault(f"{len(wrong) - _MOST} more masks have no image that is theirs for sure", str(root)))
    if strays:
        shown = ", ".join(str(mask.path) for mask in strays[:3]) + (", …" if len(strays) > 3 else "")
        notes.append(f"{len(strays)} masks are of no image that is read: {shown}")
    return of_image


def _differs(mask: BidsFile, other: BidsFile) -> bool:
    """Whether two masks are alike but for what they are of: of one subject and kind, and not of one scan."""
    own, others = mask.of_scan, other.of_scan
    return other is not mask and mask.suffix == other.suffix and own != others


def _unclear(mask: BidsFile, images: Sequence[BidsFile], rivals: Sequence[BidsFile], root: Path) -> Fault:
    if rivals:
        names = f"{mask.path.name} and {rivals[0].path.name}"
        problem = f"{names} may both be masks of {images[0].path.name}, whose name does not say which"
        return Fault(
            problem, str(root / mask.path.parent), "Give the mask the entities of its image, and remove others"
        )
    names = " or ".join(image.path.name for image in images[:_MOST])
    return Fault(
        f"may be the mask of {names}", str(root / mask.path), "Give it the entities of its image, such as run-1"
    )


def labels_of(
    root: Path, of_image: Mapping[Path, list[BidsFile]], notes: list[str], faults: list[Fault]
) -> tuple[dict[Path, Path], dict[int, str]]:
    """Image → its label, and names of values."""
    names = sorted(
        {mask.entities["label"] for masks in of_image.values() for mask in masks if "label" in mask.entities}
    )
    labels: dict[Path, Path] = {}
    if len(names) > 1:
        for image, masks in of_image.items():
            parts = {mask.entities["label"]: mask for mask in masks if "label" in mask.entities}
            if parts:
                joined = tuple((names.index(name) + 1, root / parts[name].path) for name in names if name in parts)
                labels[image] = Structures(joined).path
        return labels, {0: "background", **{index + 1: name for index, name in enumerate(names)}}
    several: list[tuple[BidsFile, BidsFile]] = []
    taken = []
    for image, masks in of_image.items():
        ranked = sorted(masks, key=_rank)
        if ranked:
            labels[image] = root / ranked[0].path
            taken.append(ranked[0])
        if len(ranked) > 1:
            several.append((ranked[0], ranked[1]))
    if several:
        first, second = several[0]
        notes.append(f"{len(several)} scans have several masks: {first.path.name} is taken, not {second.path.name}")
    table = label_table(root, taken, faults)
    return labels, table or ({0: "background", 1: names[0]} if names and taken else {})


def _rank(mask: BidsFile) -> tuple[bool, int, bool, str]:
    suffix = mask.suffix.lower()
    return (
        mask.entities.get("desc", "").lower() in _BY_THE_WAY,
        _SUFFIXES.index(suffix) if suffix in _SUFFIXES else len(_SUFFIXES),
        "manual" not in mask.entities.get("desc", "").lower(),
        mask.path.as_posix(),
    )
