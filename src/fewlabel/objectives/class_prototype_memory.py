"""Class prototypes: a memory of the best-scored embeddings of each class, and pixels drawn evenly from each class."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from fewlabel.core.collective import gather, sum_across, world_size
from fewlabel.objectives.batch_noise_and_turns import own_part


class ScoredMemory(nn.Module):
    """For each class, the ``size`` embeddings of highest score of the last batch that had any.

    A batch with fewer keeps the best of the older ones behind its own. Buffers, so a checkpoint holds them; all ranks
    hold the same. Written in place: write after the backward pass of what was read.

    Args:
        classes: Number of classes that have a place.
        size: Embeddings of a class.
        dim: Size of an embedding.
    """

    rows: Tensor
    filled: Tensor

    def __init__(self, classes: int, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(classes, size, dim))
        self.register_buffer("filled", torch.zeros(classes, dtype=torch.int64))

    def there(self) -> Tensor:
        """Which places are filled: (classes, size) bool."""
        return torch.arange(self.rows.shape[1], device=self.rows.device) < self.filled[:, None]

    @torch.no_grad()
    def put(self, rows: Tensor, scores: Tensor, valid: Tensor) -> None:
        """Put embeddings in, those of highest score first.

        Args:
            rows: (classes, k, dim) this rank's candidates.
            scores: (classes, k).
            valid: (classes, k) bool; others are passed over.
        """
        size, dim = self.rows.shape[1:]
        scores = scores.masked_fill(~valid, -torch.inf)
        missing = max(size - scores.shape[1], 0)
        scores = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf)
        rows = torch.nn.functional.pad(rows, (0, 0, 0, missing))
        scores, rows = _best(scores, rows, size)
        # The best of all ranks are among the best of each.
        joined = gather(scores[None]).transpose(0, 1).flatten(1)
        scores, rows = _best(joined, gather(rows[None]).transpose(0, 1).flatten(1, 2), size)
        count = (scores > -torch.inf).sum(dim=1, keepdim=True)
        place = torch.arange(size, device=rows.device).expand(len(rows), size)
        source = torch.where(place < count, place, size + place - count)
        both = torch.cat([rows.to(self.rows), self.rows], dim=1)
        self.rows.copy_(both.gather(1, source[..., None].expand(-1, -1, dim)))
        self.filled.copy_((self.filled + count[:, 0]).clamp_max(size))


def _best(scores: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    best, order = scores.topk(count, dim=1)
    return best, rows.gather(1, order[..., None].expand(-1, -1, rows.shape[2]))


def draw_pixels(labels: Tensor, classes: int, count: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """``count`` pixels of each foreground class from each slice, one from each of as many equal parts of its pixels.

    Each pixel of a class in a slice is drawn with the same probability.

    Args:
        labels: (n, *space) integer class indices; 0 and values beyond the classes are not drawn.
        classes: Number of classes C.
        count: k.
        generator: CPU generator, equal on all ranks.

    Returns:
        Flat pixel indices (n, C - 1, k) int64; (n, C - 1) how many pixels the class has in the slice, 0 where it is
        absent and the indices mean nothing; (n, C - 1, k) bool, false where a pixel was drawn before.
    """
    drawn = own_part(torch.rand(len(labels) * world_size(), classes - 1, count, generator=generator))
    flat = labels.flatten(1)
    order = torch.arange(1, classes, device=labels.device)
    so_far = (flat[:, None] == order[:, None]).cumsum(dim=2)
    total = so_far[..., -1]
    part = (torch.arange(count, device=labels.device) + drawn.to(labels.device).double()) / count
    nth = (part * total[..., None]).long().clamp_min(0).minimum((total[..., None] - 1).clamp_min(0))
    pixels = torch.searchsorted(so_far, nth + 1).clamp_max(flat.shape[1] - 1)
    fresh = torch.ones_like(pixels, dtype=torch.bool)
    fresh[..., 1:] = nth[..., 1:] > nth[..., :-1]
    return pixels, total, fresh & (total[..., None] > 0)


def prototype_distance(
    queries: Tensor, counts: Tensor, attention: Tensor, memory: Tensor, there: Tensor, memory_attention: Tensor
) -> Tensor:
    """Weighted mean cosine distance of pixels to the memory of their class (Alonso et al., ICCV 2021; SS-Net).

    For class c with pixels i of the joined batch and memory entries m::

        L_c = Σ_i Σ_m a_i b_m (1 - cos(q_i, v_m)) / (Σ_i a_i Σ_m b_m),   L = 1/C Σ_c L_c

    C counts all classes given; one without pixels or without memory adds 0.

    Args:
        queries: (n, C, k, dim) unit vectors, k pixels of each class and slice.
        counts: (n, C) pixels that the k stand for, 0 where a slice lacks the class.
        attention: (n, C, k) a > 0, learnt.
        memory: (C, m, dim) unit vectors.
        there: (C, m) bool.
        memory_attention: (C, m) b > 0, learnt.

    Returns:
        Scalar in [0, 2]: this rank's share.
    """
    weight = attention * counts[..., None].to(attention)
    towards = memory_attention * there.to(memory_attention)
    distance = 1 - torch.einsum("nckd,cmd->nckm", queries, memory)
    whole = torch.einsum("nckm,nck,cm->c", distance, weight, towards)
    size = sum_across(weight.sum(dim=(0, 2))) / world_size() * towards.sum(dim=1)
    return torch.where(size > 0, whole / torch.where(size > 0, size, torch.ones_like(size)), 0 * whole).mean()
