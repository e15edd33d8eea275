"""How a time becomes a grid, a width and steps: arithmetic on what steps were measured to take.

Nothing here measures (:mod:`fewlabel.pipelines.step_timing`) or looks at settings
(:mod:`fewlabel.pipelines.budget_sizing`). What is trained by default, and for how long, is said in the recipe
``default``; the limits of sizing are below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

#: Steps are whole multiples of this.
ROUND = 50
#: No training is shorter, whatever the budget.
FEWEST = 200
#: Nor longer: more steps of so few labels bring nothing.
MOST = {"pretrain": 10_000, "finetune": 20_000}
#: The grid becomes coarser until a budget has room for so many.
ENOUGH = {"pretrain": 300, "finetune": 1500}
#: By one of these, as few as will do.
COARSER = (1.0, 1.125, 1.25, 1.5, 1.75, 2.0)
#: Pixels that the thinnest structure keeps, see :meth:`fewlabel.data.label_extents.LabelShape.thickness`.
PIXELS_THICK = 5.0
#: Channels of the network's first level: on a CPU, on a GPU, and where fewer steps than these fit.
WIDTHS = {"cpu": 16, "cuda": 32, "mps": 16}
NARROW, NARROW_BELOW = 8, 500


@dataclass(frozen=True)
class Cost:
    """What a training takes.

    Attributes:
        name: ``pretrain``, ``finetune`` or ``control``.
        step: Seconds of a step, as a mean over the run, with its share of what comes between steps.
        fixed: Seconds of what comes beside the steps.
        fits: Trainings of so many steps, one after the other.
        lowest: Fewest steps that its settings allow.
        most_pixels: Up to how many pixels of an image it takes longer the larger the image is: those of a view; 0 for
            patches, which cost the same on any.
    """

    name: str
    step: float
    fixed: float = 0.0
    fits: int = 1
    lowest: int = 1
    most_pixels: float = math.inf

    def seconds(self, steps: int) -> float:
        """Of a training of so many steps."""
        return self.fits * self.step * steps + self.fixed

    def on(self, pixels: int, measured: int) -> Cost:
        """On images of so many pixels, where it was measured on others."""
        before, after = min(measured, self.most_pixels), min(pixels, self.most_pixels)
        factor = after / before if before else 1.0
        return replace(self, step=factor * self.step, fixed=factor * self.fixed)


@dataclass(frozen=True)
class Steps:
    """Steps of pre-training, and of fine-tuning and its control; None for what takes no part."""

    pretrain: int | None
    finetune: int | None

    def seconds(self, pretrain: Cost | None, arms: Sequence[Cost]) -> float:
        """What they take."""
        first = 0.0 if pretrain is None or self.pretrain is None else pretrain.seconds(self.pretrain)
        return first + sum(arm.seconds(self.finetune or 0) for arm in arms)


def share_out(
    seconds: float, pretrain: Cost | None, arms: Sequence[Cost], *, share: float, given: Mapping[str, int]
) -> Steps:
    """Steps that fill a time, in multiples of 50.

    Pre-training gets its share, fine-tuning and its control, which take equally many steps, all that is left. No
    training has less than 200 steps: where they do not fit, the result takes longer than ``seconds``.

    Args:
        seconds: Time for all of them.
        pretrain: What pre-training takes; None without.
        arms: What fine-tuning and its control take; empty where there are no labels.
        share: Of pre-training, 0 to 1; without fine-tuning it gets everything.
        given: Stage → steps that are not to be chosen.
    """
    first: int | None = None
    if pretrain is not None:
        room = seconds if not arms else share * seconds
        if arms and "finetune" in given:
            room = min(room, seconds - sum(arm.seconds(given["finetune"]) for arm in arms))
        first = given["pretrain"] if "pretrain" in given else _fill("pretrain", [pretrain], room)
    if not arms:
        return Steps(first, None)
    if "finetune" in given:
        return Steps(first, given["finetune"])
    left = seconds - Steps(first, None).seconds(pretrain, ())
    return Steps(first, _fill("finetune", arms, left))


def _fill(stage: str, costs: Sequence[Cost], seconds: float) -> int:
    """Steps that trainings of equally many steps have room for."""
    lowest = ROUND * math.ceil(max(FEWEST, *(cost.lowest for cost in costs)) / ROUND)
    room = seconds - sum(cost.fixed for cost in costs)
    count = math.floor(room / sum(cost.fits * cost.step for cost in costs))
    return max(min(ROUND * (count // ROUND), MOST[stage]), lowest)


def coarser(spacing: Sequence[float], median: Sequence[float], thinnest: float | None) -> tuple[float, ...]:
    """Factors by which a grid may be coarser, from 1; the same for both axes, and so as small as either of them asks.

    Args:
        spacing: Pixel size of the grid in mm, (row, column).
        median: That of the scans: the result is at most twice as large.
        thinnest: Thickness of the thinnest structure in mm, which keeps five pixels along both axes; None without
            labels.
    """
    limit = min(COARSER[-1] * usual / side for side, usual in zip(spacing, median, strict=True))
    if thinnest is not None:
        limit = min(limit, thinnest / (PIXELS_THICK * max(spacing)))
    return tuple(factor for factor in COARSER if factor <= max(limit, 1.0) * (1 + 1e-9))


def finest(
    pixels: Sequence[int],
    measured: int,
    seconds: float,
    pretrain: Cost | None,
    arms: Sequence[Cost],
    *,
    share: float,
    given: Mapping[str, int],
) -> int:
    """The finest of some grids on which a time has room for enough steps, or the one of the quickest steps.

    Args:
        pixels: Of each grid, the finest first.
        measured: Pixels of the grid on which the costs were measured.
        seconds: Time for the trainings.
        pretrain: As for :func:`share_out`.
        arms: As for :func:`share_out`.
        share: As for :func:`share_out`.
        given: As for :func:`share_out`; a stage whose steps are given has enough.

    Returns:
        Its place among them.
    """
    costs = []
    for place, count in enumerate(pixels):
        first = None if pretrain is None else pretrain.on(count, measured)
        others = [arm.on(count, measured) for arm in arms]
        steps = share_out(seconds, first, others, share=share, given=given)
        counts = {"pretrain": steps.pretrain, "finetune": steps.finetune}
        if all(number is None or stage in given or number >= ENOUGH[stage] for stage, number in counts.items()):
            return place
        costs.append((first, others))
    # A coarser grid whose steps are no quicker is worth nothing.
    return costs.index(costs[-1])


def too_wide(steps: Steps, given: Mapping[str, int]) -> bool:
    """Whether so few steps of fine-tuning fit that a narrower network would be better."""
    return "finetune" not in given and steps.finetune is not None and steps.finetune < NARROW_BELOW
