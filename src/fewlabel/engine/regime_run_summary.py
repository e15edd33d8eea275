"""What the regimes of a segmenter's networks said of their runs, as ``segmenter.json`` has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Its key in ``segmenter.json``: a mapping per network, see :meth:`fewlabel.regimes.base.Regime.outcome`.
KEY = "outcomes"


def outcome_sentences(facts: Mapping[str, Any]) -> list[str]:
    """What is to be said of the networks of a segmenter; which one it is of, where there are several.

    Args:
        facts: Content of ``segmenter.json``.
    """
    outcomes = facts.get(KEY, [])
    return [
        f"Network {number} of {len(outcomes)}: {outcome['sentence']}" if len(outcomes) > 1 else str(outcome["sentence"])
        for number, outcome in enumerate(outcomes, start=1)
        if outcome.get("sentence")
    ]
