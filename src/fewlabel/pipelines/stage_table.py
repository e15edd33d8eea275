"""The table of stages: what each takes, what it leaves, and how values become its settings."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fewlabel.core.errors import UNKNOWN, Fault, LostProcessError, SettingsError
from fewlabel.core.settings.base import Settings
from fewlabel.core.settings.value_syntax import merge
from fewlabel.core.suggestions import did_you_mean
from fewlabel.pipelines.recipes import Recipe, load_recipe

_LOST = (
    "Another process of this run has ended, hangs or cannot be reached; start all of them again with --resume, "
    "which goes on from the state that was saved last."
)


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: Its verb; ``fewlabel.stages.NAME`` is its module.
        main: The setting that the first word of its command gives.
        kind: Kind of the artifact it leaves; empty for a stage that leaves a file for people or other programs.
        links: Settings that name other artifact folders: a pipeline fills them, a user of the pipeline does not.
    """

    name: str
    main: str
    kind: str
    links: tuple[str, ...]


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("prepare", "data", "prepared", ("data", "out")),
        Stage("merge", "data", "prepared", ("data", "others", "out")),
        Stage("relabel", "data", "prepared", ("data", "masks", "out")),
        Stage("pretrain", "data", "encoder", ("data", "out", "encoder")),
        Stage("finetune", "data", "segmenter", ("data", "out", "encoder")),
        Stage("evaluate", "data", "scores", ("data", "out", "segmenter", "control")),
        Stage("predict", "model", "predictions", ("model", "scans", "out")),
        Stage("suggest", "run", "", ("run", "out")),
        Stage("export", "source", "", ("source", "out")),
        Stage("report", "run", "report", ("run", "out", "prepared", "encoder", "segmenter", "control", "scores")),
    )
}


def settings_class(name: str) -> type[Settings]:
    """The settings class of a stage; imports the stage.

    Raises:
        SettingsError: If there is no such stage.
    """
    if name not in STAGES:
        fault = Fault(f'Unknown stage "{name}"', remedy=did_you_mean(name, STAGES))
        raise SettingsError("The command line is not valid:", [fault])
    declared: type[Settings] = importlib.import_module(f"fewlabel.stages.{name}").SETTINGS
    return declared


def stage_settings(name: str, values: Mapping[str, Any], recipe: str | Path | None = None) -> Settings:
    """The settings of a stage: defaults, then the recipe's section, then ``values``.

    Args:
        name: The stage.
        values: Nested values that win over the recipe.
        recipe: Name or file of a recipe; its bare settings count where the stage knows them.

    Raises:
        SettingsError: Naming every unknown key and bad value.
    """
    base = settings_class(name)
    start: dict[str, Any] = {}
    if recipe is not None:
        start = section(load_recipe(recipe), name, base.model_fields)
    return base.parse(merge(start, values))


def run_stage(name: str, settings: Settings, **known: Any) -> Path:
    """Run a stage; returns its artifact folder, or the file it wrote.

    Args:
        name: The stage.
        settings: Its settings.
        **known: What else its ``run`` is to know.

    Raises:
        LostProcessError: If another process of the run was lost.
    """
    try:
        return Path(importlib.import_module(f"fewlabel.stages.{name}").run(settings, **known))
    except RuntimeError as error:
        from fewlabel.core.collective import is_lost_process

        if not is_lost_process(error):
            raise
        raise LostProcessError(_LOST) from error


def run_values(name: str, values: Mapping[str, Any], recipe: str | Path | None = None) -> Path:
    """Run a stage with the settings that :func:`stage_settings` makes of nested values and a recipe."""
    settings = stage_settings(name, values, recipe)
    # An encoder's network takes the place of a recipe's, but must not contradict the user's.
    known = {"user_network": set_keys(values.get("network", {}))} if name == "finetune" and recipe is not None else {}
    return run_stage(name, settings, **known)


def set_keys(group: Any) -> frozenset[str]:
    """The settings of a group that were given, as a mapping or as settings."""
    return frozenset(group.model_fields_set if isinstance(group, Settings) else group)


def section(recipe: Recipe, name: str, known: Iterable[str]) -> dict[str, Any]:
    """What a recipe says to one stage.

    Raises:
        SettingsError: If the section is not a mapping.
    """
    own = recipe.values.get(name)
    if own is not None and not isinstance(own, Mapping):
        problem = f"must hold settings, not {own!r}"
        fault = Fault(problem, f"{recipe.name}: {name}", "Write key: value lines below it")
        raise SettingsError("A recipe cannot be used:", [fault])
    keys = set(known) - set(STAGES[name].links) - set(STAGES)
    bare = {key: value for key, value in recipe.values.items() if key in keys}
    return merge(bare, own or {})


def route(values: Mapping[str, Any], stages: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Share out settings among stages.

    ``{"steps": 400, "pretrain": {"batch": 32}}`` gives ``steps`` to every stage that declares it and ``batch`` to
    pre-training only; what is given for a stage by name wins. Settings that name artifact folders are left to the
    pipeline and may not be given.

    Args:
        values: Nested values.
        stages: Stages that take part.

    Returns:
        Stage name → nested values.

    Raises:
        SettingsError: Naming every key that no stage knows.
    """
    routed, faults = route_known(values, stages)
    if faults:
        raise SettingsError("These settings are not valid:", faults)
    return routed


def route_known(
    values: Mapping[str, Any], stages: Iterable[str], others: Iterable[str] = ()
) -> tuple[dict[str, dict[str, Any]], list[Fault]]:
    """As :func:`route`, what can be shared out beside a fault for each key that cannot.

    Args:
        values: As for :func:`route`.
        stages: As for :func:`route`.
        others: Settings that the caller takes itself, and may be what was meant.
    """
    names = list(stages)
    open_keys = {name: set(settings_class(name).model_fields) - set(STAGES[name].links) - {"resume"} for name in names}
    bare: dict[str, dict[str, Any]] = {name: {} for name in names}
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    faults: list[Fault] = []
    for key, value in values.items():
        if key in names:
            if not isinstance(value, Mapping):
                faults.append(Fault(f"is a stage and takes no value, not {value!r}", key, f"Write {key}.KEY=VALUE"))
                continue
            linked = sorted(set(value) & (set(STAGES[key].links) | {"resume"}))
            own[key] = {word: content for word, content in value.items() if word not in linked}
            faults.extend(Fault("is set by the pipeline itself", f"{key}.{word}", "Leave it out") for word in linked)
            continue
        takers = [name for name in names if key in open_keys[name]]
        for name in takers:
            bare[name] = merge(bare[name], {key: value})
        if not takers:
            faults.append(_nowhere(key, {**open_keys, "": set(others)}))
    return {name: merge(bare[name], own[name]) for name in names}, faults


def nearer(fault: Fault, names: Iterable[str]) -> Fault:
    """A fault of an unknown setting, with one of these names if that is what was meant."""
    if fault.kind != UNKNOWN:
        return fault
    return replace(fault, remedy=did_you_mean(fault.where, names, otherwise=fault.remedy, cutoff=0.7))


def _nowhere(key: str, known: Mapping[str, set[str]]) -> Fault:
    every = sorted((set().union(*known.values()) | set(known)) - {""})
    return Fault("unknown setting", key, did_you_mean(key, every), kind=UNKNOWN)
