"""The parts of a loss, each with its weight."""

from __future__ import annotations

from torch import Tensor


def weighted_sum(*parts: tuple[float, Tensor]) -> Tensor:
    """Σ w · part over (w, part) in which parts of weight 0 have no gradient at all.

    A gradient of 0 would not do: Adam's decay, divided by its own size, would take the weights that only such a part
    reaches to 0 (:func:`fewlabel.engine.step.gradients_of`).

    Raises:
        ValueError: If every weight is 0: there is nothing to learn from.
    """
    kept = [weight * part for weight, part in parts if weight != 0]
    if not kept:
        raise ValueError("a loss needs a part whose weight is not 0")
    total = kept[0]
    for part in kept[1:]:
        total = total + part
    return total
