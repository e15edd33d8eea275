"""Settings of the stages of each arm: those of the recipe, of the study, of the arm, and what the study itself sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.base import Settings
from fewlabel.core.settings.value_syntax import merge
from fewlabel.pipelines.recipes import Recipe, load_recipe
from fewlabel.pipelines.stage_table import section, set_keys, settings_class
from fewlabel.pipelines.study.spec import OWN, ArmSettings, Study

#: Stage → settings that the study itself gives, and where the user says so instead.
GIVEN = {
    "prepare": {"data": "data", "out": "out", "split": "split"},
    "pretrain": dict.fromkeys(("data", "out", "resume"), "data and out")
    | {"encoder": "pretrain_on", "method": "arms.NAME.method", "seed": "seeds and encoders"}
    | dict.fromkeys(("labelled", "draw", "subjects"), "budgets and draws"),
    "finetune": dict.fromkeys(("data", "out", "resume"), "data and out")
    | {"encoder": "arms.NAME.method", "control": "control", "seed": "seeds"}
    | dict.fromkeys(("labelled", "draw", "subjects"), "budgets and draws"),
    "evaluate": dict.fromkeys(("data", "out", "segmenter", "control"), "data, out and arms"),
}
#: What a study leaves out unless it is asked for: it has test patients, and arms for controls.
USUAL = {"finetune": {"expect": "never"}}
STAGES_OF_ARMS = ("prepare", "pretrain", "finetune", "evaluate")


class ArmPlan:
    """The stages of an arm, but for what tells its trainings apart.

    Attributes:
        name: The arm.
        prepare: Settings of ``prepare``, without data, split and out.
        pretrain: Nested settings; None from scratch.
        finetune: Nested settings.
        evaluate: Nested settings.
        user_network: Settings of fine-tuning's network that the arm gives, which an encoder must agree with.
    """

    def __init__(self, study: Study, name: str, recipe: Recipe) -> None:
        arm = study.arms[name]
        self.name = name
        self.prepare = _values(study, arm, "prepare", recipe)
        self.finetune = merge(_values(study, arm, "finetune", recipe), _regime(arm))
        self.evaluate = _values(study, arm, "evaluate", recipe)
        self.pretrain: dict[str, Any] | None = None
        if arm.method is not None:
            self.pretrain = merge(_values(study, arm, "pretrain", recipe), {"method": arm.method})
        network = arm.finetune.get("network", {})
        # What is no group of settings is told as a fault of fine-tuning.
        self.user_network = set_keys(network) if isinstance(network, Mapping) else frozenset[str]()

    @property
    def uses_labels(self) -> bool:
        """Whether its pre-training learns from the labels of a draw."""
        if self.pretrain is None:
            return False
        settings: Any = self.stage("pretrain", {"data": "data", "out": "out"})
        return bool(load_plugin("fewlabel.methods", settings.method.name).uses_labels)

    def stage(self, stage: str, links: Mapping[str, Any]) -> Settings:
        """Settings of a stage with what the study gives it.

        Args:
            stage: ``pretrain``, ``finetune`` or ``evaluate``.
            links: What the study gives: folders, and which training it is.

        Raises:
            SettingsError: If they are wrong.
        """
        values = merge(getattr(self, stage) or {}, links)
        return settings_class(stage).parse(values, where=f"arms.{self.name}.{stage}.")


def arm_plans(study: Study) -> dict[str, ArmPlan]:
    """The stages of each arm, their settings checked by themselves.

    Raises:
        SettingsError: With the faults of all arms: unknown settings, bad values, and what the study itself sets.
    """
    recipe = load_recipe(study.settings.recipe)
    faults: list[Fault] = []
    for stage in STAGES_OF_ARMS:
        faults += _given(getattr(study.settings, stage), stage, "")
        for name, arm in study.arms.items():
            faults += _given(getattr(arm, stage), stage, f"arms.{name}.")
    for name, source in study.sources.items():
        own = {key: value for key, value in source.prepare.items() if key != "split"}
        faults += _given(own, "prepare", f"sources.{name}.")
    for name, arm in study.arms.items():
        if arm.method is None and (arm.pretrain or arm.pretrain_on != (OWN,)):
            where = "pretrain" if arm.pretrain else "pretrain_on"
            fault = Fault("has no effect without a method", f"arms.{name}.{where}", f"Add arms.{name}.method")
            faults.append(fault)
    plans: dict[str, ArmPlan] = {}
    for name in study.arms:
        plans[name] = ArmPlan(study, name, recipe)
        for stage in STAGES_OF_ARMS:
            if stage != "pretrain" or plans[name].pretrain is not None:
                common, own = (getattr(of, stage) for of in (study.settings, study.arms[name]))
                faults += [_placed(fault, f"arms.{name}.", common, own, stage) for fault in _faults(plans[name], stage)]
    if faults:
        raise SettingsError("The study is not valid:", list(dict.fromkeys(faults)))
    return plans


def _values(study: Study, arm: ArmSettings, stage: str, recipe: Recipe) -> dict[str, Any]:
    """Nested settings of a stage: the recipe's, the study's, the arm's."""
    start = section(recipe, stage, settings_class(stage).model_fields)
    start = {key: value for key, value in start.items() if key not in GIVEN[stage]}
    usual: dict[str, Any] = dict(USUAL.get(stage, {}))
    if study.settings.tracking and "tracking" in settings_class(stage).model_fields:
        usual["tracking"] = list(study.settings.tracking)
    over = merge(merge(usual, getattr(study.settings, stage)), getattr(arm, stage))
    for one, other in (("patch", "view"), ("view", "patch")):
        if stage == "finetune" and over.get(one) is not None and other not in over:
            # What is said of patches or views takes the place of what the recipe says of the other.
            start.pop(other, None)
    return merge(start, over)


def _regime(arm: ArmSettings) -> dict[str, Any]:
    return {} if arm.regime is None else {"regime": arm.regime}


def _given(values: Mapping[str, Any], stage: str, where: str) -> list[Fault]:
    """A fault for each setting that the study itself sets."""
    return [
        Fault("is set by the study itself", f"{where}{stage}.{key}", f"Use {GIVEN[stage][key]} for it")
        for key in values
        if key in GIVEN[stage]
    ]


def _faults(plan: ArmPlan, stage: str) -> list[Fault]:
    """What is wrong with the settings of a stage, its folders apart."""
    links: dict[str, Any] = {"data": "data", "out": "out"}
    if stage == "evaluate":
        links["segmenter"] = "segmenter"
    if stage == "finetune" and plan.pretrain is not None:
        links["encoder"] = "encoder"
    try:
        plan.stage(stage, links)
    except SettingsError as error:
        return list(error.faults)
    return []


def _placed(fault: Fault, arm: str, common: Mapping[str, Any], own: Mapping[str, Any], stage: str) -> Fault:
    """A fault of an arm where it was written: in the settings of all arms, if the arm has none of that name."""
    path = fault.where.removeprefix(f"{arm}{stage}.")
    if path == fault.where or _holds(own, path) or not _holds(common, path):
        return fault
    return replace(fault, where=f"{stage}.{path}")


def _holds(values: Any, path: str) -> bool:
    """Whether nested values have a setting, or one within which it lies."""
    if not isinstance(values, Mapping):
        return True
    return any(
        path == key
        or path.startswith(f"{key}[")
        or (path.startswith(f"{key}.") and _holds(value, path[len(key) + 1 :]))
        for key, value in values.items()
    )
