"""SimCLR: two views of a slice attract, all other slices of the batch repel."""

from __future__ import annotations

from typing import Literal

from fewlabel.core.settings.base import setting
from fewlabel.methods.base import DataFacts, PretrainMethod
from fewlabel.methods.contrastive import SliceContrast
from fewlabel.nets.unet import UNetEncoder


class SimCLR(SliceContrast):
    """Instance discrimination by NT-Xent (Chen et al., ICML 2020, arXiv 2002.05709).

    ``-log( e^{z_i·z_j/τ} / Σ_{a≠i} e^{z_i·z_a/τ} )`` for the two views i, j of a slice, a over all views of the batch.

    It is the base of the GCL paper's ablation, whose "Base" row repeats its SimCLR row: ``gcl`` with ``labels=[]
    pixel=false`` and this temperature (its own is 0.5) computes the same. What differs from Chen et al.: the projector
    acts per pixel before pooling (two 1x1 convolutions, then the mean), the optimiser is the pre-training stage's, grey
    images need no colour augmentation, and a slice that is drawn twice into a batch is a positive of itself.

    Take it as the control of every contrastive method. Its weakness: neighbouring slices of one volume, which look
    alike, repel.

    Example:
        >>> method = SimCLR(SimCLR.Config(temperature=0.5), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['views']
    """

    paper = "Chen et al., ICML 2020, arXiv 2002.05709"

    class Config(PretrainMethod.Config):
        """Settings of SimCLR."""

        name: Literal["simclr"] = "simclr"
        temperature: float = setting(0.1, "τ of the contrastive loss", gt=0, source="code of GLCL and PCL")
        dim: int = setting(128, "size of an embedding", ge=2, source="SimCLR")
        centre: bool = setting(
            False,
            "end the image head with a batch normalisation without weights, so that embeddings share no mean",
            source="own choice, see docs/explanation/gcl.md; GCL does not say",
        )

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        super().__init__(config, encoder, facts, temperature=config.temperature, dim=config.dim, centred=config.centre)
