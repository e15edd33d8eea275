"""Virtual adversarial training: the small change of an image that changes the prediction most (Miyato et al., 2018)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewlabel.core.collective import sum_across


def dice_distance(first: Tensor, second: Tensor, smooth: float = 1e-5) -> Tensor:
    """One minus soft Dice with squares below: mean over classes of Σ (p - q)² / (Σ p² + Σ q² + s).

    Sums run over the pixels of the joined batch, so this is the value of the joined batch on every rank.

    Args:
        first: Probabilities p (n, classes, *space).
        second: Probabilities q of the same pixels.
        smooth: s, in pixels.

    Returns:
        Scalar in [0, 1], 0 if and only if p = q.
    """
    axes = [0, *range(2, first.dim())]
    parted = sum_across((first - second).square().sum(dim=axes))
    size = sum_across((first.square() + second.square()).sum(dim=axes))
    return (parted / (size + smooth)).mean()


def unit_size(rows: Tensor) -> Tensor:
    """Each row scaled to a root mean square of 1 over its entries; a row of zeros stays."""
    flat = rows.flatten(1)
    size = flat.square().mean(dim=1).sqrt()
    scale = torch.where(size > 0, 1 / size, torch.zeros_like(size))
    return rows * scale.view(-1, *[1] * (rows.dim() - 1))


def worst_direction(
    predict: Callable[[Tensor], Tensor], images: Tensor, target: Tensor, start: Tensor, probe: float
) -> Tensor:
    """The direction in which the prediction changes fastest, by one power iteration.

    Args:
        predict: Images to probabilities; must leave no trace in running statistics.
        images: (n, channels, *space).
        target: Probabilities for the images themselves, without gradient.
        start: Random directions, the shape of the images.
        probe: ξ, root mean square of the step at which the gradient is taken.

    Returns:
        The shape of the images, root mean square 1 for each row (0 where nothing changes), without gradient.
    """
    with torch.enable_grad():
        direction = unit_size(start).detach().requires_grad_()
        distance = dice_distance(predict(images.detach() + probe * direction), target)
        (gradient,) = torch.autograd.grad(distance, direction)
    return unit_size(gradient.detach())
