"""DenseCL: MoCo, and beside it the same contrast between the cells of the two maps that resemble each other most."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.errors import Fault
from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, Losses
from fewlabel.methods.momentum_encoder_and_queue import MomentumContrast, MomentumSettings, unit_rows
from fewlabel.methods.queue_contrast import Maps, QueueContrast
from fewlabel.nets.ema import EMAModel
from fewlabel.nets.projection_heads import PixelHead, pixel_rows
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from fewlabel.objectives.contrastive import similarity_logits
from fewlabel.objectives.loss_terms import weighted_sum


class DenseCL(MomentumContrast):
    """Dense contrastive learning (Wang et al., CVPR 2021, arXiv 2011.09157, Eq. 1 to 4).

    The loss is (1-λ) L_image + λ L_dense. L_image is that of ``moco``, exactly so with λ = 0. L_dense is the mean over
    all cells a of the query maps of the same loss with the dense head's vector at a as query, and as key the momentum
    dense head's vector at that cell b of the key map whose *encoder* features are most similar to those at a; its
    queue holds each slice's mean dense key. The match has no gradient, needs no geometry and may lie outside of the
    part that both views show.

    Differences from the published code are those of ``moco`` (own past keys masked, queues start empty, K and m for
    about 1000 slices). Matching and dense loss use the whole last map; ``grid`` pools it first, as in the code.

    Take it for a first try at a dense pretext; a cell may be matched with a place that shows something else.

    Example:
        >>> method = DenseCL(DenseCL.Config(dense_weight=0.3, queue=64), encoder, facts)
        >>> list(method.losses(pretrain_batch).scalars)
        ['image', 'dense', 'matched', 'negatives']
    """

    paper = "Wang et al., CVPR 2021, arXiv 2011.09157"

    class Config(MomentumSettings):
        """Settings of DenseCL."""

        name: Literal["densecl"] = "densecl"
        dense_weight: float = setting(0.5, "λ, weight of the dense loss; 0 is MoCo", ge=0, le=1, source="DenseCL")
        warmup: float = setting(
            0.0,
            "share of the run, from its start, in which λ is 0",
            ge=0,
            lt=1,
            source="DenseCL, released settings: none",
        )
        grid: int | None = setting(
            None,
            "side that maps are pooled to before they are matched; null for the encoder's last map",
            unit="cells",
            ge=1,
            source="DenseCL: the map as it is, 7 cells; here 8 to 16",
        )

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:
        """A grid finer than the encoder's last map."""
        side = min(facts.image_size) // network.stride
        if config.grid is None or config.grid <= side:
            return []
        problem = f"must be at most {side}, the shorter side of the encoder's last map, not {config.grid}"
        return [Fault(problem, "method.grid", f"Set it to at most {side}, or to null")]

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        super().__init__(config, encoder, facts)
        self.grid = config.grid
        self.dense_weight = config.dense_weight
        self.warmup = config.warmup
        # Without the dense term nothing of it is built, so that λ = 0 costs what MoCo costs.
        self.dense = config.dense_weight > 0
        if self.dense:
            self.dense_head = PixelHead(encoder.config.widths[-1], config.dim)
            self.dense_contrast = QueueContrast(config.queue, config.dim, config.temperature)
            self.key_dense_head = EMAModel(self.dense_head)

    def losses(self, batch: PretrainBatch) -> Losses:
        """The weighted sum as one term; both parts and the share of cells that are matched are logged."""
        maps = self.maps(batch)
        image, embeddings = self.image_term(maps)
        if not self.dense:
            return self.finished(image, embeddings, maps, {})
        weight = 0.0 if batch.step < self.warmup * batch.total_steps else self.dense_weight
        # During the warm-up too: its queue fills.
        dense, matches = self.dense_term(maps)
        term = weighted_sum((1 - weight, image), (weight, dense))
        scalars = {"image": float(image.detach()), "dense": float(dense.detach()), "matched": matched_share(matches)}
        return self.finished(term, embeddings, maps, scalars)

    def dense_term(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Loss over all cells, and each cell's match (n, cells) int64."""
        queries, keys = self._cells(maps.queries), self._cells(maps.keys)
        matches = best_matches(queries.detach(), keys)
        vectors = self.key_dense_head(keys).output
        unit = functional.normalize(full_precision(vectors), dim=-1)
        positives = unit.gather(1, matches[..., None].expand(-1, -1, unit.shape[-1]))
        means = functional.normalize(full_precision(vectors).mean(dim=1), dim=-1)
        return self.dense_contrast.loss(unit_rows(self.dense_head, queries), positives, means, maps), matches

    def after_step(self, step: int, total_steps: int) -> None:
        """As MoCo, for the dense head and its queue too."""
        super().after_step(step, total_steps)
        if self.dense:
            self.key_dense_head.update(self.dense_head, self.momentum)
            self.dense_contrast.push()

    def _cells(self, features: Tensor) -> Tensor:
        """A map as rows (n, cells, channels)."""
        if self.grid is not None:
            features = functional.adaptive_avg_pool2d(full_precision(features), self.grid)
        return pixel_rows(features)


@torch.no_grad()
def best_matches(queries: Tensor, keys: Tensor) -> Tensor:
    """For each query cell the key cell of the same slice with the highest cosine, the first of equals.

    Args:
        queries: (n, cells, channels) encoder features, of any length.
        keys: The same of the other view.

    Returns:
        (n, cells) int64.
    """
    unit = [functional.normalize(full_precision(rows), dim=-1) for rows in (queries, keys)]
    return similarity_logits(unit[0], unit[1], 1.0).argmax(dim=-1)


def matched_share(matches: Tensor) -> float:
    """Share of key cells that are some query's match, mean over slices (n, cells): small if all match the same cell."""
    taken = torch.zeros(matches.shape, device=matches.device).scatter_(1, matches, 1.0)
    return float(taken.mean())
