"""Prediction by several networks of one architecture: their mean, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabel.engine.inference import WINDOW, predict_volume
from fewlabel.engine.runtime import Precision
from fewlabel.nets.unet import UNet
from fewlabel.scoring.disagreement import pairwise_disagreement
from fewlabel.scoring.voxel_uncertainty import entropy, mutual_information


@dataclass(frozen=True)
class Prediction:
    """What an ensemble says of a prepared volume.

    Attributes:
        probabilities: (classes, depth, height, width) float32, the mean over members.
        by_class: (classes - 1,) disagreement of the members' masks in [0, 1], class 1 first; None for one network.
        uncertainty: (depth, height, width) float32 in nats: mutual information between member and class, or the
            entropy of one network; None where it was not asked for.
    """

    probabilities: NDArray[np.float32]
    by_class: NDArray[np.float64] | None = None
    uncertainty: NDArray[np.float32] | None = None

    @property
    def disagreement(self) -> float | None:
        """Mean over the foreground classes; None for one network."""
        return None if self.by_class is None else float(self.by_class.mean())


def predict_ensemble(
    networks: Sequence[UNet],
    array: NDArray[np.float32],
    *,
    uncertainty: bool = False,
    batch: int = 0,
    flip: bool = False,
    device: torch.device | str | None = None,
    precision: Precision = "auto",
    window: tuple[int, int, int] = WINDOW,
) -> Prediction:
    """Predict by every network and average their probabilities (Lakshminarayanan et al. 2017, deep ensembles).

    Of each member only its mask is kept and, for the map, one value per voxel.

    Args:
        networks: The members, at least one; the prediction of one alone is that of ``predict_volume``, bit for bit.
        array: (channels, depth, height, width) in [0, 1].
        uncertainty: Whether to make the map.
        batch: As ``predict_volume``.
        flip: As ``predict_volume``, for each member.
        device: As ``predict_volume``.
        precision: As ``predict_volume``.
        window: As ``predict_volume``.
    """
    total: NDArray[np.float32] | None = None
    unsure: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.uint8]] = []
    for network in networks:
        probabilities = predict_volume(
            network, array, batch=batch, flip=flip, device=device, precision=precision, window=window
        )
        if uncertainty:
            unsure.append(entropy(probabilities))
        if len(networks) > 1:
            masks.append(probabilities.argmax(axis=0).astype(np.uint8))
        total = probabilities if total is None else np.add(total, probabilities, out=total)
    if total is None:
        raise ValueError("an ensemble has at least one network")
    if len(networks) == 1:
        return Prediction(total, None, unsure[0] if uncertainty else None)
    total /= np.float32(len(networks))
    apart = mutual_information(total, np.mean(unsure, axis=0)) if uncertainty else None
    return Prediction(total, pairwise_disagreement(masks, len(total)), apart)
