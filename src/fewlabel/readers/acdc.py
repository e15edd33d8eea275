"""ACDC: one folder per patient with ``Info.cfg``, frames and their ground truth."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.core.settings.base import setting
from fewlabel.core.whole_numbers import is_whole_number
from fewlabel.data.catalog import Case, Catalog, Column, Value
from fewlabel.data.io.axis_count import fourth_axis
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.composite_paths import Frame
from fewlabel.data.io.itk_image import checked, is_scan
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.cine_frames import PARTS
from fewlabel.readers.copies import without_copies
from fewlabel.readers.text_files import read_text

_PATIENT = re.compile(r"patient\d+$")
_FRAME = re.compile(r"(?P<patient>patient\d+)_frame(?P<frame>\d+)$")
_INFO = "Info.cfg"
#: Folders that hold patient folders, and the part they stand for.
_INSIDE = {
    "training": "",
    "train": "",
    "testing": "test",
    "test": "test",
    "database/training": "",
    "database/testing": "test",
}
#: Two patients of the training set whose images are the same, with masks and ``Info.cfg`` of their own.
_SAME = frozenset({"patient074", "patient076"})
_LABELS = {0: "background", 1: "RV", 2: "myocardium", 3: "LV"}
_COLUMNS = (
    Column("phase", "categorical", f"{_INFO}: ED, ES"),
    Column("group", "categorical", f"{_INFO}: Group"),
    Column("height", "continuous", f"{_INFO}: Height, cm"),
    Column("weight", "continuous", f"{_INFO}: Weight, kg"),
)
QUARTER = Column("quarter", "ordinal", "quarter of the cycle from end diastole on, by the frames of patientNNN_4d")


class AcdcReader(Reader):
    """Automated Cardiac Diagnosis Challenge (Bernard et al., IEEE TMI 2018, doi 10.1109/TMI.2018.2837502).

    A root with ``patientNNN`` folders, the official ``training`` and ``testing`` folders, or one patient folder.
    Each ``patientNNN_frameFF`` is a scan; ``_gt`` beside it is its label, and a scan without one is unlabelled. The
    phase of a frame comes from ``Info.cfg``. Where that names no frame, the lower of two frames is end diastole:
    frame 01 is not always (patient090: ED 4, ES 11), the lower number is. ``patientNNN_4d`` holds all frames; with
    ``cine`` those that lie in no file of their own are unlabelled scans of the patient, except for patients in
    ``testing``. Every frame then has the ``quarter`` of the cycle that it lies in, 0 to 3 from end diastole on.
    """

    class Config(Reader.Config):
        """Settings of the reader."""

        name: str = "acdc"
        cine: bool = setting(
            False,
            "whether the other frames of patientNNN_4d are read too, as unlabelled scans, but for patients in testing",
            source="off: published protocols learn from ED and ES alone",
        )

    config: Config
    markers: ClassVar[tuple[str, ...]] = ("patient[0-9]*", "training", "testing", "database")
    summary: ClassVar[str] = "ACDC patient folders: patientNNN/patientNNN_frameFF.nii.gz, _gt, Info.cfg"

    @classmethod
    def match(cls, root: Path) -> Match:
        """By patient folders, ``Info.cfg`` and frame names."""
        if not root.is_dir():
            return Match(0.0, ("not a folder",))
        folders = [folder for folder, _ in _patients(root)]
        if not folders:
            return Match(0.0, ("no folder named patientNNN",))
        framed = [folder for folder in folders if any(_frames(folder))]
        if not framed:
            return Match(0.2, (f"{len(folders)} patient folders, none with patientNNN_frameFF images",))
        known = sum((folder / _INFO).is_file() for folder in framed)
        reasons = (f"{len(framed)} patient folders with frames", f"{known} with {_INFO}")
        return Match(0.7 + 0.3 * known / len(framed), reasons)

    def collect(self, root: Path) -> Catalog:
        """One case per frame; subject is the patient."""
        cases: list[Case] = []
        faults: list[Fault] = []
        for folder, part in _patients(root):
            cases.extend(_read_patient(folder, part, faults))
        if not cases:
            faults.append(Fault(f"{root} holds no patientNNN folders with frames"))
        columns: tuple[Column, ...] = _COLUMNS
        notes: tuple[str, ...] = ()
        cines = {home: path for home, (case, *_) in _by_folder(cases).items() if (path := _cine(case)) is not None}
        if cines and not self.config.cine:
            notes = (
                f"{len(cines)} patients have all frames in patientNNN_4d, which are left out; reader.name=acdc "
                "reader.cine=true adds them as unlabelled scans",
            )
        if self.config.cine:
            faults.extend(_faults_of_cines(cines.values()))
            cases = list(_with_cines(cases, cines))
            columns = (*columns, QUARTER)
        return Catalog(
            name="acdc",
            root=root,
            reader="acdc",
            cases=tuple(sorted(cases, key=lambda case: case.id)),
            notes=notes,
            columns=columns,
            label_names=_LABELS,
            channels=("cine MR",),
            known_equal=(_SAME,),
            faults=tuple(faults),
        )


def _patients(root: Path) -> Iterator[tuple[Path, str]]:
    if _PATIENT.match(root.resolve().name) and any(_frames(root)):
        yield root, ""
        return
    for place, part in {"": "", **_INSIDE}.items():
        home = root / place
        if home.is_dir():
            yield from ((folder, part) for folder in sorted(home.iterdir()) if _PATIENT.match(folder.name))


def _frames(folder: Path) -> Iterator[tuple[int, Path]]:
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    except PermissionError:
        # Looking for a fitting reader goes on without it; reading names it.
        return
    yield from _framed(path for path in paths if is_scan(path))


def _framed(scans: Iterable[Path]) -> Iterator[tuple[int, Path]]:
    """Frames by number."""
    for path in scans:
        if (match := _FRAME.match(scan_stem(path))) is not None:
            yield int(match["frame"]), path


def _read_patient(folder: Path, part: str, faults: list[Fault]) -> Iterator[Case]:
    try:
        names = sorted(Path(path.name) for path in folder.iterdir() if is_scan(path))
        files = [folder / name for name in without_copies(names, folder, faults)]
        info = _read_info(folder / _INFO, faults)
    except OSError as error:
        # A file that is called so is no folder.
        remedy = "Allow reading it, or take it out of the data set"
        faults.append(Fault(f"{folder} cannot be read ({reason(error)})", remedy=remedy))
        return
    frames: dict[int, Path] = {}
    for frame, path in _framed(files):
        if frame in frames:
            problem = f"{frames[frame]} and {path} are the same frame"
            faults.append(Fault(problem, remedy="Remove one of the two"))
        frames[frame] = path
    truths = {scan_stem(path): path for path in files if scan_stem(path).endswith("_gt")}
    if not frames:
        remedy = "Restore its images, or take the folder out of the data set"
        faults.append(Fault(f"{folder} holds no patientNNN_frameFF images", remedy=remedy))
        return
    phases = _phases(folder, frames, info, faults)
    shared: dict[str, Value] = {
        "group": info.get("group") or None,
        "height": _number(info, "height", folder, faults),
        "weight": _number(info, "weight", folder, faults),
    }
    for frame, path in frames.items():
        stem = scan_stem(path)
        match = _FRAME.match(stem)
        yield Case(
            id=stem,
            subject=match["patient"] if match else folder.name,
            images=(path,),
            label=truths.pop(f"{stem}_gt", None),
            metadata={"phase": phases.get(frame), **shared},
            part=part,
        )
    faults.extend(
        Fault(f"{path} has no image: there is no {stem.removesuffix('_gt')}", remedy="Restore the image, or remove it")
        for stem, path in truths.items()
    )


def _by_folder(cases: Sequence[Case]) -> dict[Path, list[Case]]:
    """Scans of each patient folder."""
    folders: dict[Path, list[Case]] = {}
    for case in cases:
        folders.setdefault(case.images[0].parent, []).append(case)
    return folders


def _cine(case: Case) -> Path | None:
    """All frames of a patient in one file, beside a frame; None if there is none."""
    folder = case.images[0].parent
    cines = sorted(path for path in folder.glob(f"{case.subject}_4d*") if is_scan(path))
    return next((path for path in cines if scan_stem(path) == f"{case.subject}_4d"), None)


def _faults_of_cines(cines: Iterable[Path]) -> Iterator[Fault]:
    """Why a file is no cine, which says nothing of itself where it has no frames."""
    for path in cines:
        try:
            checked(path)
        except DataError as error:
            yield from error.faults
            continue
        if fourth_axis(path) == 1:
            remedy = "Restore it, or leave all such files out by reader.cine=false"
            yield Fault("must hold the frames of a cine along a fourth axis, and has none", str(path), remedy)


def _with_cines(cases: Sequence[Case], cines: Mapping[Path, Path]) -> Iterator[Case]:
    """All scans with their quarter of the cycle, and the frames of the cines that are not among them.

    Args:
        cases: The frames that have files of their own.
        cines: Folder of a patient → the file of all frames.
    """
    for home, scans in _by_folder(cases).items():
        count = fourth_axis(cines[home]) if home in cines else 1
        numbers = {int(case.id.rpartition("_frame")[2]): case for case in scans}
        start = next((number for number, case in numbers.items() if case.metadata["phase"] == "ED"), 1)
        if count > 1 and scans[0].part != "test":
            unlabelled = replace(scans[0], label=None, metadata={**scans[0].metadata, "phase": None})
            for number in range(1, count + 1):
                frame = Frame(cines[home], number - 1).path
                name = f"{unlabelled.subject}_frame{number:02d}"
                numbers.setdefault(number, replace(unlabelled, id=name, images=(frame,)))
        for number, case in numbers.items():
            quarter = (number - start) % count * PARTS // count if count > 1 else None
            yield replace(case, metadata={**case.metadata, QUARTER.name: quarter})


def _phases(folder: Path, frames: Mapping[int, Path], info: Mapping[str, str], faults: list[Fault]) -> dict[int, str]:
    named: dict[int, str] = {}
    for phase in ("ED", "ES"):
        text = info.get(phase.lower(), "")
        if not text:
            continue
        if not is_whole_number(text) or int(text) not in frames:
            there = f"frame{'s' * (len(frames) != 1)} {', '.join(map(str, frames))}"
            problem = f"{phase} must be a frame that exists, not {text}: there is {there}"
            faults.append(Fault(problem, str(folder / _INFO), "Restore the missing image or correct the file"))
            continue
        named[int(text)] = phase
    if named or len(frames) != 2:
        return named
    lower, upper = sorted(frames)
    return {lower: "ED", upper: "ES"}


def _read_info(path: Path, faults: list[Fault]) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = [line.partition(":") for line in read_text(path, faults).splitlines() if ":" in line]
    return {key.strip().lower(): value.strip() for key, _, value in lines}


def _number(info: Mapping[str, str], key: str, folder: Path, faults: list[Fault]) -> float | None:
    text = info.get(key, "")
    if text.lower() in {"", "nan", "na"}:
        return None
    try:
        return float(text)
    except ValueError:
        remedy = "Correct it, or leave it empty"
        faults.append(Fault(f'{key} must be a number, not "{text}"', str(folder / _INFO), remedy))
        return None
