"""Rows of two streams, on one process or many: where a joined row lies, labels at the places of a map, mixing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from fewlabel.core.collective import gather, rank, world_size
from fewlabel.objectives.batch_noise_and_turns import own_part
from fewlabel.objectives.mixing import boxes, partners


def join_streams(tensor: Tensor, labelled: int) -> Tensor:
    """Rows of all ranks: all labelled ones, then all unlabelled ones, as a single process holds them.

    Args:
        tensor: (n + u, ...) without gradient, this rank's labelled rows first.
        labelled: n.
    """
    if world_size() == 1:
        return tensor
    parts = (tensor[:labelled], tensor[labelled:])
    return torch.cat([gather(part.contiguous()) if len(part) else part for part in parts])


def own_index(labelled: int, unlabelled: int, device: torch.device | str = "cpu") -> Tensor:
    """For each row of :func:`join_streams` its row on this rank, -1 where it is another's: (k (n + u),) int64."""
    ranks, first = world_size(), rank()
    index = torch.full((ranks * (labelled + unlabelled),), -1, device=device)
    here = torch.arange(labelled + unlabelled, device=device)
    index[first * labelled : (first + 1) * labelled] = here[:labelled]
    start = ranks * labelled + first * unlabelled
    index[start : start + unlabelled] = here[labelled:]
    return index


def at_places(maps: Tensor, places: Sequence[int], axis: int) -> Tensor:
    """The value in the middle of each place of a coarser map.

    Args:
        maps: Tensor whose axes from ``axis`` on are spatial.
        places: Size of the coarser map.
        axis: First spatial axis.
    """
    for offset, count in enumerate(places):
        length = maps.shape[axis + offset]
        middle = (2 * torch.arange(count, device=maps.device) + 1) * length // (2 * count)
        maps = maps.index_select(axis + offset, middle)
    return maps


class Mixture:
    """Unlabelled slices mixed in pairs; each row keeps a part of its own and takes the rest from its partner.

    ``cutmix`` keeps a box of half the image (Yun et al., ICCV 2019); ``classmix`` keeps the pixels of half of the
    row's classes, rounded up (Olsson et al., WACV 2021). Partners come from the joined batch.

    Args:
        kind: Which.
        labels: (u, *space) int64 pseudo-labels of this rank's rows.
        classes: Number of classes.
        generator: CPU generator, equal on all ranks.
    """

    def __init__(self, kind: Literal["cutmix", "classmix"], labels: Tensor, classes: int, generator: Generator) -> None:
        count, space = len(labels), labels.shape[1:]
        self.partner = partners(count, generator).to(labels.device)
        if kind == "cutmix":
            self.kept = boxes(count, space, 0.5 ** (1 / len(space)), generator).to(labels.device)
            return
        scores = own_part(torch.rand(count * world_size(), classes, generator=generator)).to(labels.device)
        member = torch.arange(classes, device=labels.device) == labels.flatten(1)[..., None]
        present = member.any(dim=1)
        order = scores.masked_fill(~present, -1).argsort(dim=1, descending=True).argsort(dim=1)
        first_half = order < (present.sum(dim=1, keepdim=True) + 1) // 2
        self.kept = first_half.gather(1, labels.flatten(1)).view_as(labels)

    def __call__(self, rows: Tensor) -> Tensor:
        """Mix (u, *space) or (u, channels, *space) of this rank."""
        other = gather(rows.detach().contiguous())[self.partner]
        kept = self.kept if rows.dim() == self.kept.dim() else self.kept[:, None]
        return torch.where(kept, rows, other)
