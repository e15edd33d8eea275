"""Keys of jobs: what decides a result, in a hash, behind words that say what it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from fewlabel.engine.run_folder_state import identity
from fewlabel.pipelines.executors.jobs import same_json

#: Settings of evaluate that change no score.
_FREE_OF_SCORES = frozenset({"data", "segmenter", "control", "out", "device", "batch", "threads"})


def job_key(stage: str, record: Mapping[str, Any], store: str, parents: Mapping[str, str]) -> str:
    """The key of a job: equal work has an equal one.

    Args:
        stage: The stage.
        record: All its settings.
        store: Content hash of the prepared data.
        parents: Setting → key of the job that it comes from.
    """
    deciding = {"stage": stage, "store": store, "settings": _deciding(stage, record), "parents": dict(parents)}
    return f"{_look(stage, record)}-{hashlib.sha256(same_json(deciding).encode()).hexdigest()[:12]}"


def _deciding(stage: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change a result."""
    if stage == "evaluate":
        return {key: value for key, value in record.items() if key not in _FREE_OF_SCORES}
    return identity(record)


def _look(stage: str, record: Mapping[str, Any]) -> str:
    """The readable part of a key."""
    if stage == "pretrain":
        return f"{stage}-{record['method']['name']}"
    if stage == "finetune":
        count = len(record["subjects"]) if record["subjects"] else record["labelled"] or "all"
        drawn = f"m{count}-d{record['draw']}-s{record['seed']}"
        return f"{stage}-{record['regime']['name']}-{drawn}"
    return stage


def stage_of(key: str) -> str:
    """The stage that a key is of."""
    return key.split("-", maxsplit=1)[0]
