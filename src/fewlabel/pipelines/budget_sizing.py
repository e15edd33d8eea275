"""Sizes a run to its budget: settings not given are chosen by what steps take here; says how long the run will take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fewlabel.core.progress import say
from fewlabel.core.provenance import machine_facts
from fewlabel.core.settings.value_syntax import assignments, merge, nest
from fewlabel.data.store import PreparedStore
from fewlabel.engine import compiling
from fewlabel.engine.runtime import choose_device, resolved_precision
from fewlabel.pipelines import pixel_grid_for_budget, run_duration_table, step_timing, time_budget_arithmetic
from fewlabel.pipelines._given_and_chosen_settings import completed, given_steps, said, standing, unsaid
from fewlabel.pipelines._run_folder_checks import before
from fewlabel.pipelines._train_settings import OFF, TrainSettings, plan
from fewlabel.pipelines.run_duration_table import Row
from fewlabel.pipelines.step_timing import Measured
from fewlabel.pipelines.time_budget_arithmetic import Cost, Steps

#: Seconds that a report takes, about, without the predictions of the scans it shows.
REPORT_SECONDS = 20.0
#: Share of the budget that goes to training as long as it is unknown what preparing and scoring take.
TRAINING_SHARE = 0.85
#: With fewer steps than this in any training a forecast would take longer than they do.
WORTH_A_FORECAST = 50
#: What a budget is overrun by before that is said.
TOLERANCE = 1.02
_TRAINED = ("pretrain", "finetune")
Plans = Mapping[str, Any]


class Sizing:
    """What a run is to be, from what was said and what was measured.

    Args:
        given: Settings as they were given.
        started: ``time.monotonic()`` when the run began.

    Attributes:
        settings: With all that was chosen so far.
        resolved: For the record of the run: ``budget`` and ``words`` that were chosen, and once steps are known
            ``command``, ``step_seconds``, ``forecast``, ``threads``, ``precision`` and ``device``. Empty where nothing
            was chosen or measured.
    """

    def __init__(self, given: TrainSettings, started: float) -> None:
        self.settings = given
        self.started = started
        self.resolved: dict[str, Any] = {}
        known = before(given.out) if given.resume else {}
        #: Whether nothing is left to choose or to measure.
        self.settled = given.unmeasured
        if known:
            self._as_before(known.get("resolved", {}))

    def _as_before(self, resolved: Mapping[str, Any]) -> None:
        """Take up what was chosen when the run began; words of today win."""
        self.resolved = dict(resolved)
        # A run without such a record was not sized, and is not now.
        self.settled = not resolved or "forecast" in resolved
        kept, now = resolved.get("budget"), self.settings.budget
        if "budget" in self.settings.said and now not in (None, kept):
            say(f"The run began with budget={kept or OFF} and keeps it; another one changes nothing.")
        words = standing(self.settings, resolved.get("words", []))
        self.settings = completed(self.settings, nest(words)).model_copy(update={"budget": kept})
        if resolved:
            self.resolved["words"] = words
        if "command" in resolved:
            self.resolved["command"] = self._command(plan(self.settings), resolved["precision"])

    @property
    def open_steps(self) -> frozenset[str]:
        """Stages whose steps are still to be chosen."""
        if self.settled or self.settings.budget is None:
            return frozenset()
        return frozenset(_TRAINED) - given_steps(self.settings).keys()

    @property
    def _left(self) -> float:
        """Seconds of the budget that are left."""
        return (self.settings.seconds or 0.0) - (time.monotonic() - self.started)

    def choose_grid(self, plans: Plans) -> None:
        """Choose size and spacing, where they were not said, before the scans are prepared.

        Args:
            plans: Settings of the stages that take part.

        Raises:
            SettingsError: If there is no such reader or split.
        """
        if self.settled or self.settings.budget is None or self.resolved:
            return
        self.resolved = {"budget": self.settings.budget, "words": []}
        if all(said(self.settings.prepare, key) for key in ("size", "spacing")):
            return
        grid = pixel_grid_for_budget.choose_grid(
            _at_width(plans, self._width(plans)),
            TRAINING_SHARE * self._left,
            share=self.settings.pretrain_share,
            given=given_steps(self.settings),
        )
        if grid is not None:
            values = {"size": list(grid.size), "spacing": list(grid.spacing)}
            self._choose({"prepare": unsaid(values, self.settings.prepare)})

    def choose_steps(self, plans: Plans, store: PreparedStore, *, trains: bool, evaluates: bool) -> None:
        """Choose width and steps, where they were not said, and tell how long each stage will take.

        Args:
            plans: Settings of the stages that take part.
            store: The prepared data.
            trains: Whether there are labels to fine-tune on.
            evaluates: Whether there are labels to evaluate on.

        Raises:
            FewlabelError: Whatever a step of a training raises.
        """
        sized = self.settings.budget is not None
        set_steps = {stage: int(plans[stage].steps) for stage in _TRAINED if stage in plans}
        if self.settled or not (sized or max(set_steps.values(), default=0) >= WORTH_A_FORECAST):
            return
        say("Timing a few steps of each training ...")
        given = given_steps(self.settings) if sized else set_steps
        width = self._width(plans) if sized else None
        compiled = self._compiled(plans, given) if sized else {}
        plans = {name: values.model_copy(update=compiled.get(name)) for name, values in plans.items()}
        measured = step_timing.measure(_at_width(plans, width), store, trains=trains, evaluates=evaluates)
        steps = self._share(measured, given)
        if (
            width is not None
            and width > time_budget_arithmetic.NARROW
            and time_budget_arithmetic.too_wide(steps, given)
        ):
            width = time_budget_arithmetic.NARROW
            measured = step_timing.measure(_at_width(plans, width), store, trains=trains, evaluates=evaluates)
            steps = self._share(measured, given)
        if sized:
            self._choose(merge(_words(plans, width, steps, given, self.settings.said), compiled))
        rows = _rows(plans, measured, steps, time.monotonic() - self.started)
        self._record(plans, measured, rows)
        self._tell(rows, given if sized else {})

    def _share(self, measured: Measured, given: Mapping[str, int]) -> Steps:
        left = self._left - (measured.evaluation or 0.0) - _report(measured)
        return time_budget_arithmetic.share_out(
            left, measured.pretrain, measured.arms, share=self.settings.pretrain_share, given=given
        )

    def _width(self, plans: Plans) -> int | None:
        """The width to begin with; None where one was said."""
        if any(said(getattr(self.settings, stage), "network", "width") for stage in _TRAINED):
            return None
        return time_budget_arithmetic.WIDTHS[choose_device(plans["finetune"].device)]

    def _compiled(self, plans: Plans, given: Mapping[str, int]) -> dict[str, dict[str, bool]]:
        """Stage → whether its steps are compiled, where that is left open and hangs on a length to be chosen."""
        share = self.settings.pretrain_share if "pretrain" in plans else 0.0
        seconds = {"pretrain": share, "finetune": 1 - share}
        return {
            name: {"compile": TRAINING_SHARE * self._left * seconds[name] >= compiling.PAYS_FROM}
            for name in _TRAINED
            if name in plans and name not in given and plans[name].compile == "auto"
            if not compiling.unpaid(choose_device(plans[name].device), plans[name].precision)
        }

    def _choose(self, words: Mapping[str, Any]) -> None:
        """Take values for what was not said."""
        self.settings = completed(self.settings, words)
        self.resolved["words"] = [*self.resolved["words"], *assignments(words)]

    def _record(self, plans: Plans, measured: Measured, rows: Sequence[Row]) -> None:
        settings, words = self.settings, self.resolved.get("words", [])
        devices = {name: choose_device(plans[name].device) for name in (*_TRAINED, "evaluate") if name in plans}
        costs: list[Cost] = [*([] if measured.pretrain is None else [measured.pretrain]), *measured.arms]
        precision = {name: resolved_precision(plans[name].precision, kind) for name, kind in devices.items()}
        self.resolved = {
            "budget": settings.budget,
            "words": words,
            "command": self._command(plans, precision),
            "step_seconds": {cost.name: round(cost.step, 5) for cost in costs},
            "forecast": {"rows": [row.record() for row in rows], "seconds": round(run_duration_table.total(rows), 1)},
            "threads": machine_facts()["threads"],
            "precision": precision,
            "device": devices,
        }
        self.settled = True

    def _command(self, plans: Plans, precision: Mapping[str, str]) -> list[str]:
        """The words that repeat the run.

        Args:
            plans: Settings of the stages that take part.
            precision: Stage → what it turned out to be here; without a budget it is left open, and another machine may
                find another one.
        """
        settings = self.settings
        resolved = merge(nest(self.resolved.get("words", [])), _precision(plans, settings.said, precision))
        return run_duration_table.command(
            str(settings.data), str(settings.out), settings.named_recipe, settings.said, resolved
        )

    def _tell(self, rows: Sequence[Row], given: Mapping[str, int]) -> None:
        """The table, whether the budget cannot be kept, and the words that repeat the run."""
        for line in run_duration_table.table_lines(rows, datetime.now().astimezone()):
            say(line)
        asked = self.settings.seconds
        if asked is not None and run_duration_table.total(rows) > TOLERANCE * asked:
            say(f"budget={self.settings.budget} cannot be kept: {self._why(given)}.")
        say("To repeat this run, here or on another machine:")
        for line in run_duration_table.shell_lines(self.resolved["command"]):
            say(line)

    def _why(self, given: Mapping[str, int]) -> str:
        steps = [f"{stage}.steps={count}" for stage, count in given.items()]
        if steps:
            return f"{' and '.join(steps)} {'stands' if len(steps) == 1 else 'stand'} as set"
        return f"no training has fewer than {time_budget_arithmetic.FEWEST} steps"


def forecast_rows(resolved: Mapping[str, Any]) -> list[Row]:
    """The forecast of a run, as ``run.json`` keeps it; empty without."""
    return [Row(**row) for row in resolved.get("forecast", {}).get("rows", ())]


def forecast_of(resolved: Mapping[str, Any]) -> tuple[dict[str, float], float]:
    """Stage → seconds that it was to take, and seconds of the whole run; empty without a forecast."""
    seconds = float(resolved.get("forecast", {}).get("seconds", 0.0))
    return run_duration_table.by_stage(forecast_rows(resolved)), seconds


def _at_width(plans: Plans, width: int | None) -> Plans:
    """Settings whose network is so wide; None for as wide as it was said to be."""
    if width is None:
        return plans
    sized = dict(plans)
    for name in _TRAINED:
        if name in plans:
            network = plans[name].network.model_copy(update={"width": width})
            sized[name] = plans[name].model_copy(update={"network": network})
    return sized


def _words(
    plans: Plans, width: int | None, steps: Steps, given: Mapping[str, int], user: Mapping[str, Any]
) -> dict[str, Any]:
    """What was chosen after preparing, as nested values."""
    words: dict[str, Any] = {} if width is None else {"network": {"width": width}}
    for stage, count in (("pretrain", steps.pretrain), ("finetune", steps.finetune)):
        if count is not None and stage not in given:
            words[stage] = {"steps": count}
    return merge(words, _precision(plans, user))


def _precision(plans: Plans, user: Mapping[str, Any], known: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What precision=auto turns out to be, as nested values: one word where it is one for all.

    Args:
        plans: Settings of the stages that take part.
        user: What the user said; ``STAGE.precision=auto`` would win over a word for all stages.
        known: Stage → what it turned out to be; None for what it is on this machine.
    """
    open_ones = [name for name in (*_TRAINED, "evaluate") if name in plans and plans[name].precision == "auto"]
    here = {name: resolved_precision("auto", choose_device(plans[name].device)) for name in open_ones}
    precisions = {name: (known or here).get(name, here[name]).removesuffix("-mixed") for name in open_ones}
    by_name = any("precision" in user.get(name, {}) for name in precisions)
    if len(set(precisions.values())) == 1 and not by_name:
        return {"precision": precisions[open_ones[0]]}
    return {name: {"precision": precision} for name, precision in precisions.items()}


def _rows(plans: Plans, measured: Measured, steps: Steps, spent: float) -> list[Row]:
    """What has been, and what is to come."""
    rows = [Row("", "prepare, and timing of steps", spent, done=True)]
    cost = measured.pretrain
    if cost is not None and steps.pretrain is not None:
        name = f"pretrain {plans['pretrain'].method.name}"
        rows.append(Row("pretrain", name, cost.seconds(steps.pretrain), steps.pretrain, cost.step))
    for arm in measured.arms:
        count = steps.finetune or 0
        name = f"finetune {plans['finetune'].regime.name}" if arm.name == "finetune" else "its control"
        many = f", {arm.fits} times" if arm.fits > 1 else ""
        rows.append(Row("finetune", f"{name}{many}", arm.seconds(count), count, arm.step))
    if measured.evaluation is not None:
        rows.append(Row("evaluate", "evaluate", measured.evaluation))
    if measured.arms:
        rows.append(Row("report", "report", _report(measured)))
    return rows


def _report(measured: Measured) -> float:
    """Seconds of the report; without fine-tuning there is none."""
    return REPORT_SECONDS + measured.shown if measured.arms else 0.0
