"""What a training step receives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor


@dataclass(frozen=True)
class PretrainBatch:
    """This process's part of one pre-training batch: ``n`` slices, two views of each.

    With ``k`` ranks the joined batch has ``k·n`` slices; rank r holds rows r·n to (r+1)·n of it.

    Attributes:
        views: Two tensors (n, channels, height, width), standardised, channels-last, float32.
        matrices: For each view (n, 3, 3), homogeneous source pixel (x, y) → view pixel, float32.
        metadata: Meta label name → (n,) int64 class ids. A slice whose label is missing has an id of its own
            (unique over the joined batch), so its only positives are its own views.
        positions: (n,) float32, height along the slice axis in (0, 1).
        slices: (n,) int64 store indices, for messages and memories.
        step: Optimisation step, from 0.
        total_steps: Length of the run in steps.
        generator: CPU generator of this step, equal on all ranks: draw for the joined batch, keep your rows.
        masks: For methods that use labels: two tensors (n, height, width) int64, warped with the views, 255 where
            unlabelled; else None.
    """

    views: tuple[Tensor, Tensor]
    matrices: tuple[Tensor, Tensor]
    metadata: dict[str, Tensor]
    positions: Tensor
    slices: Tensor
    step: int
    total_steps: int
    generator: Generator
    masks: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class SegmentationBatch:
    """This process's part of one fine-tuning batch; ``space`` is (height, width), or (depth, height, width) in 3D.

    With ``k`` ranks the joined batch has ``k·n`` labelled and ``k·u`` unlabelled rows, in rank order.

    Attributes:
        images: (n, channels, *space) labelled slices or patches, standardised, channels-last, float32.
        labels: (n, *space) int64 class indices; 255 is ignored.
        slices: (n,) int64 store indices; of a patch that of its first slice.
        step: Optimisation step, from 0.
        total_steps: Length of the run in steps.
        generator: CPU generator of this step, equal on all ranks: draw for the joined batch, keep your rows.
        unlabelled: (u, channels, *space) slices without labels, or None.
        unlabelled_again: For regimes that ask for further views, each of the same slices in the same geometry with
            intensities drawn anew; else empty.
        unlabelled_slices: (u,) int64 store indices, or None.
        unlabelled_positions: (u,) float32 height of each along the slice axis in (0, 1), of a patch that of its first
            slice, or None.
        unlabelled_metadata: For regimes that ask for it, meta label name → (u,) int64 class ids, those of a patch from
            its first slice; one whose label is missing has an id of its own. Else None.
    """

    images: Tensor
    labels: Tensor
    slices: Tensor
    step: int
    total_steps: int
    generator: Generator
    unlabelled: Tensor | None = None
    unlabelled_again: tuple[Tensor, ...] = ()
    unlabelled_slices: Tensor | None = None
    unlabelled_positions: Tensor | None = None
    unlabelled_metadata: dict[str, Tensor] | None = None
