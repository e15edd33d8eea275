"""Which files to segment: one scan, a folder, or anything a reader knows; and what is left out."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.base import plugin_name
from fewlabel.core.settings.value_syntax import show_value
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.colours_and_segments import with_file_facts
from fewlabel.data.io.catalog_paths import files_behind, is_file_path, is_there, recorded, scan_stem
from fewlabel.data.io.dicom.file_search import is_dicom_file
from fewlabel.data.io.dicom.pseudonyms import FOLDER as PSEUDONYMS
from fewlabel.data.io.file_names import name_fault, named_as_scan
from fewlabel.data.io.hdf5_and_npz_arrays import SUFFIX as H5
from fewlabel.data.io.itk_image import is_scan
from fewlabel.data.mask_names import is_mask_name
from fewlabel.data.scan_locations import moved_remedy
from fewlabel.data.store import PreparedStore
from fewlabel.readers.base import choose_reader, collected
from fewlabel.readers.label_names_beside import with_label_names
from fewlabel.stages.predict.listing import list_folder
from fewlabel.stages.predict.mask_names import Group, Scan, named_scans
from fewlabel.stages.predict.unsupported_files import no_image_file, unreadable_faults

#: A reader by id, or with its settings; ``auto`` for the one that fits.
ReaderChoice = str | Mapping[str, Any]
TABLES = (".csv", ".tsv", ".xlsx", ".xlsm", ".parquet")
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})$")
_NOTHING = "There is nothing to segment:"
_READERS = "fewlabel.readers"
_REMEDY = "Give a scan, a folder of scans, or a table with an image column"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What lies at a path.

    Attributes:
        scans: What to segment.
        skipped: A line for each group of files that were left out, and for what a reader assumed.
        faults: What could not be read beside the scans, by reason.
        masks: Images of a scan → its mask, where a reader knows of one.
        label_names: Value in these masks → name, as far as the data set says it; 0 is background.
    """

    scans: tuple[Scan, ...]
    skipped: tuple[str, ...]
    faults: tuple[Fault, ...] = ()
    masks: Mapping[tuple[Path, ...], Path] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)


def find_scans(
    place: Path,
    channels: int,
    out: Path,
    *,
    reader: ReaderChoice = "auto",
    usual: ReaderChoice = "auto",
    named: Callable[[Iterable[Group], Path], tuple[Scan, ...]] = named_scans,
    cases: Sequence[str] | None = None,
    with_masks: bool = False,
) -> Found:
    """All scans at ``place``.

    A file is one scan, or a table of scans. A folder is read by the reader that knows its convention; other image
    files in it, or all of them where no reader fits, are scans of one file each, or of one file per channel where
    they follow nnU-Net's ``case_0000`` names. Of a prepared folder, the scans that it was made of are taken. Masks,
    hidden files and what earlier runs made are left out, and ``out`` is not entered. The mask of an array in an h5
    file is a NIfTI file named by its case. Linked folders are entered.

    Args:
        place: File or folder.
        channels: Image channels the model takes.
        out: Where the masks will go.
        reader: Who reads the place; what it finds wrong is among the faults.
        usual: The reader of the model's own scans. Where it is the one that reads these, it has the settings it had
            then, but for those that ``reader`` gives and those of labels.
        named: What masks are called, from the scans and the folder that these are expected in.
        cases: Of a prepared folder, the scans by id; None for those of the training parts without a label.
        with_masks: Whether masks that belong to scans are wanted; else they count among what is left out.

    Raises:
        DataError: If there is nothing to segment, or two scans would be written to one file.
        SettingsError: If the reader or one of its settings is unknown.
    """
    if not place.exists():
        gone = Fault(f"{place} does not exist", remedy="Check the path")
        raise DataError(_NOTHING, [no_image_file(place) if place.is_symlink() else gone])
    if (prepared := Artifact.find(place, "prepared")) is not None:
        return Found(named(_of_prepared(PreparedStore(prepared), cases), place), ())
    if cases is not None:
        fault = Fault("names scans of a prepared folder", "cases", "Leave it out")
        raise SettingsError(f"{place} is none:", [fault])
    looking = _Looking(place, channels, usual, with_masks=with_masks)
    groups = looking.of_file(reader) if place.is_file() else looking.of_folder(out, reader)
    if not groups:
        left_out = f" ({'; '.join(looking.skipped)})" if looking.skipped else ""
        nothing = [] if place.is_file() else [Fault(f"{place} holds no scans{left_out}", remedy=_REMEDY)]
        raise DataError(_NOTHING, [*nothing, *looking.faults])
    scans = named(groups, place.parent if place.is_file() else place)
    listed = Found(scans, tuple(looking.skipped), tuple(looking.faults))
    return _with_masks(listed, looking.catalog) if with_masks and looking.catalog is not None else listed


