"""Inpainting: the network sees a slice with a part hidden and draws that part (context encoder)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from fewlabel.core.collective import sum_across, world_size
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod, pooled
from fewlabel.methods.pretext import watched_rows
from fewlabel.nets.synchronised_batch_norm import activation, normalisation
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from fewlabel.objectives.two_view_order import own_rows

_PAPER = "Pathak et al., section 3.3"


def draw_blocks(count: int, size: tuple[int, int], blocks: int, share: float, generator: Generator) -> Tensor:
    """Masks of randomly chosen blocks of a regular grid, without overlap.

    Args:
        count: Number of masks.
        size: (height, width) in pixels.
        blocks: Blocks along each side.
        share: Share of the blocks to hide; rounded to whole blocks, at least one and not all.
        generator: CPU generator.

    Returns:
        (count, height, width) bool, true where hidden; the share is exact where the sides divide by ``blocks``.
    """
    hidden = min(max(round(share * blocks * blocks), 1), blocks * blocks - 1)
    cells = torch.rand(count, blocks * blocks, generator=generator).topk(hidden, dim=1).indices
    grid = torch.zeros(count, blocks * blocks, dtype=torch.bool).scatter_(1, cells, value=True)
    rows, columns = (torch.arange(side) * blocks // side for side in size)
    return grid.view(count, blocks, blocks)[:, rows][:, :, columns]


def central_block(size: tuple[int, int], share: float) -> Tensor:
    """(height, width) bool mask of the central rectangle that covers a share of the image, sides as the image's."""
    mask = torch.zeros(size, dtype=torch.bool)
    high, wide = (max(round(side * math.sqrt(share)), 1) for side in size)
    top, left = (size[0] - high) // 2, (size[1] - wide) // 2
    mask[top : top + high, left : left + wide] = True
    return mask


def hidden_error(drawn: Tensor, images: Tensor, hidden: Tensor) -> Tensor:
    """Σ M (x - x̂)² / Σ M, as this rank's share of the value on the joined batch (Pathak et al., Eq. 1, normalised).

    Args:
        drawn: (n, channels, height, width) x̂.
        images: (n, channels, height, width) x.
        hidden: (n, height, width) bool M.

    Returns:
        Scalar ≥ 0 in full precision; its gradient is 0 outside of M.
    """
    squared = (full_precision(drawn) - full_precision(images)).square().mean(dim=1)
    count = sum_across(hidden.sum().to(squared.dtype))
    return squared.masked_fill(~hidden, 0).sum() * world_size() / count.clamp_min(1)


class LightDecoder(nn.Module):
    """From the encoder's last map to an image, without its finer maps: one transposed convolution per level.

    Args:
        config: Architecture of the encoder.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths = config.widths
        layers: list[nn.Module] = []
        for level in range(config.depth - 2, -1, -1):
            layers += [
                nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2, bias=False),
                normalisation(config.norm, widths[level], 2),
                activation(config.slope),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[0], config.in_channels, 3, padding=1))

    def forward(self, bottleneck: Tensor) -> Tensor:
        """(n, c, height/stride, width/stride) to (n, channels, height, width)."""
        return torch.as_tensor(self.layers(bottleneck))


class Inpainting(PretrainMethod):
    """Context encoder (Pathak et al., CVPR 2016, arXiv 1604.07379).

    ``Σ M (x - D(E((1-M) x)))² / Σ M``: the reconstruction loss on the hidden pixels M of both views (Eq. 1), divided
    by their number. The decoder D sees the encoder's last map alone: with the U-Net's skips it could copy the rim of
    a hole. It is dropped afterwards.

    What differs: there is no adversarial loss, which makes pictures sharper but is weighted 0.001 of the total in the
    paper. The channel-wise fully connected layer is left out: a last cell of the default encoder already sees 140
    pixels each way. Hidden blocks lie on a grid without overlap, so that the hidden share is exact; the paper's
    overlap and cover up to 1/4. They are filled with 0, the mean of a standardised slice, which is not the value of
    empty background: that has to be drawn like everything else.

    Take it where texture matters more than identity, or batches can only be small: it compares no slices.

    Example:
        >>> method = Inpainting(Inpainting.Config(region="blocks", share=0.5), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['inpainting']
    """

    paper = "Pathak et al., CVPR 2016, arXiv 1604.07379"

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

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        if config.region == "blocks" and config.blocks > min(facts.image_size):
            size = "x".join(map(str, facts.image_size))
            problem = f"{config.blocks} blocks along each side are more than {size} images have pixels"
            fault = Fault(problem, "method.blocks", f"Set it to at most {min(facts.image_size)}")
            raise SettingsError("These settings do not fit the data:", [fault])
        super().__init__(config, encoder, facts)
        self.decoder = LightDecoder(encoder.config)

    def draw_hidden(self, count: int, size: tuple[int, int], generator: Generator) -> Tensor:
        """(count, height, width) bool masks of what to hide, on the CPU."""
        settings = self.settings
        if settings.region == "centre":
            return central_block(size, settings.share).expand(count, *size)
        return draw_blocks(count, size, settings.blocks, settings.share, generator)

    def hide(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Images (n, channels, height, width) with the fill value where the masks (n, height, width) say."""
        return images.masked_fill(hidden[:, None], self.settings.fill)

    def losses(self, batch: PretrainBatch) -> Losses:
        """One term, ``inpainting``; see :class:`Inpainting`."""
        images = torch.cat(batch.views)
        count = len(batch.slices)
        size = (images.shape[2], images.shape[3])
        every = self.draw_hidden(2 * count * world_size(), size, batch.generator)
        hidden = every[own_rows(count)].to(images.device)
        bottleneck = self.encoder(self.hide(images, hidden))[-1]
        loss = hidden_error(self.decoder(bottleneck), images, hidden)
        blank = hidden_error(torch.full_like(images, self.settings.fill), images, hidden)
        # What drawing the fill value everywhere would cost: a task that is learnt lies below.
        scalars = {"hidden": float(hidden.float().mean()), "blank": float(blank)}
        return Losses({"inpainting": loss}, watched_rows(pooled(bottleneck)), None, 0.0, scalars)
