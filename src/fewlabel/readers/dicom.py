"""DICOM: any tree of files, told by their content."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.settings.base import Names, setting
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io.dicom.address import DicomScan
from fewlabel.data.io.dicom.data_set_index import (
    Archive,
    keep_beside_the_data,
    open_archive,
    write_tables,
)
from fewlabel.data.io.dicom.file_search import is_dicom_file, series_files
from fewlabel.data.io.dicom.metadata import COLUMNS, metadata_of
from fewlabel.data.io.dicom.pseudonym_tables import SCANS, write_unreadable
from fewlabel.data.io.dicom.pseudonyms import FOLDER
from fewlabel.data.io.file_names import name_fault
from fewlabel.data.io.itk_image import is_scan
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.dicom_labels import DicomLabels, match_labels
from fewlabel.readers.dicom_series_choice import choose_series
from fewlabel.readers.listing import files_below

#: Files that are looked at to tell a folder of DICOM.
_SAMPLE = 100


class DicomReader(Reader):
    """DICOM files in any tree of folders, of one or many patients.

    Files are told by their content and parted into volumes by series, by how slices lie and by echoes, phases and the
    like; of each study one series is taken, see :func:`fewlabel.readers.dicom_series_choice.choose_series`. Subjects
    and cases have pseudonyms, see :mod:`fewlabel.data.io.dicom.pseudonyms`; scanner, sequence, phase, body part,
    contrast and plane become metadata, and nothing that names a person is kept.
    """

    class Config(Reader.Config):
        """Settings of the reader."""

        name: str = "dicom"
        series: str | None = setting(
            None,
            "words of the description of the series to take, with | between alternatives; null: any, one of each study "
            "by rule",
        )
        all_series: bool = setting(False, "take all series of a study, not one")
        labels: str | None = setting(
            None, "words of the description of the segmentations and structure sets to take; null: the newest"
        )
        structures: Names | None = setting(
            None,
            "structures that are classes, in this order; a voxel of several is of the last of them. null: all, in the "
            "order of the alphabet",
        )

    config: Config
    summary: ClassVar[str] = (
        "DICOM files in any tree of folders; masks are segmentations (SEG) or structure sets (RTSTRUCT)"
    )
    label_settings: ClassVar[frozenset[str]] = frozenset({"labels", "structures"})
    private: ClassVar[bool] = True

    @classmethod
    def match(cls, root: Path) -> Match:
        """By the first bytes of some files."""
        if root.is_file():
            return Match(0.9, ("a DICOM file",)) if _is_dicom(root) else Match(0.0, ("not a DICOM file",))
        files = [path for path in files_below(root) if not is_scan(path)]
        step = max(1, len(files) // _SAMPLE)
        sample = files[::step]
        count = sum(_is_dicom(root / path) for path in sample)
        if not count:
            return Match(0.0, ("no DICOM files",))
        images = len(files_below(root)) - len(files)
        many = round(count * len(files) / len(sample))
        reasons = (f"about {many} DICOM files" if step > 1 else f"{many} DICOM files",)
        return Match(0.9, reasons) if many > images else Match(0.3, (*reasons, f"{images} images of other formats"))

    def collect(self, root: Path) -> Catalog:
        """One case per volume of a series that is taken."""
        # Names below it are kept nowhere but in the table of pseudonyms; its own is part of each scan's path.
        if fault := name_fault(root):
            raise DataError("DICOM cannot be read:", [fault])
        if root.is_file() and (count := series_files(root)) > 1:
            problem = f"is one file of a DICOM series of {count}: one slice, not the scan"
            raise DataError("DICOM cannot be read:", [Fault(problem, str(root), "Give the folder of the series")])
        archive = open_archive(root, anew=True)
        labels = match_labels(archive, self.config.labels, self.config.structures)
        choice = choose_series(archive.scans, labels.objects, self.config.series, every=self.config.all_series)
        table = write_tables(archive, choice.scans)
        faults = [*_unreadable(archive), *labels.faults]
        cases: list[Case] = []
        for scan in sorted(choice.scans):
            case = _case(archive, labels, scan, faults)
            cases.extend([case] if case is not None else [])
        columns = tuple(column for column in COLUMNS if any(case.metadata[column.name] is not None for case in cases))
        kept = {column.name for column in columns}
        labelled = any(case.label is not None for case in cases)
        return Catalog(
            name=root.name,
            root=root,
            reader="dicom",
            cases=tuple(
                replace(case, metadata={name: value for name, value in case.metadata.items() if name in kept})
                for case in cases
            ),
            columns=columns,
            label_names={0: "background", **{value: name for name, value in labels.values.items()}} if labelled else {},
            notes=(*choice.notes, *labels.notes, *_notes(archive), *_way_back(table)),
            faults=tuple(faults),
        )

    def settle(self, catalog: Catalog) -> Catalog:
        """The key and the table of the pseudonyms are moved beside the data, if they can be written to."""
        before = open_archive(catalog.root).names
        after = keep_beside_the_data(catalog.root).names
        if (before.user_folder / SCANS).is_file():
            return catalog
        moved = dict(zip(_way_back(before.user_folder / SCANS), _way_back(after.home / SCANS), strict=True))
        return replace(catalog, notes=tuple(moved.get(note, note) for note in catalog.notes))


def _case(archive: Archive, labels: DicomLabels, scan: str, faults: list[Fault]) -> Case | None:
    """The case of a volume; None where it cannot be laid out, which is a fault."""
    series = archive.scans[scan]
    if series.faults:
        faults.extend(series.faults)
        return None
    try:
        metadata = metadata_of(series, series.header(0), partial(archive.nameless, scan))
    except DataError as error:
        faults.extend(error.faults)
        return None
    path = DicomScan(archive.root, scan).path
    return Case(scan, archive.subjects[scan], (path,), labels.path(archive, scan), metadata)


def _is_dicom(file: Path) -> bool:
    try:
        return is_dicom_file(file)
    except OSError:
        return False


def _unreadable(archive: Archive) -> list[Fault]:
    """One fault for all files that cannot be read: their names are in a table that only the user may read."""
    table = write_unreadable(archive.damaged, archive.names.user_folder)
    if not archive.damaged:
        return []
    named = f"; {_shown(table)} names them" if table else ""
    problem = f"DICOM files or folders that cannot be read: {len(archive.damaged)}{named}"
    return [Fault(problem, remedy="Copy them again, allow reading them, or take them out")]


def _notes(archive: Archive) -> list[str]:
    notes = []
    if archive.unnamed:
        notes.append(f"studies without a number of the patient, each of which counts as a person: {archive.unnamed}")
    if archive.shared_studies:
        notes.append(
            f"studies whose files are of several patients, by their numbers: {archive.shared_studies}; they are parted "
            "by patient. Were their UIDs made anew by a program that anonymises?"
        )
    if archive.tree.own:
        notes.append(f"left out: files made by fewlabel ({archive.tree.own})")
    if images := sum(map(is_scan, archive.tree.others)):
        notes.append(f"left out: images that are not DICOM ({images})")
    return notes


def _way_back(table: Path | None) -> list[str]:
    """What says where a table of pseudonyms lies; nothing without one."""
    if table is None:
        return []
    return [f"pseudonyms stand for patients and series; {_shown(table)} says for which: keep it to yourself"]


def _shown(table: Path) -> str:
    """A table as notes name it, which are kept: without the folder of the data, or the name of the user."""
    if table.parent.name == FOLDER:
        return f"{FOLDER}/{table.name} beside the data"
    home = Path.home()
    return f"~/{table.relative_to(home).as_posix()}" if table.is_relative_to(home) else str(table)
