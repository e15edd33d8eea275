"""What there is to pre-train with: each method, what it needs and what it costs beside SimCLR."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import resources
from typing import Any

from fewlabel.core.discovery import load_plugin, plugin_names

FAMILY = "fewlabel.methods"
COSTS = "costs.json"
COMMAND = "python benchmarks/run.py --suite method-costs"


def method_costs() -> dict[str, Any]:
    """The figures that the benchmark suite ``method-costs`` left in the package; empty if it has not run.

    Returns:
        ``reference``, ``recipe``, ``date``, ``processor``, ``cores``, ``cuda`` and ``methods``: name → ``step`` (median
        seconds of a step over the reference's) and ``extra_bytes`` (parameters and buffers beside the encoder).
    """
    file = resources.files(FAMILY) / COSTS
    if not file.is_file():
        return {}
    return dict(json.loads(file.read_text(encoding="utf-8")))


def method_rows(costs: Mapping[str, Any] | None = None) -> list[dict[str, str]]:
    """A row per method: ``name``, ``summary``, ``paper``, ``needs``, ``memory`` and ``step``; empty if not measured.

    Args:
        costs: As :func:`method_costs` gives them, which is the default.
    """
    measured = (method_costs() if costs is None else costs).get("methods", {})
    rows = []
    for name in plugin_names(FAMILY):
        plugin = load_plugin(FAMILY, name)
        found = measured.get(name, {})
        rows.append(
            {
                "name": name,
                "summary": _first_line(sys.modules[plugin.__module__].__doc__).rstrip("."),
                "paper": plugin.paper,
                "needs": needs_of(plugin),
                "memory": f"{found['extra_bytes'] / 1e6:.1f} MB" if "extra_bytes" in found else "",
                "step": f"{found['step']:.2f} x" if "step" in found else "",
            }
        )
    return rows


def needs_of(plugin: Any) -> str:
    """What a method wants beside images: labels, meta labels, or any of those it picks by itself; empty for nothing."""
    automatic = getattr(plugin, "automatic", ())
    needs = ["labels"] if plugin.uses_labels else []
    needs += plugin.needs_metadata
    needs += [f"any of {', '.join(automatic)}"] if automatic else []
    return ", ".join(needs)


def cost_note(costs: Mapping[str, Any]) -> str:
    """Where the figures come from, or how to get them."""
    if not costs:
        return f"Memory and step are not measured in this version; from a checkout: {COMMAND}"
    place = costs.get("cuda") or f"{costs['processor']}, {costs['cores']} cores"
    return (
        f"Step: median time of a training step over that of {costs['reference']}. Memory: parameters and buffers "
        f"beside the encoder. Recipe {costs['recipe']}, {place}, {costs['date']}."
    )


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n", maxsplit=1)[0]
