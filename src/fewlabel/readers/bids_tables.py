"""Tables and sidecars of a BIDS data set, as metadata."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault, reason
from fewlabel.core.whole_numbers import is_whole_number
from fewlabel.readers.bids_names import BidsFile, parse_name
from fewlabel.readers.text_files import read_text

PARTICIPANTS = "participants.tsv"
#: Field of a sidecar → column of metadata.
ACQUISITION = {
    "Manufacturer": "scanner",
    "ManufacturersModelName": "model",
    "MagneticFieldStrength": "field_strength",
    "PulseSequenceType": "sequence",
    "ScanningSequence": "scanning_sequence",
    "RepetitionTime": "repetition_time",
    "EchoTime": "echo_time",
    "InversionTime": "inversion_time",
    "FlipAngle": "flip_angle",
    "SliceThickness": "slice_thickness",
    "InstitutionName": "institution",
}
_KEYS = {"participant_id", "session_id"}


def participants(root: Path, faults: list[Fault]) -> dict[str, dict[str, str]]:
    """Subject, without ``sub-`` → its row of ``participants.tsv``."""
    return _rows(root / PARTICIPANTS, "participant_id", "sub-", faults)


def sessions(root: Path, subject: str, faults: list[Fault]) -> dict[str, dict[str, str]]:
    """Session, without ``ses-`` → its row of ``sub-X_sessions.tsv``; empty where there is none."""
    return _rows(root / f"sub-{subject}" / f"sub-{subject}_sessions.tsv", "session_id", "ses-", faults)


def label_table(root: Path, masks: Iterable[BidsFile], faults: list[Fault]) -> dict[int, str]:
    """Value → name from the table ``dseg.tsv`` beside a mask, in its pipeline or at the root; empty without one."""
    for mask in masks:
        beside = root / mask.path.parent / f"{mask.path.name.split('.')[0]}.tsv"
        above = [parent for parent in (root / mask.path).parents if parent.is_relative_to(root)]
        places = [beside, *(place / "dseg.tsv" for place in above), *(place / "desc-dseg.tsv" for place in above)]
        for path in places:
            if not path.is_file():
                continue
            names = {}
            for row in _table(path, faults):
                value, name = row.get("index", row.get("label", "")), row.get("name", row.get("abbreviation", ""))
                if is_whole_number(value) and name.strip():
                    names[int(value)] = name.strip()
            return names
    return {}


class Sidecars:
    """JSON files beside images and above them: a file speaks for all images below it whose entities it shares."""

    def __init__(self, root: Path, faults: list[Fault], files: Iterable[Path]) -> None:
        self.root, self.faults = root, faults
        self.files: dict[tuple[Path, str, str], list[tuple[BidsFile, Path]]] = {}
        for path in files:
            if path.suffix.lower() == ".json":
                named = parse_name(path.with_suffix(".nii")) or _shared(path)
                if named is not None:
                    place = (path.parent, named.suffix, named.entities.get("sub", ""))
                    self.files.setdefault(place, []).append((named, path))
        self.read: dict[Path, dict[str, Any]] = {}

    def of(self, image: BidsFile) -> dict[str, Any]:
        """Acquisition of an image, by column; fields that are no text or number are left out."""
        fields: dict[str, Any] = {}
        # Those nearer to the image come later and win.
        for folder in reversed(image.path.parents):
            subjects = {"", image.entities.get("sub", "")}
            files = [one for subject in subjects for one in self.files.get((folder, image.suffix, subject), ())]
            for named, path in sorted(files, key=lambda pair: (len(pair[0].entities), pair[1])):
                if named.entities.items() <= image.entities.items():
                    fields.update(self._fields(path))
        return fields

    def _content(self, path: Path) -> Any:
        known = len(self.faults)
        text = read_text(path, self.faults)
        if len(self.faults) > known:
            return {}
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            problem = f"{path} cannot be read as JSON ({reason(error)})"
            self.faults.append(Fault(problem, remedy="Correct it or take it away"))
            return {}

    def _fields(self, path: Path) -> dict[str, Any]:
        if path not in self.read:
            content = self._content(self.root / path)
            known = content if isinstance(content, dict) else {}
            self.read[path] = {
                column: known[key]
                for key, column in ACQUISITION.items()
                if isinstance(known.get(key), str | int | float)
            }
        return self.read[path]


def _shared(path: Path) -> BidsFile | None:
    """A sidecar without a subject, such as ``T1w.json`` or ``task-rest_bold.json``."""
    name = parse_name(path.with_name(f"sub-any_{path.stem}.nii"))
    if name is None:
        return None
    entities = {key: value for key, value in name.entities.items() if key != "sub"}
    return BidsFile(path, entities, name.suffix, name.pipeline)


def _rows(path: Path, key: str, prefix: str, faults: list[Fault]) -> dict[str, dict[str, str]]:
    rows = _table(path, faults) if path.is_file() else []
    if rows and key not in rows[0]:
        faults.append(Fault(f"must have a column {key}, but has {', '.join(rows[0])}", str(path)))
        return {}
    by_name: dict[str, dict[str, str]] = {}
    for line, row in enumerate(rows, start=2):
        name = row[key].strip().removeprefix(prefix)
        if name in by_name:
            faults.append(Fault(f"{row[key]} has a row already", f"{path}, line {line}", "Keep one of the two"))
        by_name[name] = {column: value for column, value in row.items() if column not in _KEYS}
    return by_name


def _table(path: Path, faults: list[Fault]) -> list[Mapping[str, str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path, faults), newline=""), delimiter="\t"))
    except csv.Error as error:
        faults.append(Fault(f"{path} is not a readable table ({error})"))
        return []
    return [{key.strip(): value or "" for key, value in row.items() if isinstance(key, str)} for row in rows]
