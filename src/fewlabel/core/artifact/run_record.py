"""``run.json``, the record of a run folder: what was asked, what was chosen, what each stage took."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from fewlabel.core.artifact.files import read_json
from fewlabel.core.artifact.manifest_fields import wrong_fields
from fewlabel.core.artifact.sealed import SEAL, is_sealed, write_sealed
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.output_paths import RUN_FILE

_REMEDY = "Put the old file back, or name the folders in the run themselves"


class _Stage(BaseModel):
    folder: str = ""
    seconds: float = 0.0


class _Use(BaseModel):
    arm: str
    reason: str = ""
    content: dict[str, str] = {}


class _Round(BaseModel):
    number: int
    content_hash: str = ""


class _Resolved(BaseModel):
    budget: str | float | None = None
    words: list[str] = []
    precision: dict[str, str] | None = None
    command: list[str] | None = None
    forecast: dict[str, Any] = {}

    @model_validator(mode="after")
    def _whole(self) -> _Resolved:
        if self.command is not None and self.precision is None:
            raise ValueError("a command needs its precision")
        return self


class _Run(BaseModel):
    """What others go by; what else is in the file is for people."""

    model_config = ConfigDict(extra="ignore")
    kind: Literal["run"] = "run"
    stages: dict[str, _Stage] = {}
    use: _Use | None = None
    round: _Round | None = None
    settings: dict[str, dict[str, Any]] = {}
    resolved: _Resolved = _Resolved()


def write_run(folder: Path, values: dict[str, Any]) -> None:
    """Write the record of a run.

    Args:
        folder: The run folder.
        values: JSON-ready; ``kind`` is ``run``.
    """
    write_sealed(folder / RUN_FILE, values)


def require_run(folder: Path, doing: str) -> None:
    """Refuse a folder that no run was made in.

    Args:
        folder: The folder.
        doing: What cannot be done then, as the error begins.

    Raises:
        ArtifactError: If it has no record of a run.
    """
    if not (folder / RUN_FILE).is_file():
        fault = Fault(f"{folder} is not a run folder: it has no {RUN_FILE}", remedy="Give the folder that train made")
        raise ArtifactError(doing, [fault])


def read_run(folder: Path) -> dict[str, Any]:
    """The record of a run; empty where there is none, or a file of somebody else.

    Raises:
        ArtifactError: If it cannot be read, or is not as it was written, which one of an older version does not say.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        return {}
    values = read_json(path)
    if isinstance(values, dict) and SEAL in values and not is_sealed(values):
        raise ArtifactError("An artifact is damaged:", [Fault(f"{path} is not as it was written", remedy=_REMEDY)])
    if not isinstance(values, dict) or values.get("kind", "run") != "run":
        return {}
    try:
        _Run.model_validate(values)
    except ValidationError as error:
        fault = Fault(f"{path} is not the record of a run ({wrong_fields(error)})", remedy=_REMEDY)
        raise ArtifactError("An artifact is damaged:", [fault]) from error
    return {key: value for key, value in values.items() if key != SEAL}
