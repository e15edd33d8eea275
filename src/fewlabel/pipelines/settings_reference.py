"""Every setting of a stage or pipeline as rows, with the settings of the plug-ins chosen."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from fewlabel.core.errors import MISSING, Fault, SettingsError
from fewlabel.core.settings.base import Settings
from fewlabel.core.settings.describe import describe
from fewlabel.core.suggestions import did_you_mean
from fewlabel.pipelines.stage_table import STAGES, nearer, route, settings_class

PIPELINES = {"train": "TrainSettings", "demo": "DemoSettings", "learn": "LearnSettings", "study": "StudySettings"}
#: What serves a browser, and where its settings are declared: above the pipelines, which know it by name alone.
SERVICES = {
    "view": "fewlabel.service.view.settings:ViewSettings",
    "serve": "fewlabel.service.monai_label.settings:ServeSettings",
}
#: Pipelines that share out settings among stages.
_SHARING = ("train", "demo", "learn")


def setting_rows(stage: str, values: Mapping[str, Any] | None = None) -> list[dict[str, str]]:
    """A row per setting of a stage: ``key``, ``type``, ``default``, ``unit``, ``source``, ``doc``.

    Args:
        stage: A stage or pipeline.
        values: Nested values; those that choose a plug-in decide whose settings are listed. Those that choose nothing
            are checked all the same.

    Raises:
        SettingsError: If the stage, a plug-in or a setting is unknown, or a value is none for its setting.
    """
    settings = _class_of(stage)
    faults = _faults(stage, settings, values or {})
    if faults:
        raise SettingsError("These settings are not valid:", faults)
    rows = describe(settings, picks=values or {})
    for name, kind in getattr(settings, "INSIDE", {}).items():
        rows += describe(kind, f"{name}.")
    return rows


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| setting | type | default | unit | meaning | source |", "|---|---|---|---|---|---|"]
    for row in rows:
        kind = row["type"].replace(" | ", " or ")
        default = f"`{row['default']}`" if row["default"] else ""
        cells = (f"`{row['key']}`", kind, default, row["unit"], row["doc"], row["source"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _class_of(stage: str) -> type[Settings]:
    if stage in PIPELINES:
        declared: type[Settings] = getattr(importlib.import_module(f"fewlabel.pipelines.{stage}"), PIPELINES[stage])
        return declared
    if stage in SERVICES:
        module, _, name = SERVICES[stage].partition(":")
        service: type[Settings] = getattr(importlib.import_module(module), name)
        return service
    if stage not in STAGES:
        fault = Fault(f'Unknown stage "{stage}"', remedy=did_you_mean(stage, [*STAGES, *PIPELINES, *SERVICES]))
        raise SettingsError("The command line is not valid:", [fault])
    return settings_class(stage)


def _faults(stage: str, settings: type[Settings], values: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with values of a stage or pipeline, apart from those that are missing."""
    if stage not in _SHARING:
        return _faults_of(settings, values, "")
    chain: tuple[str, ...] = importlib.import_module("fewlabel.pipelines.train").CHAIN
    # Words that only the pipeline itself takes; the recipe of train is an option of its command.
    names = set(settings.model_fields) - {*chain, "stages", *(("recipe",) if stage == "train" else ())}
    faults = _faults_of(settings, {key: value for key, value in values.items() if key in names}, "")
    try:
        shares = route({key: value for key, value in values.items() if key not in names}, chain)
    except SettingsError as error:
        return [*faults, *(nearer(fault, names) for fault in error.faults)]
    return [*faults, *(fault for name in chain for fault in _faults_of(settings_class(name), shares[name], f"{name}."))]


def _faults_of(settings: type[Settings], values: Mapping[str, Any], where: str) -> list[Fault]:
    try:
        settings.parse(values, where=where)
    except SettingsError as error:
        return [fault for fault in error.faults if fault.kind != MISSING]
    return []
