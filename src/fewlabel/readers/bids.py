"""BIDS: the Brain Imaging Data Structure, with masks among its derivatives."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import setting
from fewlabel.data.catalog import Case, Catalog, Column
from fewlabel.data.column_types import infer_columns
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.bids_masks import labels_of, masks_of, of_one_pipeline
from fewlabel.readers.bids_names import BidsFile, parse_name, scan_name
from fewlabel.readers.bids_tables import ACQUISITION, PARTICIPANTS, Sidecars, participants, sessions
from fewlabel.readers.cine_frames import with_frames
from fewlabel.readers.copies import without_copies
from fewlabel.readers.image_names import part_of_folder
from fewlabel.readers.listing import files_below, scans_below

_DESCRIPTION = "dataset_description.json"
_MOST = 5


class BidsReader(Reader):
    """Brain Imaging Data Structure (Gorgolewski et al., Scientific Data 2016), and sets named like it.

    ``sub-01[/ses-1]/anat/sub-01[_ses-1]_T1w.nii.gz`` are scans; their masks lie in ``derivatives/NAME`` or beside them
    and end in ``_dseg``, ``_mask`` or ``_seg``. A mask belongs to the image whose entities it shares (``sub``, ``ses``,
    ``run``, ``acq`` …) and whose grid it is on (``space``). Masks with one ``label`` each are the structures of one
    mask. Names of labels come from ``dseg.tsv`` (``index``, ``name``).

    Of several suffixes (T1w, T2w, FLAIR) the one is taken that most masks name, or that has most scans. Metadata:
    ``participants.tsv``, ``sub-*_sessions.tsv``, session and run, and of the sidecars scanner, field strength,
    sequence, times and angles; a sidecar above an image speaks for it too.
    """

    class Config(Reader.Config):
        """Settings of the reader."""

        name: str = "bids"
        suffix: str | None = setting(
            None,
            "suffix of the scans, such as T1w; several are channels, such as T1w,FLAIR; null: the one that has masks "
            "or most scans",
        )
        derivative: str | None = setting(
            None, "folder of derivatives that the masks are taken from; null: the one with most masks"
        )

    config: Config
    markers: ClassVar[tuple[str, ...]] = ("dataset_description.json", "participants.tsv")
    summary: ClassVar[str] = (
        "BIDS: sub-01/anat/sub-01_T1w.nii.gz, masks (_dseg, _mask) among derivatives, participants.tsv"
    )
    label_settings: ClassVar[frozenset[str]] = frozenset({"derivative"})

    @classmethod
    def match(cls, root: Path) -> Match:
        """By folders and files named ``sub-``."""
        if not root.is_dir():
            return Match(0.0, ("not a folder",))
        described = (root / _DESCRIPTION).is_file()
        named = [file for path in scans_below(root) if (file := parse_name(path)) is not None]
        images = sum(file.is_image for file in named)
        if not images:
            return Match(0.2 if described else 0.0, ("no images named sub-NAME_SUFFIX",))
        reasons = (f"{images} images named sub-NAME_SUFFIX", _DESCRIPTION if described else f"no {_DESCRIPTION}")
        folders = any(part.startswith("sub-") for file in named for part in file.path.parts[:-1])
        table = (root / PARTICIPANTS).is_file()
        deeper = [] if described or table else _described_below(root)
        if deeper:
            return Match(0.4, (*reasons, f"{_DESCRIPTION} lies deeper: give {root / deeper[0]}"))
        if not (described or folders or table):
            return Match(0.4, (*reasons, "no folders sub-NAME"))
        return Match(1.0 if described else 0.9 if folders else 0.7, reasons)

    def collect(self, root: Path) -> Catalog:
        """One case per image, or per set of channels."""
        faults: list[Fault] = []
        notes: list[str] = []
        files = files_below(root)
        scans = without_copies(scans_below(root), root, faults)
        named = [file for path in scans if (file := parse_name(path)) is not None]
        masks = of_one_pipeline([file for file in named if file.is_mask], self.config.derivative, notes, faults)
        suffixes, groups = _images(named, masks, self.config.suffix, notes, faults, root)
        images = [group[0] for group in groups]
        others = [file for file in named if file.is_image and not file.pipeline]
        of_image = masks_of(images, masks, others, root, notes, faults)
        labels, label_names = labels_of(root, of_image, notes, faults)
        rows = self._metadata(root, images, files, faults)
        columns, typed = infer_columns(rows, "BIDS")
        several = len({scan_name(image, suffix=False) for image in images}) < len(images)
        cases = [
            Case(
                id=scan_name(image, suffix=several),
                subject=f"sub-{image.entities['sub']}",
                images=tuple(root / file.path for file in group),
                label=labels.get(image.path),
                metadata={name: values[index] for name, values in typed.items()},
                part=_part(image),
            )
            for index, (image, group) in enumerate(zip(images, groups, strict=True))
        ]
        if not cases and not faults:
            faults.append(Fault(f"{root} holds no images named sub-NAME_SUFFIX"))
        expanded = with_frames(cases)
        return Catalog(
            name=root.name,
            root=root,
            reader="bids",
            cases=tuple(sorted(expanded.cases, key=lambda case: case.id)),
            columns=(
                *(Column(column.name, column.kind, _source(column.name)) for column in columns),
                *expanded.columns,
            ),
            label_names=label_names,
            channels=suffixes or ("image",),
            notes=(*notes, *expanded.notes),
            faults=(*faults, *expanded.faults),
        )

    def _metadata(
        self, root: Path, images: Sequence[BidsFile], files: Iterable[Path], faults: list[Fault]
    ) -> dict[str, list[Any]]:
        """Column → value for each image."""
        persons = participants(root, faults)
        sidecars = Sidecars(root, faults, files)
        visits: dict[str, Mapping[str, Mapping[str, str]]] = {}
        rows: list[dict[str, Any]] = []
        for image in images:
            subject, session = image.entities["sub"], image.entities.get("ses")
            if subject not in visits:
                visits[subject] = sessions(root, subject, faults)
            row: dict[str, Any] = {**persons.get(subject, {}), **visits[subject].get(session or "", {})}
            row.update({"session": session} if session else {})
            row.update({"run": image.entities["run"]} if "run" in image.entities else {})
            rows.append({**row, **sidecars.of(image)})
        unknown = sorted({image.entities["sub"] for image in images} - set(persons)) if persons else []
        if unknown:
            shown = ", ".join(f"sub-{name}" for name in unknown[:_MOST]) + (", …" if len(unknown) > _MOST else "")
            faults.append(
                Fault(f"has no row for {shown}", str(root / PARTICIPANTS), "Add them, with n/a where unknown")
            )
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}


def _described_below(root: Path) -> list[Path]:
    """Folders of a folder that are data sets of their own, but those of derivatives and of parts, such as ``test``."""
    places = (path.parent for path in files_below(root) if path.name == _DESCRIPTION)
    return [place for place in places if not any(map(_is_inner, place.parts))]


def _is_inner(folder: str) -> bool:
    return folder == "derivatives" or folder.startswith("sub-") or part_of_folder(folder) is not None


def _part(image: BidsFile) -> str:
    """The part that a folder above that of the subject speaks of, such as test/sub-01."""
    above = list(takewhile(lambda folder: not folder.startswith("sub-"), image.path.parts[:-1]))
    return next((part for folder in above if (part := part_of_folder(folder))), "")


def _source(column: str) -> str:
    return "sidecars" if column in ACQUISITION.values() else PARTICIPANTS


def _images(
    named: Sequence[BidsFile],
    masks: Sequence[BidsFile],
    wanted: str | None,
    notes: list[str],
    faults: list[Fault],
    root: Path,
) -> tuple[tuple[str, ...], list[tuple[BidsFile, ...]]]:
    """Suffixes of the channels, and the files of each scan in that order."""
    images = [file for file in named if file.is_image]
    # The raw scans are the data; what was made of them counts only where they are not there.
    images = [file for file in images if not file.pipeline] or images
    there = Counter(image.suffix for image in images)
    if not there:
        return (), []
    if wanted is None:
        said = Counter(suffix for mask in masks for suffix in there if suffix.lower() in _words_of(mask))
        masked = Counter(image.suffix for image in images if any(mask.is_of(image) for mask in masks))
        best = max(there, key=lambda suffix: (said[suffix], masked[suffix], there[suffix], suffix == "T1w"))
        suffixes: tuple[str, ...] = (best,)
        others = ", ".join(f"{suffix} ({there[suffix]})" for suffix in sorted(there) if suffix != best)
        if others:
            notes.append(
                f"scans are those of suffix {best} ({there[best]}); left out: {others}. To take others, or several as "
                f"channels, give reader.name=bids reader.suffix={best},{sorted(set(there) - {best})[0]}"
            )
    else:
        suffixes = tuple(word.strip() for word in wanted.split(",") if word.strip())
        missing = [suffix for suffix in suffixes if suffix not in there]
        if missing:
            problem = f"there are no scans of suffix {', '.join(missing)}, but of {', '.join(sorted(there))}"
            faults.append(Fault(problem, "reader.suffix"))
            return suffixes, []
    by_scan: dict[str, dict[str, BidsFile]] = defaultdict(dict)
    for image in images:
        if image.suffix in suffixes:
            by_scan[scan_name(image, suffix=False)][image.suffix] = image
    groups = []
    for name, group in by_scan.items():
        lacking = [suffix for suffix in suffixes if suffix not in group]
        if lacking:
            faults.append(
                Fault(f"{root}: {name} has no {', '.join(lacking)}", remedy="Restore it, or take fewer suffixes")
            )
            continue
        groups.append(tuple(group[suffix] for suffix in suffixes))
    return suffixes, groups


def _words_of(mask: BidsFile) -> set[str]:
    """Words of a mask's name that may be suffixes of its image."""
    own = (mask.entities.get(key, "") for key in ("space", "desc", "from"))
    return {word.lower() for word in (*own, mask.of_suffix) if word}
