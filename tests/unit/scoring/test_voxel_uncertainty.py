"""Entropy and mutual information against closed forms and a slow loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewlabel.scoring.voxel_uncertainty import entropy, mutual_information


def drawn(members, classes=4, shape=(2, 3, 5), seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), (members, *shape)).transpose(0, 4, 1, 2, 3)


def information(members):
    """As an ensemble has it made."""
    return mutual_information(np.mean(members, axis=0), np.mean([entropy(member) for member in members], axis=0))


@pytest.mark.parametrize("classes", [2, 4])
def test_entropy_of_certainty_and_of_ignorance(classes):
    sure = np.zeros((classes, 3), np.float32)
    sure[1] = 1
    found = entropy(sure)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.zeros(3))
    unsure = entropy(np.full((classes, 3), 1 / classes))
    assert unsure.dtype == np.float32
    np.testing.assert_allclose(unsure, math.log(classes), rtol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_members_that_agree_have_no_information_however_unsure_they_are(count):
    one = drawn(1)[0]
    found = information([one] * count)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_opposite_certainties_have_the_log_of_their_number():
    corners = np.eye(4)[:, :, None]
    np.testing.assert_allclose(information([corners[0], corners[3]]), math.log(2), rtol=1e-6)
    np.testing.assert_allclose(information(list(corners)), math.log(4), rtol=1e-6)
    # Two classes bound it where members are many.
    assert information([corners[0], corners[0], corners[1], corners[1]])[0] == pytest.approx(math.log(2))


def test_information_is_single_whatever_precision_the_entropies_have():
    mean = np.full((2, 3), 0.5)
    for kind in (np.float16, np.float32, np.float64):
        found = mutual_information(mean.astype(kind), np.full(3, 0.25, kind))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, math.log(2) - 0.25, rtol=1e-6)


def test_it_is_the_mean_divergence_from_the_mean():
    """Mutual information is also the mean Kullback-Leibler divergence of the members from their mean."""
    members = drawn(3)
    wanted = np.zeros(members.shape[2:])
    for place in np.ndindex(wanted.shape):
        rows = [[float(member[(c, *place)]) for c in range(4)] for member in members]
        mean = [sum(column) / 3 for column in zip(*rows, strict=True)]
        divergences = [sum(p * math.log(p / m) for p, m in zip(row, mean, strict=True) if p > 0) for row in rows]
        wanted[place] = sum(divergences) / 3
    assert wanted.max() > 0.3
    np.testing.assert_allclose(information(members), wanted, atol=2e-6)
