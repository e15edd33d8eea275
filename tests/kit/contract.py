"""What a method's or regime's own test file says for the contract suite, which names none."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

UNIT = Path(__file__).resolve().parents[1] / "unit"


def said_for_contract(family: str, name: str) -> dict[str, Any]:
    """The literal ``CONTRACT`` of a plug-in's test file; empty if it has none.

    Args:
        family: Dotted name of the family, such as ``fewlabel.regimes``.
        name: Id of the plug-in.
    """
    path = UNIT / family.rpartition(".")[2] / f"test_{name}.py"
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONTRACT":
            return dict(ast.literal_eval(node.value))
    return {}
