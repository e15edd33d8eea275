"""What is needed to push a gradient from a pixel's embedding back to the encoder's last convolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class PixelTail:
    """What carries a gradient from a pixel's unit embedding back to the last convolution.

    Attributes:
        embeddings: (n, p, d) unit vectors v.
        inverse_norm: (n, p, 1) 1/‖o‖ of the head's output o before normalisation.
        pulled: (n, p, h) v W₂, the embedding pulled back through the head's second layer.
        hidden: (n, p, h) derivative of the head's ReLU, 0 or 1.
        slopes: (n, p, c) derivative of the encoder's last activation times γ/σ.
        patch_square: (n, p, 1) ‖x̃‖².
    """

    embeddings: Tensor
    inverse_norm: Tensor
    pulled: Tensor
    hidden: Tensor
    slopes: Tensor
    patch_square: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> PixelTail:
        """The function's result on every tensor."""
        return PixelTail(*(function(getattr(self, item.name)) for item in fields(self)))


def pick_pixels(rows: Tensor, pixels: Tensor) -> Tensor:
    """Rows (n, p, c) at pixels (n, a): (n, a, c)."""
    return flat_rows(rows, torch.arange(len(rows), device=rows.device), pixels)


def flat_rows(rows: Tensor, images: Tensor, pixels: Tensor) -> Tensor:
    """Rows (n, p, c) at ``pixels`` (b, ...) of ``images`` (b,): (b, ..., c)."""
    start = (images * rows.shape[1]).view(-1, *[1] * (pixels.dim() - 1))
    return rows.flatten(0, 1).index_select(0, (start + pixels).flatten()).view(*pixels.shape, rows.shape[2])


@torch.no_grad()
def pixel_tail(
    features: Tensor,
    hidden: Tensor,
    output: Tensor,
    second: Tensor,
    *,
    inputs: Tensor,
    scale: Tensor,
    slope: float,
) -> PixelTail:
    """Collect a :class:`PixelTail` from one forward pass.

    Args:
        features: (n, p, c) the encoder's last map after its activation.
        hidden: (n, p, h) the head's hidden layer after its ReLU.
        output: (n, p, d) the head's output before normalisation.
        second: (d, h) weight W₂ of the head's second layer.
        inputs: (n, c_in, *space) map that entered the last convolution, 3 wide with padding 1.
        scale: (c,) or (n, c) γ/σ of the normalisation behind that convolution.
        slope: Negative slope of the activation behind that.
    """
    kind = torch.float64 if second.dtype == torch.float64 else torch.float32
    norm = torch.linalg.vector_norm(output.to(kind), dim=-1, keepdim=True).clamp_min(1e-12)
    embeddings = output.to(kind) / norm
    with torch.autocast(features.device.type, enabled=False):
        pulled = embeddings @ second.to(kind)
        square = _box_sum(inputs.to(kind).square().sum(dim=1, keepdim=True)).flatten(2).transpose(1, 2)
    positive = (features > 0).to(kind)
    derivative = positive if slope == 0 else positive + slope * (1 - positive)
    slopes = derivative * (scale if scale.dim() == 1 else scale[:, None]).to(kind)
    return PixelTail(embeddings, 1 / norm, pulled, (hidden > 0).to(kind), slopes, square)


def _box_sum(values: Tensor) -> Tensor:
    """Sum over the 3-wide neighbourhood of each pixel, zeros outside."""
    axes = values.dim() - 2
    convolve = functional.conv2d if axes == 2 else functional.conv3d
    return torch.as_tensor(convolve(values, values.new_ones(1, 1, *[3] * axes), padding=1))
