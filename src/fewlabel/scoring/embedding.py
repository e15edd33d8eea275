"""How embeddings of slices are ordered: t-SNE for the eye, neighbour purity and silhouette for the record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Codes = NDArray[np.integer]

PURITY_RULE = (
    "Neighbour purity: of the k nearest slices by cosine similarity, the share with the same label, averaged over "
    "slices. Chance: the share of all permitted neighbours with the same label."
)
SILHOUETTE_RULE = (
    "Silhouette (Rousseeuw 1987) on cosine distances: 1 is tight and apart, 0 is mixed, below 0 lies nearer to "
    "another label."
)


@dataclass(frozen=True)
class Purity:
    """Purity of neighbourhoods.

    Attributes:
        purity: Mean share of neighbours of the same class, in [0, 1].
        chance: The same for neighbours drawn at random among those permitted.
        k: Neighbours looked at.
        n: Slices that took part.
    """

    purity: float
    chance: float
    k: int
    n: int


def neighbour_purity(embeddings: Array, labels: Codes, *, k: int = 10, groups: Codes | None = None) -> Purity | None:
    """Share of same-class slices among each slice's ``k`` nearest by cosine similarity.

    A slice is never its own neighbour. With ``groups``, nor is any slice of its group: slices of one patient resemble
    each other for other reasons than the class. Slices of class -1 (label missing) are left out. A slice with fewer
    than ``k`` permitted neighbours uses those it has; one with none is left out.

    Args:
        embeddings: (n, dim); normalised here.
        labels: (n,) class codes, -1 where missing.
        k: Neighbours to look at, 1 or more.
        groups: (n,) codes, e.g. the patient of each slice.

    Returns:
        None where no slice has a permitted neighbour.
    """
    known = labels >= 0
    vectors, classes = _unit(embeddings[known]), labels[known]
    count = len(classes)
    if count < 2:
        return None
    barred = np.eye(count, dtype=bool)
    if groups is not None:
        inside = groups[known]
        barred |= inside[:, None] == inside[None, :]
    similarity = np.where(barred, -np.inf, vectors @ vectors.T)
    same = classes[:, None] == classes[None, :]
    permitted = (~barred).sum(axis=1)
    used = permitted > 0
    if not used.any():
        return None
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, count)]
    taken = np.arange(order.shape[1])[None, :] < permitted[:, None]
    hits = (np.take_along_axis(same, order, axis=1) & taken).sum(axis=1)
    purity = hits[used] / taken.sum(axis=1)[used]
    chance = (same & ~barred).sum(axis=1)[used] / permitted[used]
    return Purity(float(purity.mean()), float(chance.mean()), k, int(used.sum()))


def silhouette(embeddings: Array, labels: Codes) -> float | None:
    """Mean silhouette of the classes on cosine distances, in [-1, 1]; slices of class -1 are left out.

    Returns:
        None where it is undefined: fewer than two classes, or as many classes as slices.
    """
    from sklearn.metrics import silhouette_score

    known = labels >= 0
    classes = labels[known]
    if not 2 <= len(np.unique(classes)) < len(classes):
        return None
    return float(silhouette_score(_unit(embeddings[known]), classes, metric="cosine"))


def tsne(embeddings: Array, *, seed: int = 0, perplexity: float = 30.0) -> NDArray[np.float64]:
    """Two coordinates per slice by t-SNE (van der Maaten & Hinton, JMLR 2008) on cosine distances.

    Args:
        embeddings: (n, dim), at least 3 rows.
        seed: Seed of the optimisation.
        perplexity: Neighbours that count; lowered to a third of the other rows where there are few.

    Returns:
        (n, 2), centred, largest absolute coordinate 1.

    Raises:
        ValueError: Below 3 rows.
    """
    from sklearn.manifold import TSNE

    count = len(embeddings)
    if count < 3:
        raise ValueError(f"t-SNE needs 3 or more rows, not {count}")
    bounded = max(1.0, min(perplexity, (count - 1) / 3))
    # On unit vectors squared Euclidean distance is twice the cosine distance, and init="pca" is reproducible.
    model = TSNE(n_components=2, perplexity=bounded, init="pca", random_state=seed % 2**32)
    points = np.asarray(model.fit_transform(_unit(embeddings)), dtype=np.float64)
    points -= points.mean(axis=0)
    return np.asarray(points / max(float(np.abs(points).max()), 1e-12))


def _unit(embeddings: Array) -> NDArray[np.float64]:
    wide = np.asarray(embeddings, dtype=np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))
