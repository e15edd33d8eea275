"""nnU-Net raw folders: imagesTr, labelsTr, imagesTs, dataset.json."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.itk_image import is_scan
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.dataset_json import (
    channels_of,
    label_names_of,
    listed_rows,
    lists_files_as_they_are,
    read_description,
    region_notes,
    with_metadata,
)

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})$")
_PARTS = (("imagesTr", "labelsTr", ""), ("imagesTs", "labelsTs", "test"))


class NnunetReader(Reader):
    """nnU-Net raw data (Isensee et al., Nature Methods 2021), versions 1 and 2.

    ``imagesTr/CASE_0000.nii.gz`` with one file per channel, or ``imagesTr/CASE.nii.gz``; the label is
    ``labelsTr/CASE.nii.gz``, and a case without one is unlabelled. ``imagesTs`` is the data set's own test part,
    labelled where ``labelsTs`` holds the case. Channels and label names come from ``dataset.json`` (``channel_names``
    or ``modality``; ``labels`` either way round). A label named ``ignore`` is left out of training and scoring.

    An optional ``metadata.csv`` beside it has a column ``case``, and any others: ``subject``, ``part`` and free
    metadata; ``part`` is train, validation, test or empty. Without a ``subject`` the rule of
    :func:`fewlabel.data.subjects_from_names.guess_subjects` finds siblings, and cases named as in Decathlon
    Task04 are paired as by the reader ``msd``.
    """

    class Config(Reader.Config):
        """No settings."""

        name: str = "nnunet"

    markers: ClassVar[tuple[str, ...]] = ("imagesTr", "dataset.json")
    summary: ClassVar[str] = "nnU-Net folders: imagesTr, labelsTr, imagesTs, dataset.json, metadata.csv"

    @classmethod
    def match(cls, root: Path) -> Match:
        """By the names ``imagesTr`` and ``dataset.json``."""
        if not root.is_dir():
            return Match(0.0, ("not a folder",))
        images = sum(is_scan(path) for path in (root / "imagesTr").glob("*"))
        described = (root / "dataset.json").is_file()
        reasons = [f"{images} images in imagesTr" if images else "no images in imagesTr"]
        reasons.append("dataset.json" if described else "no dataset.json")
        score = (0.7 if images else 0.1) + (0.3 if described else 0.0) if images or described else 0.0
        if described and lists_files_as_they_are(root):
            # It can be read here too, but a reader of its own fits better.
            score, reasons = (
                min(score, 0.8),
                [*reasons, "dataset.json lists the files, as in the Decathlon (reader msd)"],
            )
        return Match(score, (*reasons,))

    def collect(self, root: Path) -> Catalog:
        """One case per case name; subject by table or by name."""
        faults: list[Fault] = []
        described = read_description(root, faults)
        channels = channels_of(described)
        cases: list[Case] = []
        incomplete: set[str] = set()
        for images, labels, part in _PARTS:
            cases.extend(_read_part(root / images, root / labels, part, channels, incomplete, faults))
        _check_listed(root, described, {case.id for case in cases} | incomplete, faults)
        if not cases and not incomplete:
            faults.append(Fault(f"{root / 'imagesTr'} holds no images"))
        if channels is None:
            channels = tuple(f"channel {i}" for i in range(max((len(case.images) for case in cases), default=1)))
            channels = ("image",) if len(channels) == 1 else channels
        columns, cases, notes = with_metadata(root, cases, faults)
        label_names = label_names_of(described, root, faults)
        return Catalog(
            name=str(described.get("name") or root.name),
            root=root,
            reader="nnunet",
            cases=tuple(sorted(cases, key=lambda case: case.id)),
            columns=columns,
            label_names=label_names,
            channels=channels,
            notes=(*notes, *region_notes(described)),
            faults=tuple(faults),
        )


def _read_part(
    images: Path,
    labels: Path,
    part: str,
    channels: tuple[str, ...] | None,
    incomplete: set[str],
    faults: list[Fault],
) -> list[Case]:
    files = sorted(path for path in images.glob("*") if is_scan(path))
    truths: dict[str, Path] = {}
    for path in sorted(path for path in labels.glob("*") if is_scan(path)):
        # 3D Slicer saves CASE.seg.nrrd.
        case = scan_stem(path).removesuffix(".seg")
        if (first := truths.get(case)) is not None:
            faults.append(Fault(f"{first} and {path} are masks of the same case", remedy="Remove one of the two"))
        truths[case] = path
    stems = [scan_stem(path) for path in files]
    grouped: dict[str, dict[int, Path]] = defaultdict(dict)
    suffixed = _has_channel_suffix(stems, truths, channels)
    for path, stem in zip(files, stems, strict=True):
        match = _CHANNEL.match(stem) if suffixed else None
        case, channel = (match["case"], int(match["channel"])) if match else (stem, 0)
        if channel in grouped[case]:
            problem = f"{grouped[case][channel]} and {path} are the same channel of one case"
            faults.append(Fault(problem, remedy="Remove one"))
        grouped[case][channel] = path
    cases = []
    expected = len(channels) if channels and suffixed else 1 + max((max(row) for row in grouped.values()), default=0)
    for case, row in grouped.items():
        missing = [f"{channel:04d}" for channel in range(expected) if channel not in row]
        if missing:
            remedy = "Restore it, or take the case out"
            faults.append(Fault(f"{images / case} has no file for channel {', '.join(missing)}", remedy=remedy))
            faults.extend(_dead_links(row.values()))
            incomplete.add(case)
            truths.pop(case, None)
            continue
        paths = tuple(row[channel] for channel in sorted(row))
        cases.append(Case(id=case, subject=case, images=paths, label=truths.pop(case, None), part=part))
    faults.extend(
        Fault(f"{path} has no image: there is none named {case} in {images}", remedy="Restore it, or remove the label")
        for case, path in truths.items()
    )
    return cases


def _dead_links(files: Iterable[Path]) -> list[Fault]:
    dead = [path for path in files if path.is_symlink() and not path.exists()]
    return [Fault(f"{path} is a link to {path.readlink()}, which does not exist", remedy="Restore it") for path in dead]


def _has_channel_suffix(stems: list[str], truths: Mapping[str, Path], channels: tuple[str, ...] | None) -> bool:
    """Whether ``_0000`` at the end of the names counts channels, or is part of the case name."""
    matches = [_CHANNEL.match(stem) for stem in stems]
    stripped = sum(match is not None and match["case"] in truths for match in matches)
    whole = sum(stem in truths for stem in stems)
    if stripped != whole:
        return stripped > whole
    limit = len(channels) if channels else 1
    return bool(matches) and all(match is not None and int(match["channel"]) < limit for match in matches)


def _check_listed(root: Path, described: Mapping[str, Any], known: Collection[str], faults: list[Fault]) -> None:
    for image, _ in listed_rows(described, "training"):
        name = scan_stem(Path(image))
        if name and name not in known:
            problem = f"{root / image} is listed in dataset.json, but there is no image {name}"
            faults.append(Fault(problem, remedy="Restore it or take it off the list"))
