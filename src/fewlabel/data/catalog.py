"""The catalog: every scan of a data set, its subject, its label if it has one, and its typed metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fewlabel.core.errors import Fault

ColumnKind = Literal["categorical", "ordinal", "continuous"]
Value = str | int | float | None


@dataclass(frozen=True)
class Column:
    """One metadata column: its name, its kind and where it was found."""

    name: str
    kind: ColumnKind
    source: str = ""


@dataclass(frozen=True)
class Case:
    """One scan: a 2D or 3D image of one or more channels, all on one grid.

    Attributes:
        id: Unique in the data set and safe as a file name.
        subject: Who was scanned; scans of one subject never part in a split.
        images: One path per channel: of a file, an array in one (:mod:`fewlabel.data.io.hdf5_and_npz_arrays`), a
            frame of one, or a row of pictures (:mod:`fewlabel.data.io.composite_paths`).
        label: Mask, likewise, on the image's grid, or None: an unlabelled scan is a full member.
        metadata: Column name to value; None where it is missing.
        part: ``"test"`` or ``"validation"`` where the data set itself keeps the scan for that, else empty.
    """

    id: str
    subject: str
    images: tuple[Path, ...]
    label: Path | None = None
    metadata: Mapping[str, Value] = field(default_factory=dict)
    part: str = ""


@dataclass(frozen=True)
class Catalog:
    """A data set as read: cases sorted by id, metadata columns, label names (0 is background).

    ``notes`` are what the reader had to assume, one sentence each; ``check``, ``prepare`` and ``predict`` show them.
    ``known_equal`` are groups of subjects who are known to hold the same scan in the data set as it is published.
    ``faults`` are what keeps the data set from being used; scans that lack a file are among them, not among the cases.
    """

    name: str
    root: Path
    reader: str
    cases: tuple[Case, ...]
    columns: tuple[Column, ...] = ()
    label_names: Mapping[int, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ("image",)
    notes: tuple[str, ...] = ()
    known_equal: tuple[frozenset[str], ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects, sorted."""
        return tuple(sorted({case.subject for case in self.cases}))

    @property
    def labelled_subjects(self) -> tuple[str, ...]:
        """Subjects with at least one labelled scan, sorted."""
        return tuple(sorted({case.subject for case in self.cases if case.label is not None}))
