"""JSON files of unfinished work, which no manifest vouches for yet: each carries the hash of what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import ArtifactError, Fault

#: Key of the hash.
SEAL = "sha256"


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with its hash.

    Args:
        path: Where to.
        values: JSON-ready values.
    """
    plain = {key: value for key, value in json.loads(json.dumps(dict(values), allow_nan=False)).items() if key != SEAL}
    write_json(path, {**plain, SEAL: _seal(plain)})


def read_sealed(path: Path, remedy: str) -> dict[str, Any]:
    """What :func:`write_sealed` wrote, without the hash.

    Args:
        path: The file.
        remedy: What to do where it is damaged.

    Raises:
        ArtifactError: If it cannot be read, or is not as it was written.
    """
    try:
        values = read_json(path)
    except ArtifactError as error:
        faults = [Fault(fault.problem, fault.where, remedy) for fault in error.faults]
        raise ArtifactError(error.message, faults) from error
    if not isinstance(values, dict) or not is_sealed(values):
        fault = Fault(f"{path} is damaged: it is not as it was written", remedy=remedy)
        raise ArtifactError("An artifact is damaged:", [fault])
    return {key: value for key, value in values.items() if key != SEAL}


def is_sealed(values: Mapping[str, Any]) -> bool:
    """Whether a JSON object is as :func:`write_sealed` wrote it."""
    return values.get(SEAL) == _seal({key: value for key, value in values.items() if key != SEAL})


def _seal(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
