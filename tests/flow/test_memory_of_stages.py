"""Peaks of ``check``, ``prepare`` and ``predict`` on one larger scan, by what NumPy allocates, over its voxels."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fewlabel.stages import predict, prepare
from kit.segmenters import disc_plan, make_segmenter

SHAPE = (160, 160, 128)
VOLUME = 4 * 160 * 160 * 128


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    rows = ["image,label,subject"]
    for number in range(6):
        shape = SHAPE if number == 0 else (3, *SHAPE[1:])
        mask = np.zeros(shape, dtype=np.uint8)
        mask[:, 30:90, 40:100] = 1 + (np.arange(shape[0]) % 3 > 0)[:, None, None]
        image = (40 * mask + rng.integers(0, 20, shape)).astype(np.int16)
        for kind, array in (("i", image), ("m", mask)):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(home / f"{kind}{number}.nii"))
        rows.append(f"i{number}.nii,m{number}.nii,p{number}")
    (home / "scans.csv").write_text("\n".join(rows))
    return home / "scans.csv"


def peak_over_volume(work) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / VOLUME
    finally:
        tracemalloc.stop()


def test_check_and_prepare(table: Path, tmp_path: Path) -> None:
    values = {"data": table, "out": tmp_path / "p", "workers": 1, "size": [160, 128], "spacing": [1.0, 1.0]}
    settings = prepare.PrepareSettings.parse(values)
    # What the tables of a data set take is not of its scans.
    assert peak_over_volume(lambda: prepare.check(settings)) < 2
    assert peak_over_volume(lambda: prepare.run(settings)) < 2.25


def test_predict(table: Path, tmp_path: Path) -> None:
    plan = disc_plan(spacing=(1.0, 1.0), size=(160, 128))
    model = make_segmenter(tmp_path / "m", plan)
    values = {"model": model, "scans": table.parent / "i0.nii", "out": tmp_path / "out", "device": "cpu"}
    settings = predict.PredictSettings.parse(values)
    assert peak_over_volume(lambda: predict.run(settings)) < 2.75
