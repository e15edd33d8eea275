"""What methods share that draw hidden parts of slices: masks, the U-Net's decoder, the error."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from fewlabel.core.collective import world_size
from fewlabel.core.errors import Fault
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod, pooled
from fewlabel.methods.pretext import watched_rows
from fewlabel.nets.unet import UNetDecoder, UNetEncoder
from fewlabel.objectives.hidden import hidden_error
from fewlabel.objectives.two_view_order import own_rows


class Reconstruction(PretrainMethod):
    """The network sees slices with parts hidden, and draws those parts; encoder and decoder are left for fine-tuning.

    The loss is the error on hidden pixels of both views, ``fewlabel.objectives.hidden.hidden_error``. The last layer, a
    1x1 convolution from the decoder's finest map to the image, is dropped.

    Attributes:
        term: Name of the loss.
    """

    term: ClassVar[str] = ""
    hides_pixels = True

    def __init__(self, config: PretrainMethod.Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        super().__init__(config, encoder, facts)
        self.decoder = UNetDecoder(encoder.config)
        self.last = nn.Conv2d(encoder.config.width, encoder.config.in_channels, 1)

    @abstractmethod
    def draw_hidden(self, count: int, size: tuple[int, int], generator: Generator) -> Tensor:
        """(count, height, width) bool masks of what to hide, on the CPU."""

    @property
    @abstractmethod
    def fill(self) -> float:
        """Value of hidden pixels, in standard deviations of the slice."""

    def weights(self, images: Tensor) -> Tensor | None:  # noqa: ARG002
        """(n, height, width) weights of pixels in the loss; None for equal ones."""
        return None

    def skips(self, maps: list[Tensor]) -> list[Tensor]:
        """The encoder's maps as the decoder gets them; by default all of them."""
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Slices (n, channels, height, width) as the network draws them, of the same shape."""
        return self._drawn(self.encoder(images))

    def _drawn(self, maps: list[Tensor]) -> Tensor:
        return torch.as_tensor(self.last(self.decoder(self.skips(maps))[-1]))

    def hide(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Images (n, channels, height, width) with the fill value where the masks (n, height, width) say."""
        return images.masked_fill(hidden[:, None], self.fill)

    def pretrained_decoder(self) -> UNetDecoder:
        """All decoder blocks."""
        return self.decoder

    def losses(self, batch: PretrainBatch) -> Losses:
        """One term; ``blank`` of the log is what drawing the fill value everywhere would cost."""
        images = torch.cat(batch.views)
        count = len(batch.slices)
        size = (images.shape[2], images.shape[3])
        every = self.draw_hidden(2 * count * world_size(), size, batch.generator)
        hidden = every[own_rows(count)].to(images.device)
        maps = self.encoder(self.hide(images, hidden))
        weights = self.weights(images)
        loss = hidden_error(self._drawn(maps), images, hidden, weights)
        # A task that is learnt lies below.
        blank = hidden_error(torch.full_like(images, self.fill), images, hidden, weights)
        scalars = {"hidden": float(hidden.float().mean()), "blank": float(blank)}
        return Losses({self.term: loss}, watched_rows(pooled(maps[-1])), None, 0.0, scalars)


def block_faults(blocks: int, facts: DataFacts) -> list[Fault]:
    """A fault where blocks are smaller than a pixel.

    Args:
        blocks: Along each side of a slice.
        facts: What is known of the data.
    """
    if blocks <= min(facts.image_size):
        return []
    size = "x".join(map(str, facts.image_size))
    problem = f"{blocks} blocks along each side are more than {size} images have pixels"
    return [Fault(problem, "method.blocks", f"Set it to at most {min(facts.image_size)}")]
