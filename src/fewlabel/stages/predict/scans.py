"""Which files to segment: one scan, a folder, or anything a reader knows; and what to call the masks."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.registry import load_plugin
from fewlabel.core.settings.config import plugin_name
from fewlabel.core.settings.values import show_value
from fewlabel.data.catalog import Catalog
from fewlabel.data.io.catalog_paths import files_behind, is_file_path, is_there, scan_stem
from fewlabel.data.io.hdf5 import SUFFIX as H5
from fewlabel.data.io.itk_image import is_scan
from fewlabel.readers.base import choose_reader

#: A reader by id, or with its settings; ``auto`` for the one that fits.
ReaderChoice = str | Mapping[str, Any]
TABLES = (".csv", ".tsv", ".parquet")
_TRUTH = re.compile(r"[_\-.](gt|seg|dseg|mask|label|labels|probabilities|uncertainty)$", re.IGNORECASE)
_TRUTH_FOLDERS = frozenset({"labels", "labelstr", "labelsts", "labelsval", "masks", "segmentations"})
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})$")
_REMEDY = "Give a scan, a folder of scans, or a table with an image column"
#: Formats that cannot hold a mask in one lossless file → one of the same family that can.
_LOSSLESS = {
    ".jpg": ".png", ".jpeg": ".png", ".gif": ".png", ".mhd": ".mha", ".nhdr": ".nrrd", ".seg.nrrd": ".nrrd",
    ".hdr": ".nii", ".img": ".nii", ".img.gz": ".nii.gz",
}  # fmt: skip

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scan:
    """One scan to segment.

    Attributes:
        images: One file per channel.
        output: Path of its mask, relative to the output folder.
    """

    images: tuple[Path, ...]
    output: Path


@dataclass(frozen=True)
class Found:
    """What lies at a path: scans, a line for each group of files that were left out, and what a reader assumed."""

    scans: tuple[Scan, ...]
    skipped: tuple[str, ...]


def find_scans(
    place: Path, channels: int, out: Path, *, reader: ReaderChoice = "auto", usual: ReaderChoice = "auto"
) -> Found:
    """All scans at ``place``.

    A file is one scan, or a table of scans. A folder is read by the reader that knows its convention; other image
    files in it, or all of them where no reader fits, are scans of one file each, or of one file per channel where
    they follow nnU-Net's ``case_0000`` names. Masks and hidden files are left out, and ``out`` is not entered. The
    mask of an array in an h5 file is a NIfTI file named by its case.

    Args:
        place: File or folder.
        channels: Image channels the model takes.
        out: Where the masks will go.
        reader: Who reads the place; one that is named must be able to.
        usual: The reader of the model's own scans. Where it is the one that reads these, it has the settings it had
            then, but for those that ``reader`` gives and those of labels.

    Raises:
        DataError: If there is nothing to segment, two scans would be written to one file, or the reader that was named
            finds faults.
        SettingsError: If the reader or one of its settings is unknown.
    """
    if not place.exists():
        fault = Fault(f"{place} does not exist", remedy="Check the path")
        raise DataError("There is nothing to segment:", [fault])
    skipped: list[str] = []
    if place.is_file():
        groups = _of_file(place, channels, skipped, reader, usual)
        root = place.parent
    else:
        groups = _of_folder(place, channels, out, skipped, reader, usual)
        root = place
    if not groups:
        left_out = f" ({'; '.join(skipped)})" if skipped else ""
        raise DataError("There is nothing to segment:", [Fault(f"{place} holds no scans{left_out}", remedy=_REMEDY)])
    return Found(_named(groups, root), tuple(skipped))


def _of_file(
    place: Path, channels: int, skipped: list[str], reader: ReaderChoice, usual: ReaderChoice
) -> list[tuple[tuple[Path, ...], str]]:
    kinds = {**dict.fromkeys(TABLES, "table"), H5: "ssl4mis"}
    fitting = next((name for suffix, name in kinds.items() if place.name.lower().endswith(suffix)), "auto")
    chosen = fitting if reader == "auto" else reader
    if chosen != "auto":
        return _of_catalog(_read(place, chosen, usual, skipped))
    if not is_scan(place):
        raise DataError("There is nothing to segment:", [Fault(f"{place} is no image file", remedy=_REMEDY)])
    match = _CHANNEL.match(scan_stem(place))
    if channels > 1 and match:
        suffix = place.name[len(scan_stem(place)) :]
        files = tuple(place.with_name(f"{match['case']}_{channel:04d}{suffix}") for channel in range(channels))
        return [(files, match["case"])]
    return [((place,), scan_stem(place))]


def _of_folder(
    place: Path, channels: int, out: Path, skipped: list[str], reader: ReaderChoice, usual: ReaderChoice
) -> list[tuple[tuple[Path, ...], str]]:
    catalog = _read(place, reader, usual, skipped) if reader != "auto" else _fitting(place, usual, skipped)
    groups = [] if catalog is None else _of_catalog(catalog)
    if catalog is not None and catalog.reader == "table":
        return groups
    files = [
        path for path in sorted(place.rglob("*")) if path.is_file() and not path.resolve().is_relative_to(out.resolve())
    ]
    litter = [path for path in files if any(part.startswith(".") for part in path.relative_to(place).parts)]
    images = [path for path in files if path not in set(litter) and is_scan(path)]
    claimed = {
        file.resolve()
        for case in (catalog.cases if catalog else ())
        for path in (*case.images, case.label)
        if path
        for file in files_behind(path)
    }
    images = [path for path in images if path.resolve() not in claimed]
    truths = [path for path in images if _is_truth(path, place)]
    labels = [case.label for case in (catalog.cases if catalog else ()) if case.label and is_there(case.label)]
    for kind, paths in (("masks by name", [*labels, *truths]), ("hidden files", litter)):
        if paths:
            shown = ", ".join(path.name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
            skipped.append(f"left out as {kind} ({len(paths)}): {shown}")
    return [*groups, *_by_channel([path for path in images if path not in set(truths)], channels)]


def _fitting(place: Path, usual: ReaderChoice, notes: list[str]) -> Catalog | None:
    """What the best reader makes of a folder; None where none fits or it finds faults: then the files speak."""
    try:
        return _read(place, choose_reader(place).name, usual, notes)
    except DataError as error:
        _log.debug("no reader for %s: %s", place, error)
        return None


def _read(place: Path, reader: ReaderChoice, usual: ReaderChoice, notes: list[str]) -> Catalog:
    """The catalog of a reader that is named; notes say which settings are the usual ones, and what it assumed."""
    given: Mapping[str, Any] = {"name": reader} if isinstance(reader, str) else reader
    name = plugin_name(given)
    known: dict[str, Any] = {}
    if isinstance(usual, Mapping) and plugin_name(usual) == name:
        aside = {*given, *load_plugin("fewlabel.readers", name, where="reader").label_settings}
        known = {key: value for key, value in usual.items() if key not in aside}
    catalog = choose_reader(place, {**known, **given}).reader.read(place)
    if known:
        shown = ", ".join(f"{key}={show_value(value)}" for key, value in known.items())
        notes.append(f"reader {name} as for the model's own scans: {shown}")
    notes.extend(catalog.notes)
    return catalog


def _of_catalog(catalog: Catalog) -> list[tuple[tuple[Path, ...], str]]:
    groups = []
    for case in catalog.cases:
        # Files of h5 data sets may all bear one name, and slices have numbers.
        stem = scan_stem(case.images[0]) if is_file_path(case.images[0]) else case.id
        match = _CHANNEL.match(stem)
        # A name of channels is the one the reader took for the case, or the first of several.
        channelled = match is not None and (match["case"] == case.id or len(case.images) > 1)
        groups.append((tuple(case.images), match["case"] if match and channelled else stem))
    return groups


def _is_truth(path: Path, root: Path) -> bool:
    folders = {part.lower() for part in path.relative_to(root).parts[:-1]}
    return bool(_TRUTH.search(scan_stem(path)) or folders & _TRUTH_FOLDERS)


def _by_channel(images: Sequence[Path], channels: int) -> list[tuple[tuple[Path, ...], str]]:
    """Files as they are, or grouped by case where every file of their folder follows ``case_0000``."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in images:
        folders[path.parent].append(path)
    groups: list[tuple[tuple[Path, ...], str]] = []
    for paths in folders.values():
        cases: dict[str, dict[int, Path]] = defaultdict(dict)
        for path in paths:
            match = _CHANNEL.match(scan_stem(path))
            if match:
                cases[match["case"]][int(match["channel"])] = path
        # Plain numbering such as scan_0000, scan_0001 of single-channel scans is not taken for channels.
        named = sum(map(len, cases.values())) == len(paths) and all(
            sorted(found) == list(range(channels)) for found in cases.values()
        )
        if named:
            groups.extend((tuple(found[channel] for channel in sorted(found)), case) for case, found in cases.items())
        else:
            groups.extend(((path,), scan_stem(path)) for path in paths)
    return groups


