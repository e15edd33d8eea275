"""Whether the networks of a run are what its settings train: first steps from the seed, and their validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import FewlabelError
from fewlabel.data.store import PreparedStore
from fewlabel.engine.checkpoint import as_begun
from fewlabel.engine.record import parse_record, read_record
from fewlabel.engine.run_folder_state import RECORD, identity
from fewlabel.pipelines.verify.findings import (
    Finding,
    agreement,
    differs,
    held,
    not_checked,
    recorded_precision,
    refused,
    threads,
)
from fewlabel.reporting.formatting import count
from fewlabel.stages.finetune import FinetuneSettings, SegmenterRun, validated_again
from fewlabel.stages.pretrain import PretrainingTrainer, PretrainSettings

#: Figures of a step that are not of the training.
_NOT_TRAINED = frozenset({"step", "seconds"})
#: What another rounding moves least; the rest is held only where everything is identical.
_LOSSES = ("loss", "term/")
#: Norms of what a step went by.
_GRADIENTS = "gradient_norm"
#: Records have six digits.
_ROUNDED = 1e-2


def repeated_pretraining(
    encoder: Artifact, store: PreparedStore, folder: Path, steps: int, device: str, tolerance: float
) -> Finding:
    """Take the first steps of a pre-training again.

    Args:
        encoder: What it left.
        store: The prepared data.
        folder: A folder to work in.
        steps: To take, at most.
        device: Where.
        tolerance: Relative, of a loss.
    """
    part = "encoder: first steps"
    values = _values(encoder, store, folder, device)
    if values.get("encoder") is not None:
        before = encoder.parent_folder("encoder")
        if before is None:
            return not_checked(part, "the encoder it began with is not here")
        values["encoder"] = before
    try:
        settings = PretrainSettings.parse(values)
        with threads(encoder.manifest.machine.get("threads")):
            training = PretrainingTrainer.begin(settings, store=store)
            last = _last(_recorded(encoder), min(steps, settings.steps))
            training.train(last + 1)
    except FewlabelError as error:
        return refused(part, error)
    return _held(part, encoder, read_record(folder / RECORD), last, tolerance)


def repeated_finetuning(
    segmenter: Artifact, store: PreparedStore, folder: Path, steps: int, device: str, tolerance: float, name: str
) -> list[Finding]:
    """Take the first steps of a fine-tuning again, and look at whether its settings are those it was asked for.

    Args:
        segmenter: What it left.
        store: The prepared data.
        folder: A folder to work in.
        steps: To take, at most.
        device: Where.
        tolerance: Relative, of a loss.
        name: Of the segmenter in the run.
    """
    part = f"{name}: first steps"
    values = as_begun(_values(segmenter, store, folder, device), FinetuneSettings.model_fields)
    known = segmenter.manifest.settings.get("identity", {})
    mode = known.get("mode", "warm")
    for role, kind in (("encoder", "encoder"), ("start", "segmenter")):
        if values.get(role) is not None:
            place = segmenter.parent_folder(kind) if mode != "scratch" else None
            if place is None and mode != "scratch":
                return [not_checked(part, f"the {kind} it began with is not here")]
            values[role] = place
    try:
        recorded = {**values, "precision": known.get("precision", "auto"), "compile": known.get("compile", "auto")}
        with threads(segmenter.manifest.machine.get("threads")):
            settings = FinetuneSettings.parse(values)
            training = SegmenterRun(settings, folder, mode)
            same = {
                **identity(FinetuneSettings.parse(recorded).record(), **training.inputs.hashes),
                "mode": mode,
                "selection": training.selection,
            }
            trainer = training.prepare()
            last = _last(_recorded(segmenter), min(steps, settings.steps))
            trainer.train(last + 1)
    except FewlabelError as error:
        return [refused(part, error)]
    made = {key: same[key] for key in same.keys() & known.keys() if key not in ("encoder_hash", "start_hash")}
    if wrong := sorted(key for key, value in made.items() if known[key] != value):
        return [differs(f"{name}: settings", f"{', '.join(wrong[:4])}: not as the run that is recorded was begun")]
    return [_held(part, segmenter, read_record(folder / RECORD), last, tolerance)]


def repeated_validation(
    segmenter: Artifact, store: PreparedStore, device: str, tolerance: float, name: str
) -> Finding | None:
    """Validate the weights again, where patients were held out for it; None where none were.

    Args:
        segmenter: The segmenter.
        store: The prepared data.
        device: Where to predict.
        tolerance: Relative, of the mean Dice.
        name: Of the segmenter in the run.
    """
    part = f"{name}: validation"
    facts = segmenter.json("segmenter.json")
    claimed = facts.get("validation_dice")
    if facts.get("selection") != "held_out" or claimed is None:
        return None
    if int(facts.get("members", 1)) > 1:
        return not_checked(part, "each member was selected by its own")
    try:
        with threads(segmenter.manifest.machine.get("threads")):
            dice, count_of = validated_again(segmenter, store, device, recorded_precision(segmenter))
    except FewlabelError as error:
        return refused(part, error)
    found = agreement({"mean Dice": (claimed, dice)})
    return found.finding(part, f"{count(count_of, 'scan')} predicted", tolerance)


def _values(artifact: Artifact, store: PreparedStore, folder: Path, device: str) -> dict[str, Any]:
    """Settings of a training as it was made, but for places, device and compiling."""
    settings = {key: value for key, value in artifact.manifest.settings.items() if key != "identity"}
    return {
        **settings,
        "data": store.folder,
        "out": folder,
        "resume": False,
        "tracking": [],
        "device": device,
        "compile": False,
        "precision": recorded_precision(artifact),
    }


def _recorded(artifact: Artifact) -> list[dict[str, Any]]:
    """Rows of steps."""
    rows = parse_record(artifact.content(RECORD), artifact.folder / RECORD)
    return [row for row in rows if "loss" in row]


def _last(rows: Sequence[Mapping[str, Any]], steps: int) -> int:
    """The last recorded step among the first."""
    return max((int(row["step"]) for row in rows if int(row["step"]) < steps), default=0)


def _held(part: str, artifact: Artifact, again: Sequence[Mapping[str, Any]], last: int, tolerance: float) -> Finding:
    recorded = {int(row["step"]): row for row in _recorded(artifact) if int(row["step"]) <= last}
    repeated = {int(row["step"]): row for row in again if "loss" in row}
    if not recorded or not recorded.keys() <= repeated.keys():
        return differs(part, "the record has no first steps")
    pairs = {
        f"{key} of step {step}": (row[key], repeated[step].get(key))
        for step, row in recorded.items()
        for key in row
        if key not in _NOT_TRAINED and isinstance(row[key], int | float | None)
    }
    what = f"{count(last + 1, 'step')} from the seed"
    everything = agreement(pairs)
    if everything.largest == 0:
        return everything.finding(part, what, tolerance)
    if math.isinf(everything.largest):
        # A figure that is on one side alone.
        return everything.finding(part, what, tolerance)
    # The rate is no matter of rounding.
    rates = agreement({key: pair for key, pair in pairs.items() if key.startswith("lr ")})
    if rates.largest > _ROUNDED:
        return rates.finding(part, what, _ROUNDED)
    # On other hardware or threads sums are rounded otherwise, and figures such as cosines move more than losses do.
    found = agreement({key: pair for key, pair in pairs.items() if key.startswith(_LOSSES)})
    # Where losses are identical, no rounding has moved the gradients.
    found = found if found.largest else agreement({key: pairs[key] for key in pairs if key.startswith(_GRADIENTS)})
    if found.largest:
        return found.finding(part, what, tolerance)
    return held(part, f"{what}: losses and gradients identical, {everything.where} off by {everything.largest:.1g}")
