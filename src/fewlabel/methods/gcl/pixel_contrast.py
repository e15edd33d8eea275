"""The contrast of pixels: pools by affinity, GradFilter, and the loss (GCL, Eq. 5 to 8)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from fewlabel.core.full_precision import full_precision
from fewlabel.methods.gcl.gradfilter import FilterPath, gradient_norms, smallest
from fewlabel.methods.gcl.last_convolution_gradients import PixelTail, pick_pixels, pixel_tail
from fewlabel.methods.gcl.pacing import Pace, pool_size
from fewlabel.methods.gcl.pixel_loss import (
    PixelDenominator,
    anchor_losses,
    collapsed_value,
    draw_partners,
    draw_pixels,
    lower_bound,
    top_pool,
)
from fewlabel.nets.projection_heads import PixelHead, Projection
from fewlabel.nets.unet import Tail
from fewlabel.objectives.contrastive import similarity_logits
from fewlabel.objectives.two_view_order import join_views


@dataclass(frozen=True)
class PixelSettings:
    """Settings of the pixel-wise loss; see ``fewlabel settings pretrain method=gcl`` for their meaning."""

    temperature: float
    pool: int
    anchors: int
    partners: int
    denominator: PixelDenominator
    criterion: FilterPath | None
    pace: Pace
    lambda0: float


@dataclass(frozen=True)
class PixelStep:
    """What one step's pixel losses share between labels.

    Attributes:
        anchors: (b, a) int64 anchor pixels of this rank's b views.
        anchor_vectors: (b, a, d) their embeddings, with gradient.
        keys: (v, p, d) embeddings of all pixels of all ranks' v views, with gradient.
        anchor_maps: (b, a, m) unit vectors of the image-wise map before pooling, detached.
        key_maps: (v, p, m) the same for all pixels of all views.
        anchor_tail: Of the anchors, or None where nothing is filtered.
        key_tail: Of all pixels of all views.
        keep: K_t.
    """

    anchors: Tensor
    anchor_vectors: Tensor
    keys: Tensor
    anchor_maps: Tensor
    key_maps: Tensor
    anchor_tail: PixelTail | None
    key_tail: PixelTail | None
    keep: int


class PixelContrast(nn.Module):
    """Pixel head and pixel-wise loss.

    Args:
        settings: See :class:`PixelSettings`.
        channels: Channels of the encoder's last map.
        dim: Size of a pixel embedding.
        pixels: Pixels of that map.
    """

    def __init__(self, settings: PixelSettings, channels: int, dim: int, pixels: int) -> None:
        super().__init__()
        self.settings = settings
        self.pixels = pixels
        self.head = PixelHead(channels, dim)

    def kept(self, step: int, total_steps: int) -> int:
        """K_t, how many pixels of a pool count."""
        settings = self.settings
        if settings.criterion is None:
            return settings.pool
        return pool_size(settings.pace, settings.pool, step, total_steps, settings.lambda0)

    def filters(self, step: int, total_steps: int) -> bool:
        """Whether GradFilter has something to leave out at this step."""
        return self.kept(step, total_steps) < self.settings.pool

    def prepare(
        self,
        rows: Tensor,
        image_map: Tensor,
        tail: Tail | None,
        mine: Tensor,
        generator: Generator,
        keep: int,
    ) -> PixelStep:
        """Everything that does not depend on the label.

        Args:
            rows: (b, p, c) the encoder's last map.
            image_map: (b, p, m) output of the image head at each pixel, detached.
            tail: Of the encoder, where GradFilter acts.
            mine: (b,) int64, this rank's rows in the joined batch.
            generator: Draws the anchors for the joined batch.
            keep: K_t.
        """
        projection: Projection = self.head(rows)
        unit = functional.normalize(full_precision(projection.output), dim=-1)
        keys = join_views(unit)
        drawn = draw_pixels(len(keys), rows.shape[1], self.settings.anchors, generator)
        everywhere = drawn.shape[1] == rows.shape[1]
        anchors = drawn.to(rows.device)[mine]
        maps = functional.normalize(full_precision(image_map), dim=-1)
        anchor_tail = key_tail = None
        if tail is not None:
            own = self._tail(rows, projection, tail)
            anchor_tail = own if everywhere else own.map(lambda part: pick_pixels(part, anchors))
            # Of the other ranks' pixels, partners need these two alone.
            key_tail = replace(own, embeddings=join_views(own.embeddings), pulled=join_views(own.pulled))
        return PixelStep(
            anchors=anchors,
            anchor_vectors=unit if everywhere else pick_pixels(unit, anchors),
            keys=keys,
            anchor_maps=maps if everywhere else pick_pixels(maps, anchors),
            key_maps=join_views(maps),
            anchor_tail=anchor_tail,
            key_tail=key_tail,
            keep=keep,
        )

    def loss(self, step: PixelStep, positives: Tensor, same_slice: Tensor, scores: Tensor) -> Tensor:
        """L_pix of one label: mean over this rank's anchor images, their partners and anchor pixels (Eq. 6).

        Args:
            step: From :meth:`prepare`.
            positives: (b, v) bool, image-wise positives under the label.
            same_slice: (b, v) bool, those of the same source slice.
            scores: (b, v) random numbers in [0, 1) that choose the partners.
        """
        partners, real = draw_partners(positives, same_slice, scores, self.settings.partners)
        weights = real / real.sum(dim=1, keepdim=True).clamp_min(1)
        losses = [
            self._pair_loss(step, partners[:, column]).mean(dim=1) * weights[:, column]
            for column in range(partners.shape[1])
        ]
        return torch.stack(losses).sum(dim=0).mean()

    def _pair_loss(self, step: PixelStep, partners: Tensor) -> Tensor:
        """L_pix(p) (b, a) against one partner image per anchor image."""
        settings = self.settings
        logits = similarity_logits(step.anchor_vectors, step.keys.index_select(0, partners), settings.temperature)
        with torch.no_grad():
            affinity = similarity_logits(step.anchor_maps, step.key_maps.index_select(0, partners), 1.0)
            pool = top_pool(affinity, settings.pool)
            keep = self._selection(step, partners, logits.detach(), pool)
        return anchor_losses(logits, pool, keep, settings.denominator)

    def _selection(self, step: PixelStep, partners: Tensor, logits: Tensor, pool: Tensor) -> Tensor | None:
        settings = self.settings
        if settings.criterion is None or step.anchor_tail is None or step.key_tail is None:
            return None
        kind = logits.device.type
        # Under autocast the one large product runs in its type, as the forward pass did; norms stay float32.
        matmul = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        norms = gradient_norms(
            settings.criterion,
            step.anchor_tail,
            step.key_tail,
            partners,
            logits,
            pool,
            self.head.first.weight,
            temperature=settings.temperature,
            all_positives=settings.denominator == "all",
            matmul_dtype=matmul,
        )
        return smallest(norms, step.keep)

    def _tail(self, rows: Tensor, projection: Projection, tail: Tail) -> PixelTail:
        return pixel_tail(
            rows,
            projection.hidden,
            projection.output,
            self.head.second.weight,
            inputs=tail.inputs,
            scale=tail.scale,
            slope=tail.slope,
        )

    def collapsed(self) -> float:
        """The loss when all pixels are equal."""
        return collapsed_value(self.pixels, self.settings.pool, self.settings.denominator)

    def lower_bound(self, keep: int) -> float:
        """What the loss cannot fall below."""
        settings = self.settings
        return lower_bound(self.pixels, settings.pool, keep, settings.temperature, settings.denominator)
