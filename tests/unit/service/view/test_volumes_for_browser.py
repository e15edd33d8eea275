"""What a browser is sent: the same voxels in the same place, classes by their index, and the way back."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.volume_reading import read_volume
from fewlabel.data.preprocess import Plan, indices_of_values
from fewlabel.service.view.volumes_for_browser import (
    FOUND,
    MISSED,
    NOT_LOOKED_AT,
    TAKEN,
    dice_of_classes,
    errors_between,
    nifti_bytes,
    raw_values,
    received_indices,
    scan_for_browser,
    sent_indices,
    shown_window,
)
from kit.scans import PERMUTED, TILTED, noise, write_scan

PLAN = Plan((1, 1), (8, 8), label_values=(0, 7, 40), label_names=("background", "core", "ring"), ignore_value=99,
            label_aliases={8: 7, 98: 99})  # fmt: skip


@pytest.mark.parametrize("direction", [None, PERMUTED, TILTED, np.diag([-1, 1, -1])])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_scan_lies_where_its_file_says_whatever_the_format(
    tmp_path: Path, suffix: str, direction: np.ndarray
) -> None:
    array = noise((4, 6, 5)).round()
    where = {"spacing": (1.5, 2, 8), "origin": (5, -7, 11), "direction": direction}
    path = write_scan(tmp_path / f"a{suffix}", array, **where)
    volume = read_volume(path)
    sent = nibabel.Nifti1Image.from_bytes(nifti_bytes(scan_for_browser(volume.array[0]), volume.geometry))
    same = nibabel.load(write_scan(tmp_path / "same.nii", array, **where))
    np.testing.assert_allclose(sent.affine, same.affine, atol=1e-5)
    assert np.array_equal(sent.get_fdata(), array.transpose(2, 1, 0))
    assert sent.get_data_dtype() == np.int16


def test_grey_values_are_sent_as_they_are(tmp_path: Path) -> None:
    assert scan_for_browser(np.float32([[[0.5, 2]]])).dtype == np.float32
    assert scan_for_browser(np.float32([[[0, 40000]]])).dtype == np.float32
    odd = np.float32([[[np.nan, np.inf, -np.inf, 3, -4]]])
    assert scan_for_browser(odd).tolist() == [[[-4, -4, -4, 3, -4]]]
    assert shown_window(odd) == pytest.approx((-3.93, 2.965))
    assert shown_window(np.float32([[[np.nan]]])) == (0.0, 1.0)
    flat = shown_window(np.full((1, 1, 4), 5, np.float32))
    assert flat[0] == 5 < flat[1]


def test_an_axis_that_nifti_cannot_count_is_refused() -> None:
    volume = np.zeros((1, 1, 40000), np.uint8)
    with pytest.raises(DataError, match="32767 at most"):
        nifti_bytes(volume, None)  # type: ignore[arg-type]


def test_the_way_to_the_browser_and_to_the_disk_leads_back() -> None:
    indices = np.random.default_rng(0).choice(np.uint8([0, 1, 2, NOT_LOOKED_AT]), (5, 6, 7))
    sent = sent_indices(indices, PLAN)
    assert sent.max() <= 3
    assert np.array_equal(received_indices(sent, PLAN), indices)
    assert np.array_equal(indices_of_values(raw_values(indices, PLAN), PLAN), indices)


def test_an_index_of_no_class_is_refused() -> None:
    with pytest.raises(DataError, match="the drawing holds 4, 200; classes are 0 to 2"):
        received_indices(np.uint8([[[0, 3, 4, 200]]]), PLAN)


def test_errors_are_told_apart() -> None:
    prediction = np.uint8([[[0, 1, 0, 2, 1, 1]]])
    annotation = np.uint8([[[0, 1, 1, 0, 2, NOT_LOOKED_AT]]])
    assert errors_between(prediction, annotation).tolist() == [[[0, 0, MISSED, FOUND, TAKEN, 0]]]


def test_dice_counts_what_somebody_looked_at() -> None:
    prediction = np.uint8([[[1, 1, 1, 0, 1]]])
    annotation = np.uint8([[[1, 1, 0, 1, NOT_LOOKED_AT]]])
    assert dice_of_classes(prediction, annotation, 3) == [pytest.approx(2 * 2 / (3 + 3)), None]
