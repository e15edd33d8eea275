"""npz files of slices, with h5 volumes to test on, as TransUNet and its successors pass data sets around."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import field_validator

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.settings.base import Floats, setting
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io.hdf5_and_npz_arrays import NPZ, SUFFIX, Address, shapes_of
from fewlabel.data.subjects_from_names import guess_subjects
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.image_names import part_of_folder
from fewlabel.readers.listing import files_below
from fewlabel.readers.text_files import read_text
from fewlabel.readers.voxel_size_setting import three_sizes

_SLICE = re.compile(r"(?P<case>.+?)_?slice_?(?P<stage>ED|ES)?_?(?P<number>\d+)$", re.IGNORECASE)
_IMAGES, _LABELS = ("image", "img", "data"), ("label", "mask", "seg", "gt")
_LISTS = {"train": "", "val": "validation", "valid": "validation", "test_vol": "test", "test": "test"}
_SYNAPSE = re.compile(r"case\d{4}$")
_ORGANS = ("aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach")
_MOST = 5


class NpzReader(Reader):
    """npz files of slices, such as Synapse and ACDC as TransUNet (Chen et al., 2021) passes them around.

    ``train_npz/case0005_slice000.npz`` with the arrays ``image`` and ``label``, stacked into volumes in the order of
    their numbers, and volumes ``test_vol_h5/case0001.npy.h5`` with the slices first, for testing. Files of whole
    volumes may be npz too. ``train.txt``, ``val.txt`` and ``test_vol.txt``, wherever they lie, say what is kept for
    which part; without them the folders do (``test_vol_h5``). Cases on no list are left out.

    The files hold no geometry: voxel sizes come from ``spacing``.
    """

    class Config(Reader.Config):
        """Settings of the reader."""

        name: str = "npz"
        spacing: Floats | None = setting(
            None,
            "voxel size (slice, row, column), which the files do not hold; null: 1 each, so that distances are in "
            "voxels",
            unit="mm",
        )

        _sizes = field_validator("spacing")(three_sizes)

    config: Config
    summary: ClassVar[str] = (
        "npz slices and h5 volumes (TransUNet's Synapse): train_npz/case0005_slice000.npz, test_vol_h5"
    )

    @classmethod
    def match(cls, root: Path) -> Match:
        """By names that end in ``.npz``, of slices above all."""
        if not root.is_dir():
            return Match(0.0, ("not a folder",))
        files = [path for path in files_below(root) if path.suffix == NPZ]
        if not files:
            return Match(0.0, ("no .npz files",))
        slices = sum(_SLICE.match(path.stem) is not None for path in files)
        reasons = (f"{len(files)} .npz files", f"{slices} named CASE_sliceNUMBER")
        return Match(1.0 if 2 * slices > len(files) else 0.6, reasons)

    def collect(self, root: Path) -> Catalog:
        """One case per volume; arrays are named by address (``fewlabel.data.io.hdf5_and_npz_arrays``)."""
        faults: list[Fault] = []
        files = files_below(root)
        volumes = _volumes(files)
        if not volumes:
            faults.append(Fault(f"{root} holds no .npz or .h5 files"))
        parts = _parts(root, files, set(volumes), faults)
        spacing = self.config.spacing
        cases = []
        subjects = guess_subjects(list(volumes))
        for name, members in sorted(volumes.items()):
            if parts and name not in parts:
                continue
            part = parts.get(name, part_of_folder(members[0].parent.name) or "")
            try:
                cases.append(_case(root, name, subjects[name], members, part, spacing))
            except DataError as error:
                faults.extend(error.faults)
        notes = []
        if len(cases) < len(volumes) and parts:
            left = len(set(volumes) - set(parts))
            notes.extend([f"{left} cases are on no list: left out"] if left else [])
        synapse = bool(cases) and all(_SYNAPSE.match(case.id) for case in cases)
        return Catalog(
            name="Synapse" if synapse else root.name,
            root=root,
            reader="npz",
            cases=tuple(cases),
            label_names=dict(enumerate(("background", *_ORGANS))) if synapse else {},
            notes=tuple(notes),
            faults=tuple(faults),
        )


def _case(
    root: Path, name: str, subject: str, files: Sequence[Path], part: str, spacing: Sequence[float] | None
) -> Case:
    first = root / files[0]
    arrays = shapes_of(first)
    image = _known(arrays, _IMAGES)
    if image is None:
        present = ", ".join(sorted(arrays)) or "nothing"
        raise DataError("A file cannot be read:", [Fault(f"must hold an array image, but holds {present}", str(first))])
    label = _known(arrays, _LABELS)
    sliced = _SLICE.match(first.stem)
    if sliced is None and len(files) > 1:
        problem = f"must have one volume, not {', '.join(str(root / path) for path in files)}"
        raise DataError("A case is there twice:", [Fault(problem, f"case {name}", "Remove all but one")])
    homes = sorted({str((root / path).parent) for path in files})
    if len(homes) > 1:
        problem = f"must have its slices in one folder, not in {' and '.join(homes)}"
        raise DataError("A case is there twice:", [Fault(problem, f"case {name}", "Keep one of them, or join them")])
    where = first if sliced is None else first.with_name(f"{first.stem[: sliced.start('number')]}*{first.suffix}")
    z, y, x = spacing or (1.0, 1.0, 1.0)
    said = spacing is not None
    return Case(
        id=name,
        subject=subject,
        images=(Address(where, image, "zyx", (z, y, x), said=said).path,),
        label=None if label is None else Address(where, label, "zyx", (z, y, x), said=said).path,
        part=part,
    )


def _known(arrays: Mapping[str, object], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in arrays), None)


def _volumes(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Case → its file, or its slices."""
    volumes: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix in {NPZ, SUFFIX}:
            volumes[_case_of(path.name)].append(path)
    return dict(volumes)


def _case_of(name: str) -> str:
    """``case0005_slice000.npz`` and ``case0005.npy.h5`` are of ``case0005``."""
    stem = name
    for suffix in (NPZ, SUFFIX, ".npy"):
        stem = stem.removesuffix(suffix)
    match = _SLICE.match(stem)
    if match is None:
        return stem
    return "_".join(filter(None, (match["case"].rstrip("_"), match["stage"])))


def _parts(root: Path, files: Sequence[Path], known: set[str], faults: list[Fault]) -> dict[str, str]:
    """Case → its part, for the cases on the lists; empty where there is no list."""
    parts: dict[str, str] = {}
    for path in files:
        if path.suffix not in {".txt", ".list", ".lst"} or path.stem.lower() not in _LISTS:
            continue
        part = _LISTS[path.stem.lower()]
        lines = [line.strip() for line in read_text(root / path, faults).splitlines()]
        names = dict.fromkeys(_case_of(Path(line).name) for line in lines if line)
        gone = [name for name in names if name not in known]
        if gone:
            shown = ", ".join(gone[:_MOST]) + (", …" if len(gone) > _MOST else "")
            problem = f"{len(gone)} of {len(names)} cases do not exist: {shown}"
            faults.append(Fault(problem, str(root / path), "Restore them or take them off the list"))
        twice = [name for name in names if parts.get(name, part) != part]
        if twice:
            problem = f"a case may be on one list only, but {', '.join(twice[:_MOST])} is on another one too"
            faults.append(Fault(problem, str(root / path), "Take it off one of them"))
        parts.update(dict.fromkeys((name for name in names if name in known), part))
    return parts
