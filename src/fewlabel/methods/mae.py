"""Masked autoencoding: the whole U-Net sees a quarter of a slice's blocks and draws the others."""

from __future__ import annotations

from typing import Any, Literal

from torch import Generator, Tensor

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import setting
from fewlabel.methods.base import DataFacts, PretrainMethod
from fewlabel.methods.reconstruction import Reconstruction, block_faults
from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.hidden import block_deviation, draw_blocks


class MAE(Reconstruction):
    """Masked autoencoding (He et al., CVPR 2022, arXiv 2111.06377) with a U-Net (nnssl: Wald et al., arXiv 2410.23132).

    ``Σ w M (x - U((1-M) x))² / Σ w M``: the error on the hidden pixels M of both views, where U is the whole U-Net with
    its skips and a 1x1 convolution for the classifier. Encoder and decoder are left for fine-tuning, which takes both
    by default, and the encoder alone with ``transfer=encoder``.

    What differs: pixels are weighted by the standard deviation w of their block, as most blocks of a scan are air,
    which is drawn without having learnt anything (``weighting=none`` is the papers' loss). Slices instead of volumes,
    so a block is 2D. Hidden pixels are 0, the mean of a standardised slice, at the input alone: the U-Net's inner maps
    are not masked again. A slice that is mostly 0 gives other statistics of batch normalisation than a whole one, so
    they are taken anew from whole slices in the end.

    Take it where fine-tuning may use the decoder too, and for long runs: it compares no slices, and needs neither
    metadata nor large batches.

    Example:
        >>> method = MAE(MAE.Config(share=0.6), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['mae']
        >>> len(method.pretrained_decoder().blocks)
        2
    """

    paper = "He et al., CVPR 2022, arXiv 2111.06377; Wald et al., CVPR 2025, arXiv 2410.23132"
    term = "mae"

    class Config(PretrainMethod.Config):
        """Settings of masked autoencoding."""

        name: Literal["mae"] = "mae"
        share: float = setting(
            0.75, "share of the slice to hide", gt=0, lt=1, source="He et al.; nnssl; arXiv 2409.18100: all 0.75"
        )
        blocks: int = setting(
            8,
            "blocks along each side of the slice; 8 are 16x16 pixels of 128x128",
            ge=2,
            le=64,
            source="arXiv 2409.18100: 32x32 of 256x256",
        )
        weighting: Literal["deviation", "none"] = setting(
            "deviation",
            "weight hidden pixels by the standard deviation of their block, or all alike",
            source="own choice",
        )

    settings: Config

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:  # noqa: ARG003
        """Blocks smaller than a pixel."""
        return block_faults(config.blocks, facts)

    @property
    def fill(self) -> float:
        """The mean of a standardised slice."""
        return 0.0

    def draw_hidden(self, count: int, size: tuple[int, int], generator: Generator) -> Tensor:
        """(count, height, width) bool masks of what to hide, on the CPU."""
        return draw_blocks(count, size, self.settings.blocks, self.settings.share, generator)

    def weights(self, images: Tensor) -> Tensor | None:
        """(n, height, width) standard deviation of each pixel's block, unless all pixels are to count alike."""
        return block_deviation(images, self.settings.blocks) if self.settings.weighting == "deviation" else None
