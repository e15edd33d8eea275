"""Prediction by several networks of one architecture: their mean, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from fewlabel.engine.inference import Pixels, PredictOptions, joined, predict_slabs
from fewlabel.nets.unet import UNet
from fewlabel.scoring.disagreement import Disagreement
from fewlabel.scoring.voxel_uncertainty import entropy, mutual_information


@dataclass(frozen=True)
class Prediction:
    """What an ensemble says of a prepared volume.

    Attributes:
        probabilities: (classes, depth, height, width) float32, the mean over members.
        by_class: (classes - 1,) disagreement of the members' masks in [0, 1], class 1 first; None for one network.
    """

    probabilities: NDArray[np.float32]
    by_class: NDArray[np.float64] | None = None

    @property
    def disagreement(self) -> float | None:
        """Mean over the foreground classes; None for one network."""
        return None if self.by_class is None else float(self.by_class.mean())


@dataclass(frozen=True)
class Slab:
    """What an ensemble says of some consecutive slices.

    Attributes:
        probabilities: (classes, slices, height, width) float32, the mean over members.
        masks: (slices, height, width) class indices of each member; none of one alone.
        uncertainty: (slices, height, width) float32 in nats: mutual information between member and class, or the
            entropy of one network; None where it was not asked for.
    """

    probabilities: NDArray[np.float32]
    masks: tuple[NDArray[np.uint8], ...] = ()
    uncertainty: NDArray[np.float32] | None = None


def predict_ensemble_slabs(
    networks: Sequence[UNet],
    array: NDArray[np.float32] | Pixels,
    *,
    uncertainty: bool = False,
    **options: Unpack[PredictOptions],
) -> Iterator[Slab]:
    """Predict by every network and average their probabilities (Lakshminarayanan et al. 2017, deep ensembles).

    Args:
        networks: The members, at least one; the prediction of one alone is that of ``predict_slabs``, bit for bit.
        array: (channels, depth, height, width) in [0, 1], or what makes its slices.
        uncertainty: Whether to make the map.
        options: As of ``predict_slabs``, for each member.

    Raises:
        ValueError: If there is no network.
    """
    if not networks:
        raise ValueError("an ensemble has at least one network")
    members = [predict_slabs(network, array, **options) for network in networks]
    for slabs in zip(*members, strict=True):
        unsure = [entropy(slab) for slab in slabs] if uncertainty else []
        if len(slabs) == 1:
            yield Slab(slabs[0], (), unsure[0] if uncertainty else None)
            continue
        masks = tuple(slab.argmax(axis=0).astype(np.uint8) for slab in slabs)
        total, *others = slabs
        for other in others:
            np.add(total, other, out=total)
        total /= np.float32(len(slabs))
        yield Slab(total, masks, mutual_information(total, np.mean(unsure, axis=0)) if uncertainty else None)


def whole_prediction(slabs: Iterable[Slab], depth: int) -> Prediction:
    """What :func:`predict_ensemble_slabs` says of a volume of ``depth`` slices, all of it in memory."""
    apart: Disagreement | None = None

    def shares() -> Iterator[NDArray[np.float32]]:
        nonlocal apart
        for slab in slabs:
            if slab.masks:
                apart = apart or Disagreement(len(slab.probabilities))
                apart.add(slab.masks)
            yield slab.probabilities

    whole = joined(shares(), depth)
    return Prediction(whole, None if apart is None else apart.by_class)
