"""Point-level Region Contrast: points of one region of a slice attract across views, those of other regions repel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, Losses
from fewlabel.methods.momentum_encoder_and_queue import MomentumContrast, MomentumSettings, unit_rows
from fewlabel.methods.point_losses import affinity_loss, joined, region_loss, region_means
from fewlabel.methods.points import draw_points, foreign_keys
from fewlabel.nets.ema import EMAModel
from fewlabel.nets.projection_heads import PixelHead
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from fewlabel.objectives.contrastive import similarity_logits
from fewlabel.objectives.loss_terms import weighted_sum


class PointRC(MomentumContrast):
    """Point-level region contrast (Bai et al., CVPR 2022, arXiv 2202.04639), with all regions of its grid.

    A grid laid over the source slice gives the regions. In each view some random points of every region are read from
    the last map. The loss is ``w_i L_image + w_r L_region + w_a L_affinity``:

    * L_image is the loss of ``moco``, with a head and a queue of its own.
    * L_region: an anchor is a point of the first view by the trained network, keys are points of the second view by
      the twin. Positives are the keys of the same slice and region; each is held against the keys of the other regions
      of that slice and against keys of other slices, temperature τ.
    * L_affinity: over the keys of the same slice, the cross-entropy from the twin's softmax of similarities, centred
      and sharpened by τ_t, to the trained network's at τ_s. It corrects regions that do not follow the anatomy.

    What differs from the published code, and why:

    * Every region takes part, with all its points as anchors and as keys, as the paper has it. The code keeps one
      region of an image, so its negatives come from other images, and picks a point's key again by similarity.
    * Points are read bilinearly where the view's matrix puts them, with one convention for pixels throughout; the code
      mixes two that differ by half a cell. The elastic part of a view is not in the matrix: see
      :mod:`fewlabel.objectives.correspondence`; the error is small against a region.
    * The last map is read itself, not a map enlarged to 56x56 cells: reading between cells is that interpolation.
    * Keys of other slices are a random sample of the joined batch (``foreign``): all of them would make the cost
      quadratic in the batch. Of a slice that is in the batch twice, neither is a negative of the other.
    * The centre holds one number per region of the key, as the points of a region are exchangeable.
    * Regions of black background are kept: no threshold on standardised images tells them from dark tissue.
    * Queue, momentum and batch normalisation of keys are those of ``moco`` here.

    Take it where organs lie apart and have a fixed size.

    Example:
        >>> method = PointRC(PointRC.Config(grid=2, queue=64), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['views']
    """

    paper = "Bai et al., CVPR 2022, arXiv 2202.04639"

    class Config(MomentumSettings):
        """Settings of Point-level Region Contrast."""

        name: Literal["pointrc"] = "pointrc"
        grid: int = setting(4, "regions along each side of the source slice", ge=1, source="PointRC: 16 regions")
        drawn: int = setting(
            32, "points drawn in each region, for each view", unit="points", ge=1, source="code of PointRC"
        )
        points: int = setting(
            16,
            "points of a region kept: the first of those drawn that the view shows",
            unit="points",
            ge=1,
            source="PointRC",
        )
        foreign: int = setting(
            1024,
            "keys drawn from the joined batch as negatives for the other slices",
            unit="points",
            ge=0,
            source="own choice; PointRC takes all of the batch",
        )
        image_weight: float = setting(0.7, "w_i, weight of the image loss", ge=0, source="code of PointRC")
        region_weight: float = setting(0.3, "w_r, weight of the region loss", ge=0, source="code of PointRC")
        affinity_weight: float = setting(0.3, "w_a, weight of the affinity loss", ge=0, source="code of PointRC")
        teacher_start: float = setting(0.04, "τ_t of the twin's affinities at step 0", gt=0, source="code of PointRC")
        teacher_end: float = setting(0.07, "τ_t after its warm-up", gt=0, source="code of PointRC")
        teacher_warmup: float = setting(
            0.3,
            "share of the run over which τ_t goes linearly to its end",
            ge=0,
            le=1,
            source="code of PointRC: 30 of 100 epochs",
        )
        student_temperature: float = setting(
            0.1, "τ_s of the trained network's affinities", gt=0, source="code of PointRC"
        )
        centre_momentum: float = setting(
            0.9, "share of the old centre in an update", ge=0, le=1, source="code of PointRC, as DINO"
        )

    settings: Config
    centre: Tensor

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:  # noqa: ARG003
        """More points than are drawn, or nothing to learn from."""
        faults = []
        if config.points > config.drawn:
            problem = f"must be at most method.drawn={config.drawn}, not {config.points}"
            faults.append(Fault(problem, "method.points", f"Set it to at most {config.drawn}, or raise method.drawn"))
        if not (config.image_weight or config.region_weight or config.affinity_weight):
            problem = "image_weight, region_weight and affinity_weight are all 0, so there is nothing to learn from"
            faults.append(Fault(problem, "method.image_weight", "Raise one of them"))
        return faults

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        super().__init__(config, encoder, facts)
        self.point_head = PixelHead(encoder.config.widths[-1], config.dim)
        self.key_point_head = EMAModel(self.point_head)
        self.register_buffer("centre", torch.zeros(config.grid**2))
        self._seen: Tensor | None = None

    def losses(self, batch: PretrainBatch) -> Losses:
        """The weighted sum as one term; its parts are logged, with the twin's entropy, the affinity loss's bound."""
        settings = self.settings
        maps = self.maps(batch)
        image, embeddings = self.image_term(maps)
        # The twin sees the first views, too: its affinities are those between points of its own.
        teacher_map = self.key_encoder(batch.views[0])[-1]
        first, second = draw_points(batch, settings.grid, settings.drawn, settings.points)
        anchors = unit_rows(self.point_head, first.read(maps.queries))
        teacher = unit_rows(self.key_point_head, first.read(teacher_map))
        keys = unit_rows(self.key_point_head, second.read(maps.keys))
        foreign = foreign_keys(keys, second.real, maps.owners, maps.mine, settings.foreign, batch.generator)
        region, region_collapsed = region_loss(anchors, keys, first, second, foreign, settings.temperature)
        cosines = similarity_logits(teacher, keys, 1.0)
        affinity = affinity_loss(
            cosines,
            similarity_logits(anchors, keys, 1.0),
            first,
            second,
            self.centre,
            teacher_temperature(settings, batch.step, batch.total_steps),
            settings.student_temperature,
        )
        self._seen = region_means(cosines, first, second, self.centre)
        term = weighted_sum(
            (settings.image_weight, image), (settings.region_weight, region), (settings.affinity_weight, affinity.loss)
        )
        parts = {"image": image, "region": region, "affinity": affinity.loss, "teacher_entropy": affinity.entropy}
        parts["points_shown"] = second.real.float().mean()
        values = torch.stack([part.detach().float() for part in parts.values()]).tolist()
        losses = self.finished(term, embeddings, maps, dict(zip(parts, values, strict=True)))
        if losses.collapsed is None or losses.lower_bound is None:
            return losses
        region_at_collapse, affinity_at_collapse, entropy = joined(
            region_collapsed, affinity.collapsed, affinity.entropy
        )
        return replace(
            losses,
            collapsed=settings.image_weight * losses.collapsed
            + settings.region_weight * region_at_collapse
            + settings.affinity_weight * affinity_at_collapse,
            lower_bound=settings.image_weight * losses.lower_bound + settings.affinity_weight * entropy,
        )

    def after_step(self, step: int, total_steps: int) -> None:
        """As MoCo, for the point head too; then the centre moves towards the step's mean similarities."""
        super().after_step(step, total_steps)
        self.key_point_head.update(self.point_head, self.settings.momentum)
        if self._seen is not None:
            keep = self.settings.centre_momentum
            self.centre.mul_(keep).add_(self._seen.to(self.centre), alpha=1 - keep)
        self._seen = None


def teacher_temperature(config: PointRC.Config, step: int, total_steps: int) -> float:
    """τ_t at a step: from its start in a line to its end over the warm-up, then constant."""
    span = config.teacher_warmup * total_steps
    done = min(step / span, 1.0) if span > 0 else 1.0
    return config.teacher_start + (config.teacher_end - config.teacher_start) * done
