"""Training curves of pre-training and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fewlabel.engine.regime_run_summary import outcome_sentences
from fewlabel.reporting.blocks import Block, Facts, Picture, Pictures, Section, Text
from fewlabel.reporting.figures.training import Curve, curve, lines_figure, loss_figure, single_figure
from fewlabel.reporting.formatting import count, listed, percent
from fewlabel.reporting.inputs import Training
from fewlabel.reporting.sections.stratified_sampling import variance_note, variance_pictures
from fewlabel.scoring.component_rule import ComponentRule

PRETRAINING = "Pre-training"
FINETUNING = "Fine-tuning"
NO_SEGMENTER = "No fine-tuning: the run has no segmentation network."
NO_RECORD = "The record of this training (metrics.jsonl) is empty, so there are no curves."
NO_VALIDATION = (
    "No validation curve: no annotated patient was held out to choose the best step, so all steps were run and the "
    "last weights kept."
)
LEFT_OUT = (
    "No validation curve for this run: the annotated patients were left out in turn, each of a run of its own, and the "
    "step was chosen by the mean of those runs."
)


#: Spread below which slices are hardly told apart; own choice.
NARROW = 0.05
COLLAPSING = (
    "At the end of pre-training all slices have nearly the same embedding (spread {spread:.3f}): the encoder hardly "
    "tells them apart. Weaken the intensity augmentation, change the learning rate, or train longer."
)


def pretraining_section(encoder: Training) -> Section:
    """Loss beside its collapse value and bound, effective rank, and the parts of the loss."""
    facts, rows = encoder.facts, encoder.rows
    used = list(facts.get("meta_labels", []))
    guide = f"guided by {listed(used)}" if used else "without metadata"
    guide += " that slices had of each other, as a control" if used and facts.get("shuffled_metadata") else ""
    annotated = list(facts.get("labelled_subjects", []))
    masks = f"The masks of {listed(annotated)} were used too." if annotated else "No masks were used."
    lead = (
        f"An encoder of {_millions(facts.get('parameters'))} parameters was trained with {facts.get('method')} for "
        f"{count(int(facts.get('steps', 0)), 'step')}, {guide}. {masks}"
    )
    loss = curve(rows, "loss")
    if loss.empty:
        return Section("pretraining", PRETRAINING, lead, [Text(NO_RECORD, "missing")])
    pictures = [loss_figure(loss, curve(rows, "collapsed"), curve(rows, "lower_bound"))]
    pictures += single_figure(
        curve(rows, "effective_rank"),
        title="Effective rank of the embeddings",
        label="directions in use",
        caption="How many directions the embeddings of a batch span (Roy & Vetterli 2007). Near 1 they have collapsed; "
        "it should stay well above the number of classes of the meta labels.",
    )
    spread = curve(rows, "spread")
    pictures += single_figure(
        spread,
        title="Spread of the embeddings",
        label="spread",
        caption="0: all slices of a batch have the same embedding. 1: the embeddings cover the whole sphere.",
    )
    pictures += _parts(rows)
    blocks: list[Block] = [Pictures(pictures), Text(_judged(encoder), "note")]
    if not spread.empty and spread.values[-1] < NARROW:
        blocks.append(Text(COLLAPSING.format(spread=spread.values[-1]), "missing"))
    return Section("pretraining", PRETRAINING, lead, blocks)


def _parts(rows: list[dict[str, Any]]) -> list[Picture]:
    """Loss by meta label, and GradFilter's share kept, where they were logged."""
    terms = _named(rows, "term/")
    pictures = []
    if len(terms) > 1:
        pictures.append(
            lines_figure(
                {name: curve(rows, key) for name, key in terms.items()},
                title="Loss by meta label",
                label="loss",
                caption="Labels with more positives per slice have a higher floor: compare shapes, not heights.",
            )
        )
    halves = {f"{half}-wise": _mean_curve(rows, list(_named(rows, f"{half}/").values())) for half in ("image", "pixel")}
    if not any(half.empty for half in halves.values()):
        pictures.append(
            lines_figure(
                halves,
                title="Loss by part",
                label="loss, mean over labels",
                caption="Image-wise: whole slices are compared with each other. Pixel-wise: single pixels are.",
            )
        )
    kept = curve(rows, "pool_kept")
    if not kept.empty and float(np.ptp(kept.values)) > 0:
        pictures += single_figure(
            kept,
            title="Pixel positives kept by GradFilter",
            label="share of the pool",
            caption="Easy positives come first; the pool grows over the run.",
        )
    return pictures


