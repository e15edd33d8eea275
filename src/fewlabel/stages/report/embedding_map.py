"""The map of an encoder's embeddings, as a report shows it."""

from __future__ import annotations

import numpy as np

from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.rng import numpy_stream, stream_seed
from fewlabel.engine.weight_matching import read_tensors
from fewlabel.reporting.inputs import Inputs
from fewlabel.reporting.sections.embedding import EmbeddingView, LabelView, class_names
from fewlabel.scoring.embedding import neighbour_purity, silhouette, tsne
from fewlabel.stages.report.settings import ReportSettings

EMBEDDINGS = "embeddings.safetensors"


def embedding_view(inputs: Inputs, settings: ReportSettings) -> EmbeddingView | None:
    """The map of the encoder's embeddings and what its meta labels make of them."""
    if inputs.encoder is None or inputs.store is None:
        return None
    tensors = {
        name: array.numpy() for name, array in inputs.artifacts["encoder"].once(EMBEDDINGS, read_tensors).items()
    }
    if not tensors.keys() >= {"embeddings", "slices"}:
        path, held = inputs.encoder.folder / EMBEDDINGS, ", ".join(tensors) or "nothing"
        fault = Fault(f"{path} must hold embeddings and slices, not {held}", remedy="Make the encoder again")
        raise ArtifactError("An artifact is damaged:", [fault])
    embeddings, indices = tensors["embeddings"], tensors["slices"].astype(np.int64)
    available = len(indices)
    if available > settings.points:
        shown = np.sort(numpy_stream(settings.seed, "map").permutation(available)[: settings.points])
        embeddings, indices = embeddings[shown], indices[shown]
    if available < 3:
        return EmbeddingView(np.zeros((available, 2)), [], available)
    points = tsne(embeddings, seed=stream_seed(settings.seed, "t-SNE") % 2**32, perplexity=settings.perplexity)
    slices, store = inputs.store.slices.iloc[indices], inputs.store
    patients = slices["meta_patient"].to_numpy(np.int64)
    labels = []
    # Position first, as the guide that matters most; the patient, with the most classes, last.
    for name in sorted(store.meta_labels, key=lambda name: (name == "patient", name != "position")):
        codes = slices[f"meta_{name}"].to_numpy(np.int64)
        groups = None if name == "patient" else patients
        labels.append(
            LabelView(
                name=name,
                codes=codes,
                names=class_names(store, name),
                ordered=name == "position",
                purity=neighbour_purity(embeddings, codes, k=settings.neighbours, groups=groups),
                silhouette=silhouette(embeddings, codes),
            )
        )
    return EmbeddingView(points, labels, available)
