"""``train``: from a folder of scans to a model, its scores and a report, in one call."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fewlabel.core.artifact import is_artifact, library_versions, machine_facts, read_json, write_json
from fewlabel.core.config import PathSetting, Settings, setting
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.partials import is_partial
from fewlabel.core.places import RUN_FILE, in_the_way
from fewlabel.core.progress import say
from fewlabel.core.values import merge
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines._labels import check_labels
from fewlabel.pipelines._scores import outdated, set_aside
from fewlabel.pipelines.recipes import load_recipe
from fewlabel.pipelines.stages import STAGES, route_known, run_stage, settings_class

CHAIN = ("prepare", "pretrain", "finetune", "evaluate", "report")
#: Stages whose result is kept when a run is continued; scores and report are made anew where something changed.
LASTING = ("prepare", "pretrain", "finetune")
#: Settings that change no result, so a continued run may change them.
FREE = frozenset({"resume", "checkpoint_seconds", "device", "workers", "control"})
RUN_SCHEMA = 1


class TrainSettings(Settings):
    """Settings of ``fewlabel train``.

    Settings of the stages are given as ``STAGE.KEY``; a bare ``KEY`` goes to every stage that has it.
    """

    data: PathSetting = setting(..., "folder or table of scans")
    out: PathSetting = setting(..., "run folder to make")
    resume: bool = setting(False, "continue an unfinished run; finished stages are kept")
    recipe: str = setting("", "recipe the settings started from, for the record")
    prepare: dict[str, Any] = setting({}, "settings of prepare, e.g. prepare.spacing=[1.5,1.5]")
    pretrain: dict[str, Any] = setting({}, "settings of pretrain, e.g. pretrain.steps=400")
    finetune: dict[str, Any] = setting({}, "settings of finetune, e.g. finetune.labelled=1")
    evaluate: dict[str, Any] = setting({}, "settings of evaluate")
    report: dict[str, Any] = setting({}, "settings of report")


def train_settings(values: Mapping[str, Any], recipe: str | Path | None = None) -> TrainSettings:
    """Settings of the pipeline from a recipe and nested values, which win.

    Args:
        values: Settings of the pipeline itself, bare settings, and settings by stage.
        recipe: Name or file of a recipe.

    Raises:
        SettingsError: Naming each key that no stage knows, and with them what :func:`plan` would refuse of the others.
    """
    own = {key: value for key, value in values.items() if key in {"data", "out", "resume"}}
    rest = {key: value for key, value in values.items() if key not in own}
    start: dict[str, dict[str, Any]] = {name: {} for name in CHAIN}
    label = ""
    faults: list[Fault] = []
    if recipe is not None:
        read = load_recipe(recipe)
        label = read.name
        start, faults = route_known(read.values, CHAIN)
    over, unknown = route_known(rest, CHAIN)
    faults += unknown
    ready: dict[str, Any] = {"recipe": label, **{name: merge(start[name], over[name]) for name in CHAIN}}
    try:
        built = TrainSettings.parse({**own, **ready})
    except SettingsError as error:
        faults += error.faults
        # What the stages are told can be looked at all the same.
        built = TrainSettings(data=Path("data"), out=Path("run"), **ready)
    if faults:
        try:
            plan(built)
        except SettingsError as error:
            faults += error.faults
        raise SettingsError("These settings are not valid:", faults)
    return built


def run(settings: TrainSettings) -> Path:
    """Prepare, pre-train, fine-tune beside a control, evaluate, report.

    Leaves ``prepared``, ``encoder``, ``segmenter``, ``segmenter-control``, ``scores``, ``report`` and ``run.json`` in
    ``settings.out``. A data set without any label ends after pre-training; one without a labelled test scan is not
    evaluated. With ``finetune.patch`` the network is 3D and learns from scratch, since pre-training works on slices.
    The control learns from scratch without pre-training, and in 3D without unlabelled scans; a supervised 3D run is its
    own control. All of this is said.

    Returns:
        The run folder.

    Raises:
        SettingsError: If a setting of any stage is wrong (before any work), or ``out`` holds another run.
        FewlabelError: If the prepared data lack what a later stage is to use (before any training), or whatever a
            stage raises.
    """
    plans = plan(settings)
    _one_process()
    _refuse_other_run(settings, plans)
    record = _Record(settings, plans)
    record.stage("prepare")
    store = PreparedStore(settings.out / "prepared")
    parts = store.split["parts"]
    trains = len(store.slices_of(parts.get("train", []), labelled=True)) > 0
    evaluates = trains and len(store.slices_of(parts.get("test", []), labelled=True)) > 0
    check_labels(store, plans, trains=trains, evaluates=evaluates)
    if on_volumes(settings):
        say("finetune.patch is set: a 3D network learns from scratch; no pre-training, which is 2D.")
    else:
        record.stage("pretrain")
    if not trains:
        done = "nothing can be trained on patches" if on_volumes(settings) else "the encoder is trained, no more can be"
        say(f"No scan of the training part has a label: {done}.")
        return record.close()
    record.stage("finetune")
    if evaluates:
        record.stage("evaluate")
    else:
        say("No test scan has a label: there is nothing to evaluate on.")
    record.stage("report")
    return record.close()


def on_volumes(settings: TrainSettings) -> bool:
    """Whether the network is to learn from 3D patches."""
    return settings.finetune.get("patch") is not None


def plan(settings: TrainSettings) -> dict[str, Settings]:
    """The settings of every stage that takes part, checked before any work.

    Raises:
        SettingsError: With the faults of all stages.
    """
    from fewlabel.stages._volumes import slice_faults
    from fewlabel.stages.finetune import FinetuneSettings, control_folder, control_of
    from fewlabel.stages.prepare import PrepareSettings
    from fewlabel.stages.pretrain import PretrainSettings

    folder = settings.out
    flat = not on_volumes(settings)
    links: dict[str, dict[str, Any]] = {
        "prepare": {"data": settings.data.resolve(), "out": folder / "prepared"},
        "pretrain": {"data": folder / "prepared", "out": folder / "encoder"},
        "finetune": {
            "data": folder / "prepared",
            "out": folder / "segmenter",
            "encoder": folder / "encoder" if flat else None,
            "control": True,
        },
        "evaluate": {
            "data": folder / "prepared",
            "out": folder / "scores",
            "segmenter": folder / "segmenter",
            "control": None,
        },
        "report": {"run": folder, "out": folder / "report"},
    }
    plans: dict[str, Settings] = {}
    faults: list[Fault] = []
    for name in CHAIN if flat else [name for name in CHAIN if name != "pretrain"]:
        kind = settings_class(name)
        resume = {"resume": True} if settings.resume and "resume" in kind.model_fields else {}
        finetuned = plans.get("finetune")
        if name == "evaluate" and isinstance(finetuned, FinetuneSettings) and control_of(finetuned):
            links[name]["control"] = control_folder(finetuned.out)
        try:
            plans[name] = kind.parse({**getattr(settings, name), **links[name], **resume}, where=f"{name}.")
        except SettingsError as error:
            faults.extend(error.faults)
    prepared, network = plans.get("prepare"), plans.get("pretrain")
    if isinstance(prepared, PrepareSettings) and isinstance(network, PretrainSettings) and prepared.size is not None:
        faults.extend(slice_faults(prepared.size, network.network.fitted(prepared.size), "prepare.size"))
    if faults:
        raise SettingsError("These settings are not valid:", faults)
    return plans


def _one_process() -> None:
    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1":
        fault = Fault(
            "a pipeline runs in one process", f"{count} processes", "torchrun", "launch pretrain and finetune instead"
        )
        raise SettingsError("The command line is not valid:", [fault])


def _refuse_other_run(settings: TrainSettings, plans: Mapping[str, Settings]) -> None:
    folder = settings.out
    obstacle = in_the_way(folder)
    if not obstacle or _never_begun(folder):
        return
    if not folder.is_dir():
        faults = [Fault("--out must be a new or empty folder", obstacle, str(folder), "give another --out")]
    elif not settings.resume:
        found = "a run" if (folder / RUN_FILE).is_file() else obstacle
        remedy = "give --resume to continue it, or another --out" if found == "a run" else "give another --out"
        faults = [Fault("--out must be a new or empty folder", found, str(folder), remedy)]
    else:
        faults = _differences(folder, plans)
    if faults:
        raise SettingsError("Nothing was written:", faults)


def _never_begun(folder: Path) -> bool:
    """Whether nothing lies there but the record of a run in which no stage has finished."""
    names = {path.name for path in folder.iterdir() if not is_partial(path)} if folder.is_dir() else set()
    if names != {RUN_FILE}:
        return False
    record = read_json(folder / RUN_FILE)
    return isinstance(record, dict) and record.get("kind") == "run" and not record.get("stages")


def _differences(folder: Path, plans: Mapping[str, Settings]) -> list[Fault]:
    """What was set otherwise when the stages that are there already were made."""
    path = folder / RUN_FILE
    before: dict[str, Any] = read_json(path)["settings"] if path.is_file() else {}
    faults: list[Fault] = []
    for name in [name for name in LASTING if name in plans]:
        now = plans[name].record()
        # The raw data must stay the same; the other links lie in the run folder.
        skip = FREE | (set(STAGES[name].links) - ({"data"} if name == "prepare" else set()))
        if name not in before or not Path(plans[name].out).exists():  # type: ignore[attr-defined]
            continue
        old = before[name]
        faults.extend(
            Fault(
                "a continued run keeps its settings",
                f"{json.dumps(old.get(key))} before, {json.dumps(now.get(key))} now",
                f"{name}.{key}",
                "repeat the old settings, or give another --out",
            )
            for key in sorted({*old, *now} - skip)
            if old.get(key) != now.get(key)
        )
    return faults


class _Record:
    """Runs stages and keeps ``run.json`` in step with them."""

    def __init__(self, settings: TrainSettings, plans: Mapping[str, Settings]) -> None:
        self._folder = settings.out
        self._plans = plans
        path = self._folder / RUN_FILE
        before = read_json(path).get("stages", {}) if path.is_file() else {}
        self._content: dict[str, Any] = {
            "kind": "run",
            "schema_version": RUN_SCHEMA,
            "data": str(settings.data),
            "recipe": settings.recipe,
            "finished": False,
            "stages": before,
            "settings": {name: values.record() for name, values in plans.items()},
            "versions": library_versions(),
            "machine": machine_facts(),
        }
        # A folder without a finished stage stays new: the first one may find that the data were not meant.
        if path.is_file():
            self._write()

    def stage(self, name: str) -> None:
        """Run one stage and note what it took."""
        settings = self._plans[name]
        out = Path(settings.out)  # type: ignore[attr-defined]
        anew = name == "evaluate" and outdated(out, settings.record(), FREE)
        if anew:
            say(f"{out} has scores of other settings or weights: they are made anew.")
        finished = is_artifact(out, STAGES[name].kind) and not anew
        started = time.monotonic()
        with set_aside(out) if anew else nullcontext():
            run_stage(name, settings)
        seconds = time.monotonic() - started
        known = {} if anew else self._content["stages"].get(name, {})
        # A stage that was there already keeps the time it took when it was made.
        if not (finished and known):
            seconds += known.get("seconds", 0.0)
            self._content["stages"][name] = {"folder": out.name, "seconds": round(seconds, 1)}
        self._write()

    def close(self) -> Path:
        """Mark the run as finished."""
        self._content["finished"] = True
        self._write()
        return self._folder

    def _write(self) -> None:
        write_json(self._folder / RUN_FILE, self._content)
