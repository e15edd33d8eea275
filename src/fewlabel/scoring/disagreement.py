"""How much the masks of an ensemble's members differ, and whether that separates good masks from poor ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewlabel.scoring.failure_detection import failure_detection

#: Column of the per-case table and of predictions.csv.
COLUMN = "disagreement"
DISAGREEMENT_RULE = (
    "Disagreement is 1 minus the mean Dice between the masks of two networks of a segmenter, over all pairs, on the "
    "prepared grid; of a scan, the mean over its classes (Roy et al. 2019). No annotation enters it. A class that none "
    "of them finds counts as agreed on."
)
#: Cases below which a rank correlation says nothing: two are always in order, or always reversed.
FEWEST = 3


def pairwise_disagreement(masks: Sequence[NDArray[np.integer]], classes: int) -> NDArray[np.float64]:
    """1 minus the mean Dice of all pairs of members, class by class.

    Roy et al. 2019, "Bayesian QuickNAT" (their Dice agreement of samples, here of members); a strong baseline for
    finding failed segmentations (Zenk et al. 2025, "Comparative benchmarking of failure detection methods in medical
    image segmentation"). A class absent from both masks of a pair has Dice 1, absent from one of them 0.

    Args:
        masks: Class indices of at least two members, all of one shape.
        classes: Number of classes, background included.

    Returns:
        (classes - 1,) values in [0, 1], class 1 first.

    Raises:
        ValueError: If there are fewer than two masks.
    """
    counted = Disagreement(classes)
    counted.add(masks)
    return counted.by_class


class Disagreement:
    """What :func:`pairwise_disagreement` says of masks that come slab by slab.

    Args:
        classes: Number of classes, background included.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._pairs: dict[tuple[int, int], NDArray[np.int64]] = {}

    def add(self, masks: Sequence[NDArray[np.integer]]) -> None:
        """Count some slices, of all members alike.

        Raises:
            ValueError: If there are fewer than two masks.
        """
        if len(masks) < 2:
            raise ValueError(f"disagreement takes two masks, not {len(masks)}")
        sizes = [self._counts(mask) for mask in masks]
        for one, other in combinations(range(len(masks)), 2):
            both = self._counts(masks[one][masks[one] == masks[other]])
            counts = np.stack([both, sizes[one] + sizes[other]])
            self._pairs[one, other] = self._pairs.get((one, other), 0) + counts

    @property
    def by_class(self) -> NDArray[np.float64]:
        """(classes - 1,) values in [0, 1], class 1 first."""
        dice = [
            [2.0 * int(both) / int(total) if total else 1.0 for both, total in counts.T[1:]]
            for counts in self._pairs.values()
        ]
        return np.asarray(1.0 - np.mean(dice, axis=0), dtype=np.float64)

    @property
    def mean(self) -> float | None:
        """Mean over the foreground classes; None as long as nothing was counted."""
        return float(self.by_class.mean()) if self._pairs else None

    def _counts(self, mask: NDArray[np.integer]) -> NDArray[np.int64]:
        return np.bincount(mask.ravel(), minlength=self._classes)[: self._classes]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties by their mean rank; None below three pairs or where one side is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    if len(ranks[0]) < FEWEST or any(float(np.ptp(values)) == 0 for values in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def disagreement_summary(
    table: pd.DataFrame, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """How much the members of each arm disagree, and how well that tells poor scans from good ones.

    Args:
        table: A row per arm, case and class with columns ``arm``, ``case``, ``subject``, ``dice`` and, where an arm is
            an ensemble, ``disagreement``.
        confidence: Coverage of intervals, in (0, 1).
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        Arm → ``mean`` over cases of the mean over classes, ``spearman`` between that and the case's mean Dice (-1:
        the scans with the most disagreement are the worst; None where undefined), ``cases``, and in ``failures`` how
        well it finds failed scans, as :func:`fewlabel.scoring.failure_detection.failure_detection` has it. Arms of one
        network are left out.
    """
    if COLUMN not in table:
        return {}
    rankings = {}
    for arm, rows in table.dropna(subset=[COLUMN]).groupby("arm", sort=False):
        cases = rows.groupby("case", sort=False).agg({COLUMN: "mean", "dice": "mean", "subject": "first"})
        apart, dice = cases[COLUMN].tolist(), cases["dice"].tolist()
        rankings[str(arm)] = {
            "mean": float(cases[COLUMN].mean()),
            "spearman": rank_correlation(apart, dice),
            "cases": len(cases),
            "failures": failure_detection(
                apart, dice, cases["subject"].tolist(), confidence=confidence, resamples=resamples, seed=seed
            ),
        }
    return rankings
