"""The settings of ``train``, and those of its stages that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, field_validator

from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import RUN_FILE
from fewlabel.core.settings.base import (
    PathSetting,
    Settings,
    found_from,
    located_from,
    path_from,
    setting,
    without_absolute,
)
from fewlabel.core.settings.durations import parse_duration
from fewlabel.core.settings.value_syntax import assignments, merge, nest
from fewlabel.pipelines.recipes import load_recipe
from fewlabel.pipelines.stage_table import route_known, set_keys, settings_class

CHAIN = ("prepare", "pretrain", "finetune", "evaluate", "report")
#: The recipe of a run that names none: what is trained by default, and for how long.
DEFAULT_RECIPE = "default"
OFF = "off"


class SizedSettings(Settings):
    """Settings of every pipeline that trains, about its size."""

    budget: str | None = setting(
        None,
        "time the whole run may take, e.g. 45m or 1h30m; grid, width and steps that are not set are chosen to keep it. "
        "1h where neither a recipe nor steps are given; off: nothing is chosen or measured",
    )
    pretraining: bool = setting(
        True,
        "pre-train an encoder; false: the network learns from scratch. Without a recipe it is false, unless settings "
        "of pre-training are given",
    )
    pretrain_share: float = setting(
        0.25, "share of the training's time that pre-training gets under a budget", unit="0 to 1", gt=0, lt=1
    )

    @field_validator("budget")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is None or value.strip().lower() == OFF:
            return None
        parse_duration(value)
        return value.strip()


class _Places(Settings):
    """Where from and where to; listed first."""

    data: PathSetting = setting(..., "folder or table of scans")
    out: PathSetting = setting(..., "run folder to make")
    resume: bool = setting(False, "continue an unfinished run; finished stages are kept")


class TrainSettings(SizedSettings, _Places):
    """Settings of ``fewlabel train``.

    Settings of the stages are given as ``STAGE.KEY``; a bare ``KEY`` goes to every stage that has it.
    """

    recipe: str = setting("", "recipe the settings started from, for the record")
    prepare: dict[str, Any] = setting({}, "settings of prepare, e.g. prepare.spacing=[1.5,1.5]")
    pretrain: dict[str, Any] = setting({}, "settings of pretrain, e.g. pretrain.steps=400")
    finetune: dict[str, Any] = setting({}, "settings of finetune, e.g. finetune.labelled=1")
    evaluate: dict[str, Any] = setting({}, "settings of evaluate")
    report: dict[str, Any] = setting({}, "settings of report")

    #: What the user said beside the recipe, and the recipe as it was named; for the words that repeat a run.
    _said: dict[str, Any] = PrivateAttr(default_factory=dict)
    _recipe: str = PrivateAttr(default="")

    @property
    def said(self) -> dict[str, Any]:
        """Nested values that the user gave beside the recipe."""
        return self._said

    @property
    def user_network(self) -> frozenset[str]:
        """Settings of fine-tuning's network that the user gave beside the recipe."""
        given, _ = route_known({key: value for key, value in self._said.items() if key not in OWN}, CHAIN)
        return set_keys(given["finetune"].get("network", {}))

    @property
    def named_recipe(self) -> str:
        """The recipe as the user named it; empty for none."""
        return self._recipe

    @property
    def seconds(self) -> float | None:
        """The budget; None without."""
        return None if self.budget is None else parse_duration(self.budget)

    @property
    def unmeasured(self) -> bool:
        """Whether the budget was switched off, so that nothing is to be measured."""
        return self.budget is None and "budget" in self.model_fields_set

    @property
    def on_volumes(self) -> bool:
        """Whether the network is to learn from 3D patches."""
        return self.finetune.get("patch") is not None

    @property
    def pretrains(self) -> bool:
        """Whether pre-training takes part; it works on slices."""
        return self.pretraining and not self.on_volumes


#: The pipeline's own settings: those that a user may give, and those that a recipe may.
OWN = frozenset({"data", "out", "resume", *SizedSettings.model_fields})
_OF_RECIPES = frozenset(SizedSettings.model_fields)


def asked_for(settings: TrainSettings) -> dict[str, Any]:
    """What ``run.json`` keeps of what the user asked for, so that a run is continued without another word."""
    home, file = settings.out, Path(settings.named_recipe)
    recipe = path_from(home, file) if settings.named_recipe and file.is_file() else settings.named_recipe
    words = assignments(without_absolute(home, settings.said))
    return {"data": path_from(home, settings.data), "recipe": recipe, "words": words}


