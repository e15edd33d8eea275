"""Mask pictures in colours: which colours they hold, and what to write so that each is a class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.data.io.composite_paths import Colour

_MOST_SHOWN = 8
_BLACK, _WHITE = "#000000", "#ffffff"
#: How far from black and white JPEG leaves most pixels of a mask, what share of them may lie between, along its
#: outlines, and how far apart red, green and blue of a grey one.
_NEAR, _BETWEEN, _GREY = 32, 0.05, 8
#: What is wrong with masks in colours: of one cause in many files there is one thing to say.
_COLOURED, _LOSSY, _NAMELESS = "coloured", "lossy", "nameless"


@dataclass(frozen=True)
class ColourFault(Fault):
    """What is wrong with the colours of a mask.

    Attributes:
        cause: By which masks are joined.
        path: The mask.
        colours: The most frequent ones that it holds, as ``#rrggbb``.
    """

    cause: str = ""
    path: Path = Path()
    colours: tuple[str, ...] = ()


def parse_colours(colours: Mapping[str, int], where: str = "colours") -> tuple[tuple[Colour, int], ...]:
    """Colours and the class value of each.

    Args:
        colours: ``rrggbb`` in hexadecimal, with ``#`` or without, or ``red,green,blue`` (0 to 255) → value.
        where: Of the setting, for messages.

    Raises:
        SettingsError: With every colour that is none.
    """
    read, faults = [], []
    for text, value in colours.items():
        hexadecimal = re.fullmatch(r"#?([0-9a-fA-F]{6})", text.strip())
        numbers = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
        if hexadecimal:
            code = int(hexadecimal[1], 16)
            read.append((unpacked(code), int(value)))
        elif numbers and max(int(number) for number in numbers.groups()) <= 255:
            read.append(((int(numbers[1]), int(numbers[2]), int(numbers[3])), int(value)))
        else:
            faults.append(Fault(f'"{text}" is no colour', where, "Write it as rrggbb, such as ff0000 for red"))
    if faults:
        raise SettingsError("These settings are not valid:", faults)
    return tuple(read)


def colour_fault(path: Path, array: NDArray[Any], *, alpha: bool = False) -> Fault:
    """What is wrong with a mask (..., 3 or 4) of colours, with the setting that makes them classes."""
    if array.dtype != np.uint8:
        problem = f"is a mask in colours of {array.dtype}"
        return Fault(problem, str(path), "Store one class index per pixel, or colours of 8 bits")
    codes, counts = np.unique(packed(array[..., :3]), return_counts=True)
    if len(codes) == 1 and alpha and len(np.unique(array[..., 3])) > 1:
        problem = f"is a mask of the one colour {_named(int(codes[0]))}: its shapes lie in its transparency"
        return Fault(problem, str(path), "Store one class index per pixel, without transparency")
    # The most frequent ones; black is the background.
    order = codes[np.argsort(-counts, kind="stable")]
    frequent = sorted(order[:_MOST_SHOWN].tolist(), key=lambda code: (code != 0, int(np.flatnonzero(order == code)[0])))
    names = [_named(code) for code in frequent]
    more = f" and {len(codes) - len(names)} more" if len(codes) > len(names) else ""
    problem = f"is a mask in colours, not in class indices: it holds {', '.join(names)}{more}"
    remedy = f"Name its colours in labels.json, or say which class each is, as in {_proposed(names)}"
    return ColourFault(problem, str(path), remedy, cause=_COLOURED, path=path, colours=tuple(names))


def nameless_fault(path: Path, codes: Sequence[int]) -> Fault:
    """What is wrong with a mask whose colours are not all known.

    Args:
        path: The mask.
        codes: Colours that stand for no class, as numbers.
    """
    names = tuple(_named(code) for code in codes[:_MOST_SHOWN])
    more = f" and {len(codes) - len(names)} more" if len(codes) > len(names) else ""
    problem = f"has the colours {', '.join(names)}{more}, which stand for no class"
    remedy = "Name their classes, too, in labels.json or by colours.RRGGBB=VALUE"
    return ColourFault(problem, str(path), remedy, cause=_NAMELESS, path=path, colours=names)


def with_one_colour_fault(faults: Sequence[Fault], where: str) -> list[Fault]:
    """Faults, with those of mask colours that have one cause joined, so that one setting answers them all.

    Args:
        faults: Of all masks.
        where: The data set.
    """
    kept: list[Fault] = []
    joined: dict[str, list[ColourFault]] = {}
    for fault in faults:
        if isinstance(fault, ColourFault):
            joined.setdefault(fault.cause, []).append(fault)
        else:
            kept.append(fault)
    return [*kept, *(_of_all(same, where) for same in joined.values())]


def _of_all(same: Sequence[ColourFault], where: str) -> Fault:
    if len(same) == 1:
        return same[0]
    counts = Counter(colour for fault in same for colour in fault.colours)
    colours = sorted(counts, key=lambda colour: (colour != _BLACK, -counts[colour], colour))
    shown = colours[:_MOST_SHOWN]
    held = ", ".join(shown) + (f" and {len(colours) - len(shown)} more" if len(colours) > len(shown) else "")
    example = f"{len(same)} masks, such as {same[0].path},"
    if same[0].cause == _LOSSY:
        problem = f"{example} are in a lossy format such as JPEG, which blurs classes into many values"
        return Fault(problem, where, same[0].remedy)
    if same[0].cause == _NAMELESS:
        return Fault(f"{example} have the colours {held}, which stand for no class", where, same[0].remedy)
    problem = f"{example} are in colours, not in class indices: together they hold {held}"
    remedy = f"Name them in labels.json, or say which class each is, for all masks at once, as in {_proposed(shown)}"
    return Fault(problem, where, remedy)


def black_and_white(array: NDArray[Any]) -> NDArray[np.uint8] | None:
    """The 0 and 255 of a mask in a lossy file, each pixel the nearer of the two; None if it holds more than these.

    Args:
        array: Bytes (y, x), or (y, x, 3) that are grey.
    """
    if array.dtype != np.uint8 or (array.ndim == 3 and int(np.ptp(array, axis=-1).max(initial=0)) > _GREY):
        return None
    grey = array if array.ndim == 2 else array[..., 0]
    between = (grey >= _NEAR) & (grey <= 255 - _NEAR)
    if int(grey.max(initial=0)) <= 255 - _NEAR or between.mean() > _BETWEEN:
        return None
    return np.where(grey < 128, 0, 255).astype(np.uint8)


def lossy_fault(path: Path, array: NDArray[Any]) -> Fault | None:
    """What is wrong with a grey mask in a file that changes values as it packs them; None if they were not changed."""
    values = np.unique(array)
    if len(values) <= 2:
        return None
    problem = (
        f"is a mask in a lossy format such as JPEG, which blurs classes into {len(values)} values from {values[0]} "
        f"to {values[-1]}"
    )
    remedy = f"Export it as PNG, or take the nearer of black and white with {_proposed([_BLACK, _WHITE])}"
    return ColourFault(problem, str(path), remedy, cause=_LOSSY, path=path)


def packed(colours: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Colours (..., 3) as one number each."""
    red, green, blue = np.moveaxis(colours.astype(np.int64), -1, 0)
    together: NDArray[np.int64] = (red << 16) | (green << 8) | blue
    return together


def unpacked(code: int) -> Colour:
    """The colour that a number stands for."""
    return code >> 16, code >> 8 & 255, code & 255


def _named(code: int) -> str:
    return f"#{code:06x}"


def _proposed(names: list[str]) -> str:
    return " ".join(f"colours.{name.removeprefix('#')}={number}" for number, name in enumerate(names))
