"""Whether a run may be written where it is to go: into a new folder, or into one that it continues."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.run_record import read_run
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import RUN_FILE, conflict_sentence, path_conflict
from fewlabel.core.settings.base import Settings, without_absolute
from fewlabel.core.unfinished_files import is_partial
from fewlabel.pipelines.stage_table import STAGES

#: Stages whose result is kept when a run is continued; scores and report are made anew where something changed.
LASTING = ("prepare", "pretrain", "finetune")
#: Settings that change no result, so a continued run may change them.
FREE = frozenset({"resume", "checkpoint_seconds", "device", "threads", "workers", "control", "tracking"})


def refuse_other_run(folder: Path, plans: Mapping[str, Settings], *, resume: bool) -> None:
    """Refuse a folder that holds something else, or a run of other settings.

    Args:
        folder: The run folder.
        plans: Settings of the stages.
        resume: Whether the user asked to continue.

    Raises:
        SettingsError: If so; each setting that differs is named.
    """
    obstacle = path_conflict(folder)
    if not obstacle or never_begun(folder):
        return
    if not folder.is_dir():
        faults = [Fault(conflict_sentence(folder, obstacle), remedy="Give another --out")]
    elif not resume and (folder / RUN_FILE).is_file():
        faults = [Fault(f"{folder} holds a run already", remedy="Give --resume to continue it, or another --out")]
    elif not resume:
        faults = [Fault(conflict_sentence(folder, obstacle), remedy="Give another --out")]
    else:
        faults = _differences(folder, plans)
    if faults:
        raise SettingsError("Nothing was written:", faults)


def never_begun(folder: Path) -> bool:
    """Whether nothing lies there but the record of a run in which no stage has finished."""
    names = {path.name for path in folder.iterdir() if not is_partial(path)} if folder.is_dir() else set()
    if names != {RUN_FILE}:
        return False
    record = read_run(folder)
    return record.get("kind") == "run" and not record.get("stages")


def before(folder: Path) -> dict[str, Any]:
    """The record of the run in a folder; empty where there is none, or none of whose stages has finished."""
    record = read_run(folder)
    return record if record.get("stages") else {}


def _differences(folder: Path, plans: Mapping[str, Settings]) -> list[Fault]:
    """Settings that were different when the finished stages were made."""
    known = read_run(folder).get("settings", {})
    faults: list[Fault] = []
    for name in [name for name in LASTING if name in plans]:
        now = plans[name].record(folder)
        # The raw data must stay the same, unless they have moved, which prepare sees by their content; the other links
        # lie in the run folder.
        raw = {"data"} if name == "prepare" and not _moved(folder, known.get(name, {}), now) else set()
        skip = FREE | (set(STAGES[name].links) - raw)
        if name not in known or not Path(plans[name].out).exists():  # type: ignore[attr-defined]
            continue
        old = {key: without_absolute(folder, value) for key, value in known[name].items() if key not in skip}
        faults.extend(
            Fault(
                f"was {json.dumps(then)} when the run began and is {json.dumps(today)} now",
                key,
                "Repeat the old settings, or give another --out",
            )
            for key, then, today in _apart(old, {key: now[key] for key in now.keys() - skip}, name)
        )
    return faults


def _moved(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the data set is no longer where it was, and there is one where it is now."""
    before, today = (folder / str(values.get("data", "")) for values in (then, now))
    return not before.exists() and today.exists()


def _apart(old: Any, now: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Key, old and new value of each setting that differs; a choice of another plug-in by its names alone."""
    if not (isinstance(old, Mapping) and isinstance(now, Mapping)):
        if old != now:
            yield where, old, now
    elif old.get("name") != now.get("name"):
        yield where, old.get("name"), now.get("name")
    else:
        for key in sorted({*old, *now}):
            yield from _apart(old.get(key), now.get(key), f"{where}.{key}")
