"""The probe of frozen encoders: features whose answer is known, slow loops, and no patient told by their own pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from fewlabel.scoring.probe import NEIGHBOURS, TEMPERATURE, Probe, balanced_rows, coarse_labels, scale_of

CLASSES = 4


def labels_of(count=400, seed=0):
    return np.random.default_rng(seed).integers(0, CLASSES, count)


def one_hot(labels):
    return functional.one_hot(torch.from_numpy(labels), CLASSES).float()


def random_features(count, sizes=(3, 5), seed=0):
    return torch.randn(count, sum(sizes), generator=torch.Generator().manual_seed(seed))


def test_classes_as_features_are_told_without_a_mistake():
    bank, asked = labels_of(), labels_of(1000, seed=1)
    probe = Probe(one_hot(bank), bank, ["a"], scale_of(one_hot(bank), [CLASSES]), CLASSES)
    assert (probe.neighbours(one_hot(asked), ["b"]) == asked).all()
    assert (probe.linear(one_hot(asked), ["b"]) == asked).all()


def test_classes_that_were_shuffled_are_told_at_chance():
    bank, asked = labels_of(2000), labels_of(4000, seed=1)
    features = random_features(2000)
    probe = Probe(features, bank, ["a"], scale_of(features, [3, 5]), CLASSES)
    for told in (probe.neighbours, probe.linear):
        assert np.mean(told(random_features(4000, seed=2), ["b"]) == asked) == pytest.approx(1 / CLASSES, abs=0.03)


def test_neighbours_are_those_of_a_slow_loop():
    bank, labels, asked = random_features(150), labels_of(150), random_features(40, seed=1)
    scale = scale_of(random_features(500, seed=2) * 3 + 1, [3, 5])
    found = Probe(bank, labels, ["a"], scale, CLASSES).neighbours(asked, ["b"])
    level = torch.tensor([3**-0.5] * 3 + [5**-0.5] * 5)
    for row, told in zip(asked, found, strict=True):
        query = (row - scale.mean) / scale.deviation * level
        cosines = [float(functional.cosine_similarity(query, scale(b[None])[0] * level, dim=0)) for b in bank]
        votes = np.zeros(CLASSES)
        for place in np.argsort(cosines)[::-1][:NEIGHBOURS]:
            votes[labels[place]] += np.exp(cosines[place] / TEMPERATURE)
        assert told == votes.argmax()


def test_features_of_another_unit_or_that_never_change_tell_the_same():
    bank, labels, asked = random_features(200), labels_of(200), random_features(60, seed=1)
    plain = Probe(bank, labels, ["a"], scale_of(bank, [3, 5]), CLASSES)

    def odd(rows):
        return torch.cat([rows * torch.logspace(-2, 3, 8) + 7, torch.full((len(rows), 1), 1e4)], dim=1)

    other = Probe(odd(bank), labels, ["a"], scale_of(odd(bank), [3, 5, 1]), CLASSES)
    assert (other.neighbours(odd(asked), ["b"]) == plain.neighbours(asked, ["b"])).mean() > 0.98
    assert (other.linear(odd(asked), ["b"]) == plain.linear(asked, ["b"])).mean() > 0.98


def test_levels_count_alike_whatever_their_width():
    """A level of one feature against one of 100 equal ones: counted by features, the wide one would decide."""
    labels = np.array([0, 1])
    bank = torch.cat([torch.tensor([[1.0], [-1.0]]), torch.tensor([[-0.5], [0.5]]).expand(2, 100)], dim=1)
    asked = torch.cat([torch.ones(1, 1), torch.full((1, 100), 0.5)], dim=1)
    reference = torch.cat([torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [-1.0]]).expand(2, 100)], dim=1)
    assert Probe(bank, labels, ["a"], scale_of(reference, [1, 100]), 2).neighbours(asked, ["b"]) == [0]
    assert Probe(bank, labels, ["a"], scale_of(reference, [101]), 2).neighbours(asked, ["b"]) == [1]


def test_a_scale_is_of_all_pixels_and_leaves_constant_features_as_they_are():
    scale = scale_of(torch.tensor([[0.0, 5.0, 1.0], [2.0, 5.0, 3.0]]), [1, 2])
    assert scale.mean.tolist() == [1.0, 5.0, 2.0]
    assert scale.deviation.tolist() == [1.0, 1.0, 1.0]
    assert scale.level.tolist() == pytest.approx([1.0, 2**-0.5, 2**-0.5])
    # Noise of single precision beside a large mean is no feature, and a small feature is one.
    large = scale_of(torch.tensor([[1e6, 0.0], [1e6 + 0.5, 1e-4]]), [2])
    assert large.deviation.tolist() == pytest.approx([1.0, 5e-5])


def test_the_linear_classifier_is_a_penalised_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    bank, labels, asked = random_features(120), labels_of(120), random_features(300, seed=1)
    scale = scale_of(bank, [3, 5])
    told = Probe(bank, labels, ["a"], scale, CLASSES).linear(asked, ["b"])

    def wanted(strength):
        model = LogisticRegression(C=strength, max_iter=2000).fit(scale(bank).numpy(), labels)
        return model.predict(scale(asked).numpy())

    np.testing.assert_array_equal(told, wanted(0.01))
    assert (told != wanted(1.0)).any()


def test_a_patient_is_never_told_by_pixels_of_their_own():
    bank = labels_of(40)
    probe = Probe(one_hot(bank), bank, ["a", "b"], scale_of(one_hot(bank), [CLASSES]), CLASSES)
    for told in (probe.neighbours, probe.linear):
        with pytest.raises(ValueError, match="b cannot be told by pixels of their own"):
            told(one_hot(bank), ["c", "b"])


def test_a_bank_of_one_class_tells_nothing_else_and_an_empty_one_is_refused():
    features = random_features(30)
    scale = scale_of(features, [8])
    probe = Probe(features, np.full(30, 2), ["a"], scale, CLASSES)
    assert set(probe.linear(features, ["b"])) == set(probe.neighbours(features, ["b"])) == {2}
    with pytest.raises(ValueError, match="needs pixels"):
        Probe(features[:0], np.empty(0, int), ["a"], scale, CLASSES)
    with pytest.raises(ValueError, match="are not 8"):
        scale_of(features, [3, 4])


def test_cells_have_the_class_of_most_of_their_pixels():
    labels = np.random.default_rng(0).choice([0, 1, 2, 255], size=(3, 8, 12), p=[0.3, 0.2, 0.2, 0.3]).astype(np.uint8)
    found = coarse_labels(labels, 4, 3)
    assert found.shape == (3, 2, 3)
    for n in range(3):
        for y in range(2):
            for x in range(3):
                cell = labels[n, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
                counts = [int((cell == index).sum()) for index in range(3)]
                assert found[n, y, x] == (counts.index(max(counts)) if sum(counts) > 8 else 255)


def test_a_cell_half_of_which_is_ignored_has_no_class():
    labels = np.array([[[1, 255, 2, 2], [255, 1, 255, 0]]], np.uint8)
    found = coarse_labels(labels, 2, 3)
    assert found.tolist() == [[[255, 2]]]
    assert found.dtype == np.uint8


def test_a_bank_is_balanced_over_classes_and_slices():
    generator = np.random.default_rng(0)
    labels = np.concatenate([np.zeros(900, int), np.ones(90, int), np.full(7, 2), np.full(50, 255)])
    slices = np.arange(len(labels)) % 3
    rows = balanced_rows(labels, slices, generator, per_slice=20, per_class=50)
    assert np.bincount(labels[rows]).tolist() == [50, 50, 7]
    assert len(np.unique(rows)) == len(rows)
    few = balanced_rows(labels, slices, generator, per_slice=2, per_class=50)
    assert all(np.bincount(slices[few][labels[few] == index]).max() == 2 for index in (0, 1, 2))
    assert len(balanced_rows(np.full(4, 255), np.zeros(4, int), generator)) == 0


def test_a_bank_takes_200_of_a_class_in_a_slice_and_500_in_all():
    generator, labels = np.random.default_rng(0), np.zeros(900, int)
    assert len(balanced_rows(labels, np.zeros(900, int), generator)) == 200
    assert len(balanced_rows(labels, np.arange(900) // 300, generator)) == 500
