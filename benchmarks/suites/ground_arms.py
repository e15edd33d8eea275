"""What the ground of fine-tuning is made of: one part more with each arm, up to the weak-to-strong phase.

An arm is a fine-tuning and, where parts come only after training, what is done with its weights: several arms then
share one training. All arms of a table are equal in time: a step of a regime costs what ``results/regime-costs.json``
says, in steps of supervised training, and a run may cost so many of them, with the pre-training before it if there is
one.
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
class Encoder:
    """The pre-training before a fine-tuning.

    Attributes:
        method: Its name; its settings are the recipe's.
        share: Of the cost of a run that it may take.
    """

    method: str
    share: float


@dataclass(frozen=True)
class Training:
    """One fine-tuning.

    Attributes:
        regime: Its settings.
        augment: Settings of the augmentation over the default.
        settings: Further settings of ``finetune``.
        share: Of the cost of a run that it may take; more than 1 for what is not held to equal time.
        encoder: What it begins from, paid for out of the same share; None from scratch.
        middle: Whether it sees the middle of the slices alone, as recipe ``acdc-lite`` cuts it, on ACDC.
    """

    regime: Mapping[str, Any]
    augment: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    encoder: Encoder | None = None
    middle: bool = False


SUPERVISED = {"name": "supervised"}
WEAK_TO_STRONG = {"name": "fixmatch"}
TRAININGS: dict[str, Training] = {
    "plain": Training(SUPERVISED, PLAIN, {"widen_augment": False}, middle=True),
    # Views of whole slices, and the same ranges widened to how the scans lie.
    "geometry": Training(SUPERVISED, PLAIN),
    "intensity": Training(SUPERVISED, {"anatomy": {"probability": 0.0}}),
    "ground": Training(SUPERVISED),
    "weak-to-strong": Training(WEAK_TO_STRONG),
    # The same without one of its parts, or with one of another kind.
    "all-pieces": Training({**WEAK_TO_STRONG, "one_piece": False}),
    "position-partners": Training({**WEAK_TO_STRONG, "partners": "position"}),
    "members": Training(WEAK_TO_STRONG, settings={"members": 3}, share=1 / 3),
    # Not in equal time: what the second half of it brings.
    "half-the-time": Training(WEAK_TO_STRONG, share=0.5),
    "half-the-time-supervised": Training(SUPERVISED, share=0.5),
    "mean_teacher": Training({"name": "mean_teacher"}),
    "bcp": Training({"name": "bcp"}),
    # The share that ``train pretraining=true`` gives it.
    "gcl+weak-to-strong": Training(WEAK_TO_STRONG, encoder=Encoder("gcl", share=0.25)),
}
ARMS: dict[str, Arm] = {
    "supervised": Arm("plain"),
    "+geometry": Arm("geometry"),
    "+intensity": Arm("intensity"),
    "+anatomy": Arm("ground"),
    "+statistics": Arm("ground", statistics=True),
    "+post-processing": Arm("ground", postprocess=True),
    "weak-to-strong": Arm("weak-to-strong", postprocess=True),
    "all-pieces": Arm("all-pieces", postprocess=True),
    "position-partners": Arm("position-partners", postprocess=True),
    "members-3": Arm("members", postprocess=True),
    "half-the-time": Arm("half-the-time", postprocess=True),
    "half-the-time-supervised": Arm("half-the-time-supervised", postprocess=True),
    "mean_teacher": Arm("mean_teacher", postprocess=True),
    "bcp": Arm("bcp", postprocess=True),
    "gcl+weak-to-strong": Arm("gcl+weak-to-strong", postprocess=True),
    "upper-bound": Arm("ground", postprocess=True),
}


#: What a step of pre-training by recipe ``acdc-lite`` costs, in supervised steps of fine-tuning: processor time of one
#: thread on the split ``develop``, 1.99 s over 0.375 s, times the pixels of a whole slice over those of its middle.
PRETRAINING = {"gcl": 10.9}


def steps_of(
    training: Training, units: int, own: Mapping[str, float] | None = None, table: Path = RESULTS / "regime-costs.json"
) -> int:
    """How many steps a fine-tuning may take, to the nearest 50.

    Args:
        training: The fine-tuning.
        units: What it may cost with its pre-training, in supervised steps.
        own: What a step of a regime costs beside a supervised one, once its unlabelled part counts, on this data set.
        table: Where that is said of ACDC, for regimes that ``own`` does not name.
    """
    name = str(training.regime["name"])
    known = {key: float(row["step"]) for key, row in json.loads(table.read_text())["regimes"].items()} | dict(own or {})
    rest = float(training.regime.get("rest", resting(name)))
    mean = rest + (1 - rest) * known[name]
    left = units * training.share
    if training.encoder is not None:
        left -= encoder_steps(training.encoder, units) * PRETRAINING[training.encoder.method]
    return _rounded(left / mean)


def encoder_steps(encoder: Encoder, units: int) -> int:
    """How many steps a pre-training may take, to the nearest 50.

    Args:
        encoder: The pre-training.
        units: What it may cost with the fine-tuning that follows, in supervised steps.
    """
    return _rounded(units * encoder.share / PRETRAINING[encoder.method])


def _rounded(steps: float) -> int:
    return max(50, 50 * round(steps / 50))


def resting(name: str) -> float:
    """The share of a run in which a regime is supervised, by default."""
    from fewlabel.core.settings.base import resolve_plugin

    return float(getattr(resolve_plugin("fewlabel.regimes", {"name": name}), "rest", 0.0))
