"""Which parameter tensors a combiner decides on together, and figures of pairs of terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

Granularity = Literal["tensor", "layer", "whole"]

#: What the names of the encoder's parameters start with.
ENCODER = "encoder."


def parameter_groups(names: Sequence[str], like: Sequence[Tensor], granularity: Granularity) -> dict[str, list[int]]:
    """Group → indices of its tensors, in the order of the names.

    Parameters outside of the encoder (heads) are in no group; groups of fewer than two numbers, whose cosine is ±1, are
    left out.

    Args:
        names: Name of each parameter tensor.
        like: Tensors of the parameters' shapes.
        granularity: One group per ``tensor``, per ``layer`` (module), or for the ``whole``.
    """
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if name.startswith(ENCODER):
            layer = name.rpartition(".")[0]
            key = {"tensor": name, "layer": layer, "whole": ENCODER.rstrip(".")}[granularity]
            members.setdefault(key, []).append(index)
    return {key: indices for key, indices in members.items() if sum(like[index].numel() for index in indices) > 1}


def ordered_pairs(terms: Sequence[str]) -> list[tuple[int, int, str]]:
    """Every ordered pair of terms: their two indices and ``a|b``."""
    names = list(enumerate(terms))
    return [(a, b, f"{first}|{second}") for a, first in names for b, second in names if a != b]


def pair_means(terms: Sequence[str], tables: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Means over groups, ``name/a|b``, where at least one group counts.

    Args:
        terms: Names of the M terms.
        tables: Name → (K, M, M) values of K groups, and which of them count.
    """
    figures = {}
    for a, b, pair in ordered_pairs(terms):
        for name, (table, mask) in tables.items():
            if bool(mask[:, a, b].any()):
                figures[f"{name}/{pair}"] = float(table[:, a, b][mask[:, a, b]].mean())
    return figures
