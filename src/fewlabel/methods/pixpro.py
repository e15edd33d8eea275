"""PixPro: cells that show the same place in two views agree, one of them smoothed over cells that resemble it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod
from fewlabel.nets.ema import EMAModel, bias_corrected, cosine_momentum
from fewlabel.nets.projection_heads import pixel_rows
from fewlabel.nets.synchronised_batch_norm import BatchNorm
from fewlabel.nets.unet import UNetEncoder
from fewlabel.objectives.contrastive import anchor_mean, similarity_logits
from fewlabel.objectives.correspondence import matched_cells


class PixPro(PretrainMethod):
    """Pixel-to-propagation consistency (Xie et al., CVPR 2021, arXiv 2011.10043, Eq. 1 and 3 to 5).

    For cells i of one view and j of the other in the set A of pairs whose places on the slice are nearer than T
    diagonals of the larger cell, the loss of a slice is the mean over A of ``-cos(y_i, x'_j)``, over both directions.
    x is the projected map, x' that of the momentum twin, and y the propagated map
    ``y_i = Σ_j max(cos(x_i, x_j), 0)^γ g(x_j)`` over all cells j of its own view. There are no negatives.

    What differs from the published code, and why:

    * Slices without any pair are left out of the mean over slices. The code counts them as 0, which weights a batch by
      how many of its views overlap. Cells that show padding are in no pair.
    * The mean of the two directions, not twice their sum: the loss lies in [-1, 1].
    * Places come from the views' matrices, so views may be turned. The elastic part of a view is not in them; see
      :mod:`fewlabel.objectives.correspondence` for the small error this makes at the encoder's stride.
    * The instance branch, off by default as in the code, pools the whole map, not a window of 7x7 cells.
    * Both views go through each encoder together, so they are batch-normalised by common statistics; without
      negatives there is nothing that these could give away.
    * The twin's momentum is never above 1 - 1/(t+1) at step t: it is the plain mean of the weights after each step
      until the cosine of the code is lower. With that cosine alone, 0.99 at first, a run of a few hundred steps would
      keep a share of the random start in the twin.
    * Narrower heads; optimiser, batch, length and crops are the pre-training stage's.

    The smallest value, -1, is also reached by a map that is the same everywhere: watch ``pixel_spread``, which is then
    0, and not the loss.

    Take it where slices are so few and alike that negatives do harm.

    Example:
        >>> method = PixPro(PixPro.Config(threshold=0.5), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['pixels']
    """

    paper = "Xie et al., CVPR 2021, arXiv 2011.10043"

    class Config(PretrainMethod.Config):
        """Settings of PixPro."""

        name: Literal["pixpro"] = "pixpro"
        threshold: float = setting(
            0.7,
            "T, largest distance of a pair; below 0.71 equal views pair a cell with itself alone",
            unit="diagonals of the larger cell",
            gt=0,
            source="PixPro, section 3.1",
        )
        gamma: float = setting(
            2.0, "γ, how much more a similar cell counts in the propagation", ge=1, source="PixPro, Eq. 4"
        )
        hidden: int = setting(512, "hidden width of the heads", ge=2, source="PixPro: 4096 for 2048 channels; here 512")
        dim: int = setting(256, "size of an embedding", ge=2, source="PixPro")
        momentum: float = setting(
            0.99,
            "m at the start, share of the old weights in the twin; 1 at the end, and never above 1 - 1/(step + 1)",
            ge=0,
            le=1,
            source="PixPro; the limit: own choice, as in Mean Teacher",
        )
        instance_weight: float = setting(
            0.0, "weight of the agreement of whole slices; 0 leaves it out", ge=0, source="code of PixPro: off"
        )

    settings: Config

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        super().__init__(config, encoder, facts)
        channels, hidden, dim = encoder.config.widths[-1], config.hidden, config.dim
        self.projector = projector(channels, hidden, dim)
        self.transform = nn.Linear(dim, dim)
        self.key_encoder = EMAModel(encoder)
        self.key_projector = EMAModel(self.projector)
        if config.instance_weight > 0:
            self.instance_projector = projector(channels, hidden, dim)
            self.predictor = projector(dim, hidden, dim)
            self.key_instance_projector = EMAModel(self.instance_projector)

    def embed(self, images: Tensor) -> Tensor:
        """Mean of the projected map, as unit vectors (n, dim), of slices (n, channels, height, width)."""
        return _mean_direction(self._cells(self.projector, self.encoder(images)[-1]))

    def losses(self, batch: PretrainBatch) -> Losses:
        """The one term; embeddings are the mean projected vectors of both views."""
        images = torch.cat(batch.views)
        features, key_features = self.encoder(images)[-1], self.key_encoder(images)[-1]
        projected = self._cells(self.projector, features)
        keys = functional.normalize(self._cells(self.key_projector, key_features), dim=-1)
        height, width = features.shape[-2:]
        pairs = matched_cells(*batch.matrices, (height, width), _size(images), self.settings.threshold)
        propagated = propagate(projected, self.transform, self.settings.gamma)
        term = pixels = consistency(propagated, keys, pairs)
        counts = pairs.sum(dim=(1, 2)).float()
        figures = {
            "pairs": counts.mean() / (height * width),
            "paired": (counts > 0).float().mean(),
            "pixel_spread": _spread(projected.detach()),
        }
        weight = self.settings.instance_weight
        if weight > 0:
            instance = self._instance(features, key_features)
            term = pixels + weight * instance
            figures |= {"pixels": pixels.detach(), "instance": instance.detach()}
        scalars = dict(zip(figures, torch.stack([value.float() for value in figures.values()]).tolist(), strict=True))
        return Losses({"pixels": term}, _mean_direction(projected).detach(), None, -1 - weight, scalars)

    def _instance(self, features: Tensor, key_features: Tensor) -> Tensor:
        """Minus the cosine of a view's prediction and the twin's projection of the slice's other view, in the mean."""
        queries = self._cells(self.predictor, self.instance_projector(_pooled(features)))[:, 0]
        keys = self._cells(self.key_instance_projector, _pooled(key_features))[:, 0]
        cosines = functional.cosine_similarity(queries, swap_views(keys), dim=1)
        return -cosines.mean()

    def _cells(self, head: nn.Module, features: Tensor) -> Tensor:
        """A head's map as rows (n, cells, dim) in full precision."""
        return full_precision(pixel_rows(head(features)))

    def after_step(self, step: int, total_steps: int) -> None:
        """Move the twins: first to the mean of all weights so far, then with a momentum that rises over the run."""
        momentum = bias_corrected(cosine_momentum(self.settings.momentum, step, total_steps), step)
        self.key_encoder.update(self.encoder, momentum)
        self.key_projector.update(self.projector, momentum)
        if self.settings.instance_weight > 0:
            self.key_instance_projector.update(self.instance_projector, momentum)


def projector(channels: int, hidden: int, dim: int) -> nn.Sequential:
    """1x1 convolution, batch normalisation, ReLU, 1x1 convolution (PixPro, section 3.2)."""
    return nn.Sequential(
        # A bias before a normalisation would have a pure-noise gradient.
        nn.Conv2d(channels, hidden, 1, bias=False),
        BatchNorm(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, dim, 1),
    )


def propagate(rows: Tensor, transform: nn.Module, gamma: float) -> Tensor:
    """Directions of y_i = Σ_j max(cos(x_i, x_j), 0)^γ g(x_j) (PixPro, Eq. 3 and 4).

    Args:
        rows: (n, cells, dim) projected map x, full precision.
        transform: g, on the last axis.
        gamma: γ, at least 1; below, the gradient at 0 would be infinite.

    Returns:
        (n, cells, dim) unit vectors.
    """
    unit = functional.normalize(rows, dim=-1)
    weights = similarity_logits(unit, unit, 1.0).clamp_min(0) ** gamma
    values = full_precision(transform(rows))
    with torch.autocast(rows.device.type, enabled=False):
        return functional.normalize(weights @ values, dim=-1)


def consistency(queries: Tensor, keys: Tensor, pairs: Tensor) -> Tensor:
    """Minus the mean cosine of pairs: over a slice's pairs, then over both directions and slices (PixPro, Eq. 5).

    Args:
        queries: (2n, cells, dim) unit vectors y of the first views, then of the second.
        keys: (2n, cells, dim) unit vectors x' in the same order.
        pairs: (n, cells of the first view, cells of the second) bool.

    Returns:
        This rank's share of the joined mean over slices with a pair; 0 with a usable graph if there is none.
    """
    both = torch.cat([pairs, pairs.transpose(1, 2)])
    cosines = similarity_logits(queries, swap_views(keys), 1.0)
    count = both.sum(dim=(1, 2))
    means = cosines.masked_fill(~both, 0).sum(dim=(1, 2)) / count.clamp_min(1)
    return -anchor_mean(means, count > 0)


def swap_views(rows: Tensor) -> Tensor:
    """Rows (2n, ...) of first and second views, the second first."""
    return torch.cat(rows.chunk(2)[::-1])


def _mean_direction(rows: Tensor) -> Tensor:
    return functional.normalize(rows.mean(dim=1), dim=-1)


def _pooled(features: Tensor) -> Tensor:
    """A map's mean over space as a map of one cell, full precision."""
    return full_precision(features).mean(dim=(2, 3), keepdim=True)


def _spread(rows: Tensor) -> Tensor:
    """1 - ‖mean‖² of the directions of all cells: 0 if all point the same way."""
    return 1 - functional.normalize(rows, dim=-1).mean(dim=(0, 1)).square().sum()


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]
