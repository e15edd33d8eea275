"""A prepared data set as nnU-Net takes it: raw scans and masks under its names, and the same split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewlabel.core.artifact.artifact_folder import Artifact, is_artifact
from fewlabel.core.artifact.files import MANIFEST, building, write_json, write_text
from fewlabel.core.errors import ArtifactError, DataError, Fault, FewlabelError, SettingsError, is_disk_full
from fewlabel.core.output_paths import as_file_name, outside_of
from fewlabel.core.progress import say, task
from fewlabel.core.provenance import library_versions
from fewlabel.data.io.image_writing import write_volume
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.data.preprocess import Plan, class_indices
from fewlabel.data.store import UNLABELLED, PreparedCase, PreparedStore
from fewlabel.data.unexpected_errors import unforeseen_fault
from fewlabel.stages.export.output_destination import check_folder
from fewlabel.stages.export.settings import ExportSettings

#: nnU-Net's own number of folds, at most.
MOST_FOLDS = 5
_TRAIN, _TEST, _UNLABELLED = "Tr", "Ts", "Un"
_ENDING = ".nii.gz"


@dataclass(frozen=True)
class _Row:
    """A scan, and where it goes: ``Tr``, ``Ts`` or ``Un``."""

    case: PreparedCase
    part: str
    validates: bool = False

    @property
    def name(self) -> str:
        """What its files are called."""
        return as_file_name(self.case.id)


def write_nnunet_raw(settings: ExportSettings) -> Path:
    """Write ``nnUNet_raw/DatasetNNN_NAME`` and ``nnUNet_preprocessed/DatasetNNN_NAME/splits_final.json`` below ``out``.

    Labelled scans of training and validation subjects are ``imagesTr`` and ``labelsTr``, those of test subjects
    ``imagesTs`` and ``labelsTs``. nnU-Net has no place for unlabelled scans: they are ``imagesUn``. Voxels that nobody
    annotated are nnU-Net's label ``ignore``. The split is the fold of the validation subjects, or, where there are
    none, up to five folds by subject.

    Raises:
        SettingsError: If the folder of the data set must not be written; nothing is done then.
        ArtifactError: If there is no prepared folder.
        DataError: With every scan that cannot be read, or if none is labelled; nothing is written then.
    """
    store = PreparedStore(Artifact.open(_find_prepared(settings.source), "prepared"))
    plan = Plan.load(store.plan)
    home = f"Dataset{settings.number:03d}_{_clean(settings.name or plan.dataset) or 'fewlabel'}"
    raw = settings.out / "nnUNet_raw" / home
    splits = settings.out / "nnUNet_preprocessed" / home / "splits_final.json"
    check_folder(raw, "dataset.json", overwrite=settings.overwrite, top=settings.out)
    if place := outside_of(splits, settings.out):
        fault = Fault(f"{splits} would be written to {place}, outside of --out", remedy="Remove the link")
        raise SettingsError("Nothing was written:", [fault])
    if splits.exists() and not settings.overwrite:
        fault = Fault(
            f"{splits} exists already", "out", "Give another --out or number, or overwrite=true to replace it"
        )
        raise SettingsError("Nothing was written:", [fault])
    rows = _parted(store)
    trained = [row for row in rows if row.part == _TRAIN]
    if not trained:
        fault = Fault(
            f"{store.folder} has no labelled training scan", remedy="nnU-Net learns from labelled scans alone"
        )
        raise DataError("Nothing was written:", [fault])
    faults: list[Fault] = []
    ignored = False
    with building(raw) as folder:
        with task("export", len(rows)) as bar:
            for row in rows:
                try:
                    ignored = _write(folder, row, plan) or ignored
                except Exception as error:
                    if is_disk_full(error):
                        raise
                    faults.extend(_faults(error, row.case))
                bar.advance(note=row.case.id)
        if faults:
            raise DataError("Nothing was written, because scans cannot be read as they were prepared:", faults)
        channels = _channel_names(plan, given=store.manifest.settings.get("window") is not None)
        write_json(folder / "dataset.json", _description(plan, channels, len(trained), ignored=ignored))
        table = pd.DataFrame({"case": [row.name for row in rows], "subject": [row.case.subject for row in rows]})
        table["part"] = ["test" if row.part == _TEST else "validation" if row.validates else "train" for row in rows]
        write_text(folder / "metadata.csv", table[[row.part != _UNLABELLED for row in rows]].to_csv(index=False))
    folds = _folds(trained)
    splits.unlink(missing_ok=True)
    if folds:
        write_json(splits, folds)
    _say_what_was_done(settings.out, home, rows, folds, ignored=ignored)
    return raw


def _find_prepared(place: Path) -> Path:
    candidates = [folder for folder in (place, place / "prepared") if (folder / MANIFEST).is_file()]
    if candidates:
        return next((folder for folder in candidates if is_artifact(folder, "prepared")), candidates[0])
    what = "is neither a prepared folder nor a run folder with one" if place.exists() else "does not exist"
    fault = Fault(f"{place} {what}", remedy="Give the folder made by prepare, or by train")
    raise ArtifactError("There is no prepared folder:", [fault])


def _parted(store: PreparedStore) -> list[_Row]:
    parts = store.split["parts"]
    tests, validates = set(parts.get("test", ())), set(parts.get("validation", ()))
    trains = set(parts.get("train", ())) | validates
    rows = []
    for case in store.cases:
        if case.subject in tests:
            rows.append(_Row(case, _TEST))
        elif case.label is not None and case.subject in trains:
            rows.append(_Row(case, _TRAIN, case.subject in validates))
        else:
            rows.append(_Row(case, _UNLABELLED))
    return rows


def _write(folder: Path, row: _Row, plan: Plan) -> bool:
    """Write a scan and its mask; whether the mask has voxels to ignore."""
    case = row.case
    volume = read_volume([Path(path) for path in case.images])
    geometry = volume.geometry.sized(plan.voxel_size, known=plan.voxel_size_given)
    for number, channel in enumerate(volume.array):
        name = f"{row.name}_{number:04d}{_ENDING}"
        write_volume(folder / f"images{row.part}" / name, _stored(channel), geometry)
    if case.label is None:
        return False
    classes = class_indices(read_mask(Path(case.label), grid=volume.geometry), case.record, plan)
    ignore = classes == UNLABELLED
    classes[ignore] = len(plan.label_values)
    write_volume(folder / f"labels{row.part}" / f"{row.name}{_ENDING}", classes, geometry)
    return bool(ignore.any())


def _stored(channel: NDArray[np.float32]) -> NDArray[Any]:
    """Intensities without what is not finite, as whole numbers where they are."""
    good = np.isfinite(channel)
    if not good.all():
        channel = np.where(good, channel, channel[good].min())
    low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    whole = low <= channel.min() and channel.max() <= high and bool((channel == np.rint(channel)).all())
    return channel.astype(np.int16) if whole else channel


def _channel_names(plan: Plan, *, given: bool) -> list[str]:
    """Names of the channels; those that were found to be CT are called so, since nnU-Net normalises by that name.

    Args:
        plan: Of the data set.
        given: Whether the user gave the windows of intensities: then they do not say what is CT.
    """
    windows = plan.windows if plan.windows and not given else (None,) * len(plan.channels)
    return [name if window is None else "CT" for name, window in zip(plan.channels, windows, strict=True)]


def _description(plan: Plan, channels: Sequence[str], count: int, *, ignored: bool) -> dict[str, Any]:
    """The content of ``dataset.json``, version 2."""
    often = Counter(plan.label_names[1:])
    labels: dict[str, int] = {"background": 0}
    for index, name in enumerate(plan.label_names[1:], start=1):
        taken = often[name] > 1 or name in {"background", "ignore"}
        labels[f"{name} {index}" if taken else name] = index
    if ignored:
        labels["ignore"] = len(plan.label_values)
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels,
        "numTraining": count,
        "file_ending": _ENDING,
        "name": plan.dataset,
        "description": f"Exported by fewlabel {library_versions()['fewlabel']}",
    }


def _folds(trained: Sequence[_Row]) -> list[dict[str, list[str]]]:
    """Folds of cases, no subject on both sides; none where there is one subject alone."""
    subjects = sorted({row.case.subject for row in trained})
    validates = sorted({row.case.subject for row in trained if row.validates})
    if validates and len(validates) < len(subjects):
        groups = [set(validates)]
    else:
        count = min(MOST_FOLDS, len(subjects))
        groups = [set(subjects[first::count]) for first in range(count)] if count > 1 else []
    return [
        {
            "train": [row.name for row in trained if row.case.subject not in group],
            "val": [row.name for row in trained if row.case.subject in group],
        }
        for group in groups
    ]


def _faults(error: Exception, case: PreparedCase) -> list[Fault]:
    if isinstance(error, FewlabelError) and error.faults:
        return list(error.faults)
    return [unforeseen_fault(error, case.id, "cannot be exported")]


def _say_what_was_done(
    out: Path, home: str, rows: Sequence[_Row], folds: Sequence[Mapping[str, Any]], *, ignored: bool
) -> None:
    often = Counter(row.part for row in rows)
    say(
        f"{out / 'nnUNet_raw' / home}: {often[_TRAIN]} scans to train on, {often[_TEST]} to test on"
        + (
            f", {often[_UNLABELLED]} without a label in imagesUn, which nnU-Net leaves alone"
            if often[_UNLABELLED]
            else ""
        )
        + ("; voxels that nobody annotated are its label ignore" if ignored else "")
        + "."
    )
    if folds:
        say(f"{len(folds)} fold{'s' * (len(folds) > 1)} by subject in splits_final.json.")
    else:
        say("One subject is labelled, and no fold can be made of it: train nnU-Net's fold all.")
    number = int(home[7:10])
    say(
        f"export nnUNet_raw={out / 'nnUNet_raw'} nnUNet_preprocessed={out / 'nnUNet_preprocessed'}; "
        f"nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity"
    )


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
