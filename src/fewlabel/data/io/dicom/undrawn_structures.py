"""What of a structure could not be drawn, counted by reason."""

from __future__ import annotations

from collections import Counter

from fewlabel.core.errors import Fault

_FAULTS = {
    "off": ("has contours or frames between two slices of the series ({count})", "Export it on this series"),
    "grid": ("has frames with other pixels than the series ({count})", "Resample it onto the grid of the series"),
    "nowhere": ("has frames that do not say where they lie ({count})", "Export it again"),
    "open": ("has open contours, which enclose nothing ({count})", "Close them"),
}
_NOTES = {
    "beyond": "{name}: contours or frames beyond the first or last slice are left out ({count})",
    "point": "{name}: points are left out ({count})",
}


class Problems:
    """Of one structure.

    Args:
        name: Of the structure.
        where: What messages call the object that it is in.
    """

    def __init__(self, name: str, where: str) -> None:
        self.name, self.where = name, where
        self._counts: Counter[str] = Counter()

    def count(self, problem: str) -> None:
        """One contour or frame has a problem: ``off`` and the like; empty for none."""
        if problem:
            self._counts[problem] += 1

    @property
    def faults(self) -> list[Fault]:
        """What would leave the structure incomplete."""
        return [
            Fault(text.format(count=self._counts[kind]), f"{self.where}, structure {self.name}", remedy)
            for kind, (text, remedy) in _FAULTS.items()
            if self._counts[kind]
        ]

    @property
    def notes(self) -> list[str]:
        """What does no harm."""
        return [
            text.format(count=self._counts[kind], name=self.name) for kind, text in _NOTES.items() if self._counts[kind]
        ]
