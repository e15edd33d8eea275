"""How unsure class probabilities are, voxel by voxel, in nats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

MUTUAL_INFORMATION = (
    "Mutual information between member and class, in nats: the entropy of the members' mean minus the mean of their "
    "entropies (BALD, Houlsby et al. 2011). 0 where all members say the same, at most the log of the number of members "
    "or of classes, whichever is smaller."
)
ENTROPY = (
    "Entropy of the one network's softmax, in nats: 0 where it is sure, at most the log of the number of classes. It "
    "is what the network says of itself, not a disagreement of several."
)


def entropy(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Shannon entropy over the classes.

    Args:
        probabilities: (classes, *space) that sum to 1.

    Returns:
        (*space) float32 in nats, from 0 to log(classes).
    """
    return np.asarray(entr(np.asarray(probabilities, dtype=np.float32)).sum(axis=0), dtype=np.float32)


def mutual_information(mean: NDArray[np.floating[Any]], mean_entropy: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """What the members of an ensemble do not agree on: the entropy of their mean that is not their own.

    Houlsby et al. 2011, "Bayesian active learning for classification and preference learning" (BALD), with the members
    as draws of the weights.

    Args:
        mean: (classes, *space), the members' mean probabilities.
        mean_entropy: (*space), the mean of the members' entropies, in nats.

    Returns:
        (*space) float32 in nats, from 0 (all alike) to log(min(members, classes)).
    """
    return np.maximum(entropy(mean) - np.asarray(mean_entropy, dtype=np.float32), np.float32(0))
