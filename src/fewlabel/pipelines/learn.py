"""``learn``: new and corrected masks come into a run, whose network goes on learning; one round of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.artifact.files import write_json
from fewlabel.core.artifact.run_record import read_run, require_run, write_run
from fewlabel.core.errors import ArtifactError, DataError, Fault, SettingsError
from fewlabel.core.output_paths import ROUNDS, round_folders, unwritable
from fewlabel.core.progress import say
from fewlabel.core.settings.base import path_from
from fewlabel.core.settings.durations import clock
from fewlabel.data.empty_masks import subjects_without_structure
from fewlabel.data.masks_added_later import FOLDER as ANNOTATIONS
from fewlabel.data.relabel import taken_masks
from fewlabel.data.store import PreparedStore
from fewlabel.engine.lock import sole_run
from fewlabel.pipelines.round_training import LearnSettings, round_tuning, scans_to_predict, sized_tuning
from fewlabel.pipelines.round_verdict import round_verdict
from fewlabel.pipelines.stage_table import run_stage, stage_settings
from fewlabel.stages.predict import find_segmenter

__all__ = ["LearnSettings", "learn_settings", "remove_unfinished", "run"]

#: File of a round that says what it was and what came of it.
RECORD = "round.json"


def learn_settings(values: Mapping[str, Any]) -> LearnSettings:
    """Settings from nested values.

    Raises:
        SettingsError: If one is wrong.
    """
    return LearnSettings.parse(values)


def run(settings: LearnSettings) -> Path:
    """Take the masks, train for the budget, say what it was worth, predict unlabelled scans.

    A round is a folder ``RUN/rounds/NUMBER``, an artifact of kind ``round``: the data with the masks (``prepared``),
    the network that went on from the one in use (``segmenter``), its masks of unlabelled scans (``predictions``), and
    ``round.json``: whose masks came, scores before and after, and whether the round is used. ``predict`` on the run
    folder uses the last round that was taken.

    Returns:
        The folder of the round.

    Raises:
        SettingsError: If a setting is wrong, or another round is at work.
        ArtifactError: If the folder is no run, or holds no network.
        DataError: If there is no new mask, or one cannot be used.
    """
    started = time.monotonic()
    folder = settings.run
    require_run(folder, "There is nothing to go on from:")
    rounds = folder / ROUNDS
    if obstacle := unwritable(rounds):
        raise SettingsError("Nothing was written:", [Fault(f"{rounds} cannot be made: {obstacle}")])
    with sole_run(rounds, lambda: None, "Wait until it has ended"):
        if settings.use is not None:
            return _use(folder, settings.use)
        return _round(settings, rounds, started)


def _round(settings: LearnSettings, rounds: Path, started: float) -> Path:
    start = find_segmenter(settings.run)
    data = start.parent_folder("prepared")
    if data is None:
        fault = Fault(f"the prepared data of {start.folder} are gone", remedy="Train again")
        raise ArtifactError("There is nothing to go on from:", [fault])
    masks = settings.masks or settings.run / ANNOTATIONS
    if settings.masks is None and not masks.is_dir():
        remedy = f"Put masks into {masks}, or name a folder of masks"
        raise DataError("There is nothing to learn:", [Fault(f"{masks} does not exist", remedy=remedy)])
    out = rounds / str(_next_number(settings.run))
    if out.exists():
        say(f"{out} was left unfinished, and begins anew.")
        shutil.rmtree(out)
    # What is wrong with the settings of the training is told before anything is written.
    round_tuning(settings, start, PreparedStore(data), {}, out)
    given = {key: getattr(settings, key) for key in ("labels", "empty_slices", "empty_masks")}
    asked = {"data": data, "masks": masks, "out": out / "prepared", **given}
    # Of the run's own folder, view and serve have left strays out, too, and let people save into it.
    own = settings.masks is None
    store = PreparedStore(run_stage("relabel", stage_settings("relabel", asked), strays_left_out=own))
    ends = {"masks": time.monotonic()}
    new = _changed(PreparedStore(data), store)
    tuning = round_tuning(settings, start, store, new, out)
    shown = scans_to_predict(store, settings.scans)
    tuning = sized_tuning(settings, tuning, store, shown, started)
    ends["timing of steps"] = time.monotonic()
    run_stage("finetune", tuning)
    ends["training"] = time.monotonic()
    made = Artifact.open(out / "segmenter", "segmenter")
    facts = made.json("segmenter.json")
    verdict = round_verdict(
        facts["continued"],
        take=settings.take,
        empty=subjects_without_structure(store),
        validating=facts.get("validation_subjects", ()),
    )
    for line in verdict["lines"]:
        say(line)
    number = int(out.name)
    use = {"number": number, "content_hash": made.content_hash, "reason": verdict["reason"]}
    record = {
        "round": number,
        "masks": new,
        "labelled_subjects": facts["labelled_subjects"],
        "start": {"folder": path_from(out, start.folder), "content_hash": start.content_hash},
        "steps": facts["steps"],
        "scores": {key: facts["continued"][key] for key in ("left_out", "unseen", "validation")},
        "expected": facts["expected"],
        "taken": verdict["taken"],
        "reason": verdict["reason"],
    }
    parents = [store.artifact, made]
    if shown:
        in_use = made if verdict["taken"] else start
        values = {"model": in_use.folder, "scans": store.folder, "cases": shown, "out": out / "predictions"}
        run_stage("predict", stage_settings("predict", {**values, "device": settings.device}))
        parents.append(Artifact.open(out / "predictions", "predictions"))
    ends["predictions"] = time.monotonic()
    took = {
        part: round(end - begun, 1) for (part, end), begun in zip(ends.items(), (started, *ends.values()), strict=False)
    }
    wall = ends["predictions"] - started
    write_json(out / RECORD, {**record, "seconds": round(wall, 1), "seconds_of": took})
    finish_artifact(out, "round", [RECORD], parents=parents, settings=settings.record(out), wall_seconds=wall)
    if verdict["taken"]:
        _note(settings.run, use)
    say(f"Round {number} took {clock(wall)}: {', '.join(f'{part} {clock(value)}' for part, value in took.items())}.")
    return out


def remove_unfinished(run_folder: Path) -> None:
    """Remove what a round left that was stopped, as the next one would, which begins anew; not of one at work."""
    rounds = run_folder / ROUNDS
    if not rounds.is_dir():
        return
    # Somebody else has begun a round meanwhile.
    with suppress(SettingsError), sole_run(rounds, lambda: None):
        left = rounds / str(_next_number(run_folder))
        if left.is_dir():
            shutil.rmtree(left)


def _use(run_folder: Path, number: int) -> Path:
    """Use a finished round from now on; 0 for none."""
    out = run_folder / ROUNDS / str(number)
    if number == 0:
        _note(run_folder, None)
        say("What train left is used from now on.")
        return run_folder
    if Artifact.find(out, "round") is None:
        there = [str(n) for n in _finished(run_folder)] or ["none"]
        fault = Fault(f"{out} is no finished round", "use", f"Rounds there are: {', '.join(there)}")
        raise SettingsError("Nothing was changed:", [fault])
    segmenter = Artifact.open(out / "segmenter", "segmenter")
    _note(run_folder, {"number": number, "content_hash": segmenter.content_hash, "reason": "asked for"})
    say(f"Round {number} is used from now on.")
    return out


def _note(run_folder: Path, use: dict[str, Any] | None) -> None:
    write_run(run_folder, {**read_run(run_folder), "round": use})


def _finished(run_folder: Path) -> list[int]:
    """Numbers of the finished rounds."""
    return [int(path.name) for path in round_folders(run_folder) if Artifact.find(path, "round") is not None]


def _next_number(run_folder: Path) -> int:
    return max(_finished(run_folder), default=0) + 1


def _changed(before: PreparedStore, now: PreparedStore) -> dict[str, Any]:
    """Case → subject, whether its mask is new or corrected, and the share of its slices that are annotated."""
    earlier, taken = taken_masks(before), taken_masks(now)
    annotated = now.slices.groupby("case")["labelled"].mean()
    unlabelled = {case.id for case in before.cases if case.label is None}
    return {
        case.id: {
            "subject": case.subject,
            "kind": "new" if case.id in unlabelled else "corrected",
            "slices_annotated": round(float(annotated[case.id]), 4),
            "sha256": taken[case.id]["sha256"],
        }
        for case in now.cases
        if case.id in taken and taken[case.id]["sha256"] != earlier.get(case.id, {}).get("sha256")
    }