def with_earlier_words(
    values: Mapping[str, Any], recipe: str | Path | None
) -> tuple[Mapping[str, Any], str | Path | None]:
    """Values and recipe of a run that is to be continued, with those of its ``run.json`` that are not given anew.

    Args:
        values: As for :func:`train_settings`; those that are given win.
        recipe: As for :func:`train_settings`.

    Raises:
        SettingsError: If no run lies there, or it does not say what it was asked for, and the data are not named.
    """
    if not values.get("resume") or "out" not in values:
        return values, recipe
    path = Path(values["out"]) / RUN_FILE
    record = read_json(path) if path.is_file() else None
    # Who names the data alone means the settings of then; who says more says all of it, as when a word was wrong.
    anew = "data" in values and bool(values.keys() - {"data", "out", "resume", "device", "reader"})
    if anew or ("data" in values and not (isinstance(record, dict) and isinstance(record.get("asked"), dict))):
        return values, recipe
    if not isinstance(record, dict):
        remedy = "Begin one with fewlabel train DATA --out DIR"
        why = "none was begun there, or it stopped before its data were prepared"
        fault = Fault(f"{path.parent} holds no run that could be continued: {why}", "out", remedy)
        raise SettingsError("There is nothing to resume:", [fault])
    asked = record.get("asked")
    if not isinstance(asked, dict):
        fault = Fault(f"{path} does not say what was asked for", "data", "Repeat the words of the command")
        raise SettingsError("There is nothing to resume:", [fault])
    home = path.parent
    earlier = {"data": located_from(home, asked["data"]), **found_from(home, nest(asked["words"]))}
    # By name, unless it was a file.
    file = home / asked["recipe"]
    return merge(earlier, values), recipe or (str(file) if file.is_file() else asked["recipe"]) or None


def train_settings(values: Mapping[str, Any], recipe: str | Path | None = None) -> TrainSettings:
    """Settings of the pipeline from a recipe and nested values, which win.

    With ``resume``, values and recipe that are not given are those that the run in ``out`` was asked for, unless data
    and settings are both named.

    Without a recipe they start from the one named ``default``. Its budget is for runs whose steps nobody set: steps in
    ``values`` switch it off. Settings of pre-training switch that on, which it leaves out.

    Args:
        values: Settings of the pipeline itself, bare settings, and settings by stage.
        recipe: Name or file of a recipe.

    Raises:
        SettingsError: Naming each key that no stage knows, and with them what :func:`plan` would refuse of the others.
    """
    values, recipe = with_earlier_words(values, recipe)
    own = {key: value for key, value in values.items() if key in OWN}
    rest = {key: value for key, value in values.items() if key not in own}
    read = load_recipe(DEFAULT_RECIPE if recipe is None else recipe)
    usual = {key: value for key, value in read.values.items() if key in _OF_RECIPES}
    of_stages = {key: value for key, value in read.values.items() if key not in usual}
    start, faults = route_known(of_stages, CHAIN, _OF_RECIPES)
    over, unknown = route_known(rest, CHAIN, OWN)
    faults += unknown
    if recipe is None and any(over[stage].get("steps") is not None for stage in ("pretrain", "finetune")):
        usual.pop("budget", None)
    asked = _of_pretraining(values)
    if asked and recipe is None and "pretraining" not in own:
        # Words for a stage are words to have it.
        usual["pretraining"] = True
    if asked and (left := _left_out(own.get("pretraining", usual.get("pretraining")), start, over)):
        verb = "has" if len(asked) == 1 else "have"
        them = "it" if len(asked) == 1 else "them"
        problem = f"{', '.join(asked)} {verb} no effect without pre-training, which {left[0]}"
        faults.append(Fault(problem, left[1], f"Leave {them} out, or {left[2]}"))
    tuning = over["finetune"]
    for one, other in (("patch", "view"), ("view", "patch")):
        # What the user says of patches or views takes the place of what the recipe says of the other.
        if tuning.get(one) is not None and other not in tuning:
            start["finetune"].pop(other, None)
    ready: dict[str, Any] = {"recipe": read.name, **{name: merge(start[name], over[name]) for name in CHAIN}}
    try:
        built = TrainSettings.parse({**usual, **own, **ready})
    except SettingsError as error:
        faults += error.faults
        # The settings of the stages can be checked all the same.
        built = TrainSettings(data=Path("data"), out=Path("run"), **ready)
    else:
        if "pretrain_share" in own and built.budget is None:
            remedy = "Give a budget, such as budget=1h, or leave it out"
            faults.append(Fault("is a share of a budget, and there is none", "pretrain_share", remedy))
    if faults:
        try:
            plan(built)
        except SettingsError as error:
            faults += error.faults
        raise SettingsError("These settings are not valid:", faults)
    built._said = {key: value for key, value in {**own, **rest}.items() if key not in {"data", "out", "resume"}}
    built._recipe = "" if recipe is None else str(recipe)
    return built


