"""Which slices make a batch. Samplers keep no state: a batch is a function of the seed and the step."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.rng import numpy_stream
from fewlabel.core.settings.base import Settings, setting

Indices = NDArray[np.int64]


class SamplerConfig(Settings):
    """How pre-training batches are drawn."""

    kind: Literal["auto", "metadata", "slices"] = setting(
        "auto",
        "metadata: volumes × one slice per position part, so that every meta label has positives; slices: plain "
        "epochs; auto: metadata if the method uses any",
        source="GCL, meta labels; without, a slice's patient and neighbours would be false negatives",
    )
    paired: float = setting(
        0.5, "share of a batch's subjects that contribute two volumes (phases) where they have them", ge=0, le=1
    )
    resident_limit: float = setting(
        2.0, "slices up to this size are kept on the training device, else streamed from disk", unit="GiB", ge=0
    )

    def settled(self, *, metadata: bool) -> SamplerConfig:
        """These settings with ``kind`` instead of ``auto``: ``metadata`` if the method uses any, else ``slices``."""
        if self.kind != "auto":
            return self
        return self.model_copy(update={"kind": "metadata" if metadata else "slices"})


class SliceSampler:
    """All slices in random order, epoch after epoch; a batch that an epoch leaves incomplete takes from the next.

    Args:
        indices: Store indices to draw from.
        batch: Slices of the joined batch.
        seed: Seed of the order.

    Raises:
        DataError: If there is no slice.
    """

    def __init__(self, indices: Indices, batch: int, seed: int) -> None:
        self.indices = np.unique(np.asarray(indices, dtype=np.int64))
        self.batch_size = batch
        self.seed = seed
        if not len(self.indices):
            raise DataError("There is nothing to train on:", [_no_slices()])
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def batch(self, step: int) -> Indices:
        """Store indices of the joined batch of a step, from 0."""
        epochs, places = np.divmod(np.arange(step * self.batch_size, (step + 1) * self.batch_size), len(self.indices))
        return np.array([self._order(int(e))[p] for e, p in zip(epochs, places, strict=True)], dtype=np.int64)

    def _shuffled(self, epoch: int) -> Indices:
        return numpy_stream(self.seed, "slices", epoch).permutation(self.indices)


class MetaSampler:
    """Batches in which every meta label has positives beyond a slice's own views (GCL, meta labels).

    A batch takes P volumes and one random slice from each position part of each, so that a slice meets others of
    its patient and of its position; a set share of the subjects brings two volumes (cardiac phases). Every subject
    comes once per epoch, and its volumes take turns. Without positions the parts are drawn at random; volumes with
    fewer slices than parts and stores smaller than a batch are filled with further slices, repeated only when all
    have been used.

    Args:
        slices: Rows of the slice table to draw from, indexed by store index; columns ``case``, ``subject`` and, where
            known, ``meta_position``.
        batch: Slices of the joined batch.
        seed: Seed of every draw.
        paired: Share of a batch's subjects that bring two volumes where they have them.

    Raises:
        DataError: If there is no slice.
    """

    def __init__(self, slices: pd.DataFrame, batch: int, seed: int, *, paired: float = 0.5) -> None:
        if slices.empty:
            raise DataError("There is nothing to train on:", [_no_slices()])
        slices = slices.sort_index()
        self.indices: Indices = slices.index.to_numpy(dtype=np.int64)
        self.batch_size = batch
        self.seed = seed
        positions = slices.get("meta_position", pd.Series(-1, index=slices.index)).to_numpy(dtype=np.int64)
        known = np.unique(positions[positions >= 0])
        # Four parts as for known positions (GCL: 4 quantiles) where the data set has none.
        self._parts = len(known) if len(known) else 4
        self._position = np.where(positions < 0, -1, np.searchsorted(known, positions))
        rows = pd.Series(np.arange(len(slices)), index=slices.index)
        self._volumes: dict[str, list[Indices]] = {}
        for (subject, _), group in rows.groupby([slices["subject"], slices["case"]], sort=True):
            self._volumes.setdefault(str(subject), []).append(group.to_numpy(dtype=np.int64))
        self._subjects = sorted(self._volumes)
        self._plan(paired)
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def _plan(self, paired: float) -> None:
        """How many volumes and subjects make a batch."""
        volumes = [volume for group in self._volumes.values() for volume in group]
        per_volume = max(1, min(self._parts, int(np.median([len(volume) for volume in volumes]))))
        wanted = min(ceil(self.batch_size / per_volume), len(volumes))
        several = sum(len(group) > 1 for group in self._volumes.values()) / len(self._subjects)
        share = min(paired, several)
        self.volumes_per_batch = wanted
        self.subjects_per_batch = max(1, min(len(self._subjects), round(wanted / (1 + share))))

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which every subject was seen."""
        return ceil(len(self._subjects) / self.subjects_per_batch)

    def batch(self, step: int) -> Indices:
        """Store indices of the joined batch of a step, from 0."""
        epoch, part = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        first = part * self.subjects_per_batch
        # The last batch of an epoch is filled with subjects from the epoch's beginning.
        subjects = [order[place % len(order)] for place in range(first, first + self.subjects_per_batch)]
        generator = numpy_stream(self.seed, "slices of a batch", step)
        return self.indices[self._slices(self._chosen_volumes(subjects, epoch, generator), generator)]

    def _chosen_volumes(self, subjects: list[str], epoch: int, generator: np.random.Generator) -> list[Indices]:
        """One volume of each subject, then further ones of random subjects until the batch has its number."""
        turns = {}
        for subject in subjects:
            count = len(self._volumes[subject])
            offset = int(numpy_stream(self.seed, "first volume", subject).integers(count))
            apart = far_apart(count)
            turns[subject] = [self._volumes[subject][(offset + epoch + turn * apart) % count] for turn in range(count)]
        volumes = [turns[subject][0] for subject in subjects]
        shuffled = [subjects[place] for place in generator.permutation(len(subjects))]
        for turn in range(1, max(map(len, turns.values()))):
            volumes += [turns[subject][turn] for subject in shuffled if len(turns[subject]) > turn]
        return volumes[: max(self.volumes_per_batch, len(subjects))]

    def _slices(self, volumes: list[Indices], generator: np.random.Generator) -> Indices:
        """Rows of the table: round r takes the r-th random slice of each (volume, part) cell, parts in random order."""
        rounds: dict[int, list[int]] = {}
        for volume in volumes:
            parts = self._position[volume]
            unknown = parts < 0
            # Balanced random parts stand in for unknown ones.
            parts = np.where(unknown, generator.permutation(len(volume)) % self._parts, parts)
            for part in generator.permutation(self._parts):
                cell = generator.permutation(volume[parts == part])
                for turn, row in enumerate(cell):
                    rounds.setdefault(turn, []).append(int(row))
        rows = list(rounds[0])
        for turn in sorted(rounds)[1:]:
            rows += [rounds[turn][place] for place in generator.permutation(len(rounds[turn]))]
        return np.resize(np.array(rows, dtype=np.int64), self.batch_size)

    def _shuffled(self, epoch: int) -> list[str]:
        generator = numpy_stream(self.seed, "subjects", epoch)
        return [self._subjects[place] for place in generator.permutation(len(self._subjects))]


