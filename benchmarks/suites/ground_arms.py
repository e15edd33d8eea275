"""What the ground of fine-tuning is made of: one part more with each arm, up to the weak-to-strong phase.

An arm is a fine-tuning and, where parts come only after training, what is done with its weights: several arms then
share one training. All arms of a table are equal in time: a step of a regime costs what ``results/regime-costs.json``
says, in steps of supervised training, and a run may cost so many of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suites import RESULTS
from suites.as_it_was import PLAIN


@dataclass(frozen=True)
class Arm:
    """One row of the table.

    Attributes:
        training: Name of the fine-tuning whose weights it shows.
        statistics: Whether statistics of batch normalisation are taken anew after training.
        postprocess: Whether predictions are cleaned.
    """

    training: str
    statistics: bool = False
    postprocess: bool = False


@dataclass(frozen=True)
class Training:
    """One fine-tuning.

    Attributes:
        regime: Its settings.
        augment: Settings of the augmentation over the default.
        settings: Further settings of ``finetune``.
        share: Of the cost of a run that it may take; more than 1 for what is not held to equal time.
    """

    regime: Mapping[str, Any]
    augment: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0


SUPERVISED = {"name": "supervised"}
WEAK_TO_STRONG = {"name": "fixmatch"}
TRAININGS: dict[str, Training] = {
    "plain": Training(SUPERVISED, PLAIN, {"widen_augment": False}),
    # The same ranges, widened to how the scans lie.
    "geometry": Training(SUPERVISED, PLAIN),
    "intensity": Training(SUPERVISED, {"anatomy": {"probability": 0.0}}),
    "ground": Training(SUPERVISED),
    "weak-to-strong": Training(WEAK_TO_STRONG),
    "members": Training(WEAK_TO_STRONG, settings={"members": 3}, share=1 / 3),
    "mean_teacher": Training({"name": "mean_teacher"}),
    "bcp": Training({"name": "bcp"}),
}
ARMS: dict[str, Arm] = {
    "supervised": Arm("plain"),
    "+geometry": Arm("geometry"),
    "+intensity": Arm("intensity"),
    "+anatomy": Arm("ground"),
    "+statistics": Arm("ground", statistics=True),
    "+post-processing": Arm("ground", statistics=True, postprocess=True),
    "weak-to-strong": Arm("weak-to-strong", postprocess=True),
    "members-3": Arm("members", postprocess=True),
    "mean_teacher": Arm("mean_teacher", postprocess=True),
    "bcp": Arm("bcp", postprocess=True),
    "upper-bound": Arm("ground", statistics=True, postprocess=True),
}


def steps_of(training: Training, units: int, costs: Path = RESULTS / "regime-costs.json") -> int:
    """How many steps a fine-tuning may take, to the nearest 50.

    Args:
        training: The fine-tuning.
        units: What it may cost, in supervised steps.
        costs: The table of what a step of each regime costs beside a supervised one, once its unlabelled part counts.
    """
    rows = json.loads(costs.read_text())["regimes"]
    name = str(training.regime["name"])
    cost, rest = float(rows[name]["step"]), float(training.regime.get("rest", resting(name)))
    mean = rest + (1 - rest) * cost
    return max(50, 50 * round(units * training.share / mean / 50))


def resting(name: str) -> float:
    """The share of a run in which a regime is supervised, by default."""
    from fewlabel.core.config import resolve_plugin

    return float(getattr(resolve_plugin("fewlabel.regimes", {"name": name}), "rest", 0.0))
