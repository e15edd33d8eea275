"""The contract of a reader."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from fewlabel.core.errors import DataError, Fault, FewlabelError, reason
from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.core.settings.base import Settings, resolve_plugin
from fewlabel.data.catalog import Catalog
from fewlabel.data.closed_folders import closed_folder_faults
from fewlabel.data.colours_and_segments import with_file_facts
from fewlabel.data.scan_inspection import catalog_faults
from fewlabel.data.subjects_from_names import Subjects, with_one_subject_each
from fewlabel.readers.data_sets_inside import data_sets_inside, which_one
from fewlabel.readers.label_names_beside import with_label_names
from fewlabel.readers.listing import left_out_below, listed_once
from fewlabel.readers.side_tables import with_side_tables
from fewlabel.readers.unknown_layout import unknown_layout
from fewlabel.readers.unread_files import unread_files


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
    #: Whether it takes what no other reader knows: it counts only where no other fits.
    general: ClassVar[bool] = False
    #: Settings that concern labels alone: of no use where images are read to be segmented.
    label_settings: ClassVar[frozenset[str]] = frozenset()

    #: Names of files and folders, as glob patterns, that show where a data set of this convention begins.
    markers: ClassVar[tuple[str, ...]] = ()
    #: Whether the names of files and folders may name persons: then nothing that is kept or said has them.
    private: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    @abstractmethod
    def match(cls, root: Path) -> Match:
        """How well ``root`` fits, by looking at names only; cheap."""

    @abstractmethod
    def collect(self, root: Path) -> Catalog:
        """What can be read of ``root``; everything that is wrong with the rest is in the catalog's faults.

        Every file that a case names is there: a scan without its file is left out, and a fault.
        """

    def settle(self, catalog: Catalog) -> Catalog:
        """What is to lie beside the data once an artifact is made of them, is put there; reading writes nothing there.

        Args:
            catalog: As :meth:`collect` made it.

        Returns:
            The catalog, with notes that are true from then on.
        """
        return catalog

    def read(self, root: Path) -> Catalog:
        """The catalog of ``root``.

        Raises:
            DataError: With every fault found: file, rule and remedy.
        """
        catalog = self.collect(root)
        if catalog.faults:
            raise DataError(f"The data set {root} cannot be read:", catalog.faults)
        return catalog


PLUGIN_BASE = Reader

_FAMILY = "fewlabel.readers"
_LOWEST = 0.5
_APART = 0.1
#: A folder that a reader fits so well is not looked into for others.
_CERTAIN = 0.8
_MOST_SHOWN = 300


class UnknownLayoutError(DataError):
    """No reader fits a folder or file."""


@dataclass(frozen=True)
class Choice:
    """The reader that was chosen for a path, and why.

    Attributes:
        name: Its id.
        reader: With its settings.
        match: How well it fits.
        place: What it reads: the path that was given, or the one data set inside of that.
    """

    name: str
    reader: Reader
    match: Match
    place: Path


def choose_reader(root: Path, reader: str | Mapping[str, Any] = "auto") -> Choice:
    """The reader whose convention a path follows.

    Args:
        root: A folder or file.
        reader: ``auto``, a reader's id, or a mapping with ``name`` and that reader's settings. Anything but ``auto``
            is taken without asking for a score.

    A general reader, such as that of plain folders, counts only where no other scores 0.5. Where a folder holds one
    data set, one or two folders deeper, and nothing else, that is taken (``Choice.place``).

    Raises:
        UnknownLayoutError: If no reader scores 0.5; it says what was seen and what is nearest.
        DataError: If the path does not exist, the two best are within 0.1 and do not read the same of it, or
            it holds several data sets.
        SettingsError: If the reader or one of its settings is unknown.
    """
    root = Path(root)
    if not root.exists():
        remedy = "Check the path, or name the data set where it is now"
        raise DataError("The data set cannot be read:", [Fault(f"{root} does not exist", remedy=remedy)])
    if reader != "auto":
        config: Any = resolve_plugin(_FAMILY, reader, where="reader")
        # A Config built from a mapping carries the reader's id; a bare id needs no settings.
        name = reader if isinstance(reader, str) else str(reader["name"])
        kind = load_plugin(_FAMILY, name, where="reader")
        own = _match(kind, root)
        inside = _inside(root, {name: kind}, own.score, config)
        return inside or Choice(name, kind(config), Match(own.score, ("chosen by the user", *own.reasons)), root)
    with listed_once():
        kinds = {name: load_plugin(_FAMILY, name) for name in plugin_names(_FAMILY)}
        matches = {name: _match(kind, root) for name, kind in kinds.items()}
        special = max(match.score for name, match in matches.items() if not kinds[name].general)
        if (inside := _inside(root, kinds, special)) is not None:
            return inside
    # One that takes what no other knows comes after all that fit.
    fits = {name for name, match in matches.items() if match.score >= _LOWEST}
    ranked = sorted(matches, key=lambda name: (name not in fits, kinds[name].general, -matches[name].score, name))
    best = ranked[0]
    if best not in fits:
        raise UnknownLayoutError(f"No reader understands {root}:", [unknown_layout(root, matches)])
    rivals = [
        name
        for name in ranked[1:]
        if name in fits
        and kinds[name].general == kinds[best].general
        and matches[best].score - matches[name].score < _APART - 1e-9
    ]
    if rivals and not _read_alike(root, [kinds[name](resolve_plugin(_FAMILY, name)) for name in (best, *rivals)]):
        fitting = ", ".join(
            f"{name} (score {matches[name].score:.2f}: {_reasons(matches[name])})" for name in (best, *rivals)
        )
        fault = Fault(f"No reader fits clearly best. These do: {fitting}", remedy=f"Choose one, such as reader={best}")
        raise DataError(f"Several readers understand {root}:", [fault])
    return Choice(best, kinds[best](resolve_plugin(_FAMILY, best)), matches[best], root)


def _inside(root: Path, kinds: Mapping[str, type[Reader]], score: float, config: Any = None) -> Choice | None:
    """The one data set below a folder that a reader fits better than any fits the folder itself; None without one.

    Args:
        root: The folder.
        kinds: Readers by id.
        score: Of the best reader for the folder itself.
        config: Settings of the one reader that the user chose; None for any.

    Raises:
        DataError: If there are several, or images beside it.
    """
    if not root.is_dir() or score >= _CERTAIN:
        return None
    inside = [each for each in data_sets_inside(root, kinds, _match, _LOWEST) if each.match.score > score]
    if not inside:
        return None
    if (fault := which_one(root, inside)) is not None:
        raise DataError(f"The data set {root} cannot be read:", [fault])
    only = inside[0]
    reasons = (f"in its folder {only.place.relative_to(root)}", *only.match.reasons)
    settings: Any = config or resolve_plugin(_FAMILY, only.reader)
    return Choice(only.reader, kinds[only.reader](settings), Match(only.match.score, reasons), only.place)


def _read_alike(root: Path, readers: Sequence[Reader]) -> bool:
    """Whether all readers make the same scans of a folder, so that it does not matter which one is taken."""
    catalogs = [reader.collect(root) for reader in readers]
    made = [
        {(case.id, case.subject, case.images, case.label, case.part) for case in catalog.cases} for catalog in catalogs
    ]
    return bool(made[0]) and not any(catalog.faults for catalog in catalogs) and all(each == made[0] for each in made)


def read_catalog(
    root: Path,
    reader: str | Mapping[str, Any] = "auto",
    subjects: Subjects = "auto",
    colours: Mapping[str, int] | None = None,
) -> tuple[Choice, Catalog]:
    """Choose a reader and read the catalog, with absolute paths.

    Args:
        root: A folder or file.
        reader: As for :func:`choose_reader`.
        subjects: As for :func:`fewlabel.data.subjects_from_names.with_one_subject_each`.
        colours: ``rrggbb`` → class value, where masks are pictures in colours.

    Raises:
        DataError: If no reader fits, the reader finds faults, the catalog is empty, or case ids are not unique.
    """
    choice, catalog = collect_catalog(root, reader, subjects, colours)
    if catalog.faults:
        raise DataError(f"The data set {root} cannot be used:", catalog.faults)
    return choice, catalog


def collect_catalog(
    root: Path,
    reader: str | Mapping[str, Any] = "auto",
    subjects: Subjects = "auto",
    colours: Mapping[str, int] | None = None,
) -> tuple[Choice, Catalog]:
    """As :func:`read_catalog`, but faults of the data set are in the catalog, with whatever can be read beside them.

    Args:
        root: A folder or file.
        reader: As for :func:`choose_reader`.
        subjects: As for :func:`fewlabel.data.subjects_from_names.with_one_subject_each`.
        colours: ``rrggbb`` → class value, where masks are pictures in colours.

    Raises:
        DataError: If no reader fits, or nothing can be read.
        SettingsError: If a colour is none.
    """
    place = Path(os.path.abspath(root))  # noqa: PTH100  # Path.absolute keeps "..", and resolve follows links
    closed = closed_folder_faults(place)
    try:
        with listed_once():
            choice = choose_reader(place, reader)
            place = choice.place
            read = collected(choice.reader, place)
            private = choice.reader.private
            closed = [] if private else closed
            listed = place.is_dir() and choice.name != "table" and not private
            own = left_out_below(place) if listed else []
            packed, unread = unread_files(place) if listed else ([], [])
            read = read if read.reader == "table" else with_label_names(read, place, below=not private)
            read = with_side_tables(read, place) if place.is_dir() and not private else read
        catalog = with_one_subject_each(with_file_facts(read, colours or {}), subjects)
        catalog = replace(catalog, notes=(*catalog.notes, *own, *unread), faults=(*catalog.faults, *packed))
    except DataError as error:
        if not closed:
            raise
        raise type(error)(error.message, [*error.faults, *closed]) from error
    # Where nothing could be read, the reader said why.
    more = catalog_faults(catalog) if catalog.cases or not catalog.faults else []
    return choice, replace(catalog, faults=(*catalog.faults, *closed, *more))


def collected(reader: Reader, place: Path) -> Catalog:
    """What a reader makes of a place, as its ``collect``; what it did not expect names the file, too.

    Raises:
        DataError: As ``collect``, or if something on the disk cannot even be looked at.
    """
    try:
        return reader.collect(place)
    except FewlabelError:
        raise
    except Exception as error:
        where = str(getattr(error, "filename", None) or place)
        # A name that is too long for a file is too long to be shown.
        shown = where if len(where) <= _MOST_SHOWN else f"{where[:_MOST_SHOWN]}…"
        fault = Fault(f"{shown} cannot be read ({reason(error)})", remedy="Correct its name, or take it out")
        if reader.private:
            fault = Fault(f"{place} cannot be read ({type(error).__name__})", remedy="Give its folders one by one")
        raise DataError(f"The data set {place} cannot be read:", [fault]) from error


def _match(kind: type[Reader], root: Path) -> Match:
    """How well a reader fits; not at all where it meets what cannot be read."""
    try:
        return kind.match(root)
    except Exception as error:  # noqa: BLE001  # of whatever kind: others may fit
        return Match(0.0, (f"{getattr(error, 'filename', None) or root} cannot be read ({reason(error)})",))


def _reasons(match: Match) -> str:
    return "; ".join(match.reasons) or "no reason given"
