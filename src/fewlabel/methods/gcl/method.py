"""GCL: contrastive learning guided by several meta labels at once, their gradients reconciled."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.gradients.aggregators import build_combiner
from fewlabel.gradients.combine import Combine, Combiner, MeanCombiner
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod
from fewlabel.methods.contrastive import SliceContrast, as_numbers
from fewlabel.methods.gcl.pixel_contrast import PixelContrast, PixelSettings
from fewlabel.methods.guiding_labels import AUTOMATIC, Labels, choose_labels
from fewlabel.nets.projection_heads import pixel_rows
from fewlabel.nets.unet import Tail, UNetConfig, UNetEncoder
from fewlabel.objectives.loss_terms import weighted_sum
from fewlabel.objectives.positives import same_id, two_views

OWN = "own choice; GCL does not say"
#: Positives of a pixel where the map has room for them: a quarter of 8x8 pixels.
POOL = 16


class GCL(SliceContrast):
    """Gradient-guided contrastive learning with multiple meta labels (arXiv 2309.08888, ACM MM 2023).

    For each meta label m the loss is L_img^m + λ L_pix^m (Eq. 1, 5, 6); their gradients on the encoder go through
    GradMitigator (Alg. 1, Eq. 3 and 4), those on the two heads are averaged, and the total is their mean (Eq. 9).
    GradFilter (Eq. 7 and 8) keeps, in each pixel's pool of positives, those with the smallest gradient norm at the
    encoder's last convolution, few at first and all at the end.

    The paper's ablation is reached by settings: ``labels=[] pixel=false`` is its base, which is ``simclr`` at this
    method's temperature (both run the same code, but ``simclr`` has 0.1 by default, and this method 0.5);
    ``labels=[position] pixel=false`` one label; ``combine=mean pixel=false`` all labels summed; ``pixel=false`` adds
    GradMitigator; ``labels=[] filter=false`` is base + pixel contrast, ``labels=[]`` with GradFilter; the default is
    the full method. A missing meta label makes a slice a class of its own. A merged data set is guided by the union
    of its labels; classes of different data sets must have different ids, as the store's have.

    Take it where there is metadata that means something for the anatomy.

    Example:
        >>> method = GCL(GCL.Config(labels=("patient", "position"), pace="root"), encoder, facts)
        >>> losses = method.losses(pretrain_batch)
        >>> list(losses.terms)
        ['patient', 'position']
        >>> losses.scalars["pool_size"]
        4.0
    """

    paper = "Gradient-guided contrastive learning, ACM MM 2023, arXiv 2309.08888"
    automatic: ClassVar[tuple[str, ...]] = AUTOMATIC

    class Config(PretrainMethod.Config):
        """Settings of GCL and of every row of its ablation."""

        name: Literal["gcl"] = "gcl"
        labels: Labels = setting(
            "auto",
            "meta labels that guide; auto takes those of patient, position, phase and quarter (of cines) that at least "
            "half of the slices have; [] for none",
            source="GCL, Fig. 2",
        )
        temperature: float = setting(
            0.5,
            "τ of both losses",
            gt=0,
            source="own choice within SimCLR's 0.1 to 0.5, see docs/explanation/gcl.md; GCL does not say",
        )
        dim: int = setting(128, "size of an embedding", ge=2, source="as SimCLR")
        centre: bool = setting(
            False,
            "end the image head with a batch normalisation without weights, so that embeddings share no mean",
            source="own choice, see docs/explanation/gcl.md; GCL does not say",
        )
        combine: Combine = setting(
            "mitigator",
            "how the labels' gradients become one on the encoder; no effect with one label",
            source="GCL Alg. 1; PCGrad 2001.06782, GradVac 2010.05874, MGDA 1810.04650, UPGrad 2406.16232",
        )
        granularity: Literal["tensor", "layer", "whole"] = setting(
            "tensor",
            "GradMitigator decides per parameter tensor, per layer or for the whole encoder",
            source="GCL Alg. 1",
        )
        beta: float = setting(
            0.01,
            "weight of the new cosine in the targets of GradMitigator and GradVac",
            gt=0,
            le=1,
            source="GradVac, arXiv 2010.05874",
        )
        initial_target: float = setting(
            0.0, "GradMitigator's targets at step 0", ge=-1, le=1, source="GradVac, arXiv 2010.05874"
        )
        pixel: bool = setting(True, "add the pixel-wise loss", source="GCL Eq. 5")
        pixel_weight: float = setting(1.0, "λ, weight of the pixel-wise loss", ge=0, source=OWN)
        pool: int | None = setting(
            None,
            "K, positives of a pixel before filtering; null for 16, or a quarter of the last map where that is less",
            unit="pixels",
            ge=1,
            source=OWN,
        )
        anchors: int = setting(
            16,
            "anchor pixels of an image; the cost of GradFilter is proportional to it",
            unit="pixels",
            ge=1,
            source=OWN,
        )
        partners: int = setting(1, "partner images of an anchor image per label", ge=1, source=OWN)
        pixel_denominator: Literal["one_positive", "all"] = setting(
            "one_positive", "what a pixel's positive is held against", source="GCL Eq. 5 with arXiv 2101.11939"
        )
        filter: bool = setting(True, "leave out positives with large gradients (GradFilter)", source="GCL Eq. 7")
        filter_path: Literal["anchor", "embedding"] = setting(
            "anchor",
            "whose gradient: the last convolution's through the anchor pixel, or the anchor's embedding's (Eq. 7)",
            source="GCL Eq. 7",
        )
        pace: Literal["linear", "root", "log", "exp", "constant"] = setting(
            "linear", "how the kept share of a pool grows over the run", source="GCL Eq. 8; curve: " + OWN
        )
        lambda0: float = setting(0.25, "share of a pool kept at step 0", gt=0, le=1, source=OWN)

    settings: Config

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:
        """Meta labels that the data lack, and a pool that leaves no negative."""
        faults: list[Fault] = []
        choose_labels(config.labels, cls.automatic, facts, faults, "GCL")
        pixels = map_pixels(network, facts)
        pool = fitting_pool(pixels) if config.pool is None else config.pool
        if config.pixel and pool >= pixels:
            faults.append(_too_large(pool, pixels, facts))
        return faults

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        self.refuse(config, encoder.config, facts)
        pixel = None
        labels = choose_labels(config.labels, self.automatic, facts, [], "GCL")
        pixels = map_pixels(encoder.config, facts)
        if config.pixel:
            pool = fitting_pool(pixels) if config.pool is None else config.pool
            pixel = PixelSettings(
                temperature=config.temperature,
                pool=pool,
                anchors=config.anchors,
                partners=config.partners,
                denominator=config.pixel_denominator,
                criterion=config.filter_path if config.filter else None,
                pace=config.pace,
                lambda0=config.lambda0,
            )
        super().__init__(
            config,
            encoder,
            facts,
            labels=labels,
            temperature=config.temperature,
            dim=config.dim,
            centred=config.centre,
        )
        channels = encoder.config.widths[-1]
        self.pixel_branch = None if pixel is None else PixelContrast(pixel, channels, config.dim, pixels)

    def combiner(self) -> Combiner:
        """For two labels or more ``combine``, by default GradMitigator; the plain mean otherwise."""
        settings = self.settings
        if len(self.labels) < 2:
            return MeanCombiner()
        return build_combiner(
            settings.combine,
            self.labels,
            granularity=settings.granularity,
            beta=settings.beta,
            initial_target=settings.initial_target,
        )

    def losses(self, batch: PretrainBatch) -> Losses:
        """One term per label, L_img + λ L_pix; see :class:`GCL`."""
        branch, weight = self.pixel_branch, self.settings.pixel_weight
        if branch is None:
            return super().losses(batch)
        keep = branch.kept(batch.step, batch.total_steps)
        images = torch.cat(batch.views)
        tail: Tail | None = None
        if branch.filters(batch.step, batch.total_steps):
            maps, tail = self.encoder.forward_with_tail(images)
        else:
            maps = self.encoder(images)
        rows = pixel_rows(maps[-1])
        image_map = self.image_head(rows).output
        image = self.contrast_images(image_map, batch)
        joined = image.joined
        pixels = branch.prepare(rows, image_map.detach(), tail, joined.mine, batch.generator, keep)
        same_slice = same_id(two_views(joined.slices), joined.mine)
        count = 2 * len(joined.slices)
        terms: dict[str, Tensor] = {}
        figures: dict[str, Tensor] = {}
        for name, term in image.terms.items():
            scores = torch.rand(count, count, generator=batch.generator).to(rows.device)[joined.mine]
            part = branch.loss(pixels, self.positives(joined, name, joined.mine), same_slice, scores)
            terms[name] = weighted_sum((1.0, term), (weight, part))
            figures |= {**image.figures[name], f"pixel/{name}": part}
        pool = {"pool_size": float(keep), "pool_kept": keep / branch.settings.pool}
        return Losses(
            terms,
            image.embeddings,
            image.collapsed + weight * branch.collapsed(),
            image.lower_bound + weight * branch.lower_bound(keep),
            as_numbers(figures) | pool,
        )


def map_pixels(network: UNetConfig, facts: DataFacts) -> int:
    """Pixels of the encoder's last map for the data's image size."""
    height, width = facts.image_size
    return (height // network.stride) * (width // network.stride)


def fitting_pool(pixels: int) -> int:
    """Positives of a pixel where none are set: 16, on a small map a quarter of it, at least 1.

    Args:
        pixels: Of the encoder's last map.
    """
    return max(min(POOL, pixels // 4), 1)


def _too_large(pool: int, pixels: int, facts: DataFacts) -> Fault:
    """The fault of a pool that leaves no negative."""
    size = "x".join(map(str, facts.image_size))
    problem = f"must be smaller than the encoder's last map, which has {pixels} pixels for {size} images, not {pool}"
    smaller = f"Set it to at most {fitting_pool(pixels)}" if pixels > 1 else "Lower network.depth"
    return Fault(problem, "method.pool", f"{smaller}, or set method.pixel=false")
