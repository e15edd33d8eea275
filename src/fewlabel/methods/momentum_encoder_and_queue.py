"""Contrast with a momentum encoder and a queue of past keys: what MoCo and DenseCL share."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from fewlabel.core.collective import gather, rank, world_size
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod, pooled
from fewlabel.methods.queue_contrast import Maps, QueueContrast
from fewlabel.nets.ema import EMAModel
from fewlabel.nets.memory_layout import channels_last_map
from fewlabel.nets.projection_heads import PixelHead
from fewlabel.nets.synchronised_batch_norm import BatchNorm
from fewlabel.nets.unet import UNetEncoder


class MomentumSettings(PretrainMethod.Config):
    """Settings of methods with a momentum encoder and a queue."""

    temperature: float = setting(0.2, "τ of the contrastive loss", gt=0, source="MoCo v2, arXiv 2003.04297")
    dim: int = setting(128, "size of an embedding", ge=2, source="MoCo")
    queue: int = setting(
        1024,
        "K, past keys kept as negatives; about one epoch, past keys of the anchor's own slice are left out",
        unit="slices",
        ge=1,
        source="MoCo: 65536 for 1.28 million images; brought down to about 1000 slices",
    )
    momentum: float = setting(
        0.99,
        "m, share of the old weights in an update of the key encoder",
        ge=0,
        le=1,
        source="MoCo: 0.999 for 200 epochs of ImageNet; a memory of 100 steps suits a few thousand",
    )
    key_groups: int = setting(
        4,
        "random groups of keys that are batch-normalised apart from each other; 1 for all keys together",
        ge=1,
        source="own choice, in place of MoCo's shuffle over 8 devices",
    )


class MomentumContrast(PretrainMethod):
    """Image term, momentum encoder and their bookkeeping.

    Queries are first views, keys second views. The twin's weights and the queues move in ``after_step``, so the logits
    of a step see the queue without the step's own keys, and a checkpoint between two steps holds everything.

    Batch normalisation of the key encoder: the twin keeps its own running statistics and normalises by the batch at
    hand. If queries and keys were normalised by one and the same batch, their common statistics would give the
    positive away; the published code shuffles keys over devices. Here keys go through in random groups, each
    normalised by itself (``key_groups``), drawn so that every rank holds an equal part of each.
    """

    def __init__(self, config: MomentumSettings, encoder: UNetEncoder, facts: DataFacts) -> None:
        super().__init__(config, encoder, facts)
        self.temperature = config.temperature
        self.momentum = config.momentum
        self.image_head = PixelHead(encoder.config.widths[-1], config.dim)
        self.image_contrast = QueueContrast(config.queue, config.dim, config.temperature)
        self.key_encoder = EMAModel(encoder)
        self.key_image_head = EMAModel(self.image_head)
        batch_norm = any(isinstance(module, BatchNorm) for module in encoder.modules())
        self.key_groups = config.key_groups if batch_norm else 1

    def embed(self, images: Tensor) -> Tensor:
        """The query embedding (n, dim) of slices (n, channels, height, width)."""
        return unit_rows(self.image_head, pooled(self.encoder(images)[-1])[:, None])[:, 0]

    def maps(self, batch: PretrainBatch) -> Maps:
        """Both encoders' last maps.

        Raises:
            SettingsError: If the groups of keys do not divide by the number of processes, or a group is too small for
                batch normalisation.
        """
        count = len(batch.slices)
        if world_size() > 1 and count % self.key_groups:
            problem = f"{self.key_groups} groups do not divide the {count} slices of each process evenly"
            fault = Fault(problem, "method.key_groups", f"Set it to a divisor of {count}")
            raise SettingsError("These settings do not fit the run:", [fault])
        views = batch.views[1]
        owners = gather(batch.slices.to(views.device))
        start = rank() * count
        groups = key_groups(len(owners), self.key_groups, batch.generator)[start : start + count]
        order = groups.argsort(stable=True).to(views.device)
        sizes = groups.bincount(minlength=self.key_groups).tolist()
        cells = math.prod(side // self.encoder.config.stride for side in views.shape[2:])
        if self.key_groups > 1 and 1 in sizes and cells == 1:
            problem = "a group of one slice with a map of one cell is too small for batch normalisation"
            fault = Fault(problem, "method.key_groups", "Set method.key_groups=1")
            raise SettingsError("These settings do not fit the run:", [fault])
        parts = [
            self.key_encoder(channels_last_map(views[rows]))[-1] for rows in torch.split(order, sizes) if len(rows)
        ]
        keys = torch.cat(parts)[order.argsort()]
        mine = torch.arange(start, start + count, device=owners.device)
        return Maps(self.encoder(batch.views[0])[-1], keys, owners, mine)

    def image_term(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Loss of the pooled maps, and the queries' embeddings (n, dim)."""
        queries = unit_rows(self.image_head, pooled(maps.queries)[:, None])
        keys = unit_rows(self.key_image_head, pooled(maps.keys)[:, None])
        return self.image_contrast.loss(queries, keys, keys[:, 0], maps), queries[:, 0]

    def finished(self, term: Tensor, embeddings: Tensor, maps: Maps, scalars: dict[str, float]) -> Losses:
        """Add what the value means: log(1 + negatives) at collapse, log(1 + negatives e^{-2/τ}) at best."""
        counts = self.image_contrast.negatives(maps.owners).sum(dim=1).double()
        bound = (counts * math.exp(-2 / self.temperature)).log1p().mean()
        more = {**scalars, "negatives": float(counts.mean())}
        return Losses({"views": term}, embeddings.detach(), float(counts.log1p().mean()), float(bound), more)

    def after_step(self, step: int, total_steps: int) -> None:  # noqa: ARG002
        """Move the twins, then let the step's keys into the queue."""
        self.key_encoder.update(self.encoder, self.momentum)
        self.key_image_head.update(self.image_head, self.momentum)
        self.image_contrast.push()


def key_groups(count: int, groups: int, generator: Generator) -> Tensor:
    """A random group for each of ``count`` rows, (count,) int64; nothing is drawn for one group.

    Of any ``groups`` rows that follow each other from a multiple of ``groups``, one goes into each, so ranks with a
    multiple of ``groups`` rows hold equally many of each.
    """
    if groups == 1:
        return torch.zeros(count, dtype=torch.int64)
    return torch.rand(math.ceil(count / groups), groups, generator=generator).argsort(dim=1).flatten()[:count]


def unit_rows(head: nn.Module, rows: Tensor) -> Tensor:
    """A head's output for rows (n, p, channels) as unit vectors (n, p, dim)."""
    return functional.normalize(full_precision(head(rows).output), dim=-1)
