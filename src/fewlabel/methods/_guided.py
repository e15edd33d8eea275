"""Contrast of slices guided by meta labels: the code path that ``gcl`` and ``simclr`` share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.collective import gather
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods._pixels import PixelBranch, PixelSettings, PixelStep
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod
from fewlabel.nets.heads import PixelHead, pixel_rows
from fewlabel.nets.unet import Tail, UNetEncoder
from fewlabel.objectives.contrastive import (
    full_precision,
    info_nce,
    lower_bound,
    similarity_logits,
)
from fewlabel.objectives.positives import guided_positives, others, same_id, two_views
from fewlabel.objectives.views import join_views, own_rows

#: Name of the loss term when no meta label guides.
VIEWS = "views"


class GuidedContrast(PretrainMethod):
    """Image-wise and, if wanted, pixel-wise contrast, one loss term per meta label.

    With S slices in the joined batch, 2S views go through the encoder in one pass. Each label's term is
    L_img + λ L_pix (GCL, Alg. 1); without labels the only positives are views of the same slice, which is SimCLR.

    Args:
        config: Settings of the method.
        encoder: The encoder to train.
        facts: What is known of the data.
        labels: Meta labels that guide; empty for views only.
        temperature: τ of both losses.
        dim: Size of an embedding.
        pixel: Settings of the pixel-wise loss; None leaves it out.
        pixel_weight: λ, weight of the pixel-wise loss.
        centred: Centre the image head's output.
    """

    def __init__(
        self,
        config: PretrainMethod.Config,
        encoder: UNetEncoder,
        facts: DataFacts,
        *,
        labels: tuple[str, ...] = (),
        temperature: float,
        dim: int,
        pixel: PixelSettings | None = None,
        pixel_weight: float = 1.0,
        centred: bool = False,
    ) -> None:
        super().__init__(config, encoder, facts)
        self.labels = labels
        self.temperature = temperature
        self.pixel_weight = pixel_weight
        channels = encoder.config.widths[-1]
        self.image_head = PixelHead(channels, dim, centred=centred)
        self.pixel_branch = None if pixel is None else PixelBranch(pixel, channels, dim, map_pixels(encoder, facts))

    @property
    def uses_metadata(self) -> tuple[str, ...]:
        """The labels that guide."""
        return self.labels

    def embed(self, images: Tensor) -> Tensor:
        """The image embedding z (n, dim) of slices (n, channels, height, width), before any augmentation."""
        projected = self.image_head(pixel_rows(self.encoder(images)[-1])).output
        return functional.normalize(full_precision(projected).mean(dim=1), dim=1)

    def losses(self, batch: PretrainBatch) -> Losses:
        """One term per label; see :class:`GuidedContrast`."""
        images = torch.cat(batch.views)
        keep = 0 if self.pixel_branch is None else self.pixel_branch.kept(batch.step, batch.total_steps)
        filters = self.pixel_branch is not None and self.pixel_branch.filters(batch.step, batch.total_steps)
        tail: Tail | None = None
        if filters:
            maps, tail = self.encoder.forward_with_tail(images)
        else:
            maps = self.encoder(images)
        rows = pixel_rows(maps[-1])
        image_map = self.image_head(rows).output
        embeddings = functional.normalize(full_precision(image_map).mean(dim=1), dim=1)
        joined = _joined_ids(batch, self.labels)
        pixels: PixelStep | None = None
        if self.pixel_branch is not None:
            pixels = self.pixel_branch.prepare(rows, image_map.detach(), tail, joined.mine, batch.generator, keep)
        logits = similarity_logits(embeddings, join_views(embeddings), self.temperature)
        candidates = others(joined.mine, logits.shape[1])
        same_slice = same_id(two_views(joined.slices), joined.mine)
        terms: dict[str, Tensor] = {}
        parts: dict[str, Tensor] = {}
        for name, label in joined.labels.items():
            positives = guided_positives(joined.slices, label, joined.mine)
            terms[name] = parts[f"image/{name}"] = info_nce(logits, positives, candidates)
            if self.pixel_branch is not None and pixels is not None:
                count = logits.shape[1]
                scores = torch.rand(count, count, generator=batch.generator).to(logits.device)[joined.mine]
                part = self.pixel_branch.loss(pixels, positives, same_slice, scores)
                terms[name] = terms[name] + self.pixel_weight * part
                parts[f"pixel/{name}"] = part
        return self._losses(terms, parts, embeddings.detach(), joined, keep)

    def _losses(
        self, terms: dict[str, Tensor], parts: dict[str, Tensor], embeddings: Tensor, joined: _JoinedIds, keep: int
    ) -> Losses:
        """Add what the values mean: at collapse, at best, and part by part."""
        count = len(joined.slices)
        collapsed = math.log(2 * count - 1)
        # Both views of a slice have equally many positives, so first views suffice.
        every = torch.arange(count, device=joined.mine.device)
        masks = [guided_positives(joined.slices, label, every) for label in joined.labels.values()]
        bound = sum(lower_bound(mask) for mask in masks) / len(masks)
        values = torch.stack([part.detach() for part in parts.values()]).tolist()
        scalars = dict(zip(parts, values, strict=True))
        if self.pixel_branch is not None:
            collapsed += self.pixel_weight * self.pixel_branch.collapsed()
            bound += self.pixel_weight * self.pixel_branch.lower_bound(keep)
            scalars["pool_size"] = float(keep)
            scalars["pool_kept"] = keep / self.pixel_branch.settings.pool
        return Losses(terms, embeddings, collapsed, bound, scalars)


def map_pixels(encoder: UNetEncoder, facts: DataFacts) -> int:
    """Pixels of the encoder's last map for the data's image size."""
    height, width = facts.image_size
    return (height // encoder.config.stride) * (width // encoder.config.stride)


@dataclass(frozen=True)
class _JoinedIds:
    """Ids of the joined batch: slices (S,), each term's classes (S,) or None, this rank's rows among the 2S views."""

    slices: Tensor
    labels: dict[str, Tensor | None]
    mine: Tensor


def _joined_ids(batch: PretrainBatch, labels: tuple[str, ...]) -> _JoinedIds:
    device = batch.views[0].device
    columns = [batch.slices, *(batch.metadata[name] for name in labels)]
    table = gather(torch.stack([column.to(device) for column in columns], dim=1))
    found: dict[str, Tensor | None] = {name: table[:, index] for index, name in enumerate(labels, start=1)}
    return _JoinedIds(table[:, 0], found or {VIEWS: None}, own_rows(len(batch.slices), device))
