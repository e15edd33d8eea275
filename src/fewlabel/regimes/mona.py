"""MONA: ARCO's parts with naive draws, stronger perturbation and equivariance."""

from __future__ import annotations

from typing import ClassVar, Literal

from fewlabel.core.settings.base import setting
from fewlabel.objectives.stratified_sampling import Sampling
from fewlabel.regimes.arco.family import Anatomical
from fewlabel.regimes.arco.settings import ArcoSettings


class Mona(Anatomical):
    """MONA (You et al., TPAMI 2024, arXiv 2209.13476), from which ARCO was simplified, as settings of ARCO's parts.

    ``arco`` with naive draws, the equivariance term ``KL( softmax(T f(x)) ‖ softmax(f(T x)) )`` under random affine
    warps T, and unlabelled slices that the student sees cut and mixed with each other.

    What differs from the paper: tail classes are balanced by equal numbers of queries per class alone; its stronger
    augmentation beside CutMix is that of the stage (``augment``); warps are affine, without a spline, and of unlabelled
    slices. What differs from the public code is what differs for ``arco``.

    Example:
        >>> regime = Mona(Mona.Config(queries=32, dim=16), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'contrast', 'nn', 'unsup', 'eqv']
    """

    class Config(ArcoSettings):
        """Settings of MONA."""

        name: str = "mona"
        sampling: Sampling = setting(
            "ns", "how pixels are drawn: naive, stratified, stratified-antithetic", source="MONA"
        )
        eqv_weight: float = setting(
            1.0, "weight of equivariance under random warps; 0 drops it", ge=0, source="ARCO's 2D code"
        )
        mix: Literal["none", "cutmix", "classmix"] = setting(
            "cutmix", "whether unlabelled slices are mixed with each other before the student sees them", source="MONA"
        )

    paper: ClassVar[str] = "You et al., TPAMI 2024, arXiv 2209.13476"
