"""The two losses on points of a grid's regions (Point-level Region Contrast)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabel.core.collective import sum_across, world_size
from fewlabel.core.full_precision import full_precision
from fewlabel.methods.points import ForeignKeys, Points
from fewlabel.objectives.contrastive import anchor_mean, info_nce, similarity_logits


def region_loss(
    anchors: Tensor, keys: Tensor, first: Points, second: Points, foreign: ForeignKeys, temperature: float
) -> tuple[Tensor, Tensor]:
    """Contrast of regions by their points; positives are the keys of the same slice and region.

    Each positive is held against the slice's keys of other regions and the foreign keys. Points that a view does not
    show, and anchors without a positive, are left out.

    Args:
        anchors: (n, p, dim) unit vectors at the points of the first views.
        keys: (n, p, dim) unit vectors at those of the second views.
        first: The first views' points.
        second: The second views' points.
        foreign: Negatives from other slices.
        temperature: τ.

    Returns:
        The loss, and its value if all vectors were equal, both as this rank's share.
    """
    same = first.regions[:, None] == second.regions
    there = second.real[:, None].expand(-1, anchors.shape[1], -1)
    other = foreign.allowed[:, None].expand(-1, anchors.shape[1], -1)
    own = similarity_logits(anchors, keys, temperature)
    logits = torch.cat([own, similarity_logits(anchors, foreign.rows, temperature)], dim=-1).flatten(0, 1)
    candidates = torch.cat([there, other], dim=-1).flatten(0, 1)
    paired = (there & same & first.real[..., None]).flatten(0, 1)
    positives = torch.cat([paired, paired.new_zeros(len(paired), other.shape[-1])], dim=-1)
    loss = info_nce(logits, positives, candidates, denominator="pair_plus_neg")
    negatives = (there & ~same).sum(dim=-1).flatten() + other.sum(dim=-1).flatten()
    valid = paired.any(dim=1)
    return loss, anchor_mean(negatives.to(loss.dtype).log1p().masked_fill(~valid, 0), valid)


@dataclass(frozen=True)
class Affinity:
    """What the affinity loss gives, as this rank's shares.

    Attributes:
        loss: Mean cross-entropy of the student to the teacher, over anchors.
        entropy: Mean entropy of the teacher, the smallest value of the loss.
        collapsed: The loss if all vectors were equal.
    """

    loss: Tensor
    entropy: Tensor
    collapsed: Tensor


def affinity_loss(
    teacher: Tensor,
    student: Tensor,
    first: Points,
    second: Points,
    centre: Tensor,
    teacher_temperature: float,
    student_temperature: float,
) -> Affinity:
    """Cross-entropy from the teacher's softmax over a slice's keys, centred and sharpened, to the student's.

    Args:
        teacher: (n, p, p) cosines between the teacher's own points, without gradient.
        student: (n, p, p) cosines between the student's anchors and the teacher's keys.
        first: The anchors' points.
        second: The keys' points.
        centre: (regions,) what is taken off the teacher's cosines, by region of the key.
        teacher_temperature: τ_t.
        student_temperature: τ_s.
    """
    there = second.real[:, None]
    lowest = torch.finfo(student.dtype).min

    def log_shares(cosines: Tensor, temperature: float) -> Tensor:
        return (cosines / temperature).masked_fill(~there, lowest).log_softmax(dim=-1)

    target = log_shares(teacher - centre[second.regions].to(teacher.dtype), teacher_temperature)
    student_logs = log_shares(student, student_temperature)
    valid = (first.real & second.real.any(dim=1, keepdim=True)).flatten()
    log_count = second.real.sum(dim=1).clamp_min(1).to(student.dtype).log()

    def mean(costs: Tensor) -> Tensor:
        return anchor_mean(costs.flatten().masked_fill(~valid, 0), valid)

    return Affinity(
        loss=mean(-(target.exp() * student_logs).masked_fill(~there, 0).sum(dim=-1)),
        entropy=mean(-(target.exp() * target).masked_fill(~there, 0).sum(dim=-1)),
        collapsed=mean(log_count[:, None].expand_as(first.real)),
    )


def region_means(teacher: Tensor, first: Points, second: Points, centre: Tensor) -> Tensor:
    """Mean cosine to the keys of each region over the joined batch (regions,); the old centre where there is none.

    Args:
        teacher: (n, p, p) cosines between the teacher's own points.
        first: The anchors' points.
        second: The keys' points.
        centre: (regions,) the present centre.
    """
    both = first.real[..., None] & second.real[:, None]
    membership = (second.regions[:, None] == torch.arange(len(centre), device=centre.device)).to(teacher.dtype)
    # A product under autocast would round the counts.
    with torch.autocast(teacher.device.type, enabled=False):
        sums = teacher.masked_fill(~both, 0).sum(dim=(0, 1)) @ membership
        counts = both.sum(dim=(0, 1)).to(teacher.dtype) @ membership
    sums, counts = sum_across(sums), sum_across(counts)
    return torch.where(counts > 0, sums / counts.clamp_min(1), full_precision(centre).to(teacher.dtype))


def joined(*shares: Tensor) -> list[float]:
    """The means over ranks of scalars that each rank returned as its share."""
    means: list[float] = (sum_across(torch.stack(shares).detach()) / world_size()).tolist()
    return means
