"""The DICOM files of a data set as a whole: its volumes, segmentations and structure sets, each by its pseudonym."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.data.io.dicom.address import DicomMask, DicomScan
from fewlabel.data.io.dicom.data_set_patients import NameFilter, patients_apart, subjects_of
from fewlabel.data.io.dicom.file_search import Tree, read_tree
from fewlabel.data.io.dicom.private_text import is_nobody, naming_words
from fewlabel.data.io.dicom.pseudonym_tables import known_patients, write_scans
from fewlabel.data.io.dicom.pseudonyms import Pseudonyms, load_pseudonyms
from fewlabel.data.io.dicom.series import Series, described, volumes_of
from fewlabel.data.io.dicom.structure_headers import StructureObject, read_structures

_BACK = "Put its files back; if the folder of its key was lost, prepare the data again"
_LOCK = threading.Lock()
_OPEN: dict[Path, Archive] = {}


# Compared by identity, so that what is found of one can be kept.
@dataclass(frozen=True, eq=False)
class Archive:
    """What lies below a folder.

    Attributes:
        root: The folder, or the one file.
        names: Its pseudonyms.
        scans: Pseudonym of each volume → the volume, whose description names nobody.
        subjects: Pseudonym of each volume → that of the person.
        objects: Pseudonym of each segmentation and structure set → what it holds.
        damaged: Files that cannot be read, and why.
        unnamed: Studies that hold no patient's number: each counts as a person.
        shared_studies: Studies with files of several patients, parted by patient.
        tree: Its files.
        name_filter: What takes the names of its patients out of texts.
        own_words: Pseudonym of each volume → the words that name its patient.
    """

    root: Path
    names: Pseudonyms
    scans: Mapping[str, Series]
    subjects: Mapping[str, str]
    objects: Mapping[str, StructureObject]
    damaged: tuple[tuple[Path, str], ...]
    unnamed: int
    shared_studies: int
    tree: Tree
    name_filter: NameFilter
    own_words: Mapping[str, frozenset[str]]

    def nameless(self, scan: str, text: str) -> str:
        """A text of a tag of a volume, without names."""
        return self.name_filter.clean(text, self.own_words[scan])

    def files_of(self, address: DicomScan | DicomMask) -> tuple[Path, ...]:
        """The files that a volume or a mask is read from; none where they are not there any more."""
        if isinstance(address, DicomScan):
            return self.scans[address.scan].files if address.scan in self.scans else ()
        return tuple(self.objects[name].file for name in address.objects if name in self.objects)

    def held(self, name: str) -> StructureObject:
        """A segmentation or a structure set.

        Raises:
            DataError: If it is not there any more.
        """
        if name not in self.objects:
            problem = f"no segmentation and no structure set there has the pseudonym {name}"
            raise DataError("A mask cannot be read:", [Fault(problem, "DICOM", _BACK)])
        return self.objects[name]

    def series(self, scan: str) -> Series:
        """A volume.

        Raises:
            DataError: If it is not there any more.
        """
        if scan not in self.scans:
            fault = Fault(f"no DICOM series there has the pseudonym {scan}", "DICOM", _BACK)
            raise DataError("A scan cannot be read:", [fault])
        return self.scans[scan]


def open_archive(root: Path, *, anew: bool = False) -> Archive:
    """What lies below a folder; its headers are read once in the life of the process.

    Args:
        root: The folder, or one file.
        anew: Whether to read them again.

    Raises:
        DataError: If pydicom is not installed, or there is no place for a key of pseudonyms.
    """
    # The key of pseudonyms is sought in the folders above.
    root = Path(os.path.abspath(root))  # noqa: PTH100  # Path.absolute keeps "..", and resolve follows links
    with _LOCK:
        if anew or root not in _OPEN:
            _OPEN[root] = _read_archive(root)
        return _OPEN[root]


def write_tables(archive: Archive, used: Collection[str]) -> Path | None:
    """Write which patient, series and folder each pseudonym stands for.

    Args:
        archive: The data set.
        used: Pseudonyms of the volumes that are scans of it.

    Returns:
        As :func:`fewlabel.data.io.dicom.pseudonym_tables.write_scans`.
    """
    rows = [
        {
            "scan": scan,
            "subject": archive.subjects[scan],
            "used": "yes" if scan in used else "no",
            "patient": series.head.patient[1],
            "name": series.head.person,
            "study": series.head.study,
            "series": series.head.series,
            "folder": str(series.files[0].parent),
            "description": described(series),
        }
        for scan, series in archive.scans.items()
    ]
    rows.extend(
        {"scan": name, "study": held.study, "folder": str(held.file.parent), "description": held.kind}
        for name, held in archive.objects.items()
    )
    return write_scans(rows, archive.names.home, archive.names.user_folder)


def keep_beside_the_data(root: Path) -> Archive:
    """The data set, with its key and table of scans beside it, see :meth:`Pseudonyms.beside_the_data`.

    Args:
        root: As for :func:`open_archive`.

    Raises:
        DataError: As :func:`open_archive`, or if there is another key beside the data by now.
    """
    archive = open_archive(root)
    with _LOCK:
        _OPEN[archive.root] = replace(archive, names=archive.names.beside_the_data())
        return _OPEN[archive.root]


def _read_archive(root: Path) -> Archive:
    names = load_pseudonyms(root)
    tree = read_tree(root)
    headers, shared_studies = patients_apart(tree.headers)
    tree = replace(tree, headers=tuple(headers))
    volumes = volumes_of(tree.headers)
    known_by = subjects_of((*tree.headers, *(series.head for series in volumes)))
    persons = {study: _subject(names, words) for study, words in known_by.items()}
    objects, damaged = _structures(names, tree)
    words = [_naming_words(series) for series in volumes]
    name_filter = NameFilter.of(tree.headers, known_patients(names.home, names.user_folder))
    scans = _by_code(names, volumes, persons)
    own_words = dict(zip(scans, words, strict=True))
    return Archive(
        root,
        names,
        scans={scan: _nameless(series, scan, own_words[scan], name_filter) for scan, series in scans.items()},
        subjects={scan: persons[series.head.study] for scan, series in scans.items()},
        objects={name: held.nameless(name_filter.clean) for name, held in objects.items()},
        damaged=(*tree.unreadable, *damaged),
        unnamed=len({series.head.study for series in volumes if is_nobody(series.head.patient[1])}),
        shared_studies=shared_studies,
        tree=tree,
        name_filter=name_filter,
        own_words={scan: own or frozenset() for scan, own in own_words.items()},
    )


def _structures(names: Pseudonyms, tree: Tree) -> tuple[dict[str, StructureObject], list[tuple[Path, str]]]:
    """Segmentations and structure sets by their pseudonyms, and those that cannot be read."""
    objects: dict[str, StructureObject] = {}
    damaged = []
    for header in tree.headers:
        if header.modality in {"SEG", "RTSTRUCT"}:
            try:
                objects[f"o{names.code('object', header.instance or str(header.file))}"] = read_structures(header)
            except (OSError, ValueError) as error:
                damaged.append((header.file, f"cannot be read ({reason(error)})"))
    return objects, damaged


def _naming_words(series: Series) -> frozenset[str] | None:
    """What names the patient of a volume; None where its header cannot be read as a whole."""
    try:
        return naming_words(series.header(0))
    except DataError:
        return None


def _nameless(series: Series, scan: str, words: frozenset[str] | None, name_filter: NameFilter) -> Series:
    """A volume that is called by its pseudonym, with description and marks that name nobody."""
    if words is None:
        head, marks = replace(series.head, description=""), {}
    else:
        head = replace(series.head, description=name_filter.clean(series.head.description, words))
        marks = {
            name: tuple(name_filter.clean(str(each), words) for each in value) if isinstance(value, tuple) else value
            for name, value in series.part.marks.items()
        }
    return replace(series, head=head, part=replace(series.part, marks=marks), where=scan)


def _by_code(names: Pseudonyms, volumes: Sequence[Series], persons: Mapping[str, str]) -> dict[str, Series]:
    """Volumes, in their order, by a pseudonym that is as short as keeps them apart."""
    for digits in (6, 12, 24):
        codes = {
            uid: names.code("series", _relative(names, uid), digits=digits)
            for uid in dict.fromkeys(series.head.series for series in volumes)
        }
        coded = {
            f"{persons[series.head.study]}_s{codes[series.head.series]}"
            f"{f'_{series.number}' if series.count > 1 else ''}": series
            for series in volumes
        }
        if len(coded) == len(volumes):
            break
    return coded


def _subject(names: Pseudonyms, known_by: Sequence[str]) -> str:
    words = ("patient", *known_by) if len(known_by) > 1 else ("study", _relative(names, known_by[0]))
    return f"p{names.code(*words)}"


def _relative(names: Pseudonyms, uid: str) -> str:
    """A UID; what stands for one by its folder, as that lies below the one of the key."""
    start = f"folder {names.base}"
    return f"folder{uid.removeprefix(start)}" if uid.startswith(start) else uid
