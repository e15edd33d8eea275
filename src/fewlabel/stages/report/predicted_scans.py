"""Scans as networks predict them, for a report: the best, the median and the worst, and some without a label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.engine.inference import folded
from fewlabel.engine.runtime import choose_device
from fewlabel.engine.weight_files import left_out_file, load_segmenter
from fewlabel.protocol.segmenter_store_compatibility import plan_differences
from fewlabel.reporting.blocks import Section
from fewlabel.reporting.inputs import Inputs
from fewlabel.reporting.sections.best_and_worst_cases import ShownCase, case_section, pick_cases
from fewlabel.reporting.sections.scores import mean_dice
from fewlabel.reporting.sections.unlabelled_predictions import unlabelled_section
from fewlabel.reporting.unseen_scores import UnseenScores
from fewlabel.scoring.component_rule import ComponentRule, clean
from fewlabel.stages._cleaning_rule import decided_rule, prepared_voxel
from fewlabel.stages._scans_to_show import candidates, shown_scans
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages.report.settings import ReportSettings

OTHERS = "The scores belong to other prepared scans than those given, so no scan can be shown."


def scored_scans(
    inputs: Inputs, scores: UnseenScores, names: Mapping[str, str], settings: ReportSettings
) -> Section | None:
    """Best, median and worst scan, predicted again from the prepared store; None where that cannot be done.

    Args:
        inputs: What lies in the run.
        scores: Of patients the network has not learnt from.
        names: Arm to what it is called.
        settings: Of the stage.
    """
    if inputs.store is None or inputs.used is None:
        return None
    store, known = inputs.store, {case.id: case for case in inputs.store.cases}
    dice = scores.table.groupby("case", sort=False)["dice"].mean()
    classes = [name for _, name in sorted(store.label_names.items())]
    if plan_differences(inputs.used.facts, store.plan) or not all(str(case) in known for case in dice.index):
        return case_section(None, classes, OTHERS)
    picked = [
        (rank, known[case]) for rank, case in pick_cases({str(case): float(value) for case, value in dice.items()})
    ]
    if scores.left_out:
        shown = _left_out(inputs, picked, {str(case): float(value) for case, value in dice.items()}, settings)
    else:
        shown = _tested(inputs, picked, names, settings)
    return case_section(shown, classes) if shown else None


def _tested(
    inputs: Inputs, picked: list[tuple[str, PreparedCase]], names: Mapping[str, str], settings: ReportSettings
) -> list[ShownCase]:
    """By the model and its control, cleaned as they were scored."""
    if inputs.store is None or inputs.scores is None:
        return []
    roles = {"model": "segmenter", "control": "control"}
    artifacts = {arm: inputs.artifacts[role] for arm, role in roles.items() if role in inputs.artifacts}
    arms = {arm: Segmenter.load(artifact) for arm, artifact in artifacts.items()}
    cleaned = bool(inputs.manifests["scores"].settings.get("postprocess", False))
    scored = {arm: mean_dice(inputs.scores.per_case, arm) for arm in arms}
    device, shown = choose_device(settings.device), []
    for rank, case in picked:
        there = [arm for arm in arms if case.id in scored[arm].index]
        rules = {arm: arms[arm].rule if cleaned else None for arm in there}
        predictions = {names[arm]: _predict(arms[arm], inputs.store, case, device, rules[arm])[0] for arm in there}
        dice = {names[arm]: float(scored[arm][case.id]) for arm in there}
        shown.append(_shown(inputs.store, rank, case, predictions, dice))
    return shown


def _left_out(
    inputs: Inputs, picked: list[tuple[str, PreparedCase]], dice: Mapping[str, float], settings: ReportSettings
) -> list[ShownCase]:
    """Each by the network that left its patient out; none where these networks were not kept."""
    if inputs.store is None:
        return []
    store, artifact = inputs.store, inputs.artifacts["control" if inputs.used is inputs.control else "segmenter"]
    device, shown = choose_device(settings.device), []
    for rank, case in picked:
        file = left_out_file(case.subject)
        if file not in artifact.manifest.files:
            return []
        network, facts = load_segmenter(artifact, file=file)
        arm = Segmenter(artifact, (folded(network),), facts)
        others = [subject for subject in facts.get("labelled_subjects", ()) if subject != case.subject]
        rule = decided_rule(store, others) if arm.rule is not None else None
        name = f"without {case.subject}"
        predictions = {name: _predict(arm, store, case, device, rule)[0]}
        shown.append(_shown(store, rank, case, predictions, {name: dice[case.id]}))
    return shown


def _shown(
    store: PreparedStore,
    rank: str,
    case: PreparedCase,
    predictions: Mapping[str, NDArray[np.uint8]],
    dice: Mapping[str, float],
) -> ShownCase:
    images = np.asarray(store.images[case.start : case.stop, 0], np.float32)
    return ShownCase(rank, case.id, images, np.asarray(store.labels[case.start : case.stop]), predictions, dice)


def unlabelled_scans(inputs: Inputs, names: Mapping[str, str], settings: ReportSettings) -> Section | None:
    """Scans without labels as the segmenter in use predicts them; None where there are none, or none are wanted."""
    if inputs.store is None or inputs.used is None or settings.unlabelled == 0:
        return None
    arm = "control" if inputs.used is inputs.control else "model"
    store, name = inputs.store, names[arm]
    classes = [label for _, label in sorted(store.label_names.items())]
    if plan_differences(inputs.used.facts, store.plan):
        why = "The segmentation network was made for other pixels than the prepared scans, so no scan can be shown."
        return unlabelled_section([], 0, classes, name, why)
    network = Segmenter.load(inputs.artifacts["control" if arm == "control" else "segmenter"])
    device = choose_device(settings.device)
    learnt = {*network.facts.get("labelled_subjects", ()), *network.facts.get("validation_subjects", ())}
    cases = candidates(store, learnt)
    if not cases:
        return None
    shown = shown_scans(
        store, cases, lambda case: _predict(network, store, case, device, network.rule), settings.unlabelled
    )
    return unlabelled_section(shown, len(cases), classes, name)


def _predict(
    arm: Segmenter, store: PreparedStore, case: PreparedCase, device: str, rule: ComponentRule | None
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(depth, height, width) classes of a prepared scan, and their probabilities before they are cleaned."""
    images = np.asarray(store.images[case.start : case.stop], np.float32).swapaxes(0, 1)
    probabilities = arm.predict(images, device=device).probabilities
    whole = probabilities.argmax(axis=0).astype(np.uint8)
    return clean(whole, rule, prepared_voxel(store, case))[0], probabilities.max(axis=0)
