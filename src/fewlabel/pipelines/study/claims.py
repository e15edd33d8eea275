"""Published claims as comparisons of two arms: whether they hold here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewlabel.pipelines.study.spec import ClaimSettings
from fewlabel.scoring.paired_test import Factor, PairedTest, holm, paired_test, verdict
from fewlabel.scoring.replicates import Paired, Scores, over_seeds

#: Number of labelled patients → arm → scores.
Found = Mapping[int | str, Mapping[str, Scores]]


def difference(found: Mapping[str, Scores], arm: str, other: str) -> tuple[Paired, Factor]:
    """Differences of two arms, and what their rows are.

    Args:
        found: Arm → scores.
        arm: An arm.
        other: The arm whose scores are taken off.

    Returns:
        (draws, patients) means over the seeds that both have; of a single draw (seeds, patients).
    """
    both = ~np.isnan(found[arm]) & ~np.isnan(found[other])
    differences = np.where(both, found[arm] - found[other], np.nan)
    return rows_of(differences)


def test_of(found: Mapping[str, Scores], arm: str, other: str, confidence: float) -> PairedTest:
    """The paired test of two arms."""
    differences, factor = difference(found, arm, other)
    return paired_test(differences, factor=factor, confidence=confidence)


def rows_of(scores: Scores) -> tuple[Paired, Factor]:
    """(draws, patients) means over seeds, or of a single draw with several seeds (seeds, patients)."""
    of_seeds = scores.shape[0] == 1 and scores.shape[1] > 1
    return (scores[0], "seeds") if of_seeds else (over_seeds(scores), "draws")


#: What a test says of a claim.
SAYS = {"better": "holds", "worse": "does not hold", "cannot be told": "cannot be told"}


def claims_told(claims: Sequence[ClaimSettings], scores: Found, confidence: float) -> list[dict[str, Any]]:
    """Of each claim at each number of labelled patients, whether it holds, with Holm's correction over all of them."""
    asked = [
        (claim, budget, test_of(found, claim.better, claim.than, confidence))
        for claim in claims
        for budget, found in scores.items()
        if _asked(claim, budget) and {claim.better, claim.than} <= found.keys()
    ]
    corrected = holm([test.p for _, _, test in asked])
    told = [
        {
            "text": claim.text,
            "better": claim.better,
            "than": claim.than,
            "labelled": str(budget),
            **test.record(),
            "corrected": p,
            "verdict": SAYS[verdict(test, p, level=1.0 - confidence)],
        }
        for (claim, budget, test), p in zip(asked, corrected, strict=True)
    ]
    silent = [claim for claim in claims if not any(claim is other for other, _, _ in asked)]
    return [*told, *({"text": claim.text, "verdict": "cannot be told", "labelled": None} for claim in silent)]


def _asked(claim: ClaimSettings, budget: int | str) -> bool:
    return claim.budgets is None or budget in claim.budgets
