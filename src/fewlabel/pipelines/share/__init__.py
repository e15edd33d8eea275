"""``share``: a copy of a run that names nobody, to be given away; the key stays with the original."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import building
from fewlabel.core.artifact.run_record import read_run, require_run, write_run
from fewlabel.core.errors import ArtifactError, DataError, Fault, SettingsError
from fewlabel.core.output_paths import ROUNDS, conflict_sentence, path_conflict, unwritable
from fewlabel.core.progress import say
from fewlabel.core.settings.base import PathSetting, Settings, setting
from fewlabel.data.store import PreparedStore
from fewlabel.engine.lock import holder
from fewlabel.pipelines.share.copied_artifacts import artifacts_of, copy_artifact, leftovers, unfinished_rounds
from fewlabel.pipelines.share.identifying_names import Names, names_of
from fewlabel.pipelines.share.key_files import KEY, is_key, write_key
from fewlabel.pipelines.share.rewritten_files import LEFT_OUT, Rewriter
from fewlabel.pipelines.share.search import found_in
from fewlabel.pipelines.stage_table import run_stage, stage_settings

__all__ = ["KEY", "ShareSettings", "run"]


class ShareSettings(Settings):
    """Settings of ``fewlabel share``."""

    run: PathSetting = setting(..., "run folder, as train or demo leaves it")
    out: PathSetting = setting(..., "folder of the copy to make")
    key: PathSetting | None = setting(None, "folder for the key; null for the run")


def run(settings: ShareSettings) -> Path:
    """Copy a run without the names of scans, subjects, files, folders, user and machine.

    Scans and subjects have numbers, ``case-001`` and ``subject-001``, in the order of their ids; the key is written to
    ``share-key.csv`` in the run, or in the folder ``key``, and never to the copy. The key of an earlier copy is kept
    where it is another, and the new one is ``share-key-2.csv``. Rounds of ``learn`` that are not finished stay out.
    Every file is written anew, and so are the report and the manifests: the copy opens as any run, with seals of its
    own. What pixels show, such as burnt-in text or a face, stays: they are the data.

    Returns:
        The folder of the copy.

    Raises:
        ArtifactError: If the folder is no run, or an artifact in it is damaged.
        SettingsError: If the copy would lie in the run, or in the place of something else.
        DataError: If a name is found in the copy, which is then not left.
    """
    source, out, keys = settings.run, settings.out, settings.key or settings.run
    _check(settings, keys)
    artifacts = artifacts_of(source)
    stores = [PreparedStore(artifact) for artifact in artifacts if artifact.kind == "prepared"]
    if not stores:
        fault = Fault(f"{source} holds no prepared scans", remedy="Train first")
        raise ArtifactError("There is nothing to share:", [fault])
    names = names_of(source, stores)
    with building(out) as partial:
        # In a folder of its final name, which the report shows.
        copy = partial / out.resolve().name
        copy.mkdir()
        _copy(source, copy, artifacts, names)
        _check_copy(copy, names)
        for path in copy.iterdir():
            path.rename(partial / path.name)
        copy.rmdir()
        # No copy is without its key.
        key = write_key(keys, names)
    for line in _unfinished(source):
        say(line)
    if others := [name for name in leftovers(source, artifacts) if not is_key(name)]:
        say(f"Not in the copy: {', '.join(others)}.")
    say(f"{len(names.cases)} scans of {len(names.subjects)} subjects have numbers; the key is {key}.")
    if key.name != KEY:
        say(f"{KEY} is of an earlier copy and stays: the scans or their names were others then.")
    return out


def _unfinished(source: Path) -> list[str]:
    """What of a run is not finished, so that the copy holds less than the run will."""
    lines = [f"{folder} is unfinished, and not in the copy." for folder in unfinished_rounds(source)]
    if not read_run(source).get("finished", True):
        again = f"fewlabel train --out {shlex.quote(str(source))} --resume"
        lines.insert(0, f"{source} is unfinished, and the copy holds finished stages alone. To finish it: {again}")
    places = [source, source / ROUNDS, *(path for path in sorted(source.iterdir()) if path.is_dir())]
    if who := next(filter(None, map(holder, dict.fromkeys(places))), ""):
        lines.append(f"The run is in use by {who}: what that makes is not in the copy.")
    return lines


def _check(settings: ShareSettings, keys: Path) -> None:
    source, out = settings.run, settings.out
    require_run(source, "There is nothing to share:")
    if obstacle := unwritable(keys):
        remedy = "Give another folder for the key, as key=FOLDER"
        raise SettingsError("Nothing was written:", [Fault(f"{keys} cannot take {KEY}: {obstacle}", remedy=remedy)])
    if keys.resolve().is_relative_to(out.resolve()):
        fault = Fault(f"{keys} lies in the copy", "key", "Give a folder outside of it: the key says who is who")
        raise SettingsError("Nothing was written:", [fault])
    if obstacle := path_conflict(out):
        fault = Fault(conflict_sentence(out, obstacle), remedy="Give another --out")
        raise SettingsError("Nothing was written:", [fault])
    if out.resolve().is_relative_to(source.resolve()):
        fault = Fault(f"{out} lies in the run itself", remedy="Give an --out beside it")
        raise SettingsError("Nothing was written:", [fault])


def _copy(source: Path, copy: Path, artifacts: Sequence[Artifact], names: Names) -> None:
    rewriter = Rewriter(names)
    for artifact in artifacts:
        copy_artifact(artifact, source, copy, rewriter)
    write_run(copy, _record(read_run(source), rewriter))
    # What was reported of the original holds names in its pictures, too.
    values = {"run": copy, "out": copy / "report"}
    if (source / "report").is_dir():
        run_stage("report", stage_settings("report", values))


def _record(record: Mapping[str, Any], rewriter: Rewriter) -> dict[str, Any]:
    """``run.json`` of the copy."""
    settings = {stage: rewriter.settings(values) for stage, values in record.get("settings", {}).items()}
    rest = {key: value for key, value in record.items() if key not in ("settings", "data", "asked")}
    return {**rewriter.json(rest), "settings": settings, "data": LEFT_OUT, "shared": True}


def _check_copy(copy: Path, names: Names) -> None:
    if found := found_in(copy, names.words):
        faults = [
            Fault(f"would hold {', '.join(words[:5])}", name, "Give another --out, or report this: it should not")
            for name, words in found.items()
        ]
        raise DataError("The copy is not made, for names were found in it:", faults)
