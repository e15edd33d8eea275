"""Segmentations and structure sets of DICOM, matched to the series they are of, with one numbering of structures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.io.dicom.address import DicomMask
from fewlabel.data.io.dicom.data_set_index import Archive
from fewlabel.data.io.dicom.structure_headers import StructureObject, owner_of

_MOST = 12


@dataclass(frozen=True)
class DicomLabels:
    """The labels of a data set.

    Attributes:
        objects: Pseudonym of a volume → those of its segmentations and structure sets, the newest first.
        values: Name of each structure → its value, in the order in which structures take voxels.
        ordered: Whether somebody has given that order.
        notes: What was assumed.
        faults: Objects that belong to no volume, and structures that nothing holds.
    """

    objects: Mapping[str, tuple[str, ...]]
    values: Mapping[str, int]
    ordered: bool
    notes: tuple[str, ...]
    faults: tuple[Fault, ...]

    def path(self, archive: Archive, scan: str) -> Path | None:
        """The mask of a volume as the path of a catalog; None for one without."""
        objects = self.objects.get(scan)
        if not objects:
            return None
        held = {each.name.casefold() for name in objects for each in archive.objects[name].structures}
        if held.isdisjoint(name.casefold() for name in self.values):
            return None
        return DicomMask(archive.root, scan, objects, tuple(self.values.items()), self.ordered).path


def match_labels(archive: Archive, words: str | None, structures: Sequence[str] | None) -> DicomLabels:
    """The segmentations and structure sets of each volume.

    What ``predict`` wrote is no label, unless ``words`` ask for it. Where two of one volume hold structures of one
    name, the newer counts. Structures have values by the order that is given, else by that of the alphabet; they are
    the same whatever their case is.

    Args:
        archive: The data set.
        words: Only objects whose description holds these words; None for all.
        structures: Names of the structures that count, later ones having the voxels that several share; None for all.
    """
    notes: list[str] = []
    faults: list[Fault] = []
    of_scan: dict[str, list[str]] = defaultdict(list)
    aside = predicted = 0
    for name, held in archive.objects.items():
        if words is not None and words.casefold() not in held.description.casefold():
            aside += 1
            continue
        if words is None and held.predicted:
            predicted += 1
            continue
        scan, problem = owner_of(held, archive.scans)
        if problem:
            faults.append(Fault(problem, f"{held.kind} {name}", "Put its series beside it, or take it out"))
        else:
            of_scan[scan].append(name)
    if aside:
        notes.append(f"segmentations and structure sets that reader.labels does not name are left out ({aside})")
    if predicted:
        notes.append(
            f"segmentations and structure sets that fewlabel predicted are left out ({predicted}): they are nobody's "
            "annotation. reader.name=dicom reader.labels=fewlabel takes them, where somebody has corrected them"
        )
    objects: dict[str, tuple[str, ...]] = {}
    older = 0
    for scan, names in of_scan.items():
        objects[scan] = _newest(names, archive.objects)
        older += len(names) - len(objects[scan])
    if older:
        notes.append(
            f"segmentations and structure sets with structures that a newer one of their series holds are left out "
            f"({older}): reader.name=dicom reader.labels=WORDS takes those whose description holds the words"
        )
    counts, spelled = _counted(objects, archive.objects)
    values = _values(counts, spelled, structures, len(objects), faults, notes)
    return DicomLabels(objects, values, structures is not None, tuple(notes), tuple(faults))


def _newest(names: Sequence[str], objects: Mapping[str, StructureObject]) -> tuple[str, ...]:
    """Objects of which none holds a structure that a newer one holds."""
    taken: set[str] = set()
    kept = []
    for name in sorted(names, key=lambda name: (objects[name].moment, name), reverse=True):
        own = {each.name.casefold() for each in objects[name].structures}
        if not own & taken:
            taken |= own
            kept.append(name)
    return tuple(kept)


def _counted(
    objects: Mapping[str, Sequence[str]], held: Mapping[str, StructureObject]
) -> tuple[Counter[str], dict[str, str]]:
    """In how many volumes each structure is, by its name in lower case, and how it is spelled most often."""
    counts: Counter[str] = Counter()
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for names in objects.values():
        own = [each.name for name in names for each in held[name].structures]
        counts.update({name.casefold() for name in own})
        for name in own:
            spellings[name.casefold()][name] += 1
    spelled = {low: max(sorted(each), key=lambda name: each[name]) for low, each in spellings.items()}
    return counts, spelled


def _values(
    counts: Counter[str],
    spelled: Mapping[str, str],
    structures: Sequence[str] | None,
    total: int,
    faults: list[Fault],
    notes: list[str],
) -> dict[str, int]:
    if structures is None:
        names = sorted(spelled.values(), key=str.casefold)
    else:
        names = list(structures)
        for name in names:
            if name.casefold() not in counts:
                remedy = did_you_mean(name, spelled.values(), otherwise=f"There are {_listed(list(spelled.values()))}")
                faults.append(Fault(f'no scan has a structure "{name}"', "reader.structures", remedy))
        aside = [spelled[low] for low in spelled if low not in {name.casefold() for name in names}]
        if aside:
            notes.append(f"structures that reader.structures does not name are left out: {_listed(sorted(aside))}")
    partly = [f"{name} ({counts[name.casefold()]})" for name in names if 0 < counts[name.casefold()] < total]
    if partly:
        notes.append(
            f"structures that some labelled scans do not hold are taken not to be there: {_listed(partly)}, in "
            "brackets the scans that hold them"
        )
    return {name: value for value, name in enumerate(names, start=1)}


def _listed(names: Sequence[str]) -> str:
    shown = list(names)[:_MOST]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
