"""SSCL: slices are contrasted without labels, then pixels of the few labelled slices by their class."""

from __future__ import annotations

from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.collective import sum_across, world_size
from fewlabel.core.errors import Fault
from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.data.store import UNLABELLED
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod, StepPlan
from fewlabel.methods.contrastive import SliceContrast
from fewlabel.nets.projection_heads import PixelHead, pixel_rows
from fewlabel.nets.unet import UNetConfig, UNetDecoder, UNetEncoder
from fewlabel.objectives.pixel_class_contrast import PixelSet, class_contrast, collapsed_value, lower_bound, pixel_set
from fewlabel.objectives.pixel_sampling import aligned_blocks, per_class, strided
from fewlabel.objectives.two_view_order import join_views, own_rows

OWN = "own choice"
#: Random pixels of each view whose embeddings are watched for collapse.
WATCHED = 8


class SSCL(SliceContrast):
    """Semi-supervised contrastive learning (Hu et al., MICCAI 2021, arXiv 2109.07407): a global, then a local stage.

    Global: SimCLR on all slices, labels unused; ``global_share=0`` leaves it out, for runs that start from another
    encoder. Local: the whole U-Net and a point-wise head embed the pixels of the labelled slices of the draw; encoder
    and decoder are trained, and both are left for fine-tuning. Anchors u are foreground pixels, P(u) the other pixels
    of the same class, N(u) those of other classes, background included. Forms of the local loss, mean over anchors:

    * ``code`` (default, what produced the numbers): ``-1/|P| Σ_p log( e^{s_up} / Σ_{a≠u} e^{s_ua} )`` over the pixels
      of both views of all slices of the batch;
    * ``paper``: ``-1/|P| log( Σ_p e^{s_up} / Σ_n e^{s_un} )`` within each view, then the mean over views.

    ``block`` takes the loss within each block, then the mean over blocks that have an anchor. What differs from the
    public code, and why: labels of the draw alone are read (the shipped script reads those of test scans), and views
    share one geometry with which masks are warped to the nearest pixel (it resizes masks bilinearly, which makes up
    classes at borders). Each stage has a schedule of the rate and moments of the optimiser of its own, as in two runs.
    Both heads are trained and not linear (its global one is left out of the optimiser, neither
    has a ReLU). A pixel without a positive is left out (0/0 there), the remainder at the right and the bottom makes
    blocks of its own (dropped there). Sampling so many pixels of each class is ours: stride 4 on 4 slices of 192x192
    pixels would compare 18432 pixels with each other. The decoder has the network's normalisation (none there).

    Take it where the labelled slices are few but cover all classes. It is pre-trained again for each draw of labelled
    patients (``labelled=1 draw=2``).

    Example:
        >>> method = SSCL(SSCL.Config(slices=2), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['views']
        >>> method.plan(900, 1000)
        StepPlan(labelled=True, same_geometry=True, slices=2)
    """

    paper = "Hu et al., MICCAI 2021, arXiv 2109.07407"
    uses_labels = True

    class Config(PretrainMethod.Config):
        """Settings of SSCL."""

        name: Literal["sscl"] = "sscl"
        global_share: float = setting(
            0.75,
            "share of the steps for the global stage; 0 for runs that start from another encoder",
            ge=0,
            lt=1,
            source=OWN + ": the paper trains both for 70 epochs, and epochs of labelled slices are short",
        )
        global_temperature: float = setting(0.5, "τ of the global stage", gt=0, source="code of SSCL")
        temperature: float = setting(0.1, "τ of the local stage", gt=0, source="code of SSCL, its script")
        dim: int = setting(128, "size of an embedding", ge=2, source="code of SSCL")
        hidden: int = setting(
            256, "hidden width of the local head; its input is as wide as the network", ge=2, source="code of SSCL"
        )
        variant: Literal["code", "paper"] = setting(
            "code", "form of the local loss: of the public code, or of the paper", source="code of SSCL"
        )
        sampling: Literal["per_class", "stride", "block"] = setting(
            "per_class", "which pixels the local loss compares", source=OWN + ": memory; SSCL: stride and block"
        )
        per_class: int = setting(
            256,
            "pixels of each class for sampling=per_class: of the batch, or of each view with variant=paper",
            unit="pixels",
            ge=2,
            source=OWN + ", as ARCO's queries",
        )
        stride: int = setting(4, "step for sampling=stride", unit="pixels", ge=1, source="code of SSCL")
        block: int = setting(16, "side of a block for sampling=block", unit="pixels", ge=2, source="SSCL, section 3")
        slices: int = setting(
            4, "labelled slices in a joined batch of the local stage, two views each", ge=1, source="code of SSCL"
        )

    settings: Config

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:  # noqa: ARG003
        """Data without labels, or slices that processes cannot share."""
        faults = []
        if facts.classes < 2:
            problem = "SSCL learns from segmentation labels, and the data set has none"
            faults.append(Fault(problem, "method", "Use data with labels, or pre-train with method=simclr"))
        if config.slices % world_size():
            near = -(-config.slices // world_size()) * world_size()
            problem = f"must be a multiple of the {world_size()} processes, not {config.slices}"
            faults.append(Fault(problem, "method.slices", f"Set method.slices={near}, for example"))
        return faults

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        super().__init__(
            config,
            encoder,
            facts,
            temperature=config.global_temperature,
            dim=config.dim,
        )
        self.decoder = UNetDecoder(encoder.config)
        self.local_head = PixelHead(encoder.config.width, config.dim, hidden=config.hidden)

    def first_local_step(self, total_steps: int) -> int:
        """The step at which the local stage begins; 0 where there is no other."""
        return sum(self.phase_lengths(self.settings, total_steps)[:-1])

    @classmethod
    def phase_lengths(cls, config: Any, total_steps: int) -> tuple[int, ...]:
        """The global and the local stage, each with a schedule of its own."""
        # A decoder that is left for fine-tuning has been trained for a step at least.
        first = min(round(config.global_share * total_steps), total_steps - 1)
        return (first, total_steps - first) if first else (total_steps,)

    def plan(self, step: int, total_steps: int) -> StepPlan:
        """All slices for the global stage, then a few labelled ones."""
        if step < self.first_local_step(total_steps):
            return StepPlan()
        return StepPlan(labelled=True, same_geometry=True, slices=self.settings.slices)

    def pretrained_decoder(self) -> UNetDecoder:
        """All blocks of the decoder."""
        return self.decoder

    def embed(self, images: Tensor) -> Tensor:
        """Pooled bottleneck map: the local stage leaves the global stage's head behind."""
        return PretrainMethod.embed(self, images)

    def losses(self, batch: PretrainBatch) -> Losses:
        """SimCLR's loss, or the supervised local one where the batch has masks."""
        if batch.masks is None:
            return super().losses(batch)
        settings = self.settings
        features = pixel_rows(self.decoder(self.encoder(torch.cat(batch.views)))[-1])
        pixels = features.shape[1]
        # As bytes, for the journey between processes.
        labels = join_views(torch.cat(batch.masks).flatten(1).to(torch.uint8)).long()
        mine = own_rows(len(batch.slices), labels.device)
        watched = torch.randint(pixels, (WATCHED, len(labels)), generator=batch.generator).to(labels.device)
        described = [
            (places, pixel_set(labels.flatten()[places], settings.variant)) for places in self._sets(labels, batch)
        ]
        sets = [(places, members) for places, members in described if bool(members.anchors.any())]
        total = self._total(features, sets, mine, len(labels))
        # After the loss: some releases of PyTorch keep, under autocast, the cast weights of a pass without gradient.
        with torch.no_grad():
            embeddings = self._units(features, watched[:, mine] + torch.arange(len(mine), device=mine.device) * pixels)
        scalars = {
            "sets": float(len(sets)),
            "pixels": float(sum(len(places) for places, _ in sets)),
            "anchors": float(sum(int(members.anchors.sum()) for _, members in sets)),
        }
        if not sets:
            return Losses({"pixels": total}, embeddings, scalars=scalars)
        collapsed = fmean(collapsed_value(members, settings.variant) for _, members in sets)
        bound = fmean(lower_bound(members, settings.temperature, settings.variant) for _, members in sets)
        return Losses({"pixels": total}, embeddings, collapsed, bound, scalars)

    def _sets(self, labels: Tensor, batch: PretrainBatch) -> list[Tensor]:
        """Pixels to compare with each other, as places among the joined views' (views, pixels); equal on all ranks."""
        settings, (views, pixels) = self.settings, labels.shape
        within = settings.variant == "paper"
        start = torch.arange(views, device=labels.device)[:, None] * pixels
        if settings.sampling == "per_class":
            rows = labels if within else labels.reshape(1, -1)
            drawn = per_class(rows, self.facts.classes, settings.per_class, batch.generator)
            return [places + start[index] for index, places in enumerate(drawn)]
        height, width = self.facts.image_size
        if settings.sampling == "stride":
            parts = [strided(height, width, settings.stride, labels.device)]
        else:
            parts = aligned_blocks(height, width, settings.block, labels.device)
        windows = [start + part for part in parts]
        sets = [row for block in windows for row in block] if within else [block.flatten() for block in windows]
        return [places[labels.flatten()[places] != UNLABELLED] for places in sets]

    def _total(self, features: Tensor, sets: list[tuple[Tensor, PixelSet]], mine: Tensor, views: int) -> Tensor:
        """Mean of the loss over sets: this rank's share."""
        settings, pixels = self.settings, features.shape[1]
        total = full_precision(features[:0]).sum()
        place = torch.full((views,), -1, device=mine.device)
        place[mine] = torch.arange(len(mine), device=mine.device)
        joined = settings.variant == "code"
        held = sets if joined else [one for one in sets if int(place[one[0][0] // pixels]) >= 0]
        if not held:
            return total
        places = torch.cat([places for places, _ in held])
        local = place[places // pixels]
        own = local >= 0
        units = self._units(features, local.clamp_min(0) * pixels + places % pixels)
        if joined and world_size() > 1:
            units = sum_across(units * own[:, None])
        sizes = [len(places) for places, _ in held]
        for rows, flags, (_, members) in zip(torch.split(units, sizes), torch.split(own, sizes), held, strict=True):
            total = total + class_contrast(rows, members, flags, settings.temperature, settings.variant)
        return total * (1 if joined else world_size()) / len(sets)

    def _units(self, features: Tensor, places: Tensor) -> Tensor:
        """Embeddings (k, dim) of some pixels of the map's rows (views, pixels, channels)."""
        rows = features.flatten(0, 1).index_select(0, places.flatten())
        return functional.normalize(full_precision(self.local_head(rows[None]).output[0]), dim=1)
