"""A network that guesses from a soft segmentation and its image whether the segmenter was trained on its labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Stages that halve the map, the two stems counted as one.
STAGES = 4


class Discriminator(nn.Module):
    """Two stems, one for the maps and one for the image, are added; strided convolutions, a mean, two logits.

    Stems and stages are convolutions of side 4 and stride 2 with leaky ReLU; each stage doubles the channels. The mean
    over the last map takes the place of the published fixed pooling, which pins the image to 256x256. Images whose
    sides are below 16 are padded with zeros. No normalisation: a slice's logits depend on that slice alone.

    Args:
        maps: Channels of the soft segmentation: probabilities of classes, or signed distances.
        images: Channels of the image; 0 for a discriminator that sees no image.
        ndim: 2 or 3.
        width: Channels of the stems.
    """

    def __init__(self, maps: int, images: int, *, ndim: int = 2, width: int = 64) -> None:
        super().__init__()
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.maps = maps
        self.ndim = ndim
        self.widths = tuple(width * 2**stage for stage in range(STAGES))
        self.map_stem = conv(maps, width, 4, stride=2, padding=1)
        self.image_stem = conv(images, width, 4, stride=2, padding=1) if images else None
        self.stages = nn.ModuleList(
            conv(before, after, 4, stride=2, padding=1)
            for before, after in zip(self.widths[:-1], self.widths[1:], strict=True)
        )
        self.classifier = nn.Linear(self.widths[-1], 2)

    @property
    def channels(self) -> int:
        """Channels of all stages together, which :meth:`forward` may drop."""
        return sum(self.widths)

    def forward(self, maps: Tensor, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Logits (n, 2).

        Args:
            maps: (n, maps, *space) probabilities or signed distances; no label maps, which have no gradient.
            images: (n, images, *space); ignored by a discriminator that sees none.
            kept: (n, ``channels``) factors of the channels of all stages, for dropout; None for none.

        Raises:
            ValueError: If the maps are no soft segmentation of the expected channels.
        """
        if not maps.is_floating_point() or maps.dim() != self.ndim + 2 or maps.shape[1] != self.maps:
            shapes = f"{maps.dtype} of shape {tuple(maps.shape)}"
            raise ValueError(f"a discriminator takes soft maps (n, {self.maps}, *space), not {shapes}")
        x = self.map_stem(_padded(maps))
        if self.image_stem is not None:
            x = x + self.image_stem(_padded(images))
        factors = torch.split(kept, list(self.widths), dim=1) if kept is not None else (None,) * STAGES
        x = _activated(x, factors[0])
        for stage, factor in zip(self.stages, factors[1:], strict=True):
            x = _activated(stage(x), factor)
        return torch.as_tensor(self.classifier(x.flatten(2).mean(dim=2)))


def _activated(x: Tensor, factor: Tensor | None) -> Tensor:
    x = functional.leaky_relu(x, 0.2)
    return x if factor is None else x * factor.to(x).view(*factor.shape, *[1] * (x.dim() - 2))


def _padded(x: Tensor) -> Tensor:
    smallest = 2**STAGES
    missing = [max(smallest - side, 0) for side in x.shape[2:]]
    if not any(missing):
        return x
    sides = [side for gap in reversed(missing) for side in (gap // 2, gap - gap // 2)]
    return functional.pad(x, sides)
