"""What it takes to push a gradient from a pixel's embedding back to the encoder's last convolution."""

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
        patches: (n, p, c_in · kernel volume) x̃, for the pair path only.
    """

    embeddings: Tensor
    inverse_norm: Tensor
    pulled: Tensor
    hidden: Tensor
    slopes: Tensor
    patch_square: Tensor
    patches: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> PixelTail:
        """The function's result on every tensor."""
        parts = (getattr(self, item.name) for item in fields(self))
        return PixelTail(*(None if part is None else function(part) for part in parts))  # type: ignore[arg-type]


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
    patches: bool = False,
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
        patches: Keep the patches themselves, which the pair path needs.
    """
    kind = torch.float64 if second.dtype == torch.float64 else torch.float32
    norm = torch.linalg.vector_norm(output.to(kind), dim=-1, keepdim=True).clamp_min(1e-12)
    embeddings = output.to(kind) / norm
    with torch.autocast(features.device.type, enabled=False):
        pulled = embeddings @ second.to(kind)
        unfolded = unfold_patches(inputs.to(kind)) if patches else None
        square = _box_sum(inputs.to(kind).square().sum(dim=1, keepdim=True)).flatten(2).transpose(1, 2)
    positive = (features > 0).to(kind)
    derivative = positive if slope == 0 else positive + slope * (1 - positive)
    slopes = derivative * (scale if scale.dim() == 1 else scale[:, None]).to(kind)
    return PixelTail(embeddings, 1 / norm, pulled, (hidden > 0).to(kind), slopes, square, unfolded)


def unfold_patches(inputs: Tensor) -> Tensor:
    """3-wide patches around each pixel, zeros outside: (n, c, *space) to (n, pixels, c · 3^axes)."""
    axes = inputs.dim() - 2
    padded = functional.pad(inputs, [1] * (2 * axes))
    for axis in range(2, 2 + axes):
        padded = padded.unfold(axis, 3, 1)
    # (n, c, *space, 3, ...) → (n, *space, c, 3, ...)
    order = [0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes)]
    return padded.permute(order).flatten(1 + axes).flatten(1, axes)


def _box_sum(values: Tensor) -> Tensor:
    """Sum over the 3-wide neighbourhood of each pixel, zeros outside."""
    axes = values.dim() - 2
    convolve = functional.conv2d if axes == 2 else functional.conv3d
    return torch.as_tensor(convolve(values, values.new_ones(1, 1, *[3] * axes), padding=1))
