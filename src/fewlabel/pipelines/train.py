"""``train``: from a folder of scans to a model, its scores and a report, in one call."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import is_artifact
from fewlabel.core.artifact.run_record import write_run
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import RUN_FILE
from fewlabel.core.progress import say
from fewlabel.core.provenance import library_versions, machine_facts
from fewlabel.core.settings.base import Settings, path_from, without_absolute
from fewlabel.core.settings.durations import clock
from fewlabel.data.scan_locations import find_again_in_rounds, read_data_folder
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines._outdated_scores import outdated, set_aside
from fewlabel.pipelines._run_folder_checks import FREE, before, refuse_other_run
from fewlabel.pipelines._stage_checks import check_plans, check_steps
from fewlabel.pipelines._train_settings import CHAIN, TrainSettings, asked_for, plan, train_settings
from fewlabel.pipelines.budget_sizing import Sizing, forecast_of, forecast_rows
from fewlabel.pipelines.model_or_control import choice, choice_line, surprise_line
from fewlabel.pipelines.stage_table import STAGES, run_stage
from fewlabel.pipelines.whole_run import WholeRun, following

__all__ = ["CHAIN", "TrainSettings", "plan", "run", "train_settings"]

RUN_SCHEMA = 1
#: The part of a split that is scored unless another one is asked for.
TEST = "test"


def run(settings: TrainSettings) -> Path:
    """Prepare, pre-train, fine-tune beside a control, evaluate, report.

    With a budget, a few steps are timed first, and grid, width and steps that were not set are chosen to keep it; how
    long each stage will take is said either way, with the words that repeat the run.

    Leaves ``prepared``, ``encoder``, ``segmenter``, ``segmenter-control``, ``scores``, ``report`` and ``run.json`` in
    ``settings.out``. A data set without any label ends after pre-training; one without a labelled test scan is not
    evaluated. With ``finetune.patch`` the network is 3D and learns from scratch, since pre-training works on slices.
    The control learns from scratch without pre-training, and in 3D without unlabelled scans; a supervised run from
    scratch is its own control. All of this is said, and which of model and control ``predict`` on the run folder uses:
    the better one where validation or left-out patients can tell.

    Returns:
        The run folder.

    Raises:
        SettingsError: If a setting of any stage is wrong (before any work), or ``out`` holds another run.
        FewlabelError: If the prepared data lack what a later stage is to use (before any training), or whatever a
            stage raises.
    """
    started = time.monotonic()
    plan(settings)
    _one_process()
    sizing = Sizing(settings, started)
    check_steps(plan(sizing.settings), sizing.open_steps)
    refuse_other_run(settings.out, plan(sizing.settings), resume=settings.resume)
    sizing.choose_grid(plan(sizing.settings))
    record = _Record(sizing)
    before = read_data_folder(settings.out / "prepared")
    record.stage("prepare")
    find_again_in_rounds(settings.out, before)
    store = PreparedStore(settings.out / "prepared")
    parts = store.split["parts"]
    trains = len(store.slices_of(parts.get("train", []), labelled=True)) > 0
    plans = plan(sizing.settings)
    scored = str(plans["evaluate"].part)  # type: ignore[attr-defined]
    # Another part than the usual one was asked for: that it has no labels is an error then.
    evaluates = trains and (scored != TEST or len(store.slices_of(parts.get(TEST, []), labelled=True)) > 0)
    still_open = sizing.open_steps
    check_plans(store, plans, settings.user_network, trains=trains, evaluates=evaluates, steps_open=still_open)
    if trains or settings.pretrains:
        sizing.choose_steps(plans, store, trains=trains, evaluates=evaluates)
        record.settle()
    with following(forecast_rows(sizing.resolved)) as whole:
        record.whole = whole
        return _stages(settings, record, plans, trains=trains, evaluates=evaluates)


def _stages(
    settings: TrainSettings, record: _Record, plans: Mapping[str, Any], *, trains: bool, evaluates: bool
) -> Path:
    """All stages after preparing."""
    if settings.pretrains:
        if trains and plans["finetune"].mode == "scratch":
            say("finetune.mode=scratch takes nothing from the encoder; pretraining=false would train none.")
        record.stage("pretrain")
    elif settings.on_volumes:
        say("finetune.patch is set: a 3D network learns from scratch; no pre-training, which is 2D.")
    else:
        say("pretraining=false: the network learns from scratch.")
    if not trains:
        done = "only the encoder was trained" if settings.pretrains else "nothing can be trained from scratch"
        done = "nothing can be trained on patches" if settings.on_volumes else done
        say(f"No scan of the training part has a label: {done}.")
        more = "" if settings.pretrains or settings.on_volumes else "; pretraining=true trains an encoder on the scans"
        say(f"Next, annotate some of them: fewlabel view {shlex.quote(str(settings.data))}, then train again{more}.")
        return record.close()
    record.stage("finetune")
    record.choose()
    if evaluates:
        record.stage("evaluate")
        record.hold_against_scores()
    else:
        say("No test scan has a label: there is nothing to evaluate on.")
    record.stage("report")
    return record.close()


def _one_process() -> None:
    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1":
        problem = f"train and demo run in one process, not in {count}"
        fault = Fault(problem, "torchrun", "Launch pretrain and finetune instead")
        raise SettingsError("The command line is not valid:", [fault])


class _Record:
    """Runs stages and keeps ``run.json`` in step with them."""

    def __init__(self, sizing: Sizing) -> None:
        settings = sizing.settings
        #: The bar over all stages, where there is a forecast.
        self.whole: WholeRun | None = None
        self._sizing = sizing
        self._folder = settings.out
        self._plans: Mapping[str, Settings] = plan(settings)
        self._content: dict[str, Any] = {
            "kind": "run",
            "schema_version": RUN_SCHEMA,
            "data": path_from(self._folder, settings.data),
            "asked": asked_for(settings),
            "recipe": settings.recipe,
            "finished": False,
            "stages": before(self._folder).get("stages", {}),
            "use": before(self._folder).get("use"),
            "round": before(self._folder).get("round"),
            "settings": self._recorded(),
            "resolved": without_absolute(self._folder, sizing.resolved),
            "versions": library_versions(),
            "machine": machine_facts(),
        }
        # A folder without a finished stage stays new: the first one may find that the data were not meant.
        if (self._folder / RUN_FILE).is_file():
            self._write()

    def settle(self) -> None:
        """Take up what the steps were sized to."""
        self._plans = plan(self._sizing.settings)
        self._content["settings"] = self._recorded()
        self._content["resolved"] = without_absolute(self._folder, self._sizing.resolved)
        self._write()

    def stage(self, name: str) -> None:
        """Run one stage and note what it took, beside what it was to take."""
        settings = self._plans[name]
        out = Path(settings.out)  # type: ignore[attr-defined]
        if self.whole is not None:
            self.whole.enter(name)
        anew = name == "evaluate" and outdated(out, settings.record(), FREE)
        if anew:
            say(f"{out} holds scores of other settings or weights, which are replaced.")
        known = {"user_network": self._sizing.settings.user_network} if name == "finetune" else {}
        finished = is_artifact(out, STAGES[name].kind) and not anew
        started = time.monotonic()
        with set_aside(out) if anew else nullcontext():
            run_stage(name, settings, **known)
        seconds = time.monotonic() - started
        before_now = {} if anew else self._content["stages"].get(name, {})
        # A stage that was there already keeps the time it took when it was made.
        if not (finished and before_now):
            seconds += before_now.get("seconds", 0.0)
            self._content["stages"][name] = {"folder": out.name, "seconds": round(seconds, 1)}
        self._write()

    def choose(self) -> None:
        """Note and say which of model and control is used."""
        scored: Any = self._plans["evaluate"]
        self._content["use"] = choice(scored.segmenter, scored.control)
        self._write()
        say(choice_line(self._content["use"]))

    def hold_against_scores(self) -> None:
        """Say where test scans speak against the choice."""
        scored: Any = self._plans["evaluate"]
        if line := surprise_line(self._content["use"], scored.out):
            say(line)

    def close(self) -> Path:
        """Mark the run as finished, and hold what it took against the forecast."""
        self._content["finished"] = True
        wanted, whole = forecast_of(self._sizing.resolved)
        stages = self._content["stages"]
        for name, seconds in wanted.items():
            if name in stages:
                stages[name]["forecast_seconds"] = round(seconds, 1)
        self._write()
        if wanted and set(wanted) <= set(stages):
            # What lay before the forecast is in both.
            taken = whole + sum(stages[name]["seconds"] - seconds for name, seconds in wanted.items())
            say(f"It took {clock(taken)}; the forecast was {clock(whole)}.")
        return self._folder

    def _recorded(self) -> dict[str, dict[str, Any]]:
        """The settings of all stages, with paths from the run folder on."""
        return {name: values.record(self._folder) for name, values in self._plans.items()}

    def _write(self) -> None:
        write_run(self._folder, self._content)
