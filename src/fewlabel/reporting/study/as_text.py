"""Tables as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

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
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


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