def _named(groups: Iterable[tuple[tuple[Path, ...], str]], root: Path) -> tuple[Scan, ...]:
    """Masks are named by their scan; where names meet, the folders below ``root`` are kept."""
    named: dict[Path, list[tuple[tuple[Path, ...], Path]]] = defaultdict(list)
    for images, stem in groups:
        ordinary = is_file_path(images[0])
        suffix = images[0].name[len(scan_stem(images[0])) :].lower() if ordinary else ".nii.gz"
        flat = Path(f"{stem}{_LOSSLESS.get(suffix, suffix)}")
        home = images[0].parent
        folder = home.relative_to(root) if home.is_relative_to(root) else Path(home.name)
        named[flat].append((images, folder / flat))
    scans = [
        Scan(images, flat if len(members) == 1 else nested)
        for flat, members in named.items()
        for images, nested in members
    ]
    outputs: dict[Path, list[Scan]] = defaultdict(list)
    for scan in scans:
        outputs[scan.output].append(scan)
    faults = [
        Fault(f"{output} would be the mask of {', '.join(str(scan.images[0]) for scan in members)}")
        for output, members in outputs.items()
        if len(members) > 1
    ]
    if faults:
        raise DataError("Masks would overwrite each other; segment these scans one folder at a time:", faults)
    return tuple(sorted(scans, key=lambda scan: scan.output))
