"""Contrast of slices guided by meta labels: the code path of ``gcl``, ``simclr``, ``posicl``, ``spl`` and ``glcl``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator
from torch import Tensor
from torch.nn import functional

from fewlabel.core.collective import gather
from fewlabel.core.errors import Fault
from fewlabel.core.precision import full_precision
from fewlabel.core.settings.config import Names
from fewlabel.data.batch import PretrainBatch
from fewlabel.gradients.aggregators import build_combiner
from fewlabel.gradients.combine import Combiner
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod
from fewlabel.methods.pixels import PixelBranch, PixelSettings, PixelStep
from fewlabel.nets.heads import PixelHead, pixel_rows
from fewlabel.nets.unet import Tail, UNetEncoder
from fewlabel.objectives.contrastive import (
    info_nce,
    lower_bound,
    similarity_logits,
)
from fewlabel.objectives.positives import guided_positives, others, same_id, two_views
from fewlabel.objectives.views import join_views, own_rows
from fewlabel.objectives.weighted import weighted_sum

#: Name of the loss term when no meta label guides.
VIEWS = "views"
#: Labels taken by ``auto``, where the data have them.
AUTOMATIC = ("patient", "position", "phase")


def _one_name(value: Any) -> Any:
    """A single label given without brackets, as a list of one."""
    return (value,) if isinstance(value, str) and value != "auto" else value


#: The setting of which meta labels guide: names, one name, or ``auto``.
Labels = Annotated[Literal["auto"] | Names, BeforeValidator(_one_name)]


class GuidedContrast(PretrainMethod):
    """Image-wise and, if wanted, pixel-wise contrast, one loss term per meta label.

    With S slices in the joined batch, 2S views go through the encoder in one pass. Each label's term is
    L_img + λ L_pix (GCL, Alg. 1); without labels the only positives are views of the same slice, which is SimCLR.
    Other methods of this family change the image head, or override :meth:`positives`, :meth:`candidates`,
    :meth:`image_loss` and :meth:`image_bounds`.

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
        pixel: PixelSettings | None = None,
        pixel_weight: float = 1.0,
        centred: bool = False,
        image_head: PixelHead | None = None,
    ) -> None:
        super().__init__(config, encoder, facts)
        self.labels = labels
        self.temperature = temperature
        self.pixel_weight = pixel_weight
        channels = encoder.config.widths[-1]
        self.image_head = PixelHead(channels, dim, centred=centred) if image_head is None else image_head
        self.pixel_branch = None if pixel is None else PixelBranch(pixel, channels, dim, map_pixels(encoder, facts))

    @property
    def uses_metadata(self) -> tuple[str, ...]:
        """The labels that guide."""
        return self.labels

    def combiner(self) -> Combiner:
        """``config.combine`` for the labels' terms, by name."""
        return build_combiner(self.config.combine, self.labels)

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
        joined = _joined_ids(batch, self.labels, self.uses_heights)
        pixels: PixelStep | None = None
        if self.pixel_branch is not None:
            pixels = self.pixel_branch.prepare(rows, image_map.detach(), tail, joined.mine, batch.generator, keep)
        logits = similarity_logits(embeddings, join_views(embeddings), self.temperature)
        same_slice = same_id(two_views(joined.slices), joined.mine)
        terms: dict[str, Tensor] = {}
        parts: dict[str, Tensor] = {}
        for name in joined.labels:
            positives = self.positives(joined, name, joined.mine)
            candidates = self.candidates(joined, name, joined.mine)
            terms[name], figures = self.image_loss(name, logits, positives, candidates, batch)
            parts[f"image/{name}"] = terms[name]
            parts.update({f"{figure}/{name}": value for figure, value in figures.items()})
            if self.pixel_branch is not None and pixels is not None:
                count = logits.shape[1]
                scores = torch.rand(count, count, generator=batch.generator).to(logits.device)[joined.mine]
                part = self.pixel_branch.loss(pixels, positives, same_slice, scores)
                terms[name] = weighted_sum((1.0, terms[name]), (self.pixel_weight, part))
                parts[f"pixel/{name}"] = part
        bounds = self.image_bounds(joined, batch)
        return self._losses(terms, parts, embeddings.detach(), bounds, keep)

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

    def _losses(
        self,
        terms: dict[str, Tensor],
        parts: dict[str, Tensor],
        embeddings: Tensor,
        bounds: tuple[float, float],
        keep: int,
    ) -> Losses:
        """Add what the values mean: at collapse, at best, and part by part."""
        collapsed, bound = bounds
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


def _joined_ids(batch: PretrainBatch, labels: tuple[str, ...], heights: bool) -> JoinedIds:
    device = batch.views[0].device
    columns = [batch.slices, *(batch.metadata[name] for name in labels)]
    table = gather(torch.stack([column.to(device) for column in columns], dim=1))
    found: dict[str, Tensor | None] = {name: table[:, index] for index, name in enumerate(labels, start=1)}
    joined = gather(batch.positions.to(device)) if heights else None
    return JoinedIds(table[:, 0], found or {VIEWS: None}, own_rows(len(batch.slices), device), joined)


def choose_labels(
    wanted: Literal["auto"] | tuple[str, ...],
    automatic: tuple[str, ...],
    facts: DataFacts,
    faults: list[Fault],
    title: str,
) -> tuple[str, ...]:
    """The meta labels to use; what is wrong with them goes to ``faults``.

    Args:
        wanted: Labels by name, or ``auto``.
        automatic: Labels taken by ``auto`` where the data have them with at least 2 classes.
        facts: What is known of the data.
        faults: Receives what is wrong.
        title: Name of the method, for messages.
    """
    usable = [name for name, classes in facts.meta_labels.items() if classes >= 2]
    listed = ", ".join(f"{name} ({classes} classes)" for name, classes in facts.meta_labels.items()) or "none"
    remedy = f"this data set has: {listed}; name some of them, or pre-train with method=simclr"
    if wanted == "auto":
        found = tuple(name for name in automatic if name in usable)
        if not found:
            faults.append(
                Fault.of(f"{title} needs a meta label with at least 2 classes", listed, "method.labels", remedy)
            )
        return found
    for name in dict.fromkeys(wanted):
        if name not in facts.meta_labels:
            faults.append(Fault.of("a meta label of the data set", repr(name), "method.labels", remedy))
        elif name not in usable:
            faults.append(Fault.of("a meta label needs at least 2 classes", repr(name), "method.labels", remedy))
    return tuple(dict.fromkeys(wanted))
