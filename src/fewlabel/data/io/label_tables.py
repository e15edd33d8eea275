"""What the values of a mask stand for, as other programs read it: ITK-SNAP's label descriptions and BIDS' tables."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

from fewlabel.data.io.composite_paths import Colour

#: Colours of the first classes on grey images: light, and told apart by colour-blind readers.
FIRST_COLOURS = ("#56B4E9", "#FFD23F", "#FF6B35", "#E9A6CF", "#4FD1A5", "#FFFFFF")
#: Share of the colour circle between a class and the next; it comes back to no colour for long.
_GOLDEN = 0.618034
#: The largest value that ITK-SNAP knows.
_ITK_SNAP_MOST = 65535
_ITK_SNAP_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    IDX:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""


@dataclass(frozen=True)
class Label:
    """A value that a mask may hold.

    Attributes:
        value: In the mask.
        name: Of the structure; on one line.
        colour: (red, green, blue), 0 to 255.
    """

    value: int
    name: str
    colour: Colour


def labels_of(names: Sequence[str], values: Sequence[int]) -> tuple[Label, ...]:
    """The labels of all classes but the background.

    Args:
        names: Of each class, the background first.
        values: Of each class in the mask.
    """
    return tuple(
        Label(int(value), one_line(name), class_colour(index))
        for index, (name, value) in enumerate(zip(names, values, strict=True))
        if index
    )


def class_colour(index: int) -> Colour:
    """The colour of a class, from 1: the report's for the first ones, then on around the colour circle.

    Example:
        >>> class_colour(1)
        (86, 180, 233)
    """
    if index <= len(FIRST_COLOURS):
        code = int(FIRST_COLOURS[index - 1][1:], 16)
        return code >> 16, code >> 8 & 255, code & 255
    beyond = index - len(FIRST_COLOURS)
    lightness = (0.55, 0.7, 0.4)[beyond % 3]
    red, green, blue = colorsys.hls_to_rgb(beyond * _GOLDEN % 1, lightness, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def one_line(text: str) -> str:
    """A name without line breaks, tabs and other control characters."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def itk_snap_labels(labels: Sequence[Label]) -> str:
    """A label description file for ITK-SNAP; empty where it knows no such values: it has 1 to 65535, and 0 as nothing.

    Source: what ITK-SNAP writes by Segmentation, Save Label Descriptions.
    """
    if not all(0 < label.value <= _ITK_SNAP_MOST for label in labels):
        return ""
    lines = ['    0     0    0    0        0  0  0    "Clear Label"']
    for label in labels:
        red, green, blue = label.colour
        name = label.name.replace('"', "'")
        lines.append(f'{label.value:5d}   {red:3d}  {green:3d}  {blue:3d}        1  1  1    "{name}"')
    return _ITK_SNAP_HEAD + "\n".join(lines) + "\n"


def bids_lookup_table(labels: Sequence[Label], background: Label) -> str:
    """A ``dseg.tsv``: value, name and colour of every class.

    Source: BIDS specification, derivatives, common image-derived labels.
    """
    rows = ["index\tname\tcolor"]
    rows += [f"{label.value}\t{label.name}\t#{bytes(label.colour).hex()}" for label in (background, *labels)]
    return "\n".join(rows) + "\n"
