"""Neighbour purity, silhouette and t-SNE on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from fewlabel.scoring.embedding import Purity, neighbour_purity, silhouette, tsne


def circle(degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_separate_clusters_are_pure():
    vectors = circle([0, 1, 2, 3, 90, 91, 92, 93])
    labels = np.array([0] * 4 + [1] * 4)
    found = neighbour_purity(vectors, labels, k=3)
    assert found.purity == 1.0
    assert found.chance == pytest.approx(3 / 7)
    assert found.n == 8


def test_purity_on_a_line_by_hand():
    # Labels a a b b at 0, 10, 21, 33 degrees; nearest: 0→10 (same), 10→0 (same), 21→10 (other), 33→21 (same).
    found = neighbour_purity(circle([0, 10, 21, 33]), np.array([0, 0, 1, 1]), k=1)
    assert found.purity == pytest.approx(3 / 4)
    assert found.chance == pytest.approx(1 / 3)


def test_length_of_vectors_does_not_count():
    vectors = circle([0, 10, 21, 33]) * np.array([[1], [50], [0.1], [3]])
    assert neighbour_purity(vectors, np.array([0, 0, 1, 1]), k=1).purity == pytest.approx(3 / 4)


def test_neighbours_of_the_same_group_are_barred():
    # Each pair is one patient and of one class; once barred, the nearest is of the other class.
    vectors, labels, groups = circle([0, 1, 30, 31]), np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    assert neighbour_purity(vectors, labels, k=1).purity == 1.0
    barred = neighbour_purity(vectors, labels, k=1, groups=groups)
    assert barred.purity == 0.0
    assert barred.chance == 0.0


def test_fewer_permitted_neighbours_than_k():
    # Slice 2 may only see 0 and 1, slices 0 and 1 only 2 and 3 of other patients.
    vectors, labels, groups = circle([0, 5, 40, 45]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    found = neighbour_purity(vectors, labels, k=10, groups=groups)
    assert found.purity == pytest.approx(0.5)
    assert found.purity == found.chance


def test_missing_labels_take_no_part():
    vectors = circle([0, 1, 0.5, 90, 91])
    found = neighbour_purity(vectors, np.array([0, 0, -1, 1, 1]), k=1)
    assert found.n == 4
    assert found.purity == 1.0


def test_two_slices_are_each_others_neighbour():
    assert neighbour_purity(circle([0, 1]), np.array([0, 0])) == Purity(1.0, 1.0, k=10, n=2)
    assert neighbour_purity(circle([0, 1]), np.array([0, 1]), k=3) == Purity(0.0, 0.0, k=3, n=2)


def test_ten_neighbours_are_looked_at():
    vectors, labels = circle(np.arange(30)), np.arange(30) % 3
    assert neighbour_purity(vectors, labels) == neighbour_purity(vectors, labels, k=10)


def test_nothing_to_compare():
    assert neighbour_purity(circle([0]), np.array([0])) is None
    assert neighbour_purity(circle([0, 1]), np.array([-1, 0])) is None
    assert neighbour_purity(circle([0, 1]), np.array([0, 0]), groups=np.array([3, 3])) is None


def test_random_embeddings_are_at_chance():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 600)
    found = neighbour_purity(generator.normal(size=(600, 16)), labels, k=10)
    assert found.purity == pytest.approx(found.chance, abs=0.03)


def test_silhouette_by_hand():
    # Two classes of two equal vectors at right angles: inner distance 0, outer 1, so 1; swapped labels: (0 - 1) / 1.
    vectors = circle([0, 0, 90, 90])
    assert silhouette(vectors, np.array([0, 0, 1, 1])) == pytest.approx(1.0)
    # Mixed classes: inner distance 1, outer distance mean of 0 and 1, silhouette (0.5 - 1) / 1.
    assert silhouette(vectors, np.array([0, 1, 0, 1])) == pytest.approx(-0.5)
    # Distances are 1 - cosine: .5 within the first class, 2 and 1.5 to the other, whose own are 0.
    found = silhouette(circle([0, 60, 180, 180]), np.array([0, 0, 1, 1]))
    assert found == pytest.approx(((2 - 0.5) / 2 + (1.5 - 0.5) / 1.5 + 1 + 1) / 4)


def test_silhouette_where_undefined():
    assert silhouette(circle([0, 1, 2]), np.array([0, 0, 0])) is None
    assert silhouette(circle([0, 1, 2]), np.array([0, 1, 2])) is None
    assert silhouette(circle([0, 1, 2]), np.array([0, 0, -1])) is None


def test_tsne_is_seeded_bounded_and_keeps_clusters_apart():
    generator = np.random.default_rng(1)
    centres = np.repeat(np.eye(8)[:2], 20, axis=0)
    vectors = centres + generator.normal(0, 0.05, centres.shape)
    points = tsne(vectors, seed=3)
    assert points.shape == (40, 2)
    assert np.abs(points).max() == pytest.approx(1.0)
    assert np.array_equal(points, tsne(vectors, seed=3))
    assert silhouette(points - points.min() + 0.1, np.repeat([0, 1], 20)) is not None
    distance = np.linalg.norm(points[:20].mean(axis=0) - points[20:].mean(axis=0))
    assert distance > 2 * points[:20].std()


def test_tsne_of_a_handful_and_of_too_few():
    assert tsne(circle([0, 40, 90]), seed=0).shape == (3, 2)
    with pytest.raises(ValueError, match="3 or more"):
        tsne(circle([0, 40]))


def test_tsne_is_centred_and_looks_at_a_third_of_few_rows():
    vectors = np.random.default_rng(2).normal(size=(10, 4))
    points = tsne(vectors)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-6)
    assert np.abs(points).max() == pytest.approx(1.0)
    np.testing.assert_array_equal(points, tsne(vectors, seed=0, perplexity=3.0))
    assert not np.array_equal(points, tsne(vectors, perplexity=2.5))
