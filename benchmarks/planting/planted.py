"""A planted fault, and whether ``check`` names it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fewlabel.core.errors import Fault

_PATH = re.compile(r"\S*/\S*|^\s*case [^\s,]+,")
NAMED, MISSED, CRASHED = "named", "missed", "crashed"


@dataclass(frozen=True)
class Planted:
    """One fault that somebody made.

    Attributes:
        kind: What was done, in words.
        place: The file, row or folder that the message must hold.
        cause: Pattern of the words of which one must be in the message, in any case.
        noted: Whether a note is enough: the data can be used, but not as they were meant.
    """

    kind: str
    place: str
    cause: str
    noted: bool = False


@dataclass
class DataSet:
    """A data set with its planted faults; ``check`` is called once, with ``path``."""

    path: Path
    planted: list[Planted] = field(default_factory=list)

    def plant(self, kind: str, place: Path | str, cause: str, *, noted: bool = False) -> None:
        """Keep a fault in mind; the place of a path is its name."""
        self.planted.append(Planted(kind, place.name if isinstance(place, Path) else place, cause, noted))


@dataclass(frozen=True)
class Outcome:
    """What became of one planted fault: ``named``, ``missed`` or ``crashed``, and why."""

    planted: Planted
    verdict: str
    why: str = ""


def judge(planted: Planted, faults: Sequence[Fault], notes: Sequence[str] = ()) -> Outcome:
    """Named is what a single fault says in full: the place, the cause, and what to do.

    Args:
        planted: What was done.
        faults: Everything that one call of ``check`` found.
        notes: Everything else that it said.
    """
    if planted.noted and any(
        _holds(note, planted.place) and re.search(planted.cause, note, re.IGNORECASE) for note in notes
    ):
        return Outcome(planted, NAMED)
    placed = [fault for fault in faults if _holds(str(fault), planted.place)]
    caused = [fault for fault in placed if re.search(planted.cause, _without_names(fault, planted), re.IGNORECASE)]
    if any(fault.remedy for fault in caused):
        return Outcome(planted, NAMED)
    if caused:
        return Outcome(planted, MISSED, f"no remedy: {caused[0]}")
    if placed:
        return Outcome(planted, MISSED, f"another cause: {placed[0]}")
    return Outcome(planted, MISSED, "not mentioned")


def _without_names(fault: Fault, planted: Planted) -> str:
    """A message without its paths, whose words are no causes: ``text.nii.gz`` does not say that it is text."""
    return _PATH.sub(" ", f" {fault.where}: {fault.problem} ").replace(planted.place, " ")


def _holds(text: str, place: str) -> bool:
    """Whether a text holds a place as a whole: ``line 3`` is not in ``line 31``, nor ``a.nii`` in ``aa.nii``."""
    return re.search(rf"(?<![\w.]){re.escape(place)}(?!\.?\w)", text) is not None
