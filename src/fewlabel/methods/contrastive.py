"""Contrast of slices, alone or guided by meta labels: the code path of SimCLR, GCL, PosiCL, SPL, GLCL and SSCL."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.collective import gather
from fewlabel.core.full_precision import full_precision
from fewlabel.data.batch import PretrainBatch
from fewlabel.gradients.aggregators import build_combiner
from fewlabel.gradients.combine import Combiner
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod
from fewlabel.nets.projection_heads import PixelHead, pixel_rows
from fewlabel.nets.unet import UNetEncoder
from fewlabel.objectives.contrastive import (
    info_nce,
    lower_bound,
    similarity_logits,
)
from fewlabel.objectives.positives import guided_positives, others
from fewlabel.objectives.two_view_order import join_views, own_rows

#: Name of the loss term when no meta label guides.
VIEWS = "views"


class SliceContrast(PretrainMethod):
    """Contrast of whole slices, one loss term per meta label.

    With S slices in the joined batch, 2S views go through the encoder in one pass. Each label's term is an InfoNCE
    loss of their embeddings (GCL, Eq. 1); without labels the only positives are views of the same slice, which is
    SimCLR. Methods of this family change the image head, or override :meth:`positives`, :meth:`candidates`,
    :meth:`image_loss` and :meth:`image_bounds`; GCL adds a contrast of pixels to every term.

    Args:
        config: Settings of the method.
        encoder: The encoder to train.
        facts: What is known of the data.
        labels: Meta labels that guide; empty for views only.
        temperature: τ.
        dim: Size of an embedding.
        centred: Centre the image head's output.
        image_head: Head of the image-wise embedding; None for a pixel head that is pooled afterwards.
    """

    #: Whether the rules need heights along the slice axis.
    uses_heights: ClassVar[bool] = False

    def __init__(
        self,
        config: PretrainMethod.Config,
        encoder: UNetEncoder,
        facts: DataFacts,
        *,
        labels: tuple[str, ...] = (),
        temperature: float,
        dim: int,
        centred: bool = False,
        image_head: PixelHead | None = None,
    ) -> None:
        super().__init__(config, encoder, facts)
        self.labels = labels
        self.temperature = temperature
        channels = encoder.config.widths[-1]
        self.image_head = PixelHead(channels, dim, centred=centred) if image_head is None else image_head

    @property
    def uses_metadata(self) -> tuple[str, ...]:
        """The labels that guide."""
        return self.labels

    def combiner(self) -> Combiner:
        """``settings.combine`` for the labels' terms, by name."""
        return build_combiner(self.settings.combine, self.labels)

    def embed(self, images: Tensor) -> Tensor:
        """The image embedding z (n, dim) of slices (n, channels, height, width), before any augmentation."""
        return unit_means(self.image_head(pixel_rows(self.encoder(images)[-1])).output)

    def losses(self, batch: PretrainBatch) -> Losses:
        """One term per label; see :class:`SliceContrast`."""
        rows = pixel_rows(self.encoder(torch.cat(batch.views))[-1])
        image = self.contrast_images(self.image_head(rows).output, batch)
        figures = {name: value for named in image.figures.values() for name, value in named.items()}
        return Losses(image.terms, image.embeddings, image.collapsed, image.lower_bound, as_numbers(figures))

    def contrast_images(self, image_map: Tensor, batch: PretrainBatch) -> ImageContrast:
        """Contrast the 2n views of this rank with those of all ranks.

        Args:
            image_map: (2n, p, dim) output of the image head for the first views, then the second.
            batch: The batch.
        """
        embeddings = unit_means(image_map)
        joined = _joined_ids(batch, self.labels, self.uses_heights)
        logits = similarity_logits(embeddings, join_views(embeddings), self.temperature)
        terms: dict[str, Tensor] = {}
        figures: dict[str, dict[str, Tensor]] = {}
        for name in joined.labels:
            positives = self.positives(joined, name, joined.mine)
            candidates = self.candidates(joined, name, joined.mine)
            terms[name], more = self.image_loss(name, logits, positives, candidates, batch)
            figures[name] = {f"image/{name}": terms[name], **{f"{key}/{name}": value for key, value in more.items()}}
        collapsed, bound = self.image_bounds(joined, batch)
        return ImageContrast(joined, terms, figures, embeddings.detach(), collapsed, bound)

    def positives(self, joined: JoinedIds, name: str, rows: Tensor) -> Tensor:
        """Image-wise positives (a, 2S) bool of the views at ``rows`` (a,) under a term."""
        return guided_positives(joined.slices, joined.labels[name], rows)

    def candidates(self, joined: JoinedIds, name: str, rows: Tensor) -> Tensor:  # noqa: ARG002
        """Views (a, 2S) bool that may enter the denominator of the views at ``rows`` (a,) under a term."""
        return others(rows, 2 * len(joined.slices))

    def image_loss(
        self,
        name: str,  # noqa: ARG002
        logits: Tensor,
        positives: Tensor,
        candidates: Tensor,
        batch: PretrainBatch,  # noqa: ARG002
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_img of one term, this rank's share of the mean over all anchors, and figures for the log.

        Args:
            name: The term.
            logits: (2n, 2S) similarities over temperature of this rank's views and all.
            positives: (2n, 2S) bool.
            candidates: (2n, 2S) bool.
            batch: The batch, for its step.
        """
        return info_nce(logits, positives, candidates), {}

    def image_bounds(self, joined: JoinedIds, batch: PretrainBatch) -> tuple[float, float]:  # noqa: ARG002
        """Mean over terms of L_img where all embeddings are equal, and of what it cannot fall below."""
        masks = [self.positives(joined, name, joined.first_views()) for name in joined.labels]
        return math.log(2 * len(joined.slices) - 1), sum(lower_bound(mask) for mask in masks) / len(masks)


@dataclass(frozen=True)
class JoinedIds:
    """Ids of the joined batch of S slices.

    Attributes:
        slices: (S,) int64 store indices.
        labels: Term → (S,) int64 class ids, or None where no label guides.
        mine: (2n,) int64, this rank's rows among the 2S views.
        heights: (S,) heights along the slice axis, for methods that use them.
    """

    slices: Tensor
    labels: dict[str, Tensor | None]
    mine: Tensor
    heights: Tensor | None = None

    def first_views(self) -> Tensor:
        """Rows (S,) of the first views; both views of a slice have equally many positives."""
        return torch.arange(len(self.slices), device=self.mine.device)


@dataclass(frozen=True)
class ImageContrast:
    """What the contrast of whole slices gives.

    Attributes:
        joined: Ids of the joined batch.
        terms: Term → its loss.
        figures: Term → figures of it for the log, by their names there.
        embeddings: (2n, dim) detached unit vectors of this rank's views.
        collapsed: Mean of the terms if all embeddings were equal.
        lower_bound: What that mean cannot fall below.
    """

    joined: JoinedIds
    terms: dict[str, Tensor]
    figures: dict[str, dict[str, Tensor]]
    embeddings: Tensor
    collapsed: float
    lower_bound: float


def unit_means(rows: Tensor) -> Tensor:
    """Means over pixels of rows (n, p, dim), as unit vectors (n, dim) in full precision."""
    return functional.normalize(full_precision(rows).mean(dim=1), dim=1)


def as_numbers(figures: dict[str, Tensor]) -> dict[str, float]:
    """Scalars as numbers for the log, fetched from the device at once."""
    values = torch.stack([value.detach() for value in figures.values()]).tolist()
    return dict(zip(figures, values, strict=True))


def _joined_ids(batch: PretrainBatch, labels: tuple[str, ...], heights: bool) -> JoinedIds:
    device = batch.views[0].device
    columns = [batch.slices, *(batch.metadata[name] for name in labels)]
    table = gather(torch.stack([column.to(device) for column in columns], dim=1))
    guiding: dict[str, Tensor | None] = {name: table[:, index] for index, name in enumerate(labels, start=1)}
    joined = gather(batch.positions.to(device)) if heights else None
    return JoinedIds(table[:, 0], guiding or {VIEWS: None}, own_rows(len(batch.slices), device), joined)