def _of_pretraining(values: Mapping[str, Any]) -> list[str]:
    """Settings that only pre-training has: its own by name, bare ones that no other stage knows, its share of a budget.

    Args:
        values: As given, beside the recipe.
    """
    named = values.get("pretrain")
    own = [f"pretrain.{key}" for key in named] if isinstance(named, Mapping) else []
    others = {key for name in CHAIN if name != "pretrain" for key in settings_class(name).model_fields}
    known = {"pretrain_share", *settings_class("pretrain").model_fields} - others
    return own + [key for key in values if key in known]


def _left_out(
    pretraining: Any, start: Mapping[str, Mapping[str, Any]], over: Mapping[str, Mapping[str, Any]]
) -> tuple[str, str, str] | None:
    """What leaves pre-training out, the key it is set by, and what to do to have it; None where it takes part.

    Args:
        pretraining: The setting; None for its default.
        start: Stage → what the recipe says.
        over: Stage → what the user says.
    """
    if merge(start["finetune"], over["finetune"]).get("patch") is not None:
        return "finetune.patch turns off, as it makes the network 3D", "finetune.patch", "leave out finetune.patch"
    if pretraining is False:
        return "pretraining=false turns off", "pretraining", "give pretraining=true"
    return None


def plan(settings: TrainSettings) -> dict[str, Settings]:
    """The settings of every stage that takes part, checked before any work.

    Raises:
        SettingsError: With the faults of all stages.
    """
    from fewlabel.stages.finetune import FinetuneSettings, control_folder, control_of, single_rows, slice_faults
    from fewlabel.stages.prepare import PrepareSettings
    from fewlabel.stages.pretrain import PretrainSettings

    folder = settings.out
    links: dict[str, dict[str, Any]] = {
        "prepare": {"data": settings.data.resolve(), "out": folder / "prepared"},
        "pretrain": {"data": folder / "prepared", "out": folder / "encoder"},
        "finetune": {
            "data": folder / "prepared",
            "out": folder / "segmenter",
            "encoder": folder / "encoder" if settings.pretrains else None,
            "control": settings.finetune.get("control", True),
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
    for name in [name for name in CHAIN if name != "pretrain" or settings.pretrains]:
        kind = settings_class(name)
        resume = {"resume": True} if settings.resume and "resume" in kind.model_fields else {}
        finetuned = plans.get("finetune")
        if name == "evaluate" and isinstance(finetuned, FinetuneSettings) and finetuned.control:
            links[name]["control"] = control_folder(finetuned.out) if control_of(finetuned) else None
        try:
            plans[name] = kind.parse({**getattr(settings, name), **links[name], **resume}, where=f"{name}.")
        except SettingsError as error:
            faults.extend(error.faults)
    prepared = plans.get("prepare")
    finetuned = plans.get("finetune")
    learner = plans.get("pretrain" if settings.pretrains else "finetune")
    flat = isinstance(learner, PretrainSettings | FinetuneSettings) and not settings.on_volumes
    if isinstance(prepared, PrepareSettings) and flat and prepared.size is not None:
        network = learner.network.fitted(prepared.size)  # type: ignore[union-attr]
        view, single = None, []
        if isinstance(finetuned, FinetuneSettings):
            view, single = finetuned.view, single_rows(finetuned)
        faults.extend(slice_faults(prepared.size, network, "prepare.size", view, "finetune.", single))
    if faults:
        raise SettingsError("These settings are not valid:", faults)
    return plans
