"""A table whose columns are as wide as their longest words, as long as the terminal has room for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

#: Between two columns.
_GAP = 2


@dataclass
class WordTable:
    """Cells under titles; a word is folded only if it is longer than its column can be.

    Attributes:
        rows: Cells, as many per row as there are heads.
        heads: Column titles.
        wide: The column that takes the width left over.
        titled: Whether the titles are shown.
    """

    rows: Sequence[Sequence[str]]
    heads: Sequence[str]
    wide: int
    titled: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As rich asks for it: the table in the width that there is."""
        made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_header=self.titled)
        for head, width in zip(self.heads, self._widths(options.max_width), strict=True):
            made.add_column(head, overflow="fold", width=width)
        for row in self.rows:
            made.add_row(*row)
        yield made

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As rich asks for it: the least and the most width that is of use."""
        texts = self._texts()
        gaps = _GAP * (len(texts) - 1)
        least, most = (gaps + sum(map(widest, texts)) for widest in (_longest_word, _longest_line))
        return Measurement(min(least, options.max_width), min(most, options.max_width))

    def _texts(self) -> list[list[str]]:
        cells = [*([self.heads] if self.titled else []), *self.rows]
        return [[row[column] for row in cells] for column in range(len(self.heads))]

    def _widths(self, room: int) -> list[int]:
        texts = self._texts()
        return column_widths(
            [_longest_word(column) for column in texts],
            [_longest_line(column) for column in texts],
            room - _GAP * (len(texts) - 1),
            self.wide,
        )


def column_widths(words: Sequence[int], lines: Sequence[int], room: int, wide: int = -1) -> list[int]:
    """Widths of columns.

    All text in one line where that fits. Else the widest columns are narrowed, down to their longest words, and only
    where there is no room for these further.

    Args:
        words: Longest word of each column, in cells of the terminal.
        lines: Longest line of each.
        room: Cells in all.
        wide: The column that takes what is left over.

    Example:
        >>> column_widths([7, 9], [7, 200], 80), column_widths([47, 14], [47, 200], 78)
        ([7, 73], [47, 31])
    """
    within = sum(words) <= room
    floors, wanted = (words, lines) if within else ([1] * len(words), words)
    for most in range(max(wanted, default=0), 0, -1):
        widths = [max(floor, min(want, most)) for floor, want in zip(floors, wanted, strict=True)]
        if sum(widths) <= room:
            break
    else:
        widths = [max(1, floor) for floor in floors]
    widths[wide] += min(max(0, room - sum(widths)), max(0, lines[wide] - widths[wide]))
    return [max(1, width) for width in widths]


def _longest_word(texts: Sequence[str]) -> int:
    return max((cell_len(word) for text in texts for word in text.split()), default=0)


def _longest_line(texts: Sequence[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.splitlines()), default=0)
