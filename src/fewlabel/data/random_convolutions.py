"""Slices blended with themselves behind random convolutions: other scanners' contrast on the same shapes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Convolutions behind each other, and channels between them.
LAYERS, INNER = 4, 2
_SLOPE = 0.01
_EPS = 1e-6


def random_convolutions(images: Tensor, seeds: Tensor) -> Tensor:
    """Global intensity non-linear augmentation (GIN; Ouyang et al., TMI 2022), for rows with a seed; in place.

    Four convolutions without stride, of width 1 or 3 and two channels in between, with weights and biases from N(0, 1)
    and leaky ReLUs, give g(x); the row becomes α g(x) + (1 - α) x with α from U(0, 1), at the mean and deviation of x.

    What differs from the authors' code: g(x) is first brought to the mean and deviation of x, since its norm varies
    widely from draw to draw and α would mean little; a g(x) that is opposed to x, over all channels of the row together
    (they may be the slices of a patch), is negated, as a negative of the scan is nothing a scanner gives; edges are
    repeated, since zeros beyond them draw a frame.

    Args:
        images: (n, channels, height, width), standardised; every channel of a row passes the same convolutions.
        seeds: (n,) int64 on the CPU; 0 leaves the row as it is. A row looks the same on whichever rank it lies.
    """
    rows = torch.nonzero(seeds != 0).flatten()
    if not len(rows):
        return images
    here = rows.to(images.device)
    x = images.index_select(0, here).float()
    drawn = [_draw(int(seeds[row])) for row in rows.tolist()]
    # Row by row: one convolution in groups rounds otherwise where there is one group.
    y = torch.stack([_convolved(row, layers) for row, (_, layers) in zip(x, drawn, strict=True)])
    y = y * torch.where((_centred(y) * _centred(x)).sum(dim=(1, 2, 3), keepdim=True) < 0, -1.0, 1.0)
    y = _like(y, x)
    share = torch.tensor([alpha for alpha, _ in drawn], device=x.device)[:, None, None, None]
    return images.index_copy_(0, here, _like(share * y + (1 - share) * x, x).to(images.dtype))


def _convolved(row: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """g(x) of each channel of a row (channels, height, width)."""
    y = row[:, None]
    for number, (weight, bias) in enumerate(layers):
        y = functional.conv2d(functional.pad(y, (1, 1, 1, 1), mode="replicate"), weight.to(y), bias.to(y))
        if number < LAYERS - 1:
            y = functional.leaky_relu(y, _SLOPE)
    return y[:, 0]


def _draw(seed: int) -> tuple[float, list[tuple[Tensor, Tensor]]]:
    """α, and weights (out, in, 3, 3) and biases (out,) of each layer; width 1 is the centre of 3 by 3."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    inputs = 1
    for layer in range(LAYERS):
        outputs = 1 if layer == LAYERS - 1 else INNER
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
        if int(torch.randint(2, (), generator=generator)) == 0:
            weight = functional.pad(weight[:, :, 1:2, 1:2], (1, 1, 1, 1))
        layers.append((weight, torch.randn(outputs, generator=generator)))
        inputs = outputs
    return float(torch.rand((), generator=generator)), layers


def _centred(images: Tensor) -> Tensor:
    return images - images.mean(dim=(2, 3), keepdim=True)


def _like(images: Tensor, model: Tensor) -> Tensor:
    """Images at the mean and deviation of others, slice by slice and channel by channel."""
    deviation = images.std(dim=(2, 3), keepdim=True).clamp_min(_EPS)
    scale = model.std(dim=(2, 3), keepdim=True) / deviation
    return _centred(images) * scale + model.mean(dim=(2, 3), keepdim=True)
