"""PosiCL: slices at about the same height of their volumes attract, whoever's volumes they are."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import setting
from fewlabel.methods.base import DataFacts, PretrainMethod
from fewlabel.methods.contrastive import JoinedIds, SliceContrast
from fewlabel.nets.projection_heads import PooledHead
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from fewlabel.objectives.positives import close_positions


class PosiCL(SliceContrast):
    """Positional contrastive learning (PCL; Zeng et al., MICCAI 2021, arXiv 2106.09157).

    ``-1/|P(i)| Σ_{j∈P(i)} log( e^{z_i·z_j/τ} / Σ_{a≠i} e^{z_i·z_a/τ} )`` with P(i) the other view of slice i and every
    view whose height differs from that of i by less than t. Heights are (z + 1/2) / depth, z counted along the axis
    to which all volumes were oriented when the data were prepared.

    What differs: the public code compares heights only, so that t = 0 leaves no positive at all; it takes (z + 1) /
    depth, which gives the same pairs inside a volume and shifts volumes of unequal depth against each other; it
    multiplies the loss by τ/0.07, which rescales the learning rate. Its views cover rotations by any angle, which is
    a matter of ``augment`` here. Volumes that end at different places of the body get different heights for the same
    anatomy, as in the paper.

    Take it where slice position is all the metadata there is, and volumes cover the same part of the body in the same
    direction.

    Example:
        >>> method = PosiCL(PosiCL.Config(threshold=0.3), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['position']
    """

    paper = "Zeng et al., MICCAI 2021, arXiv 2106.09157"
    needs_metadata = ("position",)
    uses_heights: ClassVar[bool] = True

    class Config(PretrainMethod.Config):
        """Settings of PosiCL."""

        name: Literal["posicl"] = "posicl"
        threshold: float = setting(
            0.35,
            "t, slices are positives if their heights differ by less",
            unit="share of the volume's height",
            gt=0,
            source="code of PCL for ACDC; 0.1 there for the larger CHD",
        )
        temperature: float = setting(0.1, "τ of the contrastive loss", gt=0, source="code of PCL")
        dim: int = setting(512, "size of an embedding", ge=2, source="code of PCL")

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:  # noqa: ARG003
        """Data without heights."""
        if "position" in facts.meta_labels:
            return []
        others = ", ".join(facts.meta_labels) or "no meta label"
        problem = f"PosiCL needs the meta label position, and the data set has {others}"
        return [Fault(problem, "method", "Prepare the data again, or pre-train with method=simclr")]

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        super().__init__(
            config,
            encoder,
            facts,
            labels=("position",),
            temperature=config.temperature,
            dim=config.dim,
            image_head=PooledHead(encoder.config.widths[-1], config.dim),
        )
        self.threshold = config.threshold

    def positives(self, joined: JoinedIds, name: str, rows: Tensor) -> Tensor:
        """Views at about the anchor's height, and the anchor's other view."""
        if joined.heights is None:
            raise RuntimeError(f"the heights for {name} were not joined")
        return close_positions(joined.slices, joined.heights, self.threshold, rows)
