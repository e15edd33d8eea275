"""The file ``labels.json``: what the values or colours of masks are called.

Its names come into a catalog by :mod:`fewlabel.readers.label_names_beside`, and into a table's by the table's reader.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault, reason
from fewlabel.core.whole_numbers import is_whole_number
from fewlabel.data.io.composite_paths import Colour

LABELS = "labels.json"
_REMEDY = 'Write it like {"1": "liver"}, or {"#ff0000": "liver"} for masks in colours'
_HEX = re.compile(r"#?([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$", re.IGNORECASE)
_TRIPLE = re.compile(r"\D*(\d{1,3})\D+(\d{1,3})\D+(\d{1,3})\D*$")
_BLACK = (0, 0, 0)


@dataclass(frozen=True)
class LabelNames:
    """Names of classes.

    Attributes:
        names: Label value → name.
        colours: Colours of pictures, and the value of each; black is the background. Empty for masks of numbers.
    """

    names: dict[int, str] = field(default_factory=dict)
    colours: tuple[tuple[Colour, int], ...] = ()


def read_label_names(path: Path, faults: list[Fault]) -> LabelNames:
    """The names in a JSON file, either way round; no names where there is no file.

    Args:
        path: The file: ``{"1": "liver"}``, ``{"liver": 1}``, ``{"#ff0000": "liver"}`` or ``{"liver": [255, 0, 0]}``.
        faults: Takes what is wrong with it.
    """
    if not path.is_file():
        return LabelNames()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        faults.append(Fault(f"{path} does not map label values to names ({reason(error)})", remedy=_REMEDY))
        return LabelNames()
    if not isinstance(content, dict) or not content:
        faults.append(Fault(f"{path} does not map label values to names", remedy=_REMEDY))
        return LabelNames()
    names: dict[int, str] = {}
    named_colours: list[tuple[Colour, str]] = []
    for key, value in content.items():
        number, colour = _number(key), _colour(key)
        if number is not None:
            _name(names, number, str(value), path, faults)
        elif colour is not None and isinstance(value, str):
            named_colours.append((colour, value))
        elif isinstance(value, int) and not isinstance(value, bool):
            _name(names, value, str(key), path, faults)
        elif (colour := _colour(value)) is not None:
            named_colours.append((colour, str(key)))
        else:
            pair = f'"{key}": {json.dumps(value, ensure_ascii=False)}'
            faults.append(Fault(f"{pair} does not map a label value to a name", str(path), _REMEDY))
    return _with_colours(path, names, named_colours, faults)


def _name(names: dict[int, str], value: int, name: str, path: Path, faults: list[Fault]) -> None:
    if value in names:
        problem = f"label value {value} has two names, {names[value]} and {name}"
        faults.append(Fault(problem, str(path), "Keep one of them"))
    names[value] = name


def _with_colours(
    path: Path, names: dict[int, str], named: list[tuple[Colour, str]], faults: list[Fault]
) -> LabelNames:
    if not named:
        return LabelNames(names)
    if names:
        faults.append(Fault(f"{path} has values and colours", remedy="Name either the values or the colours"))
        return LabelNames(names)
    # Colours of one name are one class, in the order of the file.
    background = next((name for colour, name in named if colour == _BLACK), "background")
    values = {background: 0}
    colours: dict[Colour, int] = {_BLACK: 0}
    for colour, name in named:
        colours[colour] = values.setdefault(name, len(values))
    return LabelNames({value: name for name, value in values.items()}, tuple(colours.items()))


def _number(key: str) -> int | None:
    return int(key) if is_whole_number(key) and len(key.strip().removeprefix("-")) < 6 else None


def _colour(value: Any) -> Colour | None:
    if isinstance(value, list | tuple):
        numbers = [int(part) for part in value] if all(isinstance(part, int) for part in value) else []
    elif isinstance(value, str) and (channels := _HEX.match(value.strip())):
        numbers = [int(part, 16) for part in channels.groups()]
    elif isinstance(value, str) and (channels := _TRIPLE.match(value.strip())):
        numbers = [int(part) for part in channels.groups()]
    else:
        numbers = []
    if len(numbers) != 3 or not all(0 <= number <= 255 for number in numbers):
        return None
    red, green, blue = numbers
    return red, green, blue
