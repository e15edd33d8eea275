"""Slice meta labels: what is known of every slice without annotation, as class codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.catalog import Case, Catalog, Column, Value

MISSING = -1
#: Labels that every data set has; a metadata column of that name does not become a slice label.
BUILT_IN = ("patient", "position")


def position_part(depth: int, parts: int) -> NDArray[np.int64]:
    """Part of the slice axis that each slice lies in: q(i) = min(parts - 1, floor(parts · i / depth)).

    Args:
        depth: Slices in the volume.
        parts: Number of parts (GCL, section "slice position"; 4 by default).
    """
    return np.minimum(parts - 1, parts * np.arange(depth) // depth).astype(np.int64)


def quantile_edges(columns: Sequence[Column], cases: Sequence[Case], bins: int) -> dict[str, tuple[float, ...]]:
    """Where classes of continuous columns meet: at the quantiles 1/bins, 2/bins and so on of the cases' values.

    A value on an edge belongs to the upper class. Edges that coincide, as where many values are equal, count once.

    Args:
        columns: Of the data set; others than continuous ones are passed over.
        cases: Those that may decide.
        bins: Classes of each column; below 2 for none.

    Returns:
        Column → edges in rising order; columns that cannot be parted are left out.
    """
    edges: dict[str, tuple[float, ...]] = {}
    for column in columns if bins > 1 else ():
        if column.kind != "continuous":
            continue
        known = [case.metadata.get(column.name) for case in cases]
        values = np.array([float(value) for value in known if value is not None])
        if not len(values):
            continue
        borders = np.unique(np.quantile(values, np.arange(1, bins) / bins))
        # An edge at the lowest value would leave nothing below it.
        inner = tuple(float(f"{edge:.6g}") for edge in borders if edge > values.min())
        if inner:
            edges[column.name] = inner
    return edges


def edges_of(records: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, ...]]:
    """Column → edges of its classes, from the records of a plan."""
    return {str(record["name"]): tuple(record["edges"]) for record in records if "edges" in record}


def case_codes(
    catalog: Catalog, edges: Mapping[str, Sequence[float]] | None = None
) -> tuple[dict[str, list[int]], list[dict[str, Any]], list[str]]:
    """Codes that all slices of a case share: the patient and every categorical or few-valued ordinal column.

    Codes follow the sorted values; a missing value is -1. A column with fewer than two values tells nothing and is
    left out, with a note. A continuous column is parted at its edges.

    Args:
        catalog: The data set.
        edges: As :func:`quantile_edges` has them.

    Returns:
        Label → code per case in catalog order; the record of every metadata column (``name``, ``kind``, ``source``,
        and for a slice label ``values`` in order of their codes, with ``edges`` where it was parted); notes.
    """
    edges = edges or {}
    codes = {"patient": _codes([case.subject for case in catalog.cases])[0]}
    records: list[dict[str, Any]] = []
    notes: list[str] = []
    for column in catalog.columns:
        record: dict[str, Any] = {"name": column.name, "kind": column.kind, "source": column.source}
        records.append(record)
        cells = [case.metadata.get(column.name) for case in catalog.cases]
        if column.kind != "continuous":
            column_codes, values = _codes(cells)
        elif column.name in edges:
            column_codes, values = _parted(cells, edges[column.name])
            record["edges"] = list(edges[column.name])
        else:
            continue
        if len(values) < 2:
            notes.append(f"column {column.name} has only one value and is not used as a slice label")
        elif column.name in BUILT_IN:
            notes.append(f"column {column.name} has the name of a built-in slice label and is not used as one")
        else:
            codes[column.name] = column_codes
            record["values"] = values
    return codes, records, notes


def slice_table(
    catalog: Catalog, depths: Sequence[int], parts: int, edges: Mapping[str, Sequence[float]] | None = None
) -> tuple[dict[str, Any], dict[str, int]]:
    """The columns of ``slices.parquet`` and the classes of each meta label.

    Args:
        catalog: The data set.
        depths: Slices of each case, in catalog order.
        parts: Parts along the slice axis.
        edges: Of continuous columns, as :func:`quantile_edges` has them.
    """
    counts = np.asarray(depths, dtype=np.int64)
    height = [np.arange(depth) for depth in depths]
    z = np.concatenate(height) if height else np.zeros(0, dtype=np.int64)
    depth = np.repeat(counts, counts)
    codes, _, _ = case_codes(catalog, edges)
    table: dict[str, Any] = {
        "case": np.repeat([case.id for case in catalog.cases], counts),
        "subject": np.repeat([case.subject for case in catalog.cases], counts),
        "z": z.astype(np.int32),
        "depth": depth.astype(np.int32),
        "height_fraction": ((z + 0.5) / depth).astype(np.float32),
        "labelled": np.repeat([case.label is not None for case in catalog.cases], counts),
    }
    meta = {"patient": codes.pop("patient")}
    classes = {"patient": len(catalog.subjects), "position": parts}
    table["meta_patient"] = np.repeat(np.asarray(meta["patient"], dtype=np.int32), counts)
    table["meta_position"] = np.concatenate([position_part(n, parts) for n in depths]).astype(np.int32)
    for name, values in codes.items():
        table[f"meta_{name}"] = np.repeat(np.asarray(values, dtype=np.int32), counts)
        classes[name] = max(values) + 1
    return table, classes


def _codes(values: Sequence[Value]) -> tuple[list[int], list[Value]]:
    present = sorted({value for value in values if value is not None}, key=_sort_key)
    index: Mapping[Value, int] = {value: code for code, value in enumerate(present)}
    return [MISSING if value is None else index[value] for value in values], list(present)


def _parted(values: Sequence[Value], edges: Sequence[float]) -> tuple[list[int], list[Value]]:
    """Class of each value between edges, and what the classes are called."""
    codes = [MISSING if value is None else int(np.searchsorted(edges, float(value), side="right")) for value in values]
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return codes, [f"below {edges[0]:g}", *inner, f"{edges[-1]:g} or more"]


def _sort_key(value: Value) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))
