"""Settings of regimes that spoil maps inside the network, and the three ways to do so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator
from torch import Generator, Tensor

from fewlabel.core.settings.base import setting
from fewlabel.objectives.feature_perturbation import active_dropped, channels_dropped, noisy
from fewlabel.regimes.auxiliary_prediction_regime import AuxiliarySettings

Way = Literal["noise", "active", "drop"]
#: In the order of URPC's scales, finest first.
WAYS: tuple[Way, ...] = ("noise", "active", "drop")


class FeaturePerturbationSettings(AuxiliarySettings):
    """Settings of regimes that spoil maps."""

    feature_noise: float = setting(0.3, "largest relative noise of a map's entries", ge=0, source="CCT")
    feature_drop: float = setting(0.5, "share of a map's channels that is dropped", ge=0, lt=1, source="SSL4MIS")
    active_low: float = setting(
        0.7, "lowest share of a map's largest activity from which pixels are dropped; above 1: none", ge=0, source="CCT"
    )
    active_high: float = setting(0.9, "highest such share, at least active_low", ge=0, source="CCT")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.active_high < self.active_low:
            raise ValueError("active_high must not be below active_low")
        return self


def perturb_features(
    features: Tensor, way: Way, parts: Sequence[int], settings: FeaturePerturbationSettings, generator: Generator
) -> Tensor:
    """A map (n, channels, *space), spoilt in one of the three ways, anew for each slice; ``parts``: rows of streams."""
    if way == "noise":
        return noisy(features, parts, settings.feature_noise, generator)
    if way == "drop":
        return channels_dropped(features, parts, settings.feature_drop, generator)
    return active_dropped(features, parts, settings.active_low, settings.active_high, generator)
