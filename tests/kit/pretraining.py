"""Small pre-training batches and methods, built without a store or a loader."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, PretrainMethod
from fewlabel.nets.unet import UNetConfig, UNetEncoder

META = {"patient": 4, "position": 4, "phase": 2}
SIZE = (32, 32)
#: Steps of a toy run.
TOTAL = 20


def toy_images(slices: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    """Smooth random images (slices, 1, height, width)."""
    coarse = torch.randn(slices, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")


def toy_batch(
    slices: int = 8,
    *,
    seed: int = 0,
    step: int = 0,
    total_steps: int = TOTAL,
    size: tuple[int, int] = SIZE,
    dtype: torch.dtype = torch.float32,
    labelled: bool = False,
) -> PretrainBatch:
    """Two noisy views of smooth images whose ids come in every combination."""
    images = toy_images(slices, seed, size)
    noise = torch.Generator().manual_seed(seed + 1)
    views = [
        (images + 0.1 * torch.randn(images.shape, generator=noise))
        .to(dtype)
        .contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    ]
    index = torch.arange(slices)
    matrices = torch.eye(3).expand(slices, 3, 3)
    return PretrainBatch(
        views=(views[0], views[1]),
        matrices=(matrices, matrices),
        metadata={"patient": index // 2, "position": index % 4, "phase": index % 2},
        positions=(index % 4 + 0.5) / 4,
        slices=index * 3 + 1,
        step=step,
        total_steps=total_steps,
        generator=torch.Generator().manual_seed(seed + 7),
        masks=(toy_masks(slices, size),) * 2 if labelled else None,
    )


def toy_masks(slices: int, size: tuple[int, int] = SIZE) -> Tensor:
    """(slices, height, width) int64: classes 1 to 3 as blocks on background, each slice lacking one of them."""
    masks = torch.zeros(slices, *size, dtype=torch.int64)
    half, side = size[0] // 2, size[0] // 4
    corners = ((1, 1), (1, half + 1), (half + 1, 1))
    for index in range(slices):
        for label, (row, column) in enumerate(corners, start=1):
            if index % 4 != label:
                masks[index, row : row + side, column : column + side] = label
    return masks


def batch_for(method: PretrainMethod, step: int, *, total_steps: int = TOTAL, **kwargs: Any) -> PretrainBatch:
    """The toy batch that the method's plan for a step asks for; at most 8 slices."""
    plan = method.plan(step, total_steps)
    slices = min(plan.slices or 8, 8)
    return toy_batch(slices, step=step, total_steps=total_steps, labelled=plan.labelled, **kwargs)


def stage_steps(method: PretrainMethod, total_steps: int = TOTAL) -> list[int]:
    """One step of each stage that the method plans: its first."""
    plans = [method.plan(step, total_steps) for step in range(total_steps)]
    return [step for step in range(total_steps) if step == 0 or plans[step] != plans[step - 1]]


def trainable(method: PretrainMethod) -> dict[str, torch.nn.Parameter]:
    """Parameters that a stage trains, by name."""
    return {name: tensor for name, tensor in method.named_parameters() if tensor.requires_grad}


def rows_of(batch: PretrainBatch, rank: int, ranks: int) -> PretrainBatch:
    """One rank's part of a joined batch."""
    count = len(batch.slices) // ranks
    part = slice(rank * count, (rank + 1) * count)
    return PretrainBatch(
        views=(batch.views[0][part], batch.views[1][part]),
        matrices=(batch.matrices[0][part], batch.matrices[1][part]),
        metadata={name: ids[part] for name, ids in batch.metadata.items()},
        positions=batch.positions[part],
        slices=batch.slices[part],
        step=batch.step,
        total_steps=batch.total_steps,
        generator=batch.generator,
        masks=None if batch.masks is None else (batch.masks[0][part], batch.masks[1][part]),
    )


def toy_method(
    name: str,
    *,
    seed: int = 0,
    meta: dict[str, int] | None = None,
    size: tuple[int, int] = SIZE,
    network: UNetConfig | None = None,
    dtype: torch.dtype = torch.float32,
    **settings: object,
) -> PretrainMethod:
    """A method on a narrow encoder whose last map is 8x8 for 32x32 images."""
    torch.manual_seed(seed)
    config = resolve_plugin("fewlabel.methods", {"name": name, **settings})
    encoder = UNetEncoder(network or UNetConfig(width=4, depth=3))
    facts = DataFacts(META if meta is None else meta, slices=100, image_size=size, store_slices=120, classes=4)
    method: PretrainMethod = load_plugin("fewlabel.methods", name)(config, encoder, facts)
    return method.to(dtype).to(memory_format=torch.channels_last)


def settle(method: PretrainMethod, batch: PretrainBatch) -> PretrainMethod:
    """The method in eval mode, its running statistics those of a batch (fresh ones squeeze all maps to a point)."""
    norms = [module for module in method.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None
    method.train()
    with torch.no_grad():
        method.losses(batch)
    for module in norms:
        module.momentum = 0.1
    return method.eval()
