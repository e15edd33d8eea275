"""Published claims as comparisons of two arms: whether they hold here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewlabel.pipelines.study.spec import ClaimSettings
from fewlabel.scoring.paired_test import holm, paired_test, verdict
from fewlabel.scoring.replicates import Paired, Scores, over_seeds

#: Number of labelled patients → arm → scores.
Found = Mapping[int | str, Mapping[str, Scores]]


def difference(found: Mapping[str, Scores], arm: str, other: str) -> Paired:
    """(draws, patients) differences of two arms, as means over the seeds that both have."""
    both = ~np.isnan(found[arm]) & ~np.isnan(found[other])
    return over_seeds(np.where(both, found[arm] - found[other], np.nan))


#: What a test says of a claim.
SAYS = {"better": "holds", "worse": "does not hold", "cannot be told": "cannot be told"}


def claims_told(claims: Sequence[ClaimSettings], scores: Found, confidence: float) -> list[dict[str, Any]]:
    """Of each claim at each number of labelled patients, whether it holds, with Holm's correction over all of them."""
    asked = [
        (claim, budget, paired_test(difference(found, claim.better, claim.than), confidence=confidence))
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
    silent = [claim for claim in claims if not any(entry["text"] == claim.text for entry in told)]
    return [*told, *({"text": claim.text, "verdict": "cannot be told", "labelled": None} for claim in silent)]


def _asked(claim: ClaimSettings, budget: int | str) -> bool:
    return claim.budgets is None or budget in claim.budgets
