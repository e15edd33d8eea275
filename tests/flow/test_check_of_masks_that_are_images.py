"""An image where a mask should be is named in every layout, by its file and once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kit.pictures import write_picture
from kit.scans import blob, noise, write_scan
from kit.tiny import checked

SHAPE = (4, 30, 26)


def smooth(low: float, high: float) -> np.ndarray:
    """A gradient with noise, as images are."""
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    waves = np.sin(y / 7) + np.cos(x / 5) + z / 9 + np.random.default_rng(0).normal(0, 0.1, SHAPE)
    return low + (high - low) * (waves - waves.min()) / np.ptp(waves)


def _table(root: Path, image, mask, save) -> Path:
    rows = [f"{save(f'i{at}', image(at))},{save(f'm{at}', mask(at))},p{at}" for at in range(4)]
    (root / "scans.csv").write_text("\n".join(["image,label,subject", *rows]) + "\n")
    return root / "scans.csv"


def _nnunet(root: Path, image, mask, save) -> Path:
    for at in range(4):
        save(f"imagesTr/a{at}_0000", image(at))
        save(f"labelsTr/a{at}", mask(at))
    described = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps({**described, "numTraining": 4}))
    return root


def _decathlon(root: Path, image, mask, save) -> Path:
    listed = [
        {"image": str(save(f"imagesTr/a{at}", image(at))), "label": str(save(f"labelsTr/a{at}", mask(at)))}
        for at in range(4)
    ]
    described = {"training": listed, "test": [], "modality": {"0": "MR"}, "labels": {"0": "background", "1": "organ"}}
    (root / "dataset.json").write_text(json.dumps(described))
    return root


def _folders(root: Path, image, mask, save) -> Path:
    for at in range(4):
        save(f"p{at}x", image(at))
        save(f"p{at}x_seg", mask(at))
    return root


def _bids(root: Path, image, mask, save) -> Path:
    for at in range(4):
        save(f"sub-{at}/anat/sub-{at}_T1w", image(at))
        save(f"derivatives/manual/sub-{at}/anat/sub-{at}_dseg", mask(at))
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    return root


@pytest.mark.parametrize("layout", [_table, _nnunet, _decathlon, _folders, _bids])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_check_names_the_file_once_in_every_layout(tmp_path: Path, layout, kind) -> None:
    def save(name: str, array: np.ndarray) -> Path:
        path = write_scan(tmp_path / f"{name}.nii.gz", array)
        return path.relative_to(tmp_path)

    def mask(at: int) -> np.ndarray:
        return smooth(-1000, 900).astype(kind) if at == 2 else blob(SHAPE)

    data = layout(tmp_path, lambda at: noise(SHAPE, at), mask, save)
    (fault,) = checked(data).faults
    assert "2" in str(fault.where)
    assert "seems to be an image" in str(fault)


def test_pictures_of_grey_as_masks(tmp_path: Path) -> None:
    for at in range(6):
        write_picture(tmp_path / "images" / f"x{at}y.png", (100 + noise(SHAPE, at)[0]).astype(np.uint8))
        mask = smooth(0, 250)[1] if at == 3 else 255 * blob(SHAPE)[1]
        write_picture(tmp_path / "masks" / f"x{at}y.png", mask.astype(np.uint8))
    (fault,) = checked(tmp_path).faults
    assert "x3y.png: holds" in str(fault)
    assert "seems to be an image" in str(fault)
