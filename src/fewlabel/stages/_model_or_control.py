"""Which segmenter of a run folder is used: that of the round that ``learn`` took last, else the model or its control.

``train`` decides between these two, by what they reached.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.artifact.run_record import read_run
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.output_paths import ROUNDS, RUN_FILE
from fewlabel.core.progress import say

#: Arm → its folder in a run.
FOLDERS = {"model": "segmenter", "control": "segmenter-control"}


def choice_of(run: Path) -> dict[str, Any]:
    """What ``run.json`` says of the choice; empty where there is none, or one of other weights than lie there now.

    Raises:
        ArtifactError: If the file is damaged.
    """
    use = _recorded(run)
    return use if use and _holds(run, use, {}) else {}


def segmenter_in_use(run: Path, opened: dict[Path, Artifact] | None = None) -> tuple[Path, str]:
    """Its folder, and which it is and why in words, empty where nothing was chosen.

    A choice holds for the weights that it was made of: of others the model is used.

    Args:
        run: The run folder.
        opened: Takes the segmenters that are opened on the way, by folder.

    Raises:
        ArtifactError: If ``run.json`` is damaged.
    """
    number, latest = round_in_use(run, {} if opened is None else opened)
    if latest is not None:
        return latest, f"Round {number} of learn is used."
    use, model = _recorded(run), run / FOLDERS["model"]
    if not use:
        return model, ""
    arm, why = str(use["arm"]), str(use.get("reason", ""))
    if not _holds(run, use, {} if opened is None else opened):
        return model, f"The model is used: {RUN_FILE} chose the {arm}, but of other weights than lie there now."
    if arm == "control":
        return run / FOLDERS[arm], f"The control is used, which is better: {why}. The model is {model}."
    return model, f"The model is used: {why}."


def find_segmenter(place: Path) -> Artifact:
    """The segmenter that ``place`` is or, as a run folder, holds and uses; which of two is said.

    Raises:
        ArtifactError: If there is none.
    """
    opened: dict[Path, Artifact] = {}
    if (segmenter := Artifact.find(place, "segmenter")) is not None:
        segmenter.check_parents()
        return segmenter
    inside, why = segmenter_in_use(place, opened)
    if why:
        say(why)
    if (segmenter := opened.get(inside) or Artifact.find(inside, "segmenter")) is not None:
        segmenter.check_parents()
        return segmenter
    for folder in (place, inside):
        if (folder / MANIFEST).is_file():
            # Of several, none of the kind, the first says what is wrong.
            return Artifact.open(folder, "segmenter")
    if not read_run(place).get("finished", True):
        again = f"Finish it: fewlabel train --out {shlex.quote(str(place))} --resume"
        raise ArtifactError(
            "There is no model:", [Fault(f"{place} is a run whose training is unfinished", remedy=again)]
        )
    problem = "is neither a segmenter nor a run folder with one" if place.exists() else "does not exist"
    fault = Fault(f"{place} {problem}", remedy="Give the folder that finetune or train made")
    raise ArtifactError("There is no model:", [fault])


def round_in_use(run: Path, opened: dict[Path, Artifact] | None = None) -> tuple[int, Path | None]:
    """Number and segmenter of the round that ``learn`` took last; 0 and None where there is none.

    Args:
        run: The run folder.
        opened: Takes the segmenter, by its folder.

    Raises:
        ArtifactError: If ``run.json`` is damaged.
    """
    record = read_run(run).get("round") or {}
    number = int(record.get("number", 0))
    folder = run / ROUNDS / str(number) / FOLDERS["model"]
    artifact = Artifact.find(folder, "segmenter") if number else None
    if artifact is None or artifact.content_hash != record.get("content_hash"):
        return 0, None
    if opened is not None:
        opened[folder] = artifact
    return number, folder


def _recorded(run: Path) -> dict[str, Any]:
    """The choice as it was written down; empty where there is none, or no such file."""
    use = read_run(run).get("use") or {}
    return use if use.get("arm") in FOLDERS else {}


def _holds(run: Path, use: Mapping[str, Any], opened: dict[Path, Artifact]) -> bool:
    """Whether the weights that were chosen from are those that lie there, the chosen ones among them."""
    content = {run / FOLDERS[name]: kept for name, kept in use.get("content", {}).items() if name in FOLDERS}
    for folder in content:
        if (artifact := Artifact.find(folder, "segmenter")) is not None:
            opened[folder] = artifact
    return run / FOLDERS[use["arm"]] in content and all(
        folder in opened and opened[folder].content_hash == kept for folder, kept in content.items()
    )
