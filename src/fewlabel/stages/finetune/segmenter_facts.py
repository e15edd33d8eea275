"""What ``segmenter.json`` says of a segmenter: whose labels and images it saw, and how it was trained and selected."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.data.evenly_spread_slices import Spread
from fewlabel.engine.regime_run_summary import KEY as OUTCOMES
from fewlabel.protocol.exposure import KEY as MET
from fewlabel.protocol.exposure import images_met
from fewlabel.protocol.model_selection import Selection
from fewlabel.scoring.component_rule import ComponentRule
from fewlabel.scoring.leave_one_out import dice_of_subjects, expected_summary
from fewlabel.stages._batch_norm_statistics import KEY as RECALIBRATED
from fewlabel.stages._batch_norm_statistics import statistics_record
from fewlabel.stages._cleaning_rule import KEY as POSTPROCESS
from fewlabel.stages.finetune.leave_one_out_choice import KEY as EXPECTED
from fewlabel.stages.finetune.starting_point import KEY as STARTED
from fewlabel.stages.finetune.starting_point import StartingPoint

if TYPE_CHECKING:
    from fewlabel.stages.finetune.segmenter_run import SegmenterRun

_INITIALISATION = {"warm": "pretrained encoder", "frozen": "frozen encoder", "scratch": "scratch"}


def settings_to_go_on(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a fine-tuning that goes on from a segmenter, as far as what it began as decides them.

    An encoder stays frozen where it was frozen; one that began from scratch learns on at the rate of all else.

    Args:
        facts: Content of ``segmenter.json``.
    """
    begun = facts.get("initialisation")
    return {
        "mode": "frozen" if begun == _INITIALISATION["frozen"] else "warm",
        **({"encoder_lr": 1.0} if begun == _INITIALISATION["scratch"] else {}),
    }


def segmenter_facts(
    run: SegmenterRun, statistics: Sequence[Spread], rule: ComponentRule | None, expected: dict[str, Any] | None
) -> dict[str, Any]:
    """The facts, but for the architecture and the number of classes.

    Args:
        run: Whose networks are all trained.
        statistics: For each network that took statistics from them, the images.
        rule: How predictions are cleaned.
        expected: What a new patient may expect, as :func:`expectation` has it; None where that is not known.
    """
    settings, store, draw, members = run.settings, run.store, run.draw, run.members
    start = run.start
    regime = load_plugin("fewlabel.regimes", str(settings.regime.name))
    own = {*draw.labelled, *(run.inputs.unlabelled() if regime.uses_unlabelled else ())}
    own |= {subject for images in statistics for subject in images.subjects}
    best_steps = members.best_steps()
    facts = {
        "members": settings.members,
        "label_names": {str(key): value for key, value in store.label_names.items()},
        "plan": json.loads(json.dumps(store.plan)),
        "reader": store.manifest.settings.get("reader", "auto"),
        "labelled_subjects": list(dict.fromkeys((*(start.labelled if start else ()), *draw.labelled))),
        "labelled_slices": len(store.slices_of(draw.labelled, labelled=True)),
        "validation_subjects": list(draw.validation if run.selection == "held_out" else ()),
        MET: images_met({*own, *run.encoder_met}, None),
        "selection": run.selection,
        "patch": None if settings.patch is None else list(settings.patch),
        "regime": settings.regime.name,
        "initialisation": start.facts.get("initialisation", "") if start else _INITIALISATION[run.mode],
        "steps": settings.steps,
        "batch": settings.batch,
        "widened_augment": run.inputs.augmentation.widened,
        "best_step": best_steps[0],
        **({"best_steps": best_steps} if len(best_steps) > 1 else {}),
        "validation_dice": members.mean_dice(),
        RECALIBRATED: statistics_record(statistics[0] if statistics else None, settings.recalibrate_share),
        POSTPROCESS: None if rule is None else rule.record(),
        EXPECTED: expected,
    }
    if any(outcomes := members.outcomes()):
        facts[OUTCOMES] = outcomes
    return facts


def expectation(table: pd.DataFrame, label_names: dict[int, str], selection: Selection) -> dict[str, Any]:
    """What a new patient may expect.

    Args:
        table: Scores of the left-out patients.
        label_names: Class to its name, the background among them.
        selection: How the weights were selected.
    """
    names = {index: name for index, name in label_names.items() if index}
    return {
        "networks": 1,
        "length_chosen_on_them": selection == "leave_one_out",
        **expected_summary(table, names),
    }


def continued_facts(
    start: StartingPoint, facts: Mapping[str, Any], before: pd.DataFrame, validated: float | None
) -> dict[str, Any]:
    """What a training went on from, and what that was worth: Dice before and after, of equal scans and masks.

    Args:
        start: The segmenter before.
        facts: Those of the segmenter after.
        before: Scores of the left-out patients by weights from before.
        validated: Mean validation Dice from before; None without validation.
    """
    after = (facts[EXPECTED] or {}).get("subjects", {})
    dice_before = dice_of_subjects(before)
    comparable = {subject: float(after[subject]["dice"]) for subject in dice_before}
    return {
        STARTED: {
            "content_hash": start.artifact.content_hash,
            "labelled_subjects": list(start.labelled),
            "left_out": {"before": dice_before, "after": comparable},
            "unseen": {subject: after[subject]["dice"] for subject in start.unseen(list(after))},
            "validation": {"before": validated, "after": facts["validation_dice"]},
        }
    }