def _with_masks(listed: Found, catalog: Catalog) -> Found:
    """The same with the masks of a reader, and the names that files beside them and in them give to values."""
    if catalog.reader != "table":
        private = load_plugin(_READERS, catalog.reader).private
        catalog = with_label_names(catalog, catalog.root, below=not private)
    named = with_file_facts(catalog, {})
    masks = {case.images: case.label for case in named.cases if case.label is not None}
    return replace(listed, masks=masks, label_names=named.label_names)


class _Looking:
    """A look at one path: what is left out, and what is wrong, is collected on the way."""

    def __init__(self, place: Path, channels: int, usual: ReaderChoice, *, with_masks: bool) -> None:
        self.place, self.channels, self.usual, self.with_masks = place, channels, usual, with_masks
        #: What a reader made of the path; None where none fitted.
        self.catalog: Catalog | None = None
        self.skipped: list[str] = []
        self.faults: list[Fault] = []

    def of_file(self, reader: ReaderChoice) -> list[Group]:
        place = self.place
        kinds = {**dict.fromkeys(TABLES, "table"), H5: "ssl4mis"}
        fitting = next((name for suffix, name in kinds.items() if place.name.lower().endswith(suffix)), "auto")
        if fitting == "auto" and reader == "auto" and is_dicom_file(place):
            fitting = "dicom"
        chosen = fitting if reader == "auto" else reader
        if chosen != "auto":
            catalog = self._collect(chosen)
            self.faults.extend(catalog.faults)
            return _of_catalog(catalog)
        if not named_as_scan(place):
            raise DataError(_NOTHING, [no_image_file(place)])
        match = _CHANNEL.match(scan_stem(place))
        if self.channels > 1 and match:
            suffix = place.name[len(scan_stem(place)) :]
            files = tuple(place.with_name(f"{match['case']}_{channel:04d}{suffix}") for channel in range(self.channels))
            return [(files, match["case"])]
        return [((place,), scan_stem(place))]

    def of_folder(self, out: Path, reader: ReaderChoice) -> list[Group]:
        catalog = self._fitting() if reader == "auto" else self._collect(reader)
        listing = list_folder(self.place, out)
        made = {file.resolve() for artifact in listing.artifacts for file in artifact.files}
        if catalog is not None and catalog.reader != "table":
            catalog = replace(catalog, cases=tuple(case for case in catalog.cases if not _any_of(case, made)))
        cases = catalog.cases if catalog else ()
        groups = _of_catalog(catalog) if catalog else []
        if catalog is not None and catalog.faults:
            # Ordinary files are tried one by one whatever their reader says; of others only it knows.
            files_speak = reader == "auto" and catalog.reader != "table" and all(map(_is_of_files, cases)) and cases
            if files_speak:
                self.skipped.extend(f"reader {catalog.reader}: {fault}" for fault in catalog.faults)
            else:
                self.faults.extend(catalog.faults)
        if catalog is not None and catalog.reader == "table":
            return groups
        # Where names may be those of persons, numbers must do.
        private = catalog is not None and load_plugin(_READERS, catalog.reader).private
        hidden = [path for path in listing.hidden if path.parent.name != PSEUDONYMS]
        of_scans = {file.resolve() for case in cases for path in case.images for file in files_behind(path)}
        named = [file for case in cases if case.label and is_there(case.label) for file in files_behind(case.label)]
        # A mask may be an array of the very file that holds its scan.
        labels = [file for file in named if file.resolve() not in of_scans]
        claimed = of_scans | {file.resolve() for file in labels}
        images = [path for path in listing.files if is_scan(path) and path.resolve() not in claimed]
        masks = [path for path in images if is_mask_name(path, self.place)]
        masks_by_name = [path.name for path in (*(() if private or self.with_masks else labels), *masks)]
        left_out = {
            "masks by name": (len(masks_by_name), masks_by_name),
            "hidden files": (len(hidden), [path.name for path in hidden]),
            # A private reader says it itself.
            "made by fewlabel": (
                0 if private else sum(artifact.count for artifact in listing.artifacts),
                list(map(str, listing.artifacts)),
            ),
        }
        for kind, (count, names) in left_out.items():
            if count:
                shown = "" if private else f": {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
                self.skipped.append(f"left out as {kind} ({count}){shown}")
        understood = {file.suffix.lower() for file in claimed}
        self.faults.extend(unreadable_faults(listing, understood, self.place, private=private))
        aside = set(masks)
        return [*groups, *_by_channel([path for path in images if path not in aside], self.channels)]

    def _fitting(self) -> Catalog | None:
        """What the best reader makes of a folder; None where none fits."""
        try:
            return self._collect(choose_reader(self.place).name)
        except DataError as error:
            fault = name_fault(self.place)
            if fault is not None and any(each.problem == fault.problem for each in error.faults):
                # The reader fits: it is the name alone that it cannot take.
                raise
            _log.debug("no reader for %s: %s", self.place, error)
            return None

    def _collect(self, reader: ReaderChoice) -> Catalog:
        """The catalog of a reader that is named; notes say which settings are the usual ones, and what it assumed."""
        given: Mapping[str, Any] = {"name": reader} if isinstance(reader, str) else reader
        name = plugin_name(given)
        known: dict[str, Any] = {}
        if isinstance(self.usual, Mapping) and plugin_name(self.usual) == name:
            aside = {*given, *load_plugin(_READERS, name, where="reader").label_settings}
            known = {key: value for key, value in self.usual.items() if key not in aside}
        choice = choose_reader(self.place, {**known, **given})
        catalog = collected(choice.reader, choice.place)
        if known:
            shown = ", ".join(f"{key}={show_value(value)}" for key, value in known.items())
            self.skipped.append(f"reader {name} as for the model's own scans: {shown}")
        self.skipped.extend(catalog.notes)
        self.catalog = catalog
        return catalog


