"""Scans with two structures in the layouts that people have, and the way from such a folder to predicted masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewlabel.data.catalog import Catalog
from fewlabel.data.store import PreparedStore
from fewlabel.stages import finetune, predict, prepare
from kit.scans import write_scan
from kit.tiny import checked, finetune_settings

SUBJECTS = tuple("abcdef")
SHAPE = (3, 32, 24)
SPACING = (1.5, 1.5, 6)
_MASKS = (".nii.gz", ".nii", ".nrrd", ".png", ".mha", ".mhd", ".tif")


def anatomy(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A scan (z, y, x) with two structures, and its mask."""
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    mask = ((y - 14 - number % 3) ** 2 + (x - 12) ** 2 < 50).astype(np.uint8)
    mask[(y - 14 - number % 3) ** 2 + (x - 10) ** 2 < 12] = 2
    noise = np.random.default_rng(number).normal(0, 8, SHAPE)
    return (100 + 60 * mask + noise + z).astype(np.float32), mask


def save(path: Path, array: np.ndarray) -> None:
    """Write a volume (z, y, x) with thick slices."""
    write_scan(path, array, SPACING)


def understood(root: Path, reader: str, scans: int, labelled: int) -> Catalog:
    """The catalog of a folder of six subjects, in which ``check`` finds no fault."""
    report = checked(root)
    assert [str(fault) for fault in report.faults] == []
    assert report.catalog is not None
    assert report.catalog.reader == reader
    assert len(report.catalog.cases) == scans
    assert sum(case.label is not None for case in report.catalog.cases) == labelled
    assert len(report.catalog.subjects) == 6
    return report.catalog


def learnt_and_predicted(root: Path, work: Path) -> tuple[PreparedStore, int]:
    """Prepare a folder, learn from it and segment it: the prepared data, and how many masks that makes."""
    settings = {"data": root, "out": work / "prepared", "workers": 1}
    store = prepare.run(prepare.PrepareSettings.parse(settings))
    over = {"regime": "supervised", "steps": 2, "batch": 2}
    segmenter = finetune.run(finetune_settings(store, work / "segmenter", **over))
    asked = {"model": segmenter, "scans": root, "out": work / "masks", "device": "cpu"}
    masks = predict.run(predict.PredictSettings.parse(asked))
    return PreparedStore(store), len([path for path in masks.rglob("*") if path.name.endswith(_MASKS)])
