"""How the encoder orders slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.store import PreparedStore
from fewlabel.reporting.blocks import Pictures, Section, Table, Text
from fewlabel.reporting.figures.embedding import embedding_figure
from fewlabel.reporting.formatting import number, percent
from fewlabel.scoring.embedding import PURITY_RULE, SILHOUETTE_RULE, Purity

TITLE = "What the encoder has learnt"
LEAD = (
    "Each dot is a training slice, placed by t-SNE so that slices the encoder finds similar lie close together. The "
    "same map is coloured by each meta label in turn. Distances between groups far apart mean nothing."
)
MISSING = "No embeddings: the run has no pre-trained encoder."
FEW = "Fewer than three slices were embedded, too few for a map."
OTHERS_ONLY = "For all labels but the patient, neighbours from the same patient are not counted: they are alike anyway."


@dataclass(frozen=True)
class LabelView:
    """One meta label over the embedded slices.

    Attributes:
        name: Of the label.
        codes: (n,) class of each slice, -1 where missing.
        names: Name of each class.
        ordered: Whether the classes follow each other.
        purity: Purity of neighbourhoods, or None where undefined.
        silhouette: Silhouette in [-1, 1], or None where undefined.
    """

    name: str
    codes: NDArray[np.int64]
    names: Sequence[str]
    ordered: bool
    purity: Purity | None
    silhouette: float | None


@dataclass(frozen=True)
class EmbeddingView:
    """Embedded slices: (n, 2) map, the labels over them, and how many slices there were to choose from."""

    points: NDArray[np.float64]
    labels: Sequence[LabelView]
    available: int


def embedding_section(view: EmbeddingView | None, *, used: Sequence[str]) -> Section:
    """Maps by meta label, with purity and silhouette.

    Args:
        view: The embedded slices; None without an encoder.
        used: Meta labels that guided pre-training.
    """
    if view is None:
        return Section("embeddings", TITLE, "", [Text(MISSING, "missing")])
    if len(view.points) < 3:
        return Section("embeddings", TITLE, "", [Text(FEW, "missing")])
    pictures = [
        embedding_figure(
            view.points,
            label.codes,
            label.names,
            title=label.name if label.name != "position" else "position along the slice axis",
            caption=_caption(label),
            ordered=label.ordered,
            summary=_caption(label),
        )
        for label in view.labels
    ]
    rows = [
        [
            label.name,
            "yes" if label.name in used else "no",
            str(len(np.unique(label.codes[label.codes >= 0]))),
            percent(label.purity.purity if label.purity else None),
            percent(label.purity.chance if label.purity else None),
            number(label.silhouette, 2, sign=True),
        ]
        for label in view.labels
    ]
    k = next((label.purity.k for label in view.labels if label.purity), 10)
    head = ["Meta label", "guided training", "classes", f"purity, k = {k}", "chance", "silhouette"]
    shown = (
        f"{len(view.points)} of {view.available} embedded slices are shown, drawn at random."
        if (len(view.points) < view.available)
        else f"All {view.available} embedded slices are shown."
    )
    rules = (
        f"{shown} {PURITY_RULE} {OTHERS_ONLY} {SILHOUETTE_RULE} Both are computed on the embeddings, not on the map."
    )
    table = Table(head, rows, "How pure are neighbourhoods?", frozenset(range(2, 6)))
    return Section("embeddings", TITLE, LEAD, [Pictures(pictures), table, Text(rules, "note")])


def class_names(store: PreparedStore, label: str) -> list[str]:
    """Names of a meta label's classes: patients, parts along the slice axis, or values of the metadata column.

    Args:
        store: The prepared scans.
        label: Name of the meta label.
    """
    classes = store.meta_labels[label]
    if label == "position":
        return [f"part {index + 1}" for index in range(classes)]
    if label == "patient":
        known = dict(zip(store.slices["meta_patient"].tolist(), store.slices["subject"].tolist(), strict=True))
        return [str(known.get(code, f"patient {code}")) for code in range(max(classes, max(known, default=-1) + 1))]
    for column in store.plan.get("columns", []):
        values = column.get("values")
        if column.get("name") == label and isinstance(values, list) and len(values) == classes:
            return [str(value) for value in values]
    return [f"{label} {index + 1}" for index in range(classes)]


def _caption(label: LabelView) -> str:
    if label.purity is None:
        return "Too few slices have this label to compute its purity."
    return (
        f"Neighbour purity {percent(label.purity.purity)}, chance {percent(label.purity.chance)}; "
        f"silhouette {number(label.silhouette, 2, sign=True)}."
    )
