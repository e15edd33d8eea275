"""What each switch of an ablation is worth: arms that differ in it alone, paired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from fewlabel.scoring.paired_test import Factor, PairedTest, paired_test
from fewlabel.scoring.replicates import Paired, means_over

SWITCH_RULE = (
    "The effect of a switch is the mean difference between arms that differ in it alone, on over off, over all such "
    "pairs, tested over draws and patients; p is corrected by Holm's method over all effects told."
)
Switches = Mapping[str, Mapping[str, bool]]


@dataclass(frozen=True)
class Effect:
    """What a switch is worth.

    Attributes:
        switch: Its name.
        pairs: (on, off) arms that differ in it alone.
        test: Mean difference, on minus off.
    """

    switch: str
    pairs: tuple[tuple[str, str], ...]
    test: PairedTest

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"switch": self.switch, "pairs": [list(pair) for pair in self.pairs], **asdict(self.test)}


def matched_pairs(switches: Switches) -> dict[str, list[tuple[str, str]]]:
    """Switch → (on, off) arms that differ in it alone; only arms that state it take part.

    Args:
        switches: Arm → switch → whether it is on.

    Example:
        >>> matched_pairs({"base": {"a": False, "b": False}, "+a": {"a": True, "b": False}})
        {'a': [('+a', 'base')], 'b': []}
    """
    names = list(dict.fromkeys(name for states in switches.values() for name in states))
    pairs: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    for one, other in combinations(switches, 2):
        if switches[one].keys() != switches[other].keys():
            continue
        differing = [name for name, state in switches[one].items() if switches[other][name] != state]
        if len(differing) == 1:
            on_first = switches[one][differing[0]]
            pairs[differing[0]].append((one, other) if on_first else (other, one))
    return pairs


def switch_effects(
    arms: Mapping[str, Paired], switches: Switches, *, factor: Factor = "draws", confidence: float = 0.95
) -> list[Effect]:
    """The effect of each switch that some pair of arms differs in alone.

    Args:
        arms: Name → (draws, patients) scores as means over seeds, of the same draws and patients.
        switches: Arm → switch → whether it is on; arms without scores are left out.
        factor: What the rows of the scores are: draws, or the seeds of one draw.
        confidence: Coverage of the intervals.
    """
    known = {name: states for name, states in switches.items() if name in arms}
    effects = []
    for switch, pairs in matched_pairs(known).items():
        if pairs:
            differences = np.stack([arms[on] - arms[off] for on, off in pairs])
            whole = paired_test(means_over(differences, axis=0), factor=factor, confidence=confidence)
            effects.append(Effect(switch, tuple(pairs), whole))
    return effects
