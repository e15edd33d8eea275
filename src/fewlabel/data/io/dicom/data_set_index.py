"""The DICOM files of a data set as a whole: its volumes, segmentations and structure sets, each by its pseudonym."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.data.io.dicom.address import DicomMask, DicomScan
from fewlabel.data.io.dicom.file_search import Tree, read_tree
from fewlabel.data.io.dicom.headers import Header
from fewlabel.data.io.dicom.private_text import naming_words, without_names
from fewlabel.data.io.dicom.pseudonyms import FOLDER, Pseudonyms, load_pseudonyms
from fewlabel.data.io.dicom.series import Series, described, volumes_of
from fewlabel.data.io.dicom.structure_headers import StructureObject, read_structures

#: What stands for a patient's number where there is none.
_NOBODY = re.compile(
    r"|0+|x+|anon\w*|unknown|none|n\.?/?a\.?|null|no ?name|patient|removed|de-?identified|default|test", re.IGNORECASE
)
_BACK = "Put its files back; if the folder of its key was lost, prepare the data again"
#: Shorter numbers are in many paths by chance.
_LONG_NUMBER = 4
_LOCK = threading.Lock()
_OPEN: dict[Path, Archive] = {}


@dataclass(frozen=True)
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
        tree: Its files.
    """

    root: Path
    names: Pseudonyms
    scans: Mapping[str, Series]
    subjects: Mapping[str, str]
    objects: Mapping[str, StructureObject]
    damaged: tuple[tuple[Path, str], ...]
    unnamed: int
    tree: Tree

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
    with _LOCK:
        if anew or root not in _OPEN:
            _OPEN[root] = _read_archive(root)
        return _OPEN[root]


def names_a_patient(archive: Archive) -> bool:
    """Whether a part of the path of the data holds the number of one of its patients, or two words of a name."""
    parts = [part.casefold() for part in archive.root.parts]
    for header in archive.tree.headers:
        number = header.patient[1].strip().casefold()
        numbered = len(number) >= _LONG_NUMBER and not _is_nobody(header) and any(number in part for part in parts)
        words = set(re.findall(r"[^\W\d_]{3,}", header.person.casefold()))
        if numbered or any(sum(word in part for word in words) > 1 for part in parts):
            return True
    return False


def write_tables(archive: Archive, used: Collection[str]) -> Path | None:
    """Write which patient, series and folder each pseudonym stands for, beside the key.

    Args:
        archive: The data set.
        used: Pseudonyms of the volumes that are scans of it.

    Returns:
        As :meth:`fewlabel.data.io.dicom.pseudonyms.Pseudonyms.write_tables`.
    """
    rows = [
        {
            "scan": scan,
            "subject": archive.subjects[scan],
            "used": "yes" if scan in used else "no",
            "patient": series.head.patient[1],
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
    return archive.names.write_tables(rows, archive.damaged)


def _read_archive(root: Path) -> Archive:
    names = load_pseudonyms(root)
    tree = read_tree(root)
    volumes = [_nameless(series) for series in volumes_of(tree.headers)]
    persons = {series.head.study: _subject(names, series.head) for series in volumes}
    subjects = {scan: persons[series.head.study] for scan, series in _by_code(names, volumes, persons).items()}
    scans = {scan: replace(series, where=scan) for scan, series in _by_code(names, volumes, persons).items()}
    objects: dict[str, StructureObject] = {}
    damaged = list(tree.unreadable)
    for header in tree.headers:
        if header.modality in {"SEG", "RTSTRUCT"}:
            try:
                objects[f"o{names.code('object', header.instance or str(header.file))}"] = read_structures(header)
            except (OSError, ValueError) as error:
                damaged.append((header.file, f"cannot be read ({reason(error)})"))
    unnamed = len({series.head.study for series in volumes if _is_nobody(series.head)})
    return Archive(root, names, scans, subjects, objects, tuple(damaged), unnamed, tree)


def _nameless(series: Series) -> Series:
    """A volume whose description, and what sets it apart from others, are without names."""
    try:
        words = naming_words(series.header(0))
    except DataError:
        return replace(series, head=replace(series.head, description=""), part=replace(series.part, marks={}))
    marks = {name: _plain(value, words) for name, value in series.part.marks.items()}
    head = replace(series.head, description=without_names(series.head.description, words))
    return replace(series, head=head, part=replace(series.part, marks=marks))


def _plain(value: Hashable, words: Collection[str]) -> Hashable:
    return tuple(without_names(str(each), words) for each in value) if isinstance(value, tuple) else value


def _by_code(names: Pseudonyms, volumes: Sequence[Series], persons: Mapping[str, str]) -> dict[str, Series]:
    """Volumes by a pseudonym that is as short as keeps them apart."""
    for digits in (6, 12, 24):
        coded: dict[str, list[Series]] = defaultdict(list)
        for series in volumes:
            own = names.code("series", _relative(names, series.head.series), digits=digits)
            number = f"_{series.number}" if series.count > 1 else ""
            coded[f"{persons[series.head.study]}_s{own}{number}"].append(series)
        if len(coded) == len(volumes):
            break
    return {scan: each[0] for scan, each in coded.items()}


def _subject(names: Pseudonyms, head: Header) -> str:
    words = ("study", _relative(names, head.study)) if _is_nobody(head) else ("patient", *head.patient)
    return f"p{names.code(*words)}"


def _is_nobody(head: Header) -> bool:
    return _NOBODY.fullmatch(head.patient[1].strip()) is not None


def _relative(names: Pseudonyms, uid: str) -> str:
    """A UID; what stands for one by its folder, as that lies below the one of the key."""
    start = f"folder {names.home.parent if names.home.name == FOLDER else names.root}"
    return f"folder{uid.removeprefix(start)}" if uid.startswith(start) else uid
