"""Tables as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from fewlabel.core.printable import printable
from fewlabel.reporting.blocks import Table

#: Characters that LaTeX takes for its own.
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "→": r"$\to$",
}


def markdown(table: Table) -> str:
    """A table as Markdown, its caption above it.

    Example:
        >>> print(markdown(Table(["arm", "Dice"], [["gcl", "0.71"]], numeric=frozenset({1}))))
        | arm | Dice |
        |---|---:|
        | gcl | 0.71 |
    """
    rules = ["---:" if at in table.numeric else "---" for at in range(len(table.head))]
    lines = [_row(table.head), f"|{'|'.join(rules)}|", *map(_row, table.rows)]
    return "\n".join(([table.caption, ""] if table.caption else []) + lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def plain(table: Table, width: int = 80) -> list[str]:
    r"""A table as lines of at most so many columns, its cells wrapped where they would be wider.

    Columns that are short keep their width; long ones share what is left.

    Example:
        >>> print("\n".join(plain(Table(["arm", "Dice"], [["gcl", "0.71"]], numeric=frozenset({1})))))
        arm  Dice
        gcl  0.71
    """
    rows = [list(map(printable, row)) for row in (table.head, *table.rows)]
    widths = _fitting([max(map(len, column)) for column in zip(*rows, strict=True)], width)
    lines = []
    for row in rows:
        cells = [wrap(cell, size) or [""] for cell, size in zip(row, widths, strict=True)]
        for at in range(max(map(len, cells))):
            parts = [cell[at] if at < len(cell) else "" for cell in cells]
            placed = [
                part.rjust(size) if number in table.numeric else part.ljust(size)
                for number, (part, size) in enumerate(zip(parts, widths, strict=True))
            ]
            lines.append("  ".join(placed).rstrip())
    return lines


def _fitting(wanted: Sequence[int], width: int) -> list[int]:
    """Widths of columns that fit side by side, with two blanks in between."""
    room = width - 2 * (len(wanted) - 1)
    widths = list(wanted)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def latex(table: Table, label: str = "") -> str:
    r"""A table as LaTeX, for the package booktabs.

    Args:
        table: The table.
        label: For ``\ref``; empty for none.
    """
    columns = "".join("r" if at in table.numeric else "l" for at in range(len(table.head)))
    lines = [r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{escaped(table.caption)}}}"] if table.caption else []
    lines += [rf"\label{{{label}}}"] if label else []
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_row(table.head), r"\midrule"]
    for at, row in enumerate(table.rows):
        lines.append(_latex_row(row, strong=at in table.strong))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _latex_row(cells: Sequence[str], *, strong: bool = False) -> str:
    words = [escaped(cell) for cell in cells]
    return " & ".join(rf"\textbf{{{word}}}" if strong and word else word for word in words) + r" \\"


def escaped(text: str) -> str:
    r"""Text in which LaTeX takes nothing for its own.

    Example:
        >>> print(escaped("5 % of a_b"))
        5 \% of a\_b
    """
    return "".join(_LATEX.get(character, character) for character in text)
