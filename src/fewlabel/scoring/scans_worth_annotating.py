"""Which scans stand for all others: how far each lies from the nearest annotated one, and what closes the gap."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

#: Choices at random that a choice is held against.
DRAWS = 200


@dataclass(frozen=True)
class Pick:
    """One scan that was picked.

    Attributes:
        index: Which one.
        gap: Its distance to the nearest scan annotated or picked before; None for the very first of all.
        served: Scans, itself among them, that it is nearer to than any annotated or picked before.
    """

    index: int
    gap: float | None
    served: int


def scan_distances(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distances (n, n) between scans: Euclidean between standardised features, the mean over all pairs is 1.

    Args:
        features: (n, dim), finite.

    Returns:
        Zeros where all scans are alike.

    Example:
        >>> scan_distances(np.array([[0.0], [1.0], [2.0]])).round(2).tolist()
        [[0.0, 0.75, 1.5], [0.75, 0.0, 0.75], [1.5, 0.75, 0.0]]
    """
    rows = np.asarray(features, dtype=np.float64)
    spread = rows.std(axis=0)
    # What hardly differs is noise of rounding, not a feature.
    kept = spread > 1e-6 * max(float(np.abs(rows).max(initial=0.0)), 1e-12)
    if len(rows) < 2 or not kept.any():
        return np.zeros((len(rows), len(rows)))
    scaled = (rows[:, kept] - rows[:, kept].mean(axis=0)) / spread[kept]
    distances = cdist(scaled, scaled)
    return np.asarray(distances / distances[~np.eye(len(rows), dtype=bool)].mean())


def mean_gap(distances: NDArray[np.float64], covered: Sequence[int]) -> float:
    """Mean over all scans of the distance to the nearest covered one; infinite where none is covered."""
    return float(distances[:, list(covered)].min(axis=1).mean()) if len(covered) else float("inf")


def pick_to_cover(
    distances: NDArray[np.float64],
    known: Sequence[int],
    candidates: Sequence[int],
    owners: Sequence[str],
    count: int,
) -> list[Pick]:
    """Scans that bring the mean distance to the nearest annotated one down most, one after the other.

    This is greedy facility location, as in Yang et al. 2017 ("Suggestive annotation", MICCAI), with distances in place
    of similarities: unlike the farthest-first rule of Sener & Savarese 2018 it prefers what many scans are near to over
    what is far from everything. A subject gives a second scan only once every subject with candidates gave one.

    Args:
        distances: (n, n).
        known: Annotated scans.
        candidates: Scans to pick from.
        owners: Subject of each of the n scans.
        count: How many; fewer where there are fewer candidates.

    Example:
        >>> line = scan_distances(np.array([[0.0], [1.0], [2.0], [9.0]]))
        >>> [pick.index for pick in pick_to_cover(line, [], range(4), list("abcd"), 2)]
        [1, 3]
    """
    nearest = distances[:, list(known)].min(axis=1) if len(known) else np.full(len(distances), np.inf)
    picks: list[Pick] = []
    left = list(dict.fromkeys(candidates))
    for _ in range(min(count, len(left))):
        pool = _fair(left, [pick.index for pick in picks], owners)
        after = np.minimum(nearest[:, None], distances[:, pool]).mean(axis=0)
        best = pool[int(np.argmin(after))]
        served = int((distances[:, best] < nearest).sum())
        picks.append(Pick(best, None if np.isinf(nearest[best]) else float(nearest[best]), served))
        nearest = np.minimum(nearest, distances[:, best])
        left.remove(best)
    return picks


def pick_at_random(
    candidates: Sequence[int], owners: Sequence[str], count: int, generator: np.random.Generator
) -> list[int]:
    """Scans at random, the subjects taken in turn as :func:`pick_to_cover` does."""
    left = list(dict.fromkeys(candidates))
    picks: list[int] = []
    for _ in range(min(count, len(left))):
        pool = _fair(left, picks, owners)
        picks.append(pool[int(generator.integers(len(pool)))])
        left.remove(picks[-1])
    return picks


def random_gaps(
    distances: NDArray[np.float64],
    known: Sequence[int],
    candidates: Sequence[int],
    owners: Sequence[str],
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """:func:`mean_gap` after each of :data:`DRAWS` choices at random."""
    draws = (pick_at_random(candidates, owners, count, generator) for _ in range(DRAWS))
    return np.array([mean_gap(distances, [*known, *draw]) for draw in draws])


def _fair(left: Sequence[int], picked: Collection[int], owners: Sequence[str]) -> list[int]:
    """Candidates of the subjects that gave the fewest scans so far."""
    given: dict[str, int] = {}
    for index in picked:
        given[owners[index]] = given.get(owners[index], 0) + 1
    fewest = min(given.get(owners[index], 0) for index in left)
    return [index for index in left if given.get(owners[index], 0) == fewest]
