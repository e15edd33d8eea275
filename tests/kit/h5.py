"""Small folders of h5 files, laid out as the semi-supervised literature passes them around."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray


def write_h5(path: Path, **arrays: NDArray) -> Path:
    """One file with these arrays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as content:
        for name, array in arrays.items():
            content.create_dataset(name, data=array, compression="gzip")
    return path


def ball(number: int = 0, shape: tuple[int, int, int] = (22, 19, 12)) -> tuple[NDArray, NDArray]:
    """A bright ball in noise and its mask, axes (x, y, z) all of different length; elsewhere for each number."""
    x, y, z = np.meshgrid(*[np.arange(side) for side in shape], indexing="ij")
    centre = (shape[0] * 0.45 + number % 3, shape[1] * 0.5 - number % 2, shape[2] * 0.55 - number % 2)
    mask = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < 20).astype(np.uint8)
    noise = np.random.default_rng(number).normal(0, 0.3, shape)
    return (noise + 3 * mask).astype(np.float32), mask


def atrium_folder(root: Path, train: Sequence[str], test: Sequence[str], unlabelled: Sequence[str] = ()) -> Path:
    """``ID/mri_norm2.h5`` with slices last, ``train.list`` and ``test.list``."""
    for number, name in enumerate((*train, *test)):
        image, mask = ball(number)
        arrays = {"image": image} if name in unlabelled else {"image": image, "label": mask}
        write_h5(root / name / "mri_norm2.h5", **arrays)
    (root / "train.list").write_text("".join(f"{name}\n" for name in train) + "\n")
    (root / "test.list").write_text("".join(f"{name}\n" for name in test))
    return root
