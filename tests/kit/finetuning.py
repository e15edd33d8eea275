"""Small fine-tuning batches and regimes, built without a store or a loader."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.rng import numpy_stream
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.data.batch import SegmentationBatch
from fewlabel.data.intensity_changes import standardise
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.regimes.base import Regime
from kit.stores import heart_slice

FAMILY = "fewlabel.regimes"
SIZE = (32, 32)
CLASSES = 4
#: Steps of a toy run.
TOTAL = 20


def build(
    name: str,
    *,
    seed: int = 0,
    network: UNetConfig | None = None,
    dtype: torch.dtype = torch.float32,
    pretrained: bool = False,
    **settings: Any,
) -> Regime:
    """A regime on a narrow U-Net whose last map is 8x8 for 32x32 images."""
    torch.manual_seed(seed)
    config = resolve_plugin(FAMILY, {"name": name, **settings})
    net = UNet(network or UNetConfig(width=4, depth=3), classes=CLASSES)
    regime: Regime = load_plugin(FAMILY, name)(config, net, pretrained=pretrained)
    return regime.to(dtype)


def hearts(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor]:
    """Synthetic hearts (count, 1, height, width), standardised, and masks (count, height, width) int64."""
    shape = {"x": 0.0, "y": 0.0, "radius": 0.45, "round": 1.0, "angle": 0.2, "gain": 1.0, "bias": 0.1}
    generator = numpy_stream(seed, "toy")
    pairs = [heart_slice(generator, shape, (0.0, 0.2, 0.5, 0.7)[i % 4], i // 4 % 2, size) for i in range(count)]
    images = standardise(torch.stack([torch.from_numpy(image) for image, _ in pairs])[:, None])
    return images, torch.stack([torch.from_numpy(mask) for _, mask in pairs]).long()


def toy_batch(
    regime: Regime | None = None,
    *,
    step: int = 10,
    labelled: int = 4,
    unlabelled: int = 4,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    size: tuple[int, int] = SIZE,
) -> SegmentationBatch:
    """Hearts of which some are labelled; unlabelled ones, in one view or two, as the regime asks for."""
    images, labels = hearts(labelled + unlabelled, seed, size)
    images = images.to(dtype).contiguous(memory_format=torch.channels_last)
    wanted = unlabelled > 0 and (regime is None or regime.uses_unlabelled)
    extra = images[labelled:] if wanted else None
    again: tuple[Tensor, ...] = ()
    if extra is not None and regime is not None:
        noises = torch.Generator().manual_seed(seed + 1)
        again = tuple(
            (extra + 0.1 * torch.randn(extra.shape, generator=noises).to(dtype)).contiguous(
                memory_format=torch.channels_last
            )
            for _ in range(regime.unlabelled_views - 1)
        )
    return SegmentationBatch(
        images=images[:labelled],
        labels=labels[:labelled],
        slices=torch.arange(labelled) * 2,
        step=step,
        total_steps=TOTAL,
        generator=torch.Generator().manual_seed(step),
        unlabelled=extra,
        unlabelled_again=again,
        unlabelled_slices=torch.arange(unlabelled) * 2 + 1 if wanted else None,
        unlabelled_positions=torch.linspace(0.1, 0.9, unlabelled) if wanted else None,
        unlabelled_metadata=toy_metadata(unlabelled)
        if wanted and regime is not None and regime.uses_metadata
        else None,
    )


def toy_metadata(count: int) -> dict[str, Tensor]:
    """Two meta labels of slices: two positions in turn, and a phase that the last slice lacks."""
    return {
        "position": torch.arange(count) % 2,
        "phase": torch.cat([torch.zeros(count - 1, dtype=torch.int64), torch.tensor([90 + count])]),
    }


def toy_volumes(regime: Regime, *, step: int = 10, dtype: torch.dtype = torch.float32) -> SegmentationBatch:
    """Two labelled and two unlabelled patches of 8x16x16 voxels."""
    images, labels = hearts(32, size=(16, 16))
    images = images.to(dtype).view(4, 8, 1, 16, 16).transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
    labels = labels.view(4, 8, 16, 16)
    extra = images[2:] if regime.uses_unlabelled else None
    return SegmentationBatch(
        images=images[:2],
        labels=labels[:2],
        slices=torch.arange(2) * 8,
        step=step,
        total_steps=TOTAL,
        generator=torch.Generator().manual_seed(step),
        unlabelled=extra,
        unlabelled_again=() if extra is None else (extra,) * (regime.unlabelled_views - 1),
        unlabelled_slices=torch.arange(2, 4) * 8 if regime.uses_unlabelled else None,
        unlabelled_positions=torch.tensor([0.2, 0.7]) if regime.uses_unlabelled else None,
        unlabelled_metadata=toy_metadata(2) if regime.uses_unlabelled and regime.uses_metadata else None,
    )


def rows_of(batch: SegmentationBatch, rank: int, ranks: int) -> SegmentationBatch:
    """One rank's part of a joined batch."""

    def part(tensor: Tensor) -> Tensor:
        count = len(tensor) // ranks
        return tensor[rank * count : (rank + 1) * count]

    def maybe(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else part(tensor)

    return SegmentationBatch(
        images=part(batch.images),
        labels=part(batch.labels),
        slices=part(batch.slices),
        step=batch.step,
        total_steps=batch.total_steps,
        generator=batch.generator,
        unlabelled=maybe(batch.unlabelled),
        unlabelled_again=tuple(part(view) for view in batch.unlabelled_again),
        unlabelled_slices=maybe(batch.unlabelled_slices),
        unlabelled_positions=maybe(batch.unlabelled_positions),
        unlabelled_metadata=None
        if batch.unlabelled_metadata is None
        else {name: part(ids) for name, ids in batch.unlabelled_metadata.items()},
    )


def trainable(regime: Regime) -> dict[str, torch.nn.Parameter]:
    """What the stage's optimiser trains, by name."""
    return {name: tensor for name, tensor in regime.named_parameters() if tensor.requires_grad}


def train(regime: Regime, steps: int, *, first: int = 0, rate: float = 0.05) -> list[float]:
    """Plain gradient steps on toy batches; the summed loss of each."""
    found = []
    for step in range(first, first + steps):
        loss = torch.stack(list(regime.losses(toy_batch(regime, step=step)).values())).sum()
        tensors = list(trainable(regime).values())
        gradients = torch.autograd.grad(loss, tensors, materialize_grads=True)
        with torch.no_grad():
            for tensor, gradient in zip(tensors, gradients, strict=True):
                tensor.sub_(rate * gradient)
        regime.after_step(step, TOTAL)
        found.append(float(loss.detach()))
    return found