def far_apart(count: int) -> int:
    """How many volumes on a subject's next one is: about half of them, such that all have their turn.

    Neighbouring frames of a cine are nearly the same.

    Example:
        >>> [far_apart(count) for count in (1, 2, 3, 8, 30)]
        [1, 1, 1, 3, 13]
    """
    return next(step for step in range(max(count // 2, 1), 0, -1) if gcd(step, count) == 1)


def build_sampler(config: SamplerConfig, slices: pd.DataFrame, batch: int, seed: int) -> SliceSampler | MetaSampler:
    """The sampler that the settings name.

    Args:
        config: Settings, with ``auto`` settled.
        slices: Rows of the slice table to draw from, indexed by store index.
        batch: Slices of the joined batch.
        seed: Seed of every draw.

    Raises:
        DataError: If there is no slice.
        ValueError: If the kind is still ``auto``.
    """
    if config.kind == "auto":
        raise ValueError("what kind=auto means depends on the method: settle it first")
    if config.kind == "slices":
        return SliceSampler(slices.index.to_numpy(dtype=np.int64), batch, seed)
    return MetaSampler(slices, batch, seed, paired=config.paired)


def _no_slices() -> Fault:
    return Fault("training needs at least one slice, but there is none", "split", "Check the parts of split.json")
