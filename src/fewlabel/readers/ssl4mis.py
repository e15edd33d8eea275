"""h5 files with list files, as the semi-supervised literature passes data sets around: SSL4MIS, WSL4MIS, UA-MT."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import field_validator

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.settings.base import Floats, setting
from fewlabel.data.catalog import Case, Catalog, Column
from fewlabel.data.io.hdf5_and_npz_arrays import SUFFIX, Address, Order, shapes_of
from fewlabel.data.subjects_from_names import guess_subjects
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.text_files import read_text
from fewlabel.readers.voxel_size_setting import three_sizes

#: Where h5 files lie below the root, such as ``ID/mri_norm2.h5`` and ``data/slices/CASE_slice_0.h5``.
_DEPTHS = ("*", "*/*", "*/*/*")
_SLICE = re.compile(r"(?P<case>.+)_slice_(?P<number>\d+)$")
#: The left atrium set names every file alike and the case by its folder.
_ATRIUM = "mri_norm2"
_ATRIUM_MM = 0.625
_ACDC = re.compile(r"(?P<patient>patient\d+)_frame(?P<frame>\d+)$")
#: List files at the root and the part of the catalog that they stand for.
_LISTS = {"train": "", "train_slices": "", "val": "validation", "test": "test"}
_ENDINGS = (".list", ".txt")


@dataclass
class _CaseFiles:
    """Files of one case."""

    volumes: list[Path] = field(default_factory=list)
    slices: list[Path] = field(default_factory=list)


class Ssl4misReader(Reader):
    """Folders of h5 files with the arrays ``image`` and ``label``, maybe ``scribble`` (SSL4MIS, Luo et al., 2020).

    A volume is ``CASE.h5`` anywhere up to three folders deep, or ``CASE/mri_norm2.h5`` (the left atrium set of Xiong
    et al., MedIA 2021, as UA-MT distributes it). Where a case has no volume, its files ``CASE_slice_N.h5`` are stacked
    in the order of N, which has no gaps. A file without ``label`` is unlabelled. ``train.list`` or
    ``train_slices.list``, ``val.list`` and ``test.list`` (or ``.txt``) say what is kept for validation and testing; a
    case on none of them is left out. The subject of ``patientNNN_frameFF`` is ``patientNNN``.

    A case that is kept for nothing and has a scribble, but no label, learns from the scribble; with ``label=scribble``
    all such cases do. Those kept for validation and testing have full labels or none; a split whose parts would mix
    the two is refused.

    The files hold no geometry: voxel sizes come from ``spacing``, and axes are taken as the patient's own.
    """

    class Config(Reader.Config):
        """Settings of the reader."""

        name: str = "ssl4mis"
        label: Literal["auto", "label", "scribble"] = setting(
            "auto",
            "what training scans learn from; auto: the label, and the scribble of files without one; scans kept for "
            "validation and testing keep their full label",
        )
        unmarked: int = setting(
            4, "value of pixels that no scribble touches; ignored where scribbles are learnt from", source="WSL4MIS"
        )
        spacing: Floats | None = setting(
            None,
            "voxel size (slice, row, column), which the files do not hold; null: 0.625 each for mri_norm2.h5, else 1 "
            "each, so that distances are in voxels",
            unit="mm",
            source="left atrium: challenge of Xiong et al.",
        )
        slices: Literal["auto", "first", "last"] = setting(
            "auto", "array axis across the slices; auto: last in mri_norm2.h5, else first"
        )

        _sizes = field_validator("spacing")(three_sizes)

    config: Config
    markers: ClassVar[tuple[str, ...]] = ("*.list",)
    summary: ClassVar[str] = "h5 files with image, label, scribble, and train.list, val.list, test.list (SSL4MIS)"
    label_settings: ClassVar[frozenset[str]] = frozenset({"label", "unmarked"})

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        #: Training scans that have a scribble beside the label that they learn from.
        self.beside = 0

    @classmethod
    def match(cls, root: Path) -> Match:
        """By names that end in ``.h5`` and by list files."""
        files = _files(root)
        if not files:
            return Match(0.0, ("no .h5 files",))
        named = sorted(path.name for path in _list_files(root))
        reasons = (f"{len(files)} .h5 files", ", ".join(named) or "no train.list, val.list or test.list")
        return Match(0.9 if named or root.is_file() else 0.6, reasons)

    def collect(self, root: Path) -> Catalog:
        """One case per volume; arrays are named by address (``fewlabel.data.io.hdf5_and_npz_arrays``)."""
        faults: list[Fault] = []
        self.beside = 0
        grouped = _cases(_files(root))
        if not grouped:
            faults.append(Fault(f"{root} holds no .h5 files"))
        parts = _parts(root, set(grouped), faults)
        kept = {name: files for name, files in grouped.items() if not parts or name in parts}
        notes = [f"{len(grouped) - len(kept)} cases are on no list and left out"] if len(kept) < len(grouped) else []
        subjects, phases = _subjects(kept), _phases(kept)
        cases = []
        for name, files in sorted(kept.items()):
            try:
                image, label = self._arrays(name, files, training=parts.get(name, "") == "")
            except DataError as error:
                faults.extend(error.faults)
                continue
            cases.append(
                Case(
                    id=name,
                    subject=subjects[name],
                    images=(image.path,),
                    label=None if label is None else label.path,
                    metadata={"phase": phases.get(name)} if phases else {},
                    part=parts.get(name, ""),
                )
            )
        notes.extend(self._notes(cases, kept))
        return Catalog(
            name=root.stem,
            root=root,
            reader="ssl4mis",
            cases=tuple(cases),
            columns=(Column("phase", "categorical", "lower frame number: ED"),) if phases else (),
            label_names=self._label_names(kept, scribbled=any(_is_scribble(case) for case in cases)),
            notes=tuple(notes),
            faults=tuple(faults),
        )

    def _arrays(self, name: str, files: _CaseFiles, *, training: bool) -> tuple[Address, Address | None]:
        """Where the image and the label of a case lie; no label where there is none."""
        if len(files.volumes) > 1:
            problem = f"must have one volume, not {', '.join(map(str, files.volumes))}"
            fault = Fault(problem, f"case {name}", "Remove all but one")
            raise DataError("A case is there twice:", [fault])
        keys = {"auto": ("label", "scribble"), "label": ("label",), "scribble": ("scribble",)}[self.config.label]
        keys = keys if training else ("label",)
        # The volume is the case; its slices are asked only where it is missing, or lacks what they have.
        places = [*files.volumes, *sorted(files.slices)[:1]]
        known = [(place, shapes_of(place)) for place in places]
        wanted = [(place, arrays, key) for key in keys for place, arrays in known if key in arrays]
        place, arrays, key = wanted[0] if wanted else (*known[0], keys[0])
        self.beside += key == "label" and training and any("scribble" in held for _, held in known)
        if "image" not in arrays:
            present = ", ".join(sorted(arrays)) or "nothing"
            problem = f'must hold an array "image", but holds {present}'
            fault = Fault(problem, str(place), "Store the image under that name, or move the file away")
            raise DataError("A file cannot be read:", [fault])
        stacked = place not in files.volumes
        homes = sorted({str(path.parent) for path in files.slices})
        if stacked and len(homes) > 1:
            problem = f"must have its slices in one folder, not in {' and '.join(homes)}"
            fault = Fault(problem, f"case {name}", "Keep one of them, or join them")
            raise DataError("A case is there twice:", [fault])
        where = place.with_name(f"{name}_slice_*{SUFFIX}") if stacked else place
        order = self._order(place)
        spacing = self.config.spacing or _usual_spacing(place)
        said = self.config.spacing is not None and tuple(self.config.spacing) == (1.0, 1.0, 1.0)
        image = Address(where, "image", order, (spacing[0], spacing[1], spacing[2]), said=said)
        return image, Address(where, key, order, image.spacing, said=said) if key in arrays else None

    def _order(self, place: Path) -> Order:
        last = place.stem == _ATRIUM if self.config.slices == "auto" else self.config.slices == "last"
        return "xyz" if last else "zyx"

    def _notes(self, cases: Iterable[Case], kept: Mapping[str, _CaseFiles]) -> list[str]:
        """What was assumed, and what is not used."""
        cases = list(cases)
        notes = []
        if self.config.spacing is None and any(path.stem == _ATRIUM for path in _every_file(kept)):
            text = " x ".join([f"{_ATRIUM_MM:g}"] * 3)
            notes.append(
                f"h5 files hold no voxel size: taken as {text} mm (slice, row, column). If that is wrong, every "
                "distance and volume is: give reader.name=ssl4mis reader.spacing=[SLICE,ROW,COLUMN]"
            )
        training = [case for case in cases if not case.part]
        marked = sum(_is_scribble(case) for case in training)
        if marked or self.config.label == "scribble":
            why = "as label=scribble says" if self.config.label == "scribble" else "as their files hold no full label"
            notes.append(
                f"{marked} of {len(training)} training scans learn from a scribble, {why}; pixels of value "
                f"{self.config.unmarked} are ignored"
            )
            if len(training) == len(cases):
                notes.append("no list keeps scans for testing: test scans are scored on their scribbles alone")
        elif self.beside:
            notes.append(
                f"{self.beside} of {len(training)} training scans hold a scribble beside the full label: they learn "
                "from the label; reader.name=ssl4mis reader.label=scribble takes the scribble"
            )
        return notes

    def _label_names(self, kept: Mapping[str, _CaseFiles], *, scribbled: bool) -> dict[int, str]:
        names: dict[int, str] = {}
        if kept and all(path.stem == _ATRIUM for path in _every_file(kept)):
            names = {0: "background", 1: "left atrium"}
        elif kept and all(_ACDC.match(name) for name in kept):
            names = {0: "background", 1: "RV", 2: "myocardium", 3: "LV"}
        return {**names, self.config.unmarked: "ignore"} if scribbled else names


def _is_scribble(case: Case) -> bool:
    address = None if case.label is None else Address.parse(case.label)
    return address is not None and address.key == "scribble"


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() == SUFFIX else []
    paths = [path for depth in _DEPTHS for path in root.glob(f"{depth}{SUFFIX}")]
    return sorted(p for p in paths if not any(part.startswith(".") for part in p.relative_to(root).parts))


def _list_files(root: Path) -> list[Path]:
    named = [root / f"{name}{ending}" for name in _LISTS for ending in _ENDINGS] if root.is_dir() else []
    return [path for path in named if path.is_file()]


def _cases(files: Iterable[Path]) -> dict[str, _CaseFiles]:
    """Case → its files."""
    cases: dict[str, _CaseFiles] = defaultdict(_CaseFiles)
    for path in files:
        match = _SLICE.match(path.stem)
        if match:
            cases[match["case"]].slices.append(path)
        else:
            cases[_case_of(path.parent.name, path.stem)].volumes.append(path)
    return dict(cases)


def _every_file(cases: Mapping[str, _CaseFiles]) -> list[Path]:
    return [path for files in cases.values() for path in (*files.volumes, *files.slices)]


def _case_of(folder: str, stem: str) -> str:
    return folder if stem == _ATRIUM else stem


def _parts(root: Path, known: set[str], faults: list[Fault]) -> dict[str, str]:
    """Case → its part, for the cases on the lists; empty where there is no list."""
    parts: dict[str, str] = {}
    for path in _list_files(root):
        part = _LISTS[path.stem]
        names = dict.fromkeys(_entry(line) for line in read_text(path, faults).splitlines() if line.strip())
        gone = [name for name in names if name not in known]
        if gone:
            shown = ", ".join(gone[:3]) + (", …" if len(gone) > 3 else "")
            problem = f"{len(gone)} of {len(names)} cases do not exist: {shown}"
            faults.append(Fault(problem, str(path), "Take them off the list"))
        twice = [name for name in names if parts.get(name, part) != part]
        if twice:
            problem = f"a case may be on one list only, but {', '.join(twice[:3])} is on another one too"
            faults.append(Fault(problem, str(path), "Take it off one of them"))
        parts.update(dict.fromkeys((name for name in names if name in known), part))
    return parts


def _entry(line: str) -> str:
    """The case that a line of a list names: ``ID``, ``CASE_slice_3``, ``data/CASE.h5``, ``ID/mri_norm2.h5``."""
    path = Path(line.strip().split(",")[0])
    stem = path.name.removesuffix(SUFFIX)
    match = _SLICE.match(stem)
    return match["case"] if match else _case_of(path.parent.name, stem)


def _subjects(names: Iterable[str]) -> dict[str, str]:
    """ACDC: the patient, even where no patient has a second frame; else the general rule."""
    matches = {name: _ACDC.match(name) for name in names}
    return {**guess_subjects(list(matches)), **{name: match["patient"] for name, match in matches.items() if match}}


def _phases(names: Iterable[str]) -> dict[str, str]:
    """ACDC: of the two frames of a patient the lower is end diastole; empty for other names."""
    frames: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        match = _ACDC.match(name)
        if match:
            frames[name.partition("_")[0]].append((int(match["frame"]), name))
    pairs = [sorted(numbered) for numbered in frames.values() if len(numbered) == 2]
    return {name: phase for pair in pairs for (_, name), phase in zip(pair, ("ED", "ES"), strict=True)}


def _usual_spacing(path: Path) -> tuple[float, float, float]:
    return (_ATRIUM_MM,) * 3 if path.stem == _ATRIUM else (1.0, 1.0, 1.0)
