"""Whether a ranking of arms would come out again with other draws and other patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.scoring.nested_bootstrap import resamples
from fewlabel.scoring.replicates import Paired, Scores, means_over, over_seeds

RANK_RULE = (
    "Ranks are those of the means over draws; ranges hold 95 % of resamples of draws and patients, the same for all "
    "arms. Kendall's W is 1 if every draw ranks the arms alike and 0 if they have nothing in common."
)


@dataclass(frozen=True)
class Rank:
    """The place of one arm.

    Attributes:
        rank: 1 for the best; equal means share their mean rank.
        low: Best rank of its range.
        high: Worst rank of its range.
        first: Share of resamples in which it is the first; arms with equal means share the place.
    """

    rank: float
    low: float
    high: float
    first: float

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def rank_stability(arms: Mapping[str, Scores], *, count: int = 1000, seed: int = 0) -> dict[str, Rank]:
    """Ranks of arms and their ranges; none where no patient of a draw is scored in all arms.

    Args:
        arms: Name → (draws, seeds, patients), of the same draws and patients.
        count: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: If the arms have other draws or patients.
    """
    shapes = {(scores.shape[0], scores.shape[2]) for scores in arms.values()}
    if len(shapes) != 1:
        raise ValueError(f"arms are ranked on the same draws and patients, not on {sorted(shapes)}")
    values = [over_seeds(scores)[:, None, :] for scores in arms.values()]
    everyone = np.logical_and.reduce([~np.isnan(value) for value in values])
    if not everyone.any():
        return {}
    own = [float(means_over(means_over(value[:, 0], axis=1), axis=0)) for value in values]
    taken = resamples(everyone, count, seed, "ranks")
    means = np.stack([taken.means(np.where(everyone, value, np.nan)) for value in values], axis=1)
    drawn = np.array([ranks(row) for row in means[~np.isnan(means).any(axis=1)].tolist()])
    best = drawn == drawn.min(axis=1, keepdims=True)
    won = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0, method="inverted_cdf")
    return {
        name: Rank(float(rank), float(low[at]), float(high[at]), float(won[at]))
        for at, (name, rank) in enumerate(zip(arms, ranks(own), strict=True))
    }


def ranks(scores: Sequence[float]) -> NDArray[np.float64]:
    """Ranks of scores, the highest first; equal ones share their mean rank.

    Example:
        >>> ranks([0.5, 0.9, 0.5]).tolist()
        [2.5, 1.0, 2.5]
    """
    from scipy.stats import rankdata

    return np.asarray(rankdata(-np.asarray(scores, dtype=np.float64)))


def agreement(draws: Paired) -> float | None:
    """Kendall's W (Ann Math Statist 1939) of the rankings of several draws, in [0, 1]; None below two of either.

    Args:
        draws: (draws, arms) means; draws with a gap are left out. Tied ranks are corrected for.

    Example:
        >>> agreement(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
        1.0
    """
    whole = draws[~np.isnan(draws).any(axis=1)]
    count, arms = whole.shape
    if count < 2 or arms < 2:
        return None
    ranked = np.array([ranks(row) for row in whole])
    total = ((ranked.sum(axis=0) - count * (arms + 1) / 2) ** 2).sum()
    ties = sum(float((sizes**3 - sizes).sum()) for sizes in (np.unique(row, return_counts=True)[1] for row in ranked))
    most = count**2 * (arms**3 - arms) - count * ties
    return float(12 * total / most) if most else None
