"""ReCo: hard pixels against their class's mean, with negatives from the classes most like it."""

from __future__ import annotations

from typing import ClassVar, Literal

from fewlabel.core.settings.base import setting
from fewlabel.objectives.stratified_sampling import Sampling
from fewlabel.regimes.arco.family import Anatomical
from fewlabel.regimes.arco.settings import ArcoSettings


class Reco(Anatomical):
    """ReCo (Liu et al., ICLR 2022, arXiv 2104.04465): regional contrast, as settings of ARCO's parts.

    ``L_sup + L_con + L_unsup`` from the first step: no relational pre-training, no neighbours. Queries are pixels whose
    own class has a probability below 0.97; negatives come from other classes in proportion to
    ``softmax_j(μ_c·μ_j/τ)``; unlabelled pixels take part from a confidence of 0.7 on; unlabelled slices are mixed by
    class (ClassMix). Draws are naive, and keys are those of the step at hand.

    What differs from the public code: the positive key is the teacher's class mean, as in ARCO (there the student's);
    512 keys of a class are drawn first and negatives from these; each class has 512 negatives for all its queries
    (there each query its own); pixels are those of a map at a quarter of the resolution, as there, from ARCO's head.

    Example:
        >>> regime = Reco(Reco.Config(queries=32, dim=16), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'contrast', 'unsup']
    """

    class Config(ArcoSettings):
        """Settings of ReCo."""

        name: str = "reco"
        pretrain_share: float | None = setting(
            0.0, "share of the run, from its start, that is relational pre-training", ge=0, le=1, source="ReCo: none"
        )
        contrast_weight: float = setting(1.0, "λ1, weight of the pixel contrast; 0 drops it", ge=0, source="ReCo")
        nn_weight: float = setting(0.0, "λ3, weight of the nearest-neighbour loss", ge=0, source="ReCo: none")
        sampling: Sampling = setting(
            "ns", "how pixels are drawn: naive, stratified, stratified-antithetic", source="ReCo"
        )
        negatives_by: Literal["size", "likeness"] = setting(
            "likeness",
            "which classes give negatives: all by their keys, or more often those like the query's",
            source="ReCo, Eq. 5",
        )
        keys: int = setting(
            512, "keys of each class that negatives are drawn from", unit="pixels", ge=1, source="own choice"
        )
        bank: int = setting(0, "keys kept of each class; 0 for those of the step alone", ge=0, source="ReCo: none")
        hard: float | None = setting(
            0.97,
            "only pixels whose own class has less than this probability are queries; null for all",
            gt=0,
            le=1,
            source="ReCo",
        )
        pixel_confidence: float = setting(
            0.7, "probability from which a pixel without label takes part in the contrast", ge=0, source="ReCo"
        )
        mix: Literal["none", "cutmix", "classmix"] = setting(
            "classmix",
            "whether unlabelled slices are mixed with each other before the student sees them",
            source="ReCo",
        )

    paper: ClassVar[str] = "Liu et al., ICLR 2022, arXiv 2104.04465"
