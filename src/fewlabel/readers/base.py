"""The contract of a reader."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.registry import load_plugin, plugin_names
from fewlabel.core.settings.config import Settings, resolve_plugin
from fewlabel.data.catalog import Catalog
from fewlabel.data.checking import catalog_faults


@dataclass(frozen=True)
class Match:
    """How well a path fits a reader's convention: a score in [0, 1] and the reasons for and against it."""

    score: float
    reasons: tuple[str, ...] = ()


class Reader(ABC):
    """Turns one convention of laying out scans into a :class:`Catalog`.

    Subclasses name their source convention in the docstring. Nothing of the pixel data is read here.
    """

    class Config(Settings):
        """Settings of a reader; ``name`` is its id."""

        name: str = ""

    #: One line for ``fewlabel readers``.
    summary: ClassVar[str] = ""
    #: Settings that concern labels alone: of no use where images are read to be segmented.
    label_settings: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    @abstractmethod
    def match(cls, root: Path) -> Match:
        """How well ``root`` fits, by looking at names only; cheap."""

    @abstractmethod
    def read(self, root: Path) -> Catalog:
        """The catalog of ``root``.

        Raises:
            DataError: With every fault found: file, rule and remedy.
        """


PLUGIN_BASE = Reader

_FAMILY = "fewlabel.readers"
_LOWEST = 0.5
_APART = 0.1


@dataclass(frozen=True)
class Choice:
    """The reader that was chosen for a path, and why."""

    name: str
    reader: Reader
    match: Match


def choose_reader(root: Path, reader: str | Mapping[str, Any] = "auto") -> Choice:
    """The reader whose convention a path follows.

    Args:
        root: A folder or file.
        reader: ``auto``, a reader's id, or a mapping with ``name`` and that reader's settings. Anything but ``auto``
            is taken without asking for a score.

    Raises:
        DataError: If the path does not exist, no reader scores 0.5, or the two best are within 0.1; it names the
            readers that were tried, with their reasons.
        SettingsError: If the reader or one of its settings is unknown.
    """
    root = Path(root)
    if not root.exists():
        raise DataError("The data set cannot be read:", [Fault(f"{root} does not exist", remedy="Check the path")])
    if reader != "auto":
        config: Any = resolve_plugin(_FAMILY, reader, where="reader")
        # A Config built from a mapping carries the reader's id; a bare id needs no settings.
        name = reader if isinstance(reader, str) else str(reader["name"])
        kind = load_plugin(_FAMILY, name, where="reader")
        match: Match = kind.match(root)
        return Choice(name, kind(config), Match(match.score, ("chosen by the user", *match.reasons)))
    matches = {name: load_plugin(_FAMILY, name).match(root) for name in plugin_names(_FAMILY)}
    ranked = sorted(matches, key=lambda name: (-matches[name].score, name))
    best = ranked[0]
    if matches[best].score < _LOWEST:
        tried = ", ".join(f"{name} ({_reasons(matches[name])})" for name in ranked)
        fault = Fault(f"Unknown layout. Tried {tried}", remedy="Choose a reader with reader=NAME")
        raise DataError(f"No reader understands {root}:", [fault])
    rivals = [name for name in ranked[1:] if matches[best].score - matches[name].score < _APART - 1e-9]
    if rivals:
        fitting = ", ".join(
            f"{name} (score {matches[name].score:.2f}: {_reasons(matches[name])})" for name in (best, *rivals)
        )
        fault = Fault(f"No reader fits clearly best. These do: {fitting}", remedy=f"Choose one, such as reader={best}")
        raise DataError(f"Several readers understand {root}:", [fault])
    return Choice(best, load_plugin(_FAMILY, best)(resolve_plugin(_FAMILY, best)), matches[best])


def read_catalog(root: Path, reader: str | Mapping[str, Any] = "auto") -> tuple[Choice, Catalog]:
    """Choose a reader and read the catalog, with absolute paths.

    Raises:
        DataError: If no reader fits, the reader finds faults, the catalog is empty, or case ids are not unique.
    """
    place = Path(os.path.abspath(root))  # noqa: PTH100  # Path.absolute keeps "..", and resolve follows links
    choice = choose_reader(place, reader)
    catalog = choice.reader.read(place)
    faults = catalog_faults(catalog)
    if faults:
        raise DataError(f"The data set {root} cannot be used:", faults)
    return choice, catalog


def _reasons(match: Match) -> str:
    return "; ".join(match.reasons) or "nothing that fits"
