"""An image where a mask should be is told from masks of many structures."""

from __future__ import annotations

import numpy as np
import pytest

from fewlabel.data.images_given_as_masks import image_given_as_mask
from fewlabel.data.voxel_counts import value_counts

SHAPE = (4, 30, 26)


def smooth(low: float, high: float) -> np.ndarray:
    """A gradient with noise, as images are."""
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    waves = np.sin(y / 7) + np.cos(x / 5) + z / 9 + np.random.default_rng(0).normal(0, 0.1, SHAPE)
    return low + (high - low) * (waves - waves.min()) / np.ptp(waves)


def parcels(count: int) -> np.ndarray:
    """``count`` structures of four voxels by four, in rows."""
    z, y, x = np.meshgrid(*map(np.arange, (6, 40, 40)), indexing="ij")
    return (x // 4 + 10 * (y // 4) + 100 * z).clip(0, count)


@pytest.mark.parametrize(("low", "high"), [(-1024, 1500), (0, 255), (0, 40)])
def test_an_image_is_none_whose_values_make_up_areas(low: float, high: float) -> None:
    image = np.rint(smooth(low, high)).astype(np.int64)
    image[:, :, :12] = low  # the scanner's background
    fault = image_given_as_mask(image, value_counts(image), "a.nii")
    assert fault is not None
    assert "which change from voxel to voxel" in str(fault)


@pytest.mark.parametrize("count", [24, 117, 500])
def test_many_structures_or_objects_are_a_mask(count: int) -> None:
    mask = parcels(count)
    assert image_given_as_mask(mask, value_counts(mask), "a.nii") is None


def test_a_few_values_may_lie_as_they_like() -> None:
    scattered = np.random.default_rng(0).integers(0, 5, SHAPE)
    assert image_given_as_mask(scattered, value_counts(scattered), "a.nii") is None
    column = np.arange(40)[:, None, None]
    assert image_given_as_mask(column, value_counts(column), "a column") is None
