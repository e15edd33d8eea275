"""Medical Segmentation Decathlon: dataset.json lists the images, their labels and the test images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fewlabel.core.errors import Fault
from fewlabel.core.named_files import file_is_there
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.itk_image import is_scan
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.dataset_json import (
    DESCRIPTION,
    channels_of,
    label_names_of,
    listed_rows,
    lists_files_as_they_are,
    read_description,
    region_notes,
    with_metadata,
)

_LISTS = (("training", ""), ("test", "test"))


class MsdReader(Reader):
    """A task of the Medical Segmentation Decathlon as distributed (Antonelli et al., Nature Communications 2022).

    ``dataset.json`` decides: ``training`` pairs each image with its label, ``test`` names images whose labels are not
    public, ``modality`` and ``labels`` give names. A task of several channels keeps them in one 4D file. Files of the
    archives' macOS litter (``._*``) are no scans. Scans of ``imagesTr`` that are not on the list are an error, so
    that none is left out unnoticed.

    Every case is a subject of its own, but for Task04: its volumes are the two hippocampi of each person, and
    ``hippocampus_(2k-1)`` and ``hippocampus_(2k)`` are the subject ``person_k``, wherever the archive put them (of 195
    pairs 80 have one in ``imagesTr`` and one in ``imagesTs``). The archive does not say so; the intensities do: within
    these pairs they agree, between neighbouring pairs they do not.

    An optional ``metadata.csv`` is read as by the reader ``nnunet``, which reads these folders too but goes by the
    files' names.
    """

    class Config(Reader.Config):
        """No settings."""

        name: str = "msd"

    markers: ClassVar[tuple[str, ...]] = ("dataset.json",)
    summary: ClassVar[str] = "Medical Segmentation Decathlon: a dataset.json that lists image and label pairs"

    @classmethod
    def match(cls, root: Path) -> Match:
        """By the list ``training`` and whether its first image exists."""
        if not root.is_dir():
            return Match(0.0, ("not a folder",))
        if not (root / DESCRIPTION).is_file():
            return Match(0.0, (f"no {DESCRIPTION}",))
        rows = listed_rows(read_description(root, []), "training")
        if not rows:
            return Match(0.1, (f"{DESCRIPTION} has no list training",))
        if not lists_files_as_they_are(root):
            return Match(0.3, (f"{DESCRIPTION} lists {len(rows)} images", f"no {rows[0][0]}"))
        return Match(1.0, (f"{DESCRIPTION} lists {len(rows)} images, the first is there",))

    def collect(self, root: Path) -> Catalog:
        """One case per listed image."""
        faults: list[Fault] = []
        described = read_description(root, faults)
        cases = _listed_cases(root, described, faults)
        channels = channels_of(described) or ("image",)
        columns, cases, notes = with_metadata(root, cases, faults, guess=False)
        label_names = label_names_of(described, root, faults)
        return Catalog(
            name=str(described.get("name") or root.name),
            root=root,
            reader="msd",
            cases=tuple(sorted((case for case in cases if file_is_there(case.images[0])), key=lambda case: case.id)),
            columns=columns,
            label_names=label_names,
            channels=channels,
            notes=(*notes, *region_notes(described)),
            faults=tuple(faults),
        )


def _listed_cases(root: Path, described: Mapping[str, Any], faults: list[Fault]) -> list[Case]:
    where = str(root / DESCRIPTION)
    if not listed_rows(described, "training"):
        faults.append(Fault(f"{where} lists no training images", remedy="Try reader=nnunet"))
    cases: dict[Path, Case] = {}
    for key, part in _LISTS:
        for image, label in listed_rows(described, key):
            path = root / image
            if not image or not is_scan(path):
                faults.append(Fault(f'{key} must list images, not "{image}"', where, "Take it off the list"))
                continue
            if path in cases:
                problem = f"{image} is listed twice, the second time in {key}"
                faults.append(Fault(problem, where, "Take one of them off the list"))
            for name in filter(None, (image, label)):
                if not file_is_there(root / name):
                    faults.append(Fault(f"{name} does not exist", where, "Restore it or take it off the list"))
            name = scan_stem(path)
            truth = root / label if label and file_is_there(root / label) else None
            cases[path] = Case(id=name, subject=name, images=(path,), label=truth, part=part)
    unlisted = sorted(path.name for path in (root / "imagesTr").glob("*") if is_scan(path) and path not in cases)
    if unlisted and cases:
        shown = ", ".join(unlisted[:3]) + (f" and {len(unlisted) - 3} more" if len(unlisted) > 3 else "")
        faults.append(
            Fault(
                f"{shown} of imagesTr {'is' if len(unlisted) == 1 else 'are'} not listed",
                where,
                "List all scans, move the others away, or take reader=nnunet",
            )
        )
    return list(cases.values())
