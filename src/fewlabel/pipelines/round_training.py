"""What a round of ``learn`` is asked for, and the training it comes to: on which labels, from what, how long."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import Fault
from fewlabel.core.progress import say
from fewlabel.core.settings.base import PathSetting, Settings, setting
from fewlabel.core.settings.durations import clock, parse_duration
from fewlabel.core.settings.value_syntax import merge, show_value
from fewlabel.data.label_values import read_meanings
from fewlabel.data.store import PreparedStore
from fewlabel.data.unannotated_slices import EmptySlices
from fewlabel.engine.runtime import Device
from fewlabel.pipelines import step_timing
from fewlabel.pipelines._stage_checks import check_steps
from fewlabel.stages import finetune

#: Steps are whole multiples of the first and no fewer than the second, or than the warm-up of the run allows.
STEPS, FEWEST_STEPS = 10, 20
#: Settings of a fine-tuning that every round makes itself, and those that no round takes from the one before.
_OWN = frozenset(
    {"data", "out", "encoder", "start", "control", "labelled", "draw", "subjects", "steps", "validate_every"}
    | {"device", "resume"}
)
_AGAIN = frozenset({"checkpoint_seconds", "expect"})


class LearnSettings(Settings):
    """Settings of ``fewlabel learn``."""

    run: PathSetting = setting(..., "run folder made by train or demo")
    masks: PathSetting | None = setting(None, "folder of new and corrected masks; null for RUN/annotations")
    budget: str = setting("4m", "time the round may take, e.g. 10m; the number of steps is chosen to keep it")
    steps: int | None = setting(None, "length of each training; null for what the budget has room for", ge=1)
    rate: float = setting(
        0.5,
        "learning rate, as a share of that of the run",
        gt=0,
        le=1,
        source="own choice: the weights are good",
    )
    scans: int = setting(20, "unlabelled scans to predict afterwards, evenly spread", unit="scans", ge=0)
    take: Literal["better", "always"] = setting(
        "better", "which round predict uses from now on; better: not one that lowered the scores; always: this one"
    )
    use: int | None = setting(
        None, "train nothing, and use this finished round from now on; 0 for what train left", unit="round", ge=0
    )
    labels: Annotated[dict[int, int | Literal["ignore"]] | None, BeforeValidator(read_meanings)] = setting(
        None, "what values in the masks stand for, as for relabel"
    )
    empty_slices: EmptySlices = setting("auto", "what slices without any label are, as for relabel")
    empty_masks: bool = setting(False, "take masks without any structure, as for relabel")
    finetune: dict[str, Any] = setting({}, "settings of finetune that are to differ from those of the run")
    device: Device = setting("auto", "where to compute")

    @field_validator("budget")
    @classmethod
    def _time(cls, value: str) -> str:
        parse_duration(value)
        return value.strip()

    def contradictions(self, where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:
        """Settings of finetune that a round makes itself cannot be given."""
        given = (
            {} if "finetune" in without else {key: self.finetune[key] for key in sorted(_OWN & self.finetune.keys())}
        )
        return [
            Fault("is set by the pipeline itself", f"{where}finetune.{key}", self._instead(key, value))
            for key, value in given.items()
        ]

    def _instead(self, key: str, value: Any) -> str:
        """What to write in place of a setting of finetune."""
        own = key in type(self).model_fields
        return f"Write {key}={show_value(value)}, a setting of learn itself" if own else "Leave it out"


def round_tuning(
    settings: LearnSettings, start: Artifact, store: PreparedStore, new: Mapping[str, Any], out: Path
) -> finetune.FinetuneSettings:
    """Settings of the training: those of the network that it goes on from, on the labels of then and of now.

    Raises:
        SettingsError: If one that was given for it is wrong, or the steps that were given do not outlast the warm-up.
    """
    facts = start.json("segmenter.json")
    held = {*store.split["parts"].get("validation", ())}
    subjects = [*facts["labelled_subjects"], *(mask["subject"] for mask in new.values() if mask["subject"] not in held)]
    kept = finetune.FinetuneSettings.model_fields.keys() - _OWN - _AGAIN
    known = {key: value for key, value in start.manifest.settings.items() if key in kept}
    optimiser = dict(known.get("optimiser", {}))
    for key in ("lr", "min_lr"):
        if optimiser.get(key) is not None:
            optimiser[key] = settings.rate * float(optimiser[key])
    own = {
        "data": store.folder,
        "out": out / "segmenter",
        "start": start.folder,
        "subjects": list(dict.fromkeys(subjects)),
        "optimiser": optimiser,
        "validation": "held_out" if facts.get("selection") == "held_out" else "none",
        "compile": False,
        "device": settings.device,
        **finetune.settings_to_go_on(facts),
    }
    if settings.steps is not None:
        own["steps"] = settings.steps
    tuning = finetune.FinetuneSettings.parse(merge({**known, **own}, settings.finetune), where="finetune.")
    if settings.steps is not None:
        check_steps({"finetune": tuning})
    return tuning


def scans_to_predict(store: PreparedStore, count: int) -> list[str]:
    """At most so many unlabelled training scans, evenly spread."""
    parts = store.split["parts"]
    training = {*parts["train"], *parts["pretrain"]} - {*parts.get("test", ()), *parts.get("validation", ())}
    cases = [case.id for case in store.cases if case.label is None and case.subject in training]
    if len(cases) <= count:
        return cases
    return [cases[round(place * (len(cases) - 1) / max(count - 1, 1))] for place in range(count)]


def sized_tuning(
    settings: LearnSettings,
    tuning: finetune.FinetuneSettings,
    store: PreparedStore,
    shown: Sequence[str],
    started: float,
) -> finetune.FinetuneSettings:
    """The settings with the steps that the budget has room for, and what that comes to, said."""
    labels = finetune.check(tuning, store, steps_open=True)[1]
    (cost,), fit = step_timing.finetuning_costs(tuning, labels)
    predicting = step_timing.prediction_seconds(store, fit, shown, tuning.members)
    spent = time.monotonic() - started
    steps = settings.steps
    if steps is None:
        room = parse_duration(settings.budget) - spent - predicting - cost.fixed
        fewest = STEPS * math.ceil(max(FEWEST_STEPS, cost.lowest) / STEPS)
        steps = max(int(room / (cost.fits * cost.step)) // STEPS * STEPS, fewest)
    fits = "1 training" if cost.fits == 1 else f"{cost.fits} trainings"
    whole = spent + cost.seconds(steps) + predicting
    say(f"{fits} of {steps} steps ({cost.step:.2g} s each), then {len(shown)} scans: about {clock(whole)} in all.")
    every = max(steps // 4, 1)
    return tuning.model_copy(update={"steps": steps, "validate_every": every})
