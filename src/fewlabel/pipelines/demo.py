"""``demo``: the whole way on synthetic beating hearts, without any download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import building
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import conflict_sentence, path_conflict
from fewlabel.core.progress import say
from fewlabel.core.settings.base import PathSetting, setting
from fewlabel.data.phantom.scans import write_phantom
from fewlabel.pipelines import train
from fewlabel.pipelines._train_settings import SizedSettings
from fewlabel.pipelines.stage_table import nearer

DATA = "data"


class DemoSettings(SizedSettings):
    """Settings of ``fewlabel demo``; those of the stages are given as for ``train``."""

    out: PathSetting = setting(Path("fewlabel-demo"), "run folder to make; the scans go into its data folder")
    patients: int = setting(16, "synthetic patients, each scanned in two phases", ge=4)
    annotated: int = setting(1, "annotated training patients", ge=1)
    test: int = setting(6, "annotated test patients", ge=1)
    hearts: int = setting(0, "seed of the synthetic hearts", ge=0)
    resume: bool = setting(False, "continue an unfinished demo")
    recipe: str = setting("demo", "recipe of the training")
    stages: dict[str, Any] = setting({}, "settings for train")


def demo_settings(values: Mapping[str, Any]) -> DemoSettings:
    """Settings of the demo from nested values: its own, and any that ``train`` takes.

    Raises:
        SettingsError: If one is wrong.
    """
    names = set(DemoSettings.model_fields) - {"stages"}
    own = {key: value for key, value in values.items() if key in names}
    rest = {key: value for key, value in values.items() if key not in names}
    faults = [Fault("is written by the demo itself", DATA, "Leave it out")] if DATA in rest else []
    try:
        built = DemoSettings.parse({**own, "stages": rest})
    except SettingsError as error:
        raise SettingsError(error.message, [*error.faults, *faults]) from error
    if faults:
        raise SettingsError("These settings are not valid:", faults)
    return built


def run(settings: DemoSettings) -> Path:
    """Write the synthetic scans, then train on them.

    Returns:
        The run folder.

    Raises:
        SettingsError: If a setting is wrong or ``out`` holds something else.
        FewlabelError: Whatever a stage raises.
    """
    out = settings.out
    obstacle = path_conflict(out)
    if obstacle and not (settings.resume and out.is_dir()):
        remedy = "Give --resume to continue a demo, or another --out" if out.is_dir() else "Give another --out"
        fault = Fault(conflict_sentence(out, obstacle), remedy=remedy)
        raise SettingsError("Nothing was written:", [fault])
    sized = {key: getattr(settings, key) for key in SizedSettings.model_fields if key in settings.model_fields_set}
    values = {**settings.stages, **sized, "data": out / DATA, "out": out, "resume": True}
    try:
        chain = train.train_settings(values, settings.recipe)
    except SettingsError as error:
        names = set(DemoSettings.model_fields) - {"stages"}
        raise SettingsError(error.message, [nearer(fault, names) for fault in error.faults]) from error
    train.plan(chain)
    if not (out / DATA).is_dir():
        say(f"{settings.patients} synthetic patients, {settings.annotated} of them annotated for training")
        with building(out / DATA) as partial:
            write_phantom(
                partial,
                patients=settings.patients,
                labelled=settings.annotated,
                test=settings.test,
                seed=settings.hearts,
            )
    return train.run(chain)
