"""How much the contrastive gradient of one and the same step varies with the draw, under each sampling."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from fewlabel.core.full_precision import full_precision
from fewlabel.nets.projection_heads import pixel_rows
from fewlabel.nets.representation_head import Representation
from fewlabel.objectives.prototype_contrast import contrast_gradient
from fewlabel.objectives.stratified_sampling import Sampling, draw_pixels, pixel_strata
from fewlabel.regimes.arco.contrast import Opponents

SAMPLINGS: tuple[Sampling, ...] = ("ns", "sg", "sag")
#: Independent draws from which a variance is estimated.
REPEATS = 16


@torch.no_grad()
def gradient_variance(
    student: Representation,
    labels: Tensor,
    opponents: Opponents,
    *,
    queries: int,
    grid: int,
    temperature: float,
    generator: Generator,
) -> dict[Sampling, Tensor]:
    """Relative variance, over draws of the queries, of ∂L_contrast/∂W, W the last weight of the representation head.

    ``E ‖g - G‖² / ‖G‖²`` with g the gradient of a draw and G that of all candidate pixels, which a draw estimates: a
    share, so that steps can be compared. Prototypes and negatives are held fixed, so what varies is what ARCO's theorem
    is about: a mean over drawn pixels. The gradient of one pixel is the outer product of ∂ℓ/∂o (closed form) and the
    input of the layer, so a draw costs one small product and no backward pass. With several processes it is that of
    this rank's slices.

    Args:
        student: Of this rank's rows.
        labels: (rows, *places) int64 classes of the pixels that may be queries, 255 elsewhere.
        opponents: Of this step.
        queries: n, pixels drawn of each class.
        grid: G.
        temperature: τ.
        generator: CPU generator that nothing else uses.

    Returns:
        For each sampling the unbiased variance over ``REPEATS`` draws, summed over the layer's weights, over ‖G‖²; 0
        where no class counts.
    """
    outputs = full_precision(pixel_rows(student.output)).flatten(0, 1)
    hidden = full_precision(pixel_rows(student.hidden)).flatten(0, 1)
    deltas = contrast_gradient(outputs, opponents.prototypes, opponents.negatives, labels.flatten(), temperature)
    classes = len(opponents.prototypes)
    member = torch.arange(classes, device=labels.device)[:, None] == labels.flatten()
    # Classes of this rank; without any the sums below are empty.
    counted = (opponents.counted & member.any(dim=1)).nonzero().flatten().tolist()
    whole = outputs.new_zeros(outputs.shape[1], hidden.shape[1])
    for label in counted:
        whole += deltas[member[label]].T @ hidden[member[label]] / member[label].sum() / len(counted)
    variances = {}
    for sampling in SAMPLINGS:
        strata = pixel_strata(labels, classes, None if sampling == "ns" else grid)
        drawn = draw_pixels(strata, queries, sampling, generator, REPEATS).to(labels.device)
        total = whole.new_zeros(REPEATS, *whole.shape)
        for label in counted:
            pixels = drawn[:, label]
            total += deltas[pixels].transpose(1, 2) @ hidden[pixels] / queries / len(counted)
        variances[sampling] = total.var(dim=0).sum() / whole.square().sum().clamp_min(torch.finfo(whole.dtype).tiny)
    return variances
