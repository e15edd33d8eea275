"""Several files, or a part of one, as one image: what a path of a catalog may stand for besides an ordinary file.

What it is made of travels in the path, so that a catalog, a prepared store and the key over its sources carry it
without any file beside: ``FIRST_FILE#KIND:DETAILS``. The details are JSON, quoted as in a URL; files in them are
relative to the folder of the first one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote

Colour = tuple[int, int, int]
_COMPOSITE = re.compile(r"(?P<anchor>.+)#(?P<kind>frame|stack|structures|colours|segments):(?P<details>[^#/]+)$")


@dataclass(frozen=True)
class Frame:
    """One time point of a 4D image.

    Attributes:
        file: The image.
        index: Of the time point, from 0.
    """

    kind: ClassVar[str] = "frame"
    file: Path
    index: int

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is read from."""
        return (self.file,)

    @property
    def path(self) -> Path:
        """The frame as the path of a catalog."""
        return _path(self.kind, self.file, self.index)

    def __str__(self) -> str:
        return f"{self.file}, frame {self.index + 1}"


@dataclass(frozen=True)
class Stack:
    """Pictures of one size as the slices of a volume, in the order given.

    Attributes:
        files: One for each slice.
        spacing: Voxel size in mm along (slice, row, column); None where it is not known.
        without: Of a mask, places from 0 of slices that have no file, ascending; they are not in ``files``.

    Example:
        >>> from pathlib import Path
        >>> [None if file is None else file.name for file in Stack((Path("1.png"), Path("3.png")), without=(1,)).slices]
        ['1.png', None, '3.png']
    """

    kind: ClassVar[str] = "stack"
    files: tuple[Path, ...]
    spacing: tuple[float, float, float] | None = None
    without: tuple[int, ...] = ()

    @property
    def path(self) -> Path:
        """The stack as the path of a catalog."""
        home = self.files[0].parent
        details = [[_relative(file, home) for file in self.files], self.spacing]
        return _path(self.kind, self.files[0], [*details, self.without] if self.without else details)

    @property
    def slices(self) -> tuple[Path | None, ...]:
        """The file of each slice; None for one without."""
        files = iter(self.files)
        count = len(self.files) + len(self.without)
        return tuple(None if place in self.without else next(files) for place in range(count))

    def __str__(self) -> str:
        more = len(self.files) - 1
        return f"{self.files[0]} and {more} more slices" if more else str(self.files[0])


@dataclass(frozen=True)
class Structures:
    """One mask file for each structure, as one mask. Where structures overlap, the later one has the voxel.

    Attributes:
        parts: (value in the joined mask, file that is not 0 inside of the structure).
    """

    kind: ClassVar[str] = "structures"
    parts: tuple[tuple[int, Path], ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is read from."""
        return tuple(file for _, file in self.parts)

    @property
    def path(self) -> Path:
        """The joined mask as the path of a catalog."""
        home = self.files[0].parent
        return _path(self.kind, self.files[0], [[value, _relative(file, home)] for value, file in self.parts])

    def __str__(self) -> str:
        return (
            f"{self.files[0]} and {len(self.files) - 1} more structures" if len(self.files) > 1 else str(self.files[0])
        )


@dataclass(frozen=True)
class Coloured:
    """A picture whose colours are classes.

    Attributes:
        file: The picture, or a stack of them as the path of a catalog.
        colours: (red, green, blue), 0 to 255, and the value that it stands for. Other colours are no class, a fault.
    """

    kind: ClassVar[str] = "colours"
    file: Path
    colours: tuple[tuple[Colour, int], ...]

    @property
    def stack(self) -> Stack | None:
        """The pictures, where they are the slices of a volume; None for one picture."""
        inner = parse_composite(self.file)
        return inner if isinstance(inner, Stack) else None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is read from."""
        return (self.file,) if self.stack is None else self.stack.files

    @property
    def path(self) -> Path:
        """The mask as the path of a catalog."""
        return _path(self.kind, self.file, [[list(colour), value] for colour, value in self.colours])

    def __str__(self) -> str:
        return str(self.stack or self.file)


@dataclass(frozen=True)
class Segments:
    """A segmentation by 3D Slicer whose segments have the values of a data set by their names.

    Attributes:
        file: The segmentation.
        values: Name of a segment, and its value in the mask. Other segments are no class, a fault.
    """

    kind: ClassVar[str] = "segments"
    file: Path
    values: tuple[tuple[str, int], ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is read from."""
        return (self.file,)

    @property
    def path(self) -> Path:
        """The mask as the path of a catalog."""
        return _path(self.kind, self.file, [list(pair) for pair in self.values])

    def __str__(self) -> str:
        return str(self.file)


Composite = Frame | Stack | Structures | Coloured | Segments


def parse_composite(path: Path) -> Composite | None:
    """What a path of a catalog stands for; None for an ordinary file or an array in one.

    Args:
        path: As :attr:`Case.images <fewlabel.data.catalog.Case>` or its label has it.
    """
    match = _COMPOSITE.match(path.name)
    if match is None:
        return None
    first = path.with_name(match["anchor"])
    try:
        details = json.loads(unquote(match["details"]))
    except ValueError:
        return None
    return _parsed(match["kind"], first, details)


def mask_stack(slices: Sequence[Path | None], spacing: tuple[float, float, float] | None) -> Stack | None:
    """The mask of pictures that are stacked, of which some may have none; None where all have none.

    Args:
        slices: The mask of each picture.
        spacing: As of :class:`Stack`.
    """
    files = tuple(file for file in slices if file is not None)
    without = tuple(place for place, file in enumerate(slices) if file is None)
    return Stack(files, spacing, without) if files else None


def slices_without_mask(label: Path) -> tuple[int, ...]:
    """The slices of a mask, from 0, that have no file; none for a mask that is no stack of pictures."""
    composite = parse_composite(label)
    stack = composite.stack if isinstance(composite, Coloured) else composite
    return stack.without if isinstance(stack, Stack) else ()


def _parsed(kind: str, first: Path, details: Any) -> Composite:
    if kind == Frame.kind:
        return Frame(first, int(details))
    if kind == Stack.kind:
        names, spacing, *rest = details
        files = tuple(_beside(first, name) for name in names)
        return Stack(files, None if spacing is None else _three(spacing), tuple(rest[0]) if rest else ())
    if kind == Structures.kind:
        return Structures(tuple((int(value), _beside(first, name)) for value, name in details))
    if kind == Segments.kind:
        return Segments(first, tuple((str(name), int(value)) for name, value in details))
    return Coloured(first, tuple(((int(c[0]), int(c[1]), int(c[2])), int(value)) for c, value in details))


def _path(kind: str, first: Path, details: Any) -> Path:
    return first.with_name(f"{first.name}#{kind}:{quote(json.dumps(details, separators=(',', ':')), safe='')}")


def _relative(file: Path, home: Path) -> str:
    return Path(os.path.relpath(file, home)).as_posix()


def _beside(first: Path, name: str) -> Path:
    return Path(os.path.normpath(first.parent / name))


def _three(values: Any) -> tuple[float, float, float]:
    z, y, x = (float(value) for value in values)
    return (z, y, x)
