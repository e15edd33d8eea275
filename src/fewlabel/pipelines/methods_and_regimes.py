"""What there is to train with: each method and regime, what it needs and what it costs beside the plainest one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import resources
from typing import Any

from fewlabel.core.plugin_discovery import load_plugin, plugin_names

METHODS, REGIMES = "fewlabel.methods", "fewlabel.regimes"
COSTS = "costs.json"
#: Family → the command that measures its costs, and what its memory is counted beside.
MEASURED = {
    METHODS: ("python benchmarks/run.py --suite method-costs", "the encoder"),
    REGIMES: ("python benchmarks/run.py --suite regime-costs", "the network"),
}


def packaged_costs(family: str) -> dict[str, Any]:
    """The figures that a benchmark suite left in the package; empty if it has not run.

    Args:
        family: ``fewlabel.methods`` or ``fewlabel.regimes``.

    Returns:
        ``reference``, ``recipe``, ``date``, ``processor``, ``cores``, ``cuda`` and ``rows``: name → ``step`` (median
        seconds of a step over the reference's) and ``extra_bytes`` (parameters and buffers beside the encoder or the
        network).
    """
    file = resources.files(family) / COSTS
    if not file.is_file():
        return {}
    return dict(json.loads(file.read_text(encoding="utf-8")))


def plugin_rows(family: str, costs: Mapping[str, Any] | None = None) -> list[dict[str, str]]:
    """A row per method or regime: ``name``, ``summary``, ``paper``, ``needs``, ``memory``, ``step``; empty if unknown.

    Args:
        family: ``fewlabel.methods`` or ``fewlabel.regimes``.
        costs: As :func:`packaged_costs` gives them, which is the default.
    """
    measured = (packaged_costs(family) if costs is None else costs).get("rows", {})
    rows = []
    for name in plugin_names(family):
        plugin = load_plugin(family, name)
        costs_here = measured.get(name, {})
        rows.append(
            {
                "name": name,
                "summary": _first_line(sys.modules[plugin.__module__].__doc__).rstrip("."),
                "paper": plugin.paper,
                "needs": needs_of(plugin),
                "memory": f"{costs_here['extra_bytes'] / 1e6:.1f} MB" if "extra_bytes" in costs_here else "",
                "step": f"{costs_here['step']:.2f} x" if "step" in costs_here else "",
            }
        )
    return rows


def needs_of(plugin: Any) -> str:
    """What a method or regime needs; empty for nothing but images, or for a regime nothing but labelled ones.

    Of a method: labels, meta labels, or any of those it picks by itself. Of a regime: scans without labels.
    """
    if hasattr(plugin, "uses_unlabelled"):
        return "unlabelled" if plugin.uses_unlabelled else ""
    automatic = getattr(plugin, "automatic", ())
    needs = ["labels"] if plugin.uses_labels else []
    needs += plugin.needs_metadata
    needs += [f"any of {', '.join(automatic)}"] if automatic else []
    return ", ".join(needs)


def cost_note(family: str, costs: Mapping[str, Any]) -> str:
    """Where the figures come from, or how to get them."""
    command, beside = MEASURED[family]
    if not costs:
        return f"Memory and step are not measured in this version; from a checkout: {command}"
    place = costs.get("cuda") or f"{costs['processor']}, {costs['cores']} cores"
    return (
        f"Step: median time of a training step over that of {costs['reference']}. Memory: parameters and buffers "
        f"beside {beside}. Recipe {costs['recipe']}, {place}, {costs['date']}."
    )


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n", maxsplit=1)[0]
