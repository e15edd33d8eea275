"""Plain folders: images with masks, brought together by the names of files and folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pydantic import field_validator

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import Floats, setting
from fewlabel.data.catalog import Case, Catalog, Column
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.cine_frames import FourthAxis, with_frames
from fewlabel.readers.copies import without_copies
from fewlabel.readers.default_channel_names import channel_names
from fewlabel.readers.known_sets import KnownSet, known_set
from fewlabel.readers.listing import scans_below
from fewlabel.readers.masks_by_content import roles_by_content
from fewlabel.readers.pairing import PairedScan, Pairing, pair_files
from fewlabel.readers.scan_ids import Placed, case_ids, patient_folders, subjects_of
from fewlabel.readers.volumes_from_numbered_slices import (
    Row,
    Stacking,
    is_picture,
    rows_of_slices,
    slice_notes,
    slice_patients,
    stacked,
)
from fewlabel.readers.voxel_size_setting import three_sizes

_MOST_STRAYS = 5
#: Folders of at most so many names are a column of metadata.
_MOST_GROUPS = 10


class FoldersReader(Reader):
    """Images with masks, in any of the ways in which people lay them out; taken where no other reader fits.

    A mask is told by its name (``x_mask``, ``x_seg``, ``x_label``, ``x-label``, ``x_gt``, ``x_segmentation``,
    ``x_manual1``, ``segmentation-0``, ``x.seg.nrrd``) or by its folder (``labels``, ``masks``, ``labelsTr``,
    ``GroundTruth``, in any case); where none is, by its content: whole numbers of few values on the grid of an image.
    It belongs to the image of the same name, or to the one image of its folder. Words for sequences at the end of names
    (``_t1``, ``_t1ce``, ``_t2``, ``_flair``) or four digits are channels where one mask stands for all. Folders named
    ``val`` or ``test``, also as part of a name, keep their scans for that.

    A folder for each patient is the subject; else names are compared
    (:func:`fewlabel.data.subjects_from_names.guess_subjects`).
    Numbered pictures become slices of a volume (``stack``) where what they show goes along with it, and frames of 4D
    images scans of their own with their ``phase``, a quarter of the movement (``fourth_axis``). A table beside them
    that names the subjects or the scans is metadata. MMWHS, HVSMR, LiTS, KiTS, PROMISE12, M&Ms and BraTS are known by
    their files' names, with the names of their labels.
    """

    class Config(Reader.Config):
        """Settings of the reader."""

        name: str = "folders"
        mask: str | None = setting(
            None, "word in the name or the folders of masks that are taken where an image has several; null: the best"
        )
        stack: Stacking = setting("auto", "whether numbered pictures are the slices of a volume")
        spacing: Floats | None = setting(
            None, "voxel size (slice, row, column) of stacked pictures; null: 1 each", unit="mm"
        )
        fourth_axis: FourthAxis = setting(
            "auto", "what the fourth axis of 4D images holds: time, so that each frame is a scan, or channels"
        )

        _sizes = field_validator("spacing")(three_sizes)

    config: Config
    summary: ClassVar[str] = (
        "images with masks beside them (x_mask, x_seg, x_gt), in images/ and labels/, or by patient"
    )
    label_settings: ClassVar[frozenset[str]] = frozenset({"mask"})
    general: ClassVar[bool] = True

    @classmethod
    def match(cls, root: Path) -> Match:
        """By pairs of an image and a mask."""
        if not root.is_dir():
            return Match(0.0, ("not a folder",))
        files = scans_below(root)
        if not files:
            return Match(0.0, ("no image files",))
        pairing, kinds = _pairing(root, [])
        what = f"by content ({', '.join(kinds)})" if kinds else "by name"
        reasons: tuple[str, ...] = (f"{pairing.labelled} of {len(pairing.scans)} images have a mask {what}",)
        if pairing.strays:
            reasons = (*reasons, f"{len(pairing.strays)} masks have no image")
        if pairing.labelled == 0:
            return Match(0.2, reasons)
        return Match(0.9 if len(pairing.strays) <= pairing.labelled else 0.4, reasons)

    def collect(self, root: Path) -> Catalog:
        """One case per image, volume of pictures, or frame."""
        faults: list[Fault] = []
        notes: list[str] = []
        pairing, kinds = _pairing(root, faults)
        if kinds:
            notes.append(
                f"no name tells masks, so their content does: {', '.join(kinds)} hold whole numbers of few values on "
                f"the grid of a scan. If they are no masks, write a table with `fewlabel table {root}` and correct it"
            )
        pairing = _with_chosen_masks(pairing, self.config.mask, notes)
        if not pairing.scans:
            faults.append(Fault(f"{root} holds no images"))
        faults.extend(_strays(root, pairing))
        size = self.config.spacing
        spacing = None if size is None else (size[0], size[1], size[2])
        rows = rows_of_slices(pairing.scans, root, self.config.stack, notes)
        known: KnownSet | None
        placed: list[Placed]
        if rows:
            notes.extend(slice_notes(rows, spacing))
            placed, known = _places_of_rows(rows), None
            cases = _volumes(root, rows, placed, spacing, faults)
        else:
            faults.extend(_lacking(root, pairing))
            whole = _whole(pairing)
            placed = [
                Placed(scan.first.home, _short(scan), scan.first.path.parent.parts, is_picture(scan)) for scan in whole
            ]
            known = known_set([_known_name(scan) for scan in whole])
            cases = _scans(root, whole, placed, known)
        folder, cases = _by_folder(cases, placed)
        remedy = "To say otherwise, give reader.name=folders reader.fourth_axis=channels or time"
        masks = {
            case.id: [root / mask.path for mask in scan.masks]
            for case, scan in zip(cases, () if rows else _whole(pairing), strict=False)
        }
        expanded = with_frames(cases, fourth_axis=self.config.fourth_axis, masks=masks, remedy=remedy)
        usual = known.channel if known and known.channel else "image"
        channels = pairing.channels or channel_names(expanded.cases, usual)
        return Catalog(
            name=known.name if known else root.name,
            root=root,
            reader="folders",
            cases=tuple(sorted(expanded.cases, key=lambda case: case.id)),
            columns=(*(known.columns if known else ()), *folder, *expanded.columns),
            label_names={0: "background", **known.labels} if known and known.labels else {},
            channels=channels,
            notes=(*notes, *expanded.notes),
            faults=(*faults, *expanded.faults),
        )


def _pairing(root: Path, faults: list[Fault]) -> tuple[Pairing, tuple[str, ...]]:
    """Scans with their masks by name; where no name tells any, by content, with the kinds of files that are masks."""
    files = scans_below(root)
    copies: list[Fault] = []
    pairing = pair_files(without_copies(files, root, copies))
    roles, kinds = ({}, ()) if pairing.labelled or pairing.strays else roles_by_content(files, root)
    if kinds:
        return pair_files(files, roles), kinds
    faults.extend(copies)
    return pairing, ()


def _places_of_rows(rows: Sequence[Row]) -> list[Placed]:
    alone = Counter(row.home for row in rows if row.numbers)
    return [
        Placed(
            row.home,
            "" if row.numbers and row.home and alone[row.home] == 1 else row.name,
            row.scans[0].first.path.parent.parts,
        )
        for row in rows
    ]


def _volumes(
    root: Path,
    rows: Sequence[Row],
    placed: Sequence[Placed],
    spacing: tuple[float, float, float] | None,
    faults: list[Fault],
) -> list[Case]:
    ids = case_ids(placed)
    cases = []
    for row, name, subject in zip(rows, ids, subjects_of(placed, ids), strict=True):
        image, label = stacked(row, root, spacing, faults)
        cases.append(Case(name, subject, (image,), label, {}, row.scans[0].first.part))
    return cases


def _lacking(root: Path, pairing: Pairing) -> list[Fault]:
    wanted = pairing.channels or ("",)
    faults = []
    for scan in pairing.scans:
        missing = [channel for channel in wanted if channel not in scan.images]
        if missing:
            problem = f"{root / scan.first.path} has no file for channel {', '.join(missing)} beside it"
            faults.append(Fault(problem, remedy="Restore it, or take the scan out of the folder"))
    return faults


def _scans(root: Path, whole: Sequence[PairedScan], placed: Sequence[Placed], known: KnownSet | None) -> list[Case]:
    ids = case_ids(placed)
    cases = []
    sliced = slice_patients(whole, root)
    for scan, name, subject, patient in zip(whole, ids, subjects_of(placed, ids), sliced, strict=True):
        called = _known_name(scan)
        cases.append(
            Case(
                id=name,
                subject=(known.subject(called) if known else None) or patient or subject,
                images=tuple(root / image.path for image in scan.images.values()),
                label=root / scan.masks[0].path if scan.masks else None,
                metadata=known.metadata(called) if known else {},
                part=scan.first.part,
            )
        )
    return cases


def _whole(pairing: Pairing) -> list[PairedScan]:
    """Scans that have all channels."""
    wanted = set(pairing.channels) or {""}
    return [scan for scan in pairing.scans if set(scan.images) == wanted]


def _short(scan: PairedScan) -> str:
    """Name of a scan; empty where the file is called ``imaging`` or the like."""
    return scan.name if "" not in scan.images or scan.first.bare else ""


def _known_name(scan: PairedScan) -> str:
    name = _short(scan)
    return name or (scan.first.home[-1] if scan.first.home else "")


def _with_chosen_masks(pairing: Pairing, word: str | None, notes: list[str]) -> Pairing:
    """One mask for each scan, but of frames."""
    scans, examples = [], []
    for scan in pairing.scans:
        named = [mask for mask in scan.masks if word is None or word.lower() in mask.path.as_posix().lower()]
        scans.append(replace(scan, masks=named))
        frames = sum("frame" in mask.path.name.lower() for mask in named)
        if len(named) > 1 and frames < len(named):
            examples.append((named[0].path, named[1].path))
    if examples:
        first, second = examples[0]
        notes.append(
            f"{len(examples)} images have several masks: {first} is taken, not {second}, and so on. To take others, "
            "give a word of their names or folders: reader.name=folders reader.mask=WORD"
        )
    return replace(pairing, scans=tuple(scans))


def _strays(root: Path, pairing: Pairing) -> list[Fault]:
    faults = [
        Fault(f"{root / mask.path} is a mask by its name, but has no image", remedy="Rename it like its image")
        for mask in pairing.strays[:_MOST_STRAYS]
    ]
    more = len(pairing.strays) - _MOST_STRAYS
    return [*faults, Fault(f"{more} more masks have no image")] if more > 0 else faults


def _by_folder(cases: Sequence[Case], placed: Sequence[Placed]) -> tuple[tuple[Column, ...], list[Case]]:
    """The folder above a patient's, or that scans lie in, as metadata: such as HGG and LGG, or hospitals."""
    patients = patient_folders(placed) is not None
    groups = [(scan.home[:-1] if patients else scan.home)[:1] for scan in placed]
    if not 1 < len(set(groups)) <= min(_MOST_GROUPS, len(cases) - 1):
        return (), list(cases)
    completed = [
        replace(case, metadata={**case.metadata, "folder": group[0] if group else None})
        for case, group in zip(cases, groups, strict=True)
    ]
    return (Column("folder", "categorical", "folder of the scan"),), completed
