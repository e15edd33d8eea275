"""Disagreement of masks by a slow loop, and how well it ranks scans by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from fewlabel.scoring.disagreement import Disagreement, disagreement_summary, pairwise_disagreement, rank_correlation


def slow(masks, classes):
    found = []
    for index in range(1, classes):
        dice = []
        for i in range(len(masks)):
            for j in range(i + 1, len(masks)):
                both = first = second = 0
                for one, other in zip(masks[i].ravel(), masks[j].ravel(), strict=True):
                    first += one == index
                    second += other == index
                    both += one == other == index
                dice.append(2 * both / (first + second) if first + second else 1.0)
        found.append(1 - sum(dice) / len(dice))
    return found


@pytest.mark.parametrize("count", [2, 3, 5])
def test_pairs_equal_a_slow_loop(count):
    generator = np.random.default_rng(count)
    masks = [generator.integers(0, 4, (3, 6, 5)).astype(np.uint8) for _ in range(count)]
    # The last class is empty in all members but one.
    masks = [np.where((mask == 3) & (number > 0), 0, mask) for number, mask in enumerate(masks)]
    found = pairwise_disagreement(masks, 4)
    np.testing.assert_allclose(found, slow(masks, 4), atol=1e-12)
    np.testing.assert_allclose(pairwise_disagreement(masks[::-1], 4), found, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3])
def test_masks_that_come_slab_by_slab_are_counted_as_one(count):
    masks = [np.random.default_rng(seed).integers(0, 3, (6, 5, 4)) for seed in range(count)]
    counted = Disagreement(3)
    assert counted.mean is None
    for slab in (slice(0, 1), slice(1, 4), slice(4, 6)):
        counted.add([mask[slab] for mask in masks])
    np.testing.assert_array_equal(counted.by_class, pairwise_disagreement(masks, 3))
    assert counted.mean == pytest.approx(np.mean(slow(masks, 3)))


def test_its_ends():
    mask = np.array([0, 1, 1, 2])
    np.testing.assert_array_equal(pairwise_disagreement([mask, mask, mask], 4), [0, 0, 0])
    np.testing.assert_array_equal(pairwise_disagreement([mask, np.array([1, 0, 0, 2])], 3), [1, 0])
    # Absent from one of a pair is the furthest apart, absent from both is agreed on.
    np.testing.assert_array_equal(pairwise_disagreement([mask, np.array([0, 1, 1, 0])], 4), [0, 1, 0])
    with pytest.raises(ValueError, match="two masks, not 1"):
        pairwise_disagreement([mask], 3)


def test_rank_correlation_is_spearmans():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 6, 30).astype(float)
    second = first + generator.normal(0, 2, 30).round()
    found = rank_correlation(first.tolist(), second.tolist())
    assert found == pytest.approx(spearmanr(first, second).statistic)
    assert 0.2 < found < 0.95
    assert rank_correlation([1, 2, 9], [0.5, 0.4, -70]) == pytest.approx(-1)


def test_rank_correlation_where_there_is_none():
    assert rank_correlation([1, 2], [2, 1]) is None
    assert rank_correlation([], []) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
    assert rank_correlation([1, 2, 3], [0.5, 0.5, 0.5]) is None


def test_the_summary_ranks_cases_by_their_means():
    rows = []
    for arm, order in (("model", (3, 2, 1, 0)), ("control", (0, 1, 2, 3)), ("alone", None)):
        for case in range(4):
            for index in (1, 2):
                apart = np.nan if order is None else 0.1 * order[case] + 0.02 * index
                rows.append((arm, f"c{case}", index, 0.5 + 0.1 * case - 0.05 * index, apart))
    table = pd.DataFrame(rows, columns=["arm", "case", "class", "dice", "disagreement"])
    table = table.assign(subject=table["case"])
    found = disagreement_summary(table)
    assert list(found) == ["model", "control"]
    failures = found["model"].pop("failures")
    assert found["model"] == {"mean": pytest.approx(0.18), "spearman": pytest.approx(-1), "cases": 4}
    assert failures == {"below": 0.5, "failed": 1, "auroc": 1.0, "low": None, "high": None}
    assert found.pop("control")["failures"]["auroc"] == 0
    found = disagreement_summary(table)
    assert found["control"]["spearman"] == pytest.approx(1)
    assert disagreement_summary(table.drop(columns="disagreement")) == {}
    # Other measures that have no value take no case away.
    assert disagreement_summary(table.assign(hd95_mm=np.nan)) == found
    # Classes are taken together within a case: one class that is ranked the other way round does not decide.
    turned = table.assign(dice=np.where(table["class"] == 2, 0.1 * (4 - table["case"].str[1:].astype(int)), table.dice))
    turned["dice"] = np.where(turned["class"] == 1, turned["dice"] * 3, turned["dice"])
    assert disagreement_summary(turned)["model"]["spearman"] == pytest.approx(-1)