def _of_prepared(store: PreparedStore, ids: Sequence[str] | None) -> list[Group]:
    """The scans that a store was made of, each called by its id."""
    parts = store.split["parts"]
    training = {*parts.get("train", ()), *parts.get("pretrain", ())} - {*parts.get("test", ())}
    usual = [case.id for case in store.cases if case.label is None and case.subject in training]
    wanted, known = usual if ids is None else ids, {case.id: case for case in store.cases}
    faults = [
        Fault(f'{store.folder} holds no scan "{name}"', "cases", did_you_mean(name, known))
        for name in wanted
        if name not in known
    ]
    faults += [
        Fault(f"its file {recorded(path)} is gone", f"case {name}", moved_remedy(store.folder))
        for name in wanted
        if name in known
        for path in map(Path, known[name].images)
        if not is_there(path)
    ][:1]
    if not wanted:
        faults.append(Fault(f"every training scan of {store.folder} has a label", remedy="Name scans with cases"))
    if faults:
        raise DataError(_NOTHING, faults)
    return [(tuple(map(Path, known[name].images)), name) for name in wanted]


def _any_of(case: Case, files: Set[Path]) -> bool:
    """Whether an image of a scan is one of these files."""
    return any(file.resolve() in files for path in case.images for file in files_behind(path))


def _is_of_files(case: Case) -> bool:
    return all(map(is_file_path, case.images))


def _of_catalog(catalog: Catalog) -> list[Group]:
    groups: list[Group] = []
    for case in catalog.cases:
        # Files of h5 data sets may all bear one name, and slices have numbers.
        stem = scan_stem(case.images[0]) if is_file_path(case.images[0]) else case.id
        match = _CHANNEL.match(stem)
        # A name of channels is the one the reader took for the case, or the first of several.
        channelled = match is not None and (match["case"] == case.id or len(case.images) > 1)
        groups.append((tuple(case.images), match["case"] if match and channelled else stem))
    return groups


def _by_channel(images: Sequence[Path], channels: int) -> list[Group]:
    """Files as they are, or grouped by case where every file of their folder follows ``case_0000``."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in images:
        folders[path.parent].append(path)
    groups: list[Group] = []
    for paths in folders.values():
        cases: dict[str, dict[int, Path]] = defaultdict(dict)
        for path in paths:
            match = _CHANNEL.match(scan_stem(path))
            if match:
                cases[match["case"]][int(match["channel"])] = path
        # Plain numbering such as scan_0000, scan_0001 of single-channel scans is not taken for channels.
        named = sum(map(len, cases.values())) == len(paths) and all(
            sorted(files) == list(range(channels)) for files in cases.values()
        )
        if named:
            groups.extend((tuple(files[channel] for channel in sorted(files)), case) for case, files in cases.items())
        else:
            groups.extend(((path,), scan_stem(path)) for path in paths)
    return groups
