"""Inpainting: the network sees a slice with a part hidden and draws that part (context encoder)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Generator, Tensor

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import setting
from fewlabel.methods.base import DataFacts, PretrainMethod
from fewlabel.methods.reconstruction import Reconstruction, block_faults
from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.hidden import central_block, draw_blocks

_PAPER = "Pathak et al., section 3.3"


class Inpainting(Reconstruction):
    """Context encoder (Pathak et al., CVPR 2016, arXiv 1604.07379).

    ``Σ M (x - D(E((1-M) x)))² / Σ M``: the reconstruction loss on the hidden pixels M of both views (Eq. 1), divided
    by their number. D is the U-Net's decoder with its skips shut: it sees zeros in place of the encoder's finer maps,
    for with them it could copy the rim of a hole. Encoder and decoder are left for fine-tuning, which opens the skips
    and takes both by default, and the encoder alone with ``transfer=encoder``.

    What differs: there is no adversarial loss, which makes pictures sharper but is weighted 0.001 of the total in the
    paper. The channel-wise fully connected layer is left out: a last cell of the default encoder already sees 140
    pixels each way. Hidden blocks lie on a grid without overlap, so that the hidden share is exact; the paper's
    overlap and cover up to 1/4. They are filled with 0, the mean of a standardised slice, which is not the value of
    empty background: that has to be drawn like everything else. Statistics of batch normalisation are those of whole
    slices in the end.

    Take it where texture matters more than identity, or batches can only be small: it compares no slices.

    Example:
        >>> method = Inpainting(Inpainting.Config(region="blocks", share=0.5), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['inpainting']
    """

    paper = "Pathak et al., CVPR 2016, arXiv 1604.07379"
    term = "inpainting"

    class Config(PretrainMethod.Config):
        """Settings of inpainting."""

        name: Literal["inpainting"] = "inpainting"
        region: Literal["blocks", "centre"] = setting(
            "blocks", "hide random blocks of a grid or the central rectangle", source=_PAPER
        )
        share: float = setting(0.25, "share of the slice to hide", gt=0, lt=1, source=_PAPER)
        blocks: int = setting(8, "blocks along each side of the slice", ge=2, le=64, source="own choice")
        fill: float = setting(
            0.0,
            "value of hidden pixels; 0 is the slice's mean",
            unit="standard deviations of the slice",
            source="Pathak et al.: the mean",
        )

    settings: Config

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:  # noqa: ARG003
        """Blocks smaller than a pixel."""
        return block_faults(config.blocks, facts) if config.region == "blocks" else []

    @property
    def fill(self) -> float:
        """``settings.fill``."""
        return self.settings.fill

    def draw_hidden(self, count: int, size: tuple[int, int], generator: Generator) -> Tensor:
        """(count, height, width) bool masks of what to hide, on the CPU."""
        settings = self.settings
        if settings.region == "centre":
            return central_block(size, settings.share).expand(count, *size)
        return draw_blocks(count, size, settings.blocks, settings.share, generator)

    def skips(self, maps: list[Tensor]) -> list[Tensor]:
        """The last map, and zeros in place of all finer ones."""
        return [*map(torch.zeros_like, maps[:-1]), maps[-1]]
