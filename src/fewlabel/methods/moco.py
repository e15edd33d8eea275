"""MoCo v2: a slice's two views attract, past slices from a queue repel; keys come from a slowly moving encoder."""

from __future__ import annotations

from typing import Literal

from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import Losses
from fewlabel.methods.momentum_encoder_and_queue import MomentumContrast, MomentumSettings


class MoCo(MomentumContrast):
    """Momentum contrast (He et al., CVPR 2020, arXiv 1911.05722; v2: Chen et al. 2020, arXiv 2003.04297).

    ``-log( e^{q·k/τ} / (e^{q·k/τ} + Σ_{n∈queue} e^{q·n/τ}) )`` with q of the first view, k of the second by the
    momentum encoder θ_k ← m θ_k + (1-m) θ_q, and past keys n. Two-layer head on the pooled map, as in v2.

    What differs from the published code, and why:

    * Past keys of the anchor's own slice are no negatives. A queue that is long for the data set holds some always.
    * The queue starts empty, not with random vectors that count as negatives; in the first step the other slices of the
      batch stand in. The batch need not divide K.
    * K and m suit about 1000 slices and a few thousand steps, see their settings; grey images need no colour
      augmentation, and optimiser, batch and length are the pre-training stage's.
    * One process stands for many devices: in place of shuffling keys over devices before batch normalisation, keys are
      normalised in random groups. Queries are normalised over the joined batch, as in every method here.

    Take it where memory allows only small batches.

    Example:
        >>> method = MoCo(MoCo.Config(queue=64), encoder, facts)
        >>> method.losses(pretrain_batch).scalars["negatives"]
        3.0
    """

    paper = "He et al., CVPR 2020, arXiv 1911.05722; v2: Chen et al. 2020, arXiv 2003.04297"

    class Config(MomentumSettings):
        """Settings of MoCo."""

        name: Literal["moco"] = "moco"

    def losses(self, batch: PretrainBatch) -> Losses:
        """The one term; embeddings are the queries."""
        maps = self.maps(batch)
        term, embeddings = self.image_term(maps)
        return self.finished(term, embeddings, maps, {})
