"""GCL: contrastive learning guided by several meta labels at once, their gradients reconciled."""

from __future__ import annotations

from typing import ClassVar, Literal

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.settings.config import setting
from fewlabel.gradients.aggregators import build_combiner
from fewlabel.gradients.combine import Combine, Combiner, MeanCombiner
from fewlabel.methods.base import DataFacts, PretrainMethod
from fewlabel.methods.guided import AUTOMATIC, GuidedContrast, Labels, choose_labels, map_pixels
from fewlabel.methods.pixels import PixelSettings
from fewlabel.nets.unet import UNetEncoder

OWN = "own choice; GCL does not say"
#: Positives of a pixel where the map has room for them: a quarter of 8x8 pixels.
POOL = 16


class GCL(GuidedContrast):
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
    """

    paper = "Gradient-guided contrastive learning, ACM MM 2023, arXiv 2309.08888"
    automatic: ClassVar[tuple[str, ...]] = AUTOMATIC

    class Config(PretrainMethod.Config):
        """Settings of GCL and of every row of its ablation."""

        name: Literal["gcl"] = "gcl"
        labels: Labels = setting(
            "auto",
            "meta labels that guide; auto takes those of patient, position and phase that the data have; [] for none",
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
        max_gain: float | None = setting(
            None, "largest amplification of a gradient by one modification; null for no limit", ge=1, source=OWN
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
        filter_path: Literal["anchor", "pair", "embedding"] = setting(
            "anchor",
            "whose gradient: last convolution through the anchor, through both pixels, or the embedding's (Eq. 7)",
            source="GCL Eq. 7",
        )
        pace: Literal["linear", "root", "log", "exp", "constant"] = setting(
            "linear", "how the kept share of a pool grows over the run", source="GCL Eq. 8; curve: " + OWN
        )
        lambda0: float = setting(0.25, "share of a pool kept at step 0", gt=0, le=1, source=OWN)

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        pixel = None
        faults: list[Fault] = []
        labels = choose_labels(config.labels, self.automatic, facts, faults, "GCL")
        if config.pixel:
            pixels = map_pixels(encoder, facts)
            pool = fitting_pool(pixels) if config.pool is None else config.pool
            if pool >= pixels:
                faults.append(_too_large(pool, pixels, facts))
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
        if faults:
            raise SettingsError("These settings do not fit the data:", faults)
        super().__init__(
            config,
            encoder,
            facts,
            labels=labels,
            temperature=config.temperature,
            dim=config.dim,
            pixel=pixel,
            pixel_weight=config.pixel_weight,
            centred=config.centre,
        )
        self.settings = config

    def combiner(self) -> Combiner:
        """For two labels or more ``combine``, by default GradMitigator; the plain mean otherwise."""
        chosen = self.settings
        if len(self.labels) < 2:
            return MeanCombiner()
        return build_combiner(
            chosen.combine,
            self.labels,
            granularity=chosen.granularity,
            beta=chosen.beta,
            initial_target=chosen.initial_target,
            max_gain=chosen.max_gain,
        )


def fitting_pool(pixels: int) -> int:
    """Positives of a pixel where none are set: 16, on a small map a quarter of it, at least 1.

    Args:
        pixels: Of the encoder's last map.
    """
    return max(min(POOL, pixels // 4), 1)


def _too_large(pool: int, pixels: int, facts: DataFacts) -> Fault:
    """What is told of a pool that leaves no negative."""
    size = "x".join(map(str, facts.image_size))
    rule = f"a pool must be smaller than the encoder's last map, {pixels} pixels for {size} images"
    smaller = f"set method.pool to at most {fitting_pool(pixels)}" if pixels > 1 else "lower network.depth"
    return Fault.of(rule, str(pool), "method.pool", f"{smaller}, or set method.pixel=false")
