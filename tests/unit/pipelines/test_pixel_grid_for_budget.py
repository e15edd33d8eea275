"""Which grids a run with a budget chooses from, where pixels are no squares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fewlabel.data.grid_extent_and_spacing import Grid
from fewlabel.pipelines import pixel_grid_for_budget
from fewlabel.stages.finetune import FinetuneSettings
from fewlabel.stages.prepare import PrepareSettings, check
from kit.scans import noise, write_scan


def folder(root: Path, *, turned: bool, thick: int) -> Path:
    """Scans whose rows are 1 mm apart and whose columns 3 mm, or the reverse; a disc, ``thick`` mm its radius."""
    root.mkdir()
    described = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "organ": 1}, "name": "toy"}
    (root / "dataset.json").write_text(json.dumps(described))
    shape, spacing = (4, 240, 100), (5.0, 1.0, 3.0)
    _, y, x = np.indices(shape)
    mask = np.hypot(y - 120.0, 3.0 * (x - 50.0)) < thick
    for number, case in enumerate("abcdef"):
        image, label = noise(shape, number) + 80 * mask, mask.astype(np.uint8)
        if turned:
            image, label = image.swapaxes(1, 2), label.swapaxes(1, 2)
        z, down, across = spacing if not turned else (spacing[0], spacing[2], spacing[1])
        write_scan(root / "imagesTr" / f"{case}_0000.nii.gz", image, (across, down, z))
        write_scan(root / "labelsTr" / f"{case}.nii.gz", label, (across, down, z))
    return root


def grids(data: Path) -> list[Grid]:
    prepared = PrepareSettings.parse({"data": data, "out": data / "out"})
    finetuned = FinetuneSettings.parse({"data": data / "out", "out": data / "segmenter"})
    plans = {"prepare": prepared, "finetune": finetuned}
    return pixel_grid_for_budget._grids(check(prepared), plans)


@pytest.mark.parametrize(("thick", "coarsest"), [(12, 1.0), (24, 1.5), (60, 2.0)])
def test_the_thinnest_structure_keeps_its_pixels_along_both_axes_whichever_is_coarser(
    tmp_path: Path, thick: int, coarsest: float
) -> None:
    upright, turned = (grids(folder(tmp_path / str(way), turned=way, thick=thick)) for way in (False, True))
    assert upright[0].spacing == (1.0, 3.0)
    assert [grid.spacing for grid in turned] == [grid.spacing[::-1] for grid in upright]
    assert [grid.size for grid in turned] == [grid.size[::-1] for grid in upright]
    assert upright[-1].spacing == (coarsest, 3 * coarsest)
    if coarsest > 1:
        assert all(grid.thinnest / max(grid.spacing) >= 5 for grid in upright)
