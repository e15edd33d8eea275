"""Jigsaw: nine shuffled tiles of a slice are put in order, or embedded like the slice itself (PIRL)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.collective import gather, world_size
from fewlabel.core.errors import Fault
from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import DataFacts, Losses, PretrainMethod, pooled
from fewlabel.methods.jigsaw_tiles import TILES, TileGrid, permutation_set, random_orders, shuffled
from fewlabel.methods.memory_bank_contrast import Contrast, SlotContrast, lowest_cost
from fewlabel.methods.pretext import ClassHead, accuracy, watched_rows
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from fewlabel.objectives.loss_terms import weighted_sum
from fewlabel.objectives.two_view_order import own_rows

_PIRL = "Misra & van der Maaten, section 3"


class Jigsaw(PretrainMethod):
    """Jigsaw puzzles in two forms, by the setting ``form``.

    ``pirl``, the default because GCL's table cites it: pretext-invariant representations (Misra & van der Maaten, CVPR
    2020, arXiv 1912.01991). With the slot m of a slice, f of its first view and g of the shuffled tiles of its second,
    ``L = λ N(m, g) + (1-λ) N(m, f)``, ``N(m, v) = -log h(m, v) - Σ_n log(1 - h(m_n, v))``, h the softmax of
    similarities over τ among m and the negative slots m_n. f: pooled features, one linear layer. g: a linear layer per
    tile, the nine outputs joined in random order, a second one. m is a moving average of f. The paper's NCE is the
    default; ``contrast=info_nce`` keeps its first part alone, which is what the authors' public code trains with.

    ``permutation`` (Noroozi & Favaro, ECCV 2016, arXiv 1603.09246): tiles of both views are shuffled by one of P fixed
    permutations, and ``-log softmax(head([E(tile_1) .. E(tile_9)]))_p`` is minimised. The head has a centred hidden
    layer (own choice), so that chance is exactly log P.

    In both, tiles have gaps and a mean and variance of their own, or their borders and brightness would solve the
    puzzle. What differs: tiles are as large as the encoder's stride allows (see ``TileGrid``), not 64 pixels of 225;
    negatives are at most all other slices seen so far, not 32000; P is 100, not 1000. On a slice's first visit its slot
    is f of that very step, without gradient, as positive, as negative of others and in the memory, not a random vector,
    which in short runs would be noise in the place of most positives. The running statistics of the encoder's batch
    normalisations come from tiles too, in the permutation form from nothing else.

    Take it as a reference from natural images, where what lies where is less fixed than in a body.

    Example:
        >>> method = Jigsaw(Jigsaw.Config(form="permutation", permutations=10), encoder, facts)
        >>> list(method.losses(pretrain_batch).terms)
        ['permutation']
    """

    #: Permutations (P, 9) int64 of the permutation form.
    orders: Tensor

    paper = "Misra & van der Maaten, CVPR 2020, arXiv 1912.01991; Noroozi & Favaro, ECCV 2016, arXiv 1603.09246"

    class Config(PretrainMethod.Config):
        """Settings of jigsaw; those of the other form have no effect."""

        name: Literal["jigsaw"] = "jigsaw"
        form: Literal["pirl", "permutation"] = setting(
            "pirl", "embed tiles like their slice, or tell the permutation", source="GCL's table cites PIRL"
        )
        gap: float = setting(
            0.1,
            "smallest gap between tiles as a share of a cell",
            ge=0,
            lt=0.5,
            source="own choice; 11/75 on average in PIRL",
        )
        dim: int = setting(128, "size of a tile's embedding and of a slot", ge=2, source=_PIRL)
        permutations: int = setting(
            100,
            "P, classes of the permutation form",
            ge=2,
            le=1000,
            source="Noroozi & Favaro, at the scale of 1000 slices",
        )
        hidden: int = setting(512, "hidden width of the permutation form's head", ge=2, source="own choice")
        tiles_weight: float = setting(0.5, "λ, weight of the tiles' part of PIRL", ge=0, le=1, source=_PIRL)
        temperature: float = setting(0.07, "τ of PIRL", gt=0, source=_PIRL)
        negatives: int = setting(
            1024, "most negatives of PIRL per anchor", ge=1, source="PIRL: 32000, at the scale of 1000 slices"
        )
        momentum: float = setting(0.5, "share of the old vector in a slot's update", ge=0, lt=1, source=_PIRL)
        contrast: Contrast = setting("nce", "loss of PIRL against its slots", source="PIRL: NCE; its code: InfoNCE")

    settings: Config

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, facts: DataFacts) -> list[Fault]:
        """Images too small for nine tiles, or tiles too small to be normalised."""
        try:
            grid = TileGrid.fit(facts.image_size, network.stride, config.gap)
        except ValueError as error:
            size = "x".join(map(str, facts.image_size))
            problem = f"{size} images are too small for nine tiles at network.depth={network.depth}: {error}"
            return [Fault(problem, "network.depth", "Lower network.depth or method.gap, or prepare larger images")]
        if network.norm != "instance" or set(grid.out) != {network.stride}:
            return []
        tile = "x".join(map(str, grid.out))
        problem = f"instance normalisation needs tiles larger than one cell of the smallest map, not {tile} pixels"
        remedy = "Lower network.depth, set network.norm=batch, or prepare larger images"
        return [Fault(problem, "network.norm", remedy)]

    def __init__(self, config: Config, encoder: UNetEncoder, facts: DataFacts) -> None:
        super().__init__(config, encoder, facts)
        self.grid = TileGrid.fit(facts.image_size, encoder.config.stride, config.gap)
        channels = encoder.config.widths[-1]
        self.tile_head = nn.Linear(channels, config.dim)
        self._fresh: tuple[Tensor, Tensor] | None = None
        if config.form == "permutation":
            self.register_buffer("orders", torch.from_numpy(permutation_set(config.permutations).copy()))
            self.puzzle_head = ClassHead(TILES * config.dim, config.permutations, config.hidden)
        else:
            self.image_head = nn.Linear(channels, config.dim)
            self.joint_head = nn.Linear(TILES * config.dim, config.dim)
            self.slots = SlotContrast(
                facts.store_slices,
                facts.slices,
                dim=config.dim,
                momentum=config.momentum,
                temperature=config.temperature,
                negatives=config.negatives,
                contrast=config.contrast,
            )

    def losses(self, batch: PretrainBatch) -> Losses:
        """One term, ``permutation`` or ``pirl``; see :class:`Jigsaw`."""
        return self._puzzles(batch) if self.settings.form == "permutation" else self._invariance(batch)

    def after_step(self, step: int, total_steps: int) -> None:  # noqa: ARG002
        """Move the slots of the step's slices towards their embeddings."""
        if self._fresh is not None:
            self.slots.remember(*self._fresh)
            self._fresh = None

    def tile_features(self, tiles: Tensor) -> Tensor:
        """Pooled features (n, 9, channels) of tiles (n, 9, image channels, height, width)."""
        flat = tiles.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return pooled(self.encoder(flat)[-1]).view(len(tiles), TILES, -1)

    def tile_rows(self, features: Tensor) -> Tensor:
        """Embeddings of tiles (n, 9, channels), joined in their order: (n, 9 · dim) in full precision."""
        with torch.autocast(features.device.type, enabled=False):
            return torch.as_tensor(self.tile_head(features)).flatten(1)

    def embed_tiles(self, tiles: Tensor) -> Tensor:
        """g, unit vectors (n, dim) of shuffled tiles (n, 9, channels, height, width)."""
        rows = self.tile_rows(self.tile_features(tiles))
        with torch.autocast(rows.device.type, enabled=False):
            return functional.normalize(self.joint_head(rows), dim=1)

    def _puzzles(self, batch: PretrainBatch) -> Losses:
        images = torch.cat(batch.views)
        count = len(batch.slices)
        mine = own_rows(count)
        corners = self.grid.corners(len(images) * world_size(), batch.generator)[mine]
        drawn = torch.randint(len(self.orders), (len(images) * world_size(),), generator=batch.generator)
        classes = drawn[mine].to(images.device)
        features = self.tile_features(shuffled(self.grid.cut_tiles(images, corners), self.orders[classes]))
        scores = self.puzzle_head(self.tile_rows(features))
        loss = functional.cross_entropy(scores, classes)
        # The first tile's place differs between puzzles; a mean over all nine becomes equal where the task is solved.
        watched = watched_rows(features[:, 0])
        scalars = {"accuracy": accuracy(scores, classes)}
        return Losses({"permutation": loss}, watched, math.log(self.settings.permutations), 0.0, scalars)

    def _invariance(self, batch: PretrainBatch) -> Losses:
        settings = self.settings
        joined = gather(batch.slices)
        mine = own_rows(len(batch.slices), joined.device)[: len(batch.slices)]
        features = pooled(self.encoder(batch.views[0])[-1])
        with torch.autocast(features.device.type, enabled=False):
            whole = functional.normalize(self.image_head(full_precision(features)), dim=1)
        everyone = gather(whole.detach())
        slots = self.slots.seen(joined, everyone)
        negatives = self.slots.choose(joined, mine, batch.generator)
        image_part = self.slots.loss(whole, batch.slices, negatives, slots)
        parts = [(1 - settings.tiles_weight, image_part)]
        scalars = {"image": float(image_part.detach()), "negatives": float(negatives[0].sum())}
        if settings.tiles_weight > 0:
            corners = self.grid.corners(len(joined), batch.generator)[mine.cpu()]
            orders = random_orders(len(joined), batch.generator)[mine.cpu()]
            tiles = shuffled(self.grid.cut_tiles(batch.views[1], corners), orders)
            tile_part = self.slots.loss(self.embed_tiles(tiles), batch.slices, negatives, slots)
            parts.append((settings.tiles_weight, tile_part))
            scalars["tiles"] = float(tile_part.detach())
        self._fresh = (joined, everyone)
        bound = lowest_cost(int(scalars["negatives"]), settings.temperature, settings.contrast)
        # No collapse value: equal embeddings meet slots that may still differ.
        return Losses({"pirl": weighted_sum(*parts)}, watched_rows(features), None, bound, scalars)
