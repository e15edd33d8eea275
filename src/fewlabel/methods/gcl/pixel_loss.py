"""Pixel-wise contrast between pairs of images whose positives are found by affinity (GCL, Eq. 5 and 6).

For an anchor pixel p of image i and a partner image j: the pool P(p) are the K pixels of j with the highest affinity
to p, the negatives N(p) all other pixels of j. With s_q = v_p·v_q/τ and S_p = Σ_{n∈N(p)} exp s_n the loss of a pair is

* ``one_positive``: -log( e^{s_q} / (e^{s_q} + S_p) ), each positive against the negatives only (inferred from GCL's
  remark on harder positives; the form of Wang et al., ICCV 2021, arXiv 2101.11939);
* ``all``: the denominator holds all K pixels of the pool and the negatives, for ablation.

Memory is linear in the number of anchor pixels: one (anchors x pixels) matrix per image pair.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional

PixelDenominator = Literal["one_positive", "all"]


def draw_pixels(images: int, pixels: int, count: int, generator: Generator) -> Tensor:
    """Anchor pixels of each image, without replacement; all of them if ``count`` reaches ``pixels``.

    Args:
        images: Images of the joined batch.
        pixels: Pixels of a map.
        count: Anchors wanted per image.
        generator: CPU generator; nothing is drawn when all pixels are anchors.

    Returns:
        (images, min(count, pixels)) int64.
    """
    if count >= pixels:
        return torch.arange(pixels).expand(images, pixels)
    return torch.rand(images, pixels, generator=generator).topk(count, dim=1).indices


def draw_partners(positives: Tensor, same_slice: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Partner images of each anchor image, without replacement, among its image-wise positives.

    The other view of the same slice is taken only where no other positive exists (own choice, GCL, Eq. 5).

    Args:
        positives: (a, k) bool.
        same_slice: (a, k) bool, positives that show the anchor's own slice.
        scores: (a, k) random numbers in [0, 1) that decide; the highest win.
        count: Partners wanted.

    Returns:
        (a, count) int64 rows and (a, count) bool, whether the partner is real.
    """
    foreign = positives & ~same_slice
    allowed = torch.where(foreign.any(dim=1, keepdim=True), foreign, positives)
    best = scores.masked_fill(~allowed, -1).topk(min(count, scores.shape[1]), dim=1)
    return best.indices, best.values >= 0


def top_pool(affinity: Tensor, size: int) -> Tensor:
    """The ``size`` pixels of highest affinity, best first: (..., pixels) to (..., size) int64.

    Raises:
        ValueError: If no pixel would be left as a negative.
    """
    if not 1 <= size < affinity.shape[-1]:
        raise ValueError(f"a pool of {size} pixels needs maps of more than {size} pixels, not {affinity.shape[-1]}")
    return affinity.topk(size, dim=-1).indices


def negative_logsumexp(logits: Tensor, pool: Tensor) -> Tensor:
    """Logarithm of S_p, the sum over the pixels outside the pool: (..., pixels) and (..., K) to (..., 1)."""
    return logits.scatter(-1, pool, torch.finfo(logits.dtype).min).logsumexp(dim=-1, keepdim=True)


def pair_losses(logits: Tensor, pool: Tensor, denominator: PixelDenominator = "one_positive") -> Tensor:
    """ℓ(p, q) of every pixel q in the pool of every anchor p (GCL Eq. 5).

    Args:
        logits: (..., pixels) s_q of all pixels of the partner image, full precision.
        pool: (..., K) int64.
        denominator: See the module.

    Returns:
        (..., K).
    """
    positives = logits.gather(-1, pool)
    if denominator == "all":
        return logits.logsumexp(dim=-1, keepdim=True) - positives
    return functional.softplus(negative_logsumexp(logits, pool) - positives, threshold=50)


def anchor_losses(
    logits: Tensor, pool: Tensor, keep: Tensor | None = None, denominator: PixelDenominator = "one_positive"
) -> Tensor:
    """L_pix(p), the mean of ℓ(p, q) over the kept part of the pool (GCL Eq. 6).

    Args:
        logits: (..., pixels).
        pool: (..., K) int64.
        keep: (..., K) bool, GradFilter's selection with at least one pixel per anchor; None keeps all.
        denominator: See the module.

    Returns:
        (...,).
    """
    losses = pair_losses(logits, pool, denominator)
    if keep is None:
        return losses.mean(dim=-1)
    return losses.masked_fill(~keep, 0).sum(dim=-1) / keep.sum(dim=-1)


def collapsed_value(pixels: int, pool: int, denominator: PixelDenominator = "one_positive") -> float:
    """The loss when all pixels are equal: log(1 + |N|), or log(pixels) with denominator ``all``."""
    return math.log(1 + pixels - pool) if denominator == "one_positive" else math.log(pixels)


def lower_bound(
    pixels: int, pool: int, kept: int, temperature: float, denominator: PixelDenominator = "one_positive"
) -> float:
    """What the loss cannot fall below: log(1 + |N| e^{-2/τ}), or log(kept) with denominator ``all``."""
    if denominator == "all":
        return math.log(kept)
    return math.log1p((pixels - pool) * math.exp(-2 / temperature))
