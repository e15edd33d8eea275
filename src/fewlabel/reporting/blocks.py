"""What a report is made of: sections of blocks, free of layout; the template decides how each kind looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Text:
    """A paragraph.

    ``tone``: ``plain``, ``note`` (how to read what is above) or ``missing`` (why something is not shown).
    """

    text: str
    tone: Literal["plain", "note", "missing"] = "plain"
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Picture:
    """One figure, ready to embed.

    Attributes:
        uri: ``data:`` address with the whole picture.
        alt: What it shows, in words, with the figures that matter.
        caption: Text below it.
        size: (width, height) in CSS pixels at full size.
    """

    uri: str
    alt: str
    caption: str
    size: tuple[int, int]
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Pictures:
    """Figures side by side where there is room, one below the other where there is not."""

    items: Sequence[Picture]
    kind: ClassVar[str] = "pictures"


@dataclass(frozen=True)
class Strip:
    """A row of small pictures under one title, such as slices of one case."""

    title: str
    subtitle: str
    items: Sequence[Picture]
    kind: ClassVar[str] = "strip"


@dataclass(frozen=True)
class Table:
    """A table of ready text.

    Attributes:
        head: Name of each column.
        rows: Cells; the first one names its row.
        caption: Above the table.
        numeric: Columns that are aligned right.
        strong: Rows that are set in bold.
        wrapped: Columns of text long enough to break into lines.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numeric: frozenset[int] = frozenset()
    strong: frozenset[int] = frozenset()
    wrapped: frozenset[int] = frozenset()
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Facts:
    """Terms and their values."""

    items: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Folded:
    """A block that is folded away on screen and printed in full."""

    title: str
    block: Text | Table | Facts
    kind: ClassVar[str] = "folded"


Block = Text | Picture | Pictures | Strip | Table | Facts | Folded


@dataclass(frozen=True)
class Section:
    """One part of the report; ``anchor`` is its address in the page."""

    anchor: str
    title: str
    lead: str
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class Headline:
    """The result at a glance.

    Attributes:
        sentence: What was done and what came out, in one or two sentences.
        figures: (value, what it is, detail) of the few numbers that matter.
        verdict: What may be said of the gain, in words; empty without a control.
        tone: ``gain``, ``loss`` or ``open``: how the verdict is set off.
    """

    sentence: str
    figures: Sequence[tuple[str, str, str]] = ()
    verdict: str = ""
    tone: Literal["gain", "loss", "open"] = "open"


@dataclass(frozen=True)
class Page:
    """A whole report: what everybody is to know, and behind a fold what explains it."""

    title: str
    subtitle: str
    headline: Headline
    sections: Sequence[Section] = field(default_factory=tuple)
    footer: str = ""
    technical: Sequence[Section] = field(default_factory=tuple)