def _judged(encoder: Training) -> str:
    """Whether the embeddings stayed apart, in words."""
    loss, collapsed = curve(encoder.rows, "loss"), curve(encoder.rows, "collapsed")
    bound = curve(encoder.rows, "lower_bound")
    if collapsed.empty:
        return "This method has no collapse value to compare the loss with."
    tail = max(1, len(loss.values) // 10)
    end, limit = float(loss.values[-tail:].mean()), float(collapsed.values[-tail:].mean())
    if end >= limit:
        return (
            f"At the end the loss is {end:.3f}, not below its collapse value ({limit:.3f}): equal embeddings for all "
            "slices would do as well. Such an encoder is no better than an untrained one."
        )
    if bound.empty:
        return f"At the end the loss is {end:.3f}; collapsed embeddings would give {limit:.3f}."
    least = float(bound.values[-tail:].mean())
    way = (limit - end) / max(limit - least, 1e-9)
    return (
        f"At the end the loss is {end:.3f}: {100 * way:.0f} % of the way from its collapse value ({limit:.3f}) to its "
        f"lower bound ({least:.3f}). The bound is out of reach for augmented views; 0 % would mean a useless encoder."
    )


def finetuning_section(arms: Mapping[str, Training | None]) -> Section:
    """Loss and validation Dice of the model and its control.

    Args:
        arms: Name of the arm to its training, the model first; None where there is none.
    """
    trained = {name: arm for name, arm in arms.items() if arm is not None}
    if not trained:
        return Section("finetuning", FINETUNING, "", [Text(NO_SEGMENTER, "missing")])
    facts = next(iter(trained.values())).facts
    labelled = list(facts.get("labelled_subjects", []))
    lead = (
        f"Regime: {facts.get('regime')}, with the labels of {listed(labelled)} "
        f"({count(int(facts.get('labelled_slices', 0)), 'slice')}), {count(int(facts.get('steps', 0)), 'step')}."
    )
    members = int(facts.get("members", 1))
    if members > 1:
        lead += f" {members} networks with different seeds, each trained this long; the curves are those of the first."
    outcomes: list[Block] = [
        Text(f"{name}: {sentence}", "missing")
        for name, arm in trained.items()
        for sentence in outcome_sentences(arm.facts)
    ]
    losses = {name: curve(arm.rows, "loss") for name, arm in trained.items()}
    validation = {name: curve(arm.rows, "validation_dice") for name, arm in trained.items()}
    pictures: list[Picture] = []
    if any(not line.empty for line in losses.values()):
        caption = (
            "Sum of all loss terms, moving average. With a semi-supervised regime it includes those of unlabelled "
            "scans and may rise as their weight grows. A low loss here says nothing about new patients."
        )
        pictures.append(lines_figure(losses, title="Fine-tuning loss", label="loss", caption=caption))
    if any(not line.empty for line in validation.values()):
        pictures.append(
            lines_figure(
                validation,
                title="Validation Dice",
                label="mean Dice",
                caption="On annotated patients held out to choose the best step; they are not test patients.",
                limits=(0.0, 1.0),
                markers=True,
            )
        )
    rows = next(iter(trained.values())).rows
    pictures += variance_pictures(rows)
    drawn: list[Block] = [Pictures(pictures), *variance_note(rows)] if pictures else [Text(NO_RECORD, "missing")]
    blocks = [*outcomes, *drawn]
    if pictures and all(line.empty for line in validation.values()):
        blocks.append(Text(LEFT_OUT if facts.get("selection") == "leave_one_out" else NO_VALIDATION, "missing"))
    kept = {"Weights kept": _kept, "Batch-norm statistics": _statistics, "Post-processing keeps": _cleaned}
    lines = [(f"{what}, {name}", say(arm.facts)) for what, say in kept.items() for name, arm in trained.items()]
    blocks.append(Facts([(what, words) for what, words in lines if words]))
    return Section("finetuning", FINETUNING, lead, blocks)


def _kept(facts: Mapping[str, Any]) -> str:
    best = facts.get("best_step")
    selection = str(facts.get("selection", "")).replace("_", " ")
    if best is None:
        return f"after the last step ({facts.get('steps')})"
    steps = list(dict.fromkeys(map(str, facts.get("best_steps", [best]))))
    return f"after {'step' if len(steps) == 1 else 'steps'} {listed(steps)} of {facts.get('steps')} ({selection})"


def _statistics(facts: Mapping[str, Any]) -> str:
    """What the statistics of batch normalisation were recalculated on, if they were."""
    taken = facts.get("recalibrated")
    if not taken:
        return ""
    things = count(taken["slices"], "slice") if "slices" in taken else count(taken["patches"], "patch", "patches")
    share = percent(taken.get("share", 1.0))
    return f"{share} from {things} of {count(taken['subjects'], 'patient')}, without their masks"


def _cleaned(facts: Mapping[str, Any]) -> str:
    """What is kept of predictions, if they are cleaned."""
    rule = facts.get("postprocess")
    names = {int(index): str(name) for index, name in facts.get("label_names", {}).items()}
    return ComponentRule.load(rule).words(names) if rule else ""


def _mean_curve(rows: list[dict[str, Any]], keys: list[str]) -> Curve:
    """The mean of several quantities, over the rows that hold all of them."""
    whole = [row for row in rows if keys and all(isinstance(row.get(key), int | float) for key in keys)]
    return curve([{"step": row["step"], "mean": sum(row[key] for key in keys) / len(keys)} for row in whole], "mean")


def _named(rows: list[dict[str, Any]], prefix: str) -> dict[str, str]:
    """Name → key of all quantities with a prefix, in the order logged."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith(prefix))
    return {key.removeprefix(prefix): key for key in keys}


def _millions(parameters: object) -> str:
    if not isinstance(parameters, int | float):
        return "an unknown number of"
    return f"{parameters / 1e6:.1f} million" if parameters >= 1e6 else f"{parameters:,.0f}".replace(",", " ")
