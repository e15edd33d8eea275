"""GLCL: slices of the same part of the body attract (encoder), then places inside a slice are told apart (decoder)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.errors import Fault
from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod, StepPlan
from fewlabel.methods.contrastive import JoinedIds, SliceContrast
from fewlabel.nets.projection_heads import FlattenHead, PixelHead, PooledHead, RegionHead
from fewlabel.nets.unet import UNetConfig, UNetDecoder, UNetEncoder
from fewlabel.objectives import local_regions
from fewlabel.objectives.contrastive import collapsed_value, info_nce, pair_lower_bound
from fewlabel.objectives.positives import apart, guided_positives

#: Regions of a slice → n of the lattice that has them.
ORDERS = {5: 2, 13: 3, 25: 4, 41: 5}
#: Regions of a slice, their side and the negatives of each, where nobody says otherwise: the first that fit the map.
REGIONS, WINDOWS, NEIGHBOURS = (13, 5), (3, 1), 5


class GLCL(SliceContrast):
    """Contrast of global and local features (Chaitanya et al., NeurIPS 2020, arXiv 2006.10511).

    First stage, encoder: for views a and p of the same slice, or (variant D, ``same_part=attract``) of slices in the
    same part of their volumes, ``-log( e^{z_a·z_p/τ} / (e^{z_a·z_p/τ} + Σ_{k in another part} e^{z_a·z_k/τ}) )``.
    Slices of the anchor's part are never negatives; in variant D- (``same_part=ignore``) they are no positives either.
    Second stage, first decoder blocks: regions of a slice against their neighbours, see
    ``fewlabel.objectives.local_regions``; the encoder rests. Encoder and blocks are left for fine-tuning, which takes
    both by default and the encoder alone with ``transfer=encoder``.

    What differs: two views of a slice instead of a slice and two views of it; slices of one part attract whichever
    volume they are from (a batch rarely has two of one volume); the mean over anchors of the mean over their positives
    instead of a sum over the batch. Each stage has a schedule and moments of the optimiser of its own, as in two runs.
    Parts come from the data's ``position``: the public code never draws the last slices of a volume whose depth does
    not divide by the parts. In the second stage both views share one random geometry (the paper leaves geometry alone),
    the statistics of the resting encoder do not drift, as they do in the code, and neighbours follow from the regions'
    places: its table has some that are none. The local loss's variant with positives from other volumes is left out.

    Take it for aligned volumes, and where the decoder should be pre-trained too.

    Example:
        >>> method = GLCL(GLCL.Config(global_share=0.6), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['global']
        >>> method.first_local_step(total_steps=1000)
        600
    """

    neighbours: Tensor
    paper = "Chaitanya et al., NeurIPS 2020, arXiv 2006.10511"
    needs_metadata = ("position",)

    class Config(PretrainMethod.Config):
        """Settings of GLCL."""

        name: Literal["glcl"] = "glcl"
        same_part: Literal["attract", "ignore"] = setting(
            "attract",
            "slices of the same part of other volumes are positives (variant D) or merely no negatives (D-)",
            source="code of GLCL: D",
        )
        temperature: float = setting(0.1, "τ of both losses", gt=0, source="code of GLCL")
        dim: int = setting(128, "size of an embedding, of slices and of regions", ge=2, source="code of GLCL")
        head: Literal["flatten", "pooled"] = setting(
            "flatten",
            "first layer of the slices' head on the whole last map, averaged to 6 a side where larger, or on its mean",
            source="code of GLCL: flatten, on 6x6 maps",
        )
        global_share: float = setting(
            0.5,
            "share of the steps for the first stage; 1 trains the encoder alone",
            gt=0,
            le=1,
            source="code of GLCL: 10001 iterations for each stage",
        )
        blocks: int = setting(
            2,
            "L, decoder blocks of the second stage",
            ge=1,
            le=6,
            source="code of GLCL: 3 of 5, up to a quarter of the image's side; 2 of 4 reach the same",
        )
        regions: Literal[5, 13, 25, 41] | None = setting(
            None, "regions of a slice; null for 13, or 5 on a map too small for those", source="code of GLCL: 13"
        )
        neighbours: int | None = setting(
            None,
            "closest other regions that are negatives; null for 5, or all others where they are fewer",
            ge=1,
            source="code of GLCL: 5",
        )
        window: Literal[1, 3, 5] | None = setting(
            None,
            "side of a region; null for 3, or 1 where regions would overlap",
            unit="pixels of the map",
            source="code of GLCL: 3",
        )

    settings: Config

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:
        """Data without heights, and regions, neighbours and blocks that the network has no room for."""
        return _faults(config, network, facts, _layout(config, network, facts))

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        self.refuse(config, encoder.config, facts)
        layout = _layout(config, encoder.config, facts)
        channels = encoder.config.widths[-1]
        head: PixelHead = PooledHead(channels, config.dim)
        if config.head == "flatten":
            head = FlattenHead(channels, config.dim, _map_size(encoder.config, facts, 0))
        super().__init__(
            config,
            encoder,
            facts,
            labels=("position",),
            temperature=config.temperature,
            dim=config.dim,
            image_head=head,
        )
        self.count = layout.neighbours
        self.decoder: UNetDecoder | None = None
        if config.global_share < 1:
            self.decoder = UNetDecoder(encoder.config, config.blocks)
            size = _map_size(encoder.config, facts, config.blocks)
            centres = local_regions.lattice(ORDERS[layout.regions], size, layout.window)
            pixels = local_regions.window_pixels(centres, layout.window, size[1])
            self.region_head = RegionHead(encoder.config.widths[-1 - config.blocks], config.dim, pixels)
            nearest = local_regions.nearest_regions(centres, layout.neighbours)
            self.register_buffer("neighbours", nearest, persistent=False)

    def first_local_step(self, total_steps: int) -> int:
        """The step at which the second stage begins; ``total_steps`` where there is none."""
        return _first_local_step(self.settings, total_steps)

    @classmethod
    def phase_lengths(cls, config: Any, total_steps: int) -> tuple[int, ...]:
        """The first and the second stage, each with a schedule of its own."""
        first = _first_local_step(config, total_steps)
        return (first, total_steps - first) if 0 < first < total_steps else (total_steps,)

    def plan(self, step: int, total_steps: int) -> StepPlan:
        """Views of the second stage differ in intensities only."""
        return StepPlan(same_geometry=step >= self.first_local_step(total_steps))

    def pretrained_decoder(self) -> UNetDecoder | None:
        """The decoder blocks of the second stage, if there is one."""
        return self.decoder

    def losses(self, batch: PretrainBatch) -> Losses:
        """``global`` or ``local``, by the batch's step."""
        if self.decoder is not None and batch.step >= self.first_local_step(batch.total_steps):
            return self._local(self.decoder, batch)
        losses = super().losses(batch)
        return replace(losses, terms={"global": losses.terms["position"]})

    def _local(self, decoder: UNetDecoder, batch: PretrainBatch) -> Losses:
        with _asleep(self.encoder):
            maps = self.encoder(torch.cat(batch.views))
        regions = full_precision(self.region_head(decoder(maps)[-1]))
        first, second = functional.normalize(regions, dim=2).chunk(2)
        loss = local_regions.region_contrast(first, second, self.neighbours, self.temperature)
        # View by view, region by region, slice by slice.
        rows = torch.cat([first.transpose(0, 1), second.transpose(0, 1)]).flatten(0, 1)
        bound = local_regions.lower_bound(self.count, self.temperature)
        return Losses({"local": loss}, rows.detach(), local_regions.collapsed_value(self.count), bound)

    def positives(self, joined: JoinedIds, name: str, rows: Tensor) -> Tensor:
        """The other view, and in variant D all views of the anchor's part."""
        label = joined.labels[name] if self.settings.same_part == "attract" else None
        return guided_positives(joined.slices, label, rows)

    def candidates(self, joined: JoinedIds, name: str, rows: Tensor) -> Tensor:
        """Positives and the views of other parts."""
        label = joined.labels[name]
        if label is None:
            raise RuntimeError(f"the part of each slice ({name}) was not joined")
        return self.positives(joined, name, rows) | apart(label, rows)

    def image_loss(
        self, name: str, logits: Tensor, positives: Tensor, candidates: Tensor, batch: PretrainBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Each positive against the negatives alone."""
        del name, batch
        return info_nce(logits, positives, candidates, denominator="pair_plus_neg"), {}

    def image_bounds(self, joined: JoinedIds, batch: PretrainBatch) -> tuple[float, float]:
        """log(1 + |N|) and log(1 + |N| e^{-2/τ}), as means over the slices of all ranks."""
        del batch
        rows = joined.first_views()
        masks = self.positives(joined, "position", rows), self.candidates(joined, "position", rows)
        return collapsed_value(*masks, "pair_plus_neg"), pair_lower_bound(*masks, self.temperature)


@contextmanager
def _asleep(module: nn.Module) -> Iterator[None]:
    """Run a module without gradient and with the statistics it has."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


def _first_local_step(config: GLCL.Config, total_steps: int) -> int:
    if config.global_share == 1:
        return total_steps
    # Neither stage is empty, unless there is but one step: decoder blocks that are left have been trained.
    return min(max(round(config.global_share * total_steps), 1), total_steps - 1)


def _map_size(network: UNetConfig, facts: DataFacts, blocks: int) -> tuple[int, int]:
    """(height, width) of the map after some decoder blocks."""
    stride = network.stride // 2**blocks
    return facts.image_size[0] // stride, facts.image_size[1] // stride


@dataclass(frozen=True)
class _Layout:
    """Regions of a slice, the side of each in pixels of the map, and the neighbours of each that are negatives."""

    regions: int
    window: int
    neighbours: int


def _layout(config: GLCL.Config, network: UNetConfig, facts: DataFacts) -> _Layout:
    """What the settings say, or what fits the map where they say nothing."""
    size = _map_size(network, facts, min(config.blocks, network.depth - 1))
    wanted = REGIONS if config.regions is None else (config.regions,)
    sides = WINDOWS if config.window is None else (config.window,)
    pairs = [(regions, window) for regions in wanted for window in sides]
    regions, window = next((pair for pair in pairs if local_regions.fits(ORDERS[pair[0]], size, pair[1])), pairs[0])
    return _Layout(regions, window, config.neighbours or min(NEIGHBOURS, regions - 1))


def _faults(config: GLCL.Config, network: UNetConfig, facts: DataFacts, layout: _Layout) -> list[Fault]:
    """What does not fit the data or the network."""
    faults = []
    parts = facts.meta_labels.get("position", 0)
    if parts < 2:
        problem = "GLCL needs the meta label position, which the data set lacks"
        if "position" in facts.meta_labels:
            problem = f"GLCL needs at least 2 parts of the slice axis (meta label position), not {parts}"
        remedy = "Prepare the data with at least 2 parts, or pre-train with method=simclr"
        faults.append(Fault(problem, "method", remedy))
    if config.global_share == 1:
        return faults
    if layout.neighbours >= layout.regions:
        most = layout.regions - 1
        problem = f"one of {layout.regions} regions has at most {most} neighbours, not {layout.neighbours}"
        faults.append(Fault(problem, "method.neighbours", f"Set it to at most {most}"))
    most = network.depth - 1
    if config.blocks > most:
        problem = f"a network of depth {network.depth} has {most} decoder blocks, not {config.blocks}"
        faults.append(Fault(problem, "method.blocks", f"Set it to at most {most}"))
        return faults
    size = _map_size(network, facts, config.blocks)
    try:
        local_regions.lattice(ORDERS[layout.regions], size, layout.window)
    except ValueError as error:
        remedy = "Set method.window=1, fewer method.regions or more method.blocks, or prepare larger images"
        faults.append(Fault(str(error), "method.regions", remedy))
    return faults
