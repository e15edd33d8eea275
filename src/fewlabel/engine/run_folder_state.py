"""The life of a training run's folder: fresh, unfinished with a checkpoint, or finished."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.artifact.sealed import read_sealed, write_sealed
from fewlabel.core.collective import barrier, rank
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import conflict_sentence, path_conflict
from fewlabel.engine.checkpoint import CHECKPOINT, as_begun, identity_faults
from fewlabel.engine.lock import at_work, holder_for_all
from fewlabel.engine.runtime import resolved_precision

#: What an unfinished run is, from its first step on; a finished one says so in its manifest.
IDENTITY = "identity.json"
RECORD = "metrics.jsonl"
#: Beside the identity: whether the steps of the run are compiled.
_COMPILED = "compiled"

#: Settings that may differ between a run and its resumption. Another ``device`` rounds otherwise, and with
#: ``precision=auto`` may compute in bfloat16 what was float32, other ``threads`` round otherwise; the rest changes no
#: number of the result.
FREE_SETTINGS = frozenset(
    {"out", "resume", "checkpoint_seconds", "device", "threads", "control", "data", "encoder", "start", "tracking"}
)


def identity(settings: Mapping[str, Any], **parents: str) -> dict[str, Any]:
    """What must be equal to resume: all settings that change the result, and the parents' content hashes."""
    return {**{key: value for key, value in settings.items() if key not in FREE_SETTINGS}, **parents}


def finished_before(out: Path, kind: str, same: Mapping[str, Any], *, resume: bool, locked: bool = False) -> bool:
    """Whether the run in ``out`` is already done; checks that it may be written otherwise.

    Args:
        out: The run's folder.
        kind: Kind of artifact it becomes.
        same: Identity of this run.
        resume: Whether the user asked to continue.
        locked: Whether this run holds the folder's lock. Before that, all processes of a run ask together.

    Raises:
        SettingsError: If another run is at work in the folder, or it holds another or unfinished run and ``resume``
            was not given, a run of other settings, or no run but something else.
        ArtifactError: If it holds an artifact of another kind.
    """
    who = "" if locked else holder_for_all(out)
    if who:
        raise SettingsError("Nothing was written:", [at_work(out, who)])
    obstacle = path_conflict(out)
    if not obstacle:
        return False
    if (out / MANIFEST).is_file():
        before = as_begun(Artifact.open(out, kind).manifest.settings.get("identity", {}), same)
        if resume and before == dict(same):
            return True
        differing = sorted(key for key in {*before, *same} if before.get(key) != same.get(key))
        problem = f"{out} holds a finished {kind}" + (f" made with another {', '.join(differing)}" if differing else "")
        faults = [
            Fault(problem, remedy="Give another --out" if differing else "Give --resume to keep it, or another --out")
        ]
    elif not any((out / name).is_file() for name in (IDENTITY, CHECKPOINT, RECORD)):
        faults = [Fault(conflict_sentence(out, obstacle), remedy="Give another --out")]
    elif not resume:
        faults = [Fault(f"{out} holds an unfinished run", remedy="Give --resume to continue it, or another --out")]
    else:
        faults = identity_faults(_identity_of(out), _plain(same)) if (out / IDENTITY).is_file() else []
    if faults:
        raise SettingsError("Nothing was written:", faults)
    return False


def mark_run(out: Path, same: Mapping[str, Any], *, compiled: bool | None = None) -> None:
    """Say whose the folder is, before its first step; rank 0 only. A run that has begun keeps its mark.

    Args:
        out: The run's folder.
        same: Identity of the run.
        compiled: Whether its steps are compiled, for :func:`begun_compiled`.
    """
    if rank() == 0 and not any((out / name).is_file() for name in (IDENTITY, CHECKPOINT, RECORD)):
        write_sealed(out / IDENTITY, {**_plain(same), **({} if compiled is None else {_COMPILED: compiled})})


def begun_compiled(out: Path) -> bool | None:
    """Whether the steps of an unfinished run are compiled, as its mark has it; None where nothing says so."""
    compiled = _mark_of(out).get(_COMPILED) if (out / IDENTITY).is_file() else None
    return None if compiled is None else bool(compiled)


def _identity_of(out: Path) -> dict[str, Any]:
    return {key: value for key, value in _mark_of(out).items() if key != _COMPILED}


def _mark_of(out: Path) -> dict[str, Any]:
    return read_sealed(out / IDENTITY, "Give another --out, or remove the folder to start over")


def check_begun(out: Path, kind: str, same: Mapping[str, Any], *, resume: bool) -> None:
    """Look at a folder again once it is locked: another run may have come and gone since the first look.

    Raises:
        SettingsError: As :func:`finished_before`, or if the very same run was finished in between.
        ArtifactError: As :func:`finished_before`.
    """
    if finished_before(out, kind, same, resume=resume, locked=True):
        problem = f"{out} holds a finished {kind} that another process has just made"
        raise SettingsError("Nothing was written:", [Fault(problem, remedy="Run the command again to keep it")])


def _plain(same: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as JSON gives it back."""
    return dict(json.loads(json.dumps(dict(same))))


def close_run(
    out: Path,
    kind: str,
    files: Sequence[str],
    *,
    parents: Sequence[Path | Artifact],
    settings: Any,
    same: Mapping[str, Any],
    device: torch.device,
    started: float,
    compiled: bool = False,
) -> None:
    """Write the manifest once all files are there and take the mark away; rank 0 only, the others wait.

    Args:
        out: The run's folder.
        kind: Kind of artifact.
        files: Its files.
        parents: What it was made from, as it was opened.
        settings: Settings of the stage.
        same: Identity of the run.
        device: Device it ran on.
        started: ``time.monotonic()`` when this process began; a resumed run counts its last part only.
        compiled: Whether its steps were compiled.
    """
    if rank() == 0:
        finish_artifact(
            out,
            kind,
            files,
            parents=parents,
            settings={**settings.record(home=out), "identity": dict(same)},
            seed=settings.seed,
            device=str(device),
            precision=resolved_precision(settings.precision, device.type),
            compiled=compiled,
            wall_seconds=time.monotonic() - started,
        )
        (out / IDENTITY).unlink(missing_ok=True)
    barrier()
