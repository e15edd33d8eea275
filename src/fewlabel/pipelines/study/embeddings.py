"""How the encoders of a study order slices by meta labels, over all encoders of an arm, and a map of the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.rng import numpy_stream
from fewlabel.data.store import PreparedStore
from fewlabel.engine.weight_matching import read_tensors
from fewlabel.pipelines.executors.jobs import JOBS
from fewlabel.pipelines.study.grid import LEAVES, Grid
from fewlabel.reporting.blocks import Picture
from fewlabel.reporting.figures.embedding import embedding_figure
from fewlabel.reporting.sections.embedding import class_names
from fewlabel.scoring.embedding import neighbour_purity, silhouette, tsne

#: Slices on a map, at most.
POINTS = 1000
FILE = "embeddings.safetensors"


class Embeddings:
    """The embeddings of finished encoders.

    Args:
        root: Folder of the study.
        grid: Its grid.
        labels: Meta labels that are looked at; those that a store lacks are left out.
    """

    def __init__(self, root: Path, grid: Grid, labels: Sequence[str]) -> None:
        self._root, self._grid, self._labels = root, grid, labels

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Arm → meta label → ``silhouette``, ``purity`` and ``chance``, each with mean and deviation over encoders."""
        found: dict[str, dict[str, Any]] = {}
        for arm in self._arms():
            figures: dict[str, dict[str, list[float]]] = {}
            for vectors, slices, store in self._of(arm):
                patients = slices["meta_patient"].to_numpy(np.int64)
                for label in self._there(store):
                    codes = slices[f"meta_{label}"].to_numpy(np.int64)
                    groups = None if label == "patient" else patients
                    purity, width = neighbour_purity(vectors, codes, groups=groups), silhouette(vectors, codes)
                    own = figures.setdefault(label, {"silhouette": [], "purity": [], "chance": []})
                    own["silhouette"] += [] if width is None else [width]
                    own["purity"] += [] if purity is None else [purity.purity]
                    own["chance"] += [] if purity is None else [purity.chance]
            if figures:
                found[arm] = {
                    label: {name: _spread(values) for name, values in own.items()} for label, own in figures.items()
                }
        return found

    def pictures(self) -> list[Picture]:
        """A map of the first encoder of each arm, coloured by the first meta label."""
        made = []
        for arm in self._arms():
            for vectors, slices, store in self._of(arm):
                names = self._there(store)
                if names and len(vectors) > 2:
                    codes = slices[f"meta_{names[0]}"].to_numpy(np.int64)
                    made.append(
                        embedding_figure(
                            tsne(vectors),
                            codes,
                            class_names(store, names[0]),
                            title=arm,
                            caption=f"Slices by {names[0]}, t-SNE of the embeddings of {arm}.",
                            ordered=names[0] == "position",
                            summary="",
                        )
                    )
                break
        return made

    def _arms(self) -> list[str]:
        return list(dict.fromkeys(cell.arm for cell in self._grid.cells)) if self._labels else []

    def _there(self, store: PreparedStore) -> list[str]:
        return [label for label in self._labels if label in store.meta_labels]

    def _of(self, arm: str) -> Iterator[tuple[NDArray[np.float64], Any, PreparedStore]]:
        """Vectors, their rows of the slice table, and the store, of each finished encoder of an arm."""
        for key in dict.fromkeys(cell.pretrain for cell in self._grid.cells if cell.arm == arm and cell.pretrain):
            encoder = Artifact.find(self._root / JOBS / key / LEAVES["pretrain"], "encoder")
            if encoder is None:
                continue
            tensors = {name: tensor.numpy() for name, tensor in encoder.once(FILE, read_tensors).items()}
            store = PreparedStore(self._grid.planned[key].store)
            vectors, indices = tensors["embeddings"].astype(np.float64), tensors["slices"].astype(np.int64)
            if len(indices) > POINTS:
                # The same slices of all encoders.
                kept = np.sort(numpy_stream(0, "study map").permutation(len(indices))[:POINTS])
                vectors, indices = vectors[kept], indices[kept]
            yield vectors, store.slices.iloc[indices], store


def _spread(values: Sequence[float]) -> dict[str, float | int | None]:
    return {
        "mean": fmean(values) if values else None,
        "std": stdev(values) if len(values) > 1 else None,
        "encoders": len(values),
    }
