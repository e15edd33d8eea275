"""Which segmenter of a run folder is used: the model, or its control where ``train`` found that to be better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewlabel.core.artifact import is_artifact, open_artifact, read_json
from fewlabel.core.places import RUN_FILE

#: Arm → its folder in a run.
FOLDERS = {"model": "segmenter", "control": "segmenter-control"}


def choice_of(run: Path) -> dict[str, Any]:
    """What ``run.json`` says of the choice; empty where there is none, or no such file.

    Raises:
        ArtifactError: If the file is damaged.
    """
    path = run / RUN_FILE
    record = read_json(path) if path.is_file() else {}
    found = record.get("use") if isinstance(record, dict) else None
    return found if isinstance(found, dict) and found.get("arm") in FOLDERS else {}


def segmenter_in_use(run: Path) -> tuple[Path, str]:
    """Its folder, and which it is and why in words, empty where nothing was chosen.

    A choice holds for the weights that it was made of: of others the model is used.

    Raises:
        ArtifactError: If ``run.json`` is damaged.
    """
    use = choice_of(run)
    if not use:
        return run / FOLDERS["model"], ""
    arm, why = str(use["arm"]), str(use.get("reason", ""))
    folders = {name: run / folder for name, folder in FOLDERS.items() if name in use.get("content", {})}
    same = all(
        is_artifact(folder, "segmenter")
        and open_artifact(folder, check_parents=False).content_hash == use["content"][name]
        for name, folder in folders.items()
    )
    if arm == "control" and not (same and arm in folders):
        told = f"The model is used: {RUN_FILE} chose the control, but of other weights than lie there now."
        return run / FOLDERS["model"], told
    if arm == "control":
        return folders[arm], f"The control is used, which is better: {why}. The model is {run / FOLDERS['model']}."
    return run / FOLDERS["model"], f"The model is used: {why}."
