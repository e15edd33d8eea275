"""The life of a training run's folder: fresh, unfinished with a checkpoint, or finished."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewlabel.core.artifact import MANIFEST, finish_artifact, open_artifact
from fewlabel.core.collective import barrier, rank
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.engine.checkpoint import CHECKPOINT

#: Settings that may differ between a run and its resumption: they change no number of the result.
FREE_SETTINGS = frozenset({"out", "resume", "checkpoint_seconds", "device", "control", "data", "encoder"})


def identity(settings: Mapping[str, Any], **parents: str) -> dict[str, Any]:
    """What must be equal to resume: all settings that change the result, and the parents' content hashes."""
    return {**{key: value for key, value in settings.items() if key not in FREE_SETTINGS}, **parents}


def finished_before(out: Path, kind: str, same: Mapping[str, Any], *, resume: bool) -> bool:
    """Whether the run in ``out`` is already done; checks that it may be written otherwise.

    Args:
        out: The run's folder.
        kind: Kind of artifact it becomes.
        same: Identity of this run.
        resume: Whether the user asked to continue.

    Raises:
        SettingsError: If the folder holds another or unfinished run and ``resume`` was not given, or a finished
            run of other settings.
    """
    if not out.exists() or not any(path for path in out.iterdir() if path.suffix != ".partial"):
        return False
    if (out / MANIFEST).is_file():
        before = open_artifact(out, kind).settings.get("identity", {})
        if resume and before == dict(same):
            return True
        differing = sorted(key for key in {*before, *same} if before.get(key) != same.get(key))
        found = f"a finished {kind}" + (f" made with another {', '.join(differing)}" if differing else "")
        remedy = "give another --out" if differing else "give --resume to keep it, or another --out"
        raise SettingsError(
            "Nothing was written:", [Fault("--out must not hold another result", found, str(out), remedy)]
        )
    if (out / CHECKPOINT).is_file() or (out / "metrics.jsonl").is_file():
        if resume:
            return False
        fault = Fault(
            "--out must not hold another run", "an unfinished run", str(out), "give --resume, or another --out"
        )
        raise SettingsError("Nothing was written:", [fault])
    if resume:
        return False
    fault = Fault("--out must be a new or empty folder", "other files", str(out), "give another --out")
    raise SettingsError("Nothing was written:", [fault])


def close_run(
    out: Path,
    kind: str,
    files: Sequence[str],
    *,
    parents: Sequence[Path],
    settings: Mapping[str, Any],
    same: Mapping[str, Any],
    seed: int,
    device: str,
    started: float,
) -> None:
    """Write the manifest once all files are there; rank 0 only, the others wait.

    Args:
        out: The run's folder.
        kind: Kind of artifact.
        files: Its files.
        parents: Folders it was made from.
        settings: Settings as recorded.
        same: Identity of the run.
        seed: Its seed.
        device: Device it ran on.
        started: ``time.monotonic()`` when this process began; a resumed run counts its last part only.
    """
    if rank() == 0:
        finish_artifact(
            out,
            kind,
            files,
            parents=parents,
            settings={**settings, "identity": dict(same)},
            seed=seed,
            device=device,
            wall_seconds=time.monotonic() - started,
        )
    barrier()
