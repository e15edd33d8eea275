"""Dice by thirds along the slices: a slow loop, and masks whose thirds are known."""

from __future__ import annotations

import numpy as np
import pytest

from fewlabel.scoring.thirds import dice_of_thirds


def slow(prediction: np.ndarray, reference: np.ndarray, index: int) -> list[float | None]:
    annotated = [z for z in range(len(reference)) if (reference[z] > 0).any()]
    found: list[list[np.ndarray]] = [[], [], []]
    for z in range(len(reference)):
        place = (z - annotated[0]) / (annotated[-1] - annotated[0] + 1)
        third = 0 if place < 1 / 3 else 1 if place < 2 / 3 else 2
        found[third].append(np.stack([prediction[z] == index, reference[z] == index]))
    values: list[float | None] = []
    for part in found:
        ours, theirs = np.concatenate(part, axis=1) if part else np.zeros((2, 0))
        total = ours.sum() + theirs.sum()
        values.append(2 * (ours * theirs).sum() / total if total else None)
    return values


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_as_a_slow_loop_along_any_axis(axis: int) -> None:
    rng = np.random.default_rng(axis)
    prediction, reference = rng.integers(0, 3, (2, 11, 4, 5))
    reference[:2] = reference[9:] = 0
    wanted = [slow(prediction, reference, index) for index in (1, 2)]
    laid = [np.moveaxis(mask, 0, axis) for mask in (prediction, reference)]
    for found, values in zip(dice_of_thirds(laid[0], laid[1], [1, 2], axis), wanted, strict=True):
        assert list(found) == pytest.approx(values)


def test_what_is_nowhere_has_no_value() -> None:
    reference = np.zeros((6, 2, 2), int)
    assert dice_of_thirds(reference, reference, [1]) == [(None, None, None)]
    reference[:2] = 1
    prediction = np.zeros_like(reference)
    prediction[5] = 1
    # Two slices have no last third of their own, but what is predicted beyond them belongs to it.
    assert dice_of_thirds(prediction, reference, [1, 2]) == [(0.0, 0.0, 0.0), (None, None, None)]
    whole = np.ones((9, 2, 2), int)
    assert dice_of_thirds(whole, whole, [1]) == [(1.0, 1.0, 1.0)]


def test_a_scan_of_one_slice_has_one_third() -> None:
    picture = np.array([[[0, 1, 1]]])
    assert dice_of_thirds(picture, picture, [1]) == [(1.0, None, None)]
    assert dice_of_thirds(np.array([[[1, 1, 0]]]), picture, [1]) == [(0.5, None, None)]
