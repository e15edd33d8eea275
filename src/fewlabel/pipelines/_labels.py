"""Whether the prepared data have what ``train`` is to learn from and to score, looked at before any training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fewlabel.core.errors import DataError, Fault, FewlabelError, SettingsError
from fewlabel.core.registry import load_plugin
from fewlabel.core.settings.config import Settings
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines.stages import settings_class

if TYPE_CHECKING:
    from fewlabel.protocol.model_selection import Selection


def check_labels(store: PreparedStore, plans: Mapping[str, Settings], *, trains: bool, evaluates: bool) -> None:
    """Refuse what the prepared data show to be wrong for fine-tuning and evaluation, before any training.

    Args:
        store: The prepared data.
        plans: Settings of the stages.
        trains: Whether there are labels to fine-tune on.
        evaluates: Whether there are labels to evaluate on.

    Raises:
        SettingsError: If there is no such draw, selection or part of the split.
        DataError: If there are not enough labels, or the part that is scored has none or lends some to the training.
    """
    from fewlabel.protocol.label_draws import drawn_labels
    from fewlabel.protocol.model_selection import choose_selection
    from fewlabel.protocol.scorable_cases import subjects_of
    from fewlabel.stages.finetune.expectation import choose_expectation
    from fewlabel.stages.finetune.network import check_network
    from fewlabel.stages.pretrain import network_for

    learning: Any = plans["finetune"]
    part = str(plans["evaluate"].part)  # type: ignore[attr-defined]
    errors: list[FewlabelError] = []
    met: set[str] = set()
    if trains and "pretrain" in plans:
        pretraining: Any = plans["pretrain"]
        try:
            check_network(learning, network_for(pretraining, store), "finetune.")
        except FewlabelError as error:
            errors.append(error)
    if trains:
        try:
            draw = drawn_labels(store, learning.labelled, learning.draw, learning.subjects)
            met |= set(draw.labelled)
            seen = () if learning.mode == "scratch" else _labels_lent(store, plans.get("pretrain"), draw.labelled)
            selection = choose_selection(learning.validation, draw, seen)
            if selection == "held_out":
                met |= set(draw.validation)
            choose_expectation(learning.expect, draw, selection, store, seen)
        except FewlabelError as error:
            errors.append(_told_of("finetune", error))
    if evaluates:
        try:
            _check_part(store, part, subjects_of(store, part), met)
        except FewlabelError as error:
            errors.append(_told_of("evaluate", error))
    if len(errors) > 1:
        raise type(errors[0])("These settings do not fit the data:", [fault for one in errors for fault in one.faults])
    if errors:
        raise errors[0]


def selection_of(store: PreparedStore, plans: Mapping[str, Any]) -> tuple[Selection, bool]:
    """How the weights of fine-tuning will be selected, and whether labelled patients will be left out to be scored.

    Args:
        store: The prepared data.
        plans: Settings of the stages that take part.

    Raises:
        SettingsError: As :func:`check_labels`.
        DataError: As :func:`check_labels`.
    """
    from fewlabel.protocol.label_draws import drawn_labels
    from fewlabel.protocol.model_selection import choose_selection
    from fewlabel.stages.finetune.expectation import choose_expectation

    learning = plans["finetune"]
    draw = drawn_labels(store, learning.labelled, learning.draw, learning.subjects)
    seen = () if learning.mode == "scratch" else _labels_lent(store, plans.get("pretrain"), draw.labelled)
    selection = choose_selection(learning.validation, draw, seen)
    return selection, choose_expectation(learning.expect, draw, selection, store, seen)


def _labels_lent(store: PreparedStore, pretraining: Any, draw: Collection[str]) -> tuple[str, ...]:
    """The subjects whose labels the encoder will have seen; none without pre-training or with one that needs none.

    Args:
        store: The prepared data.
        pretraining: Settings of ``pretrain``; None without.
        draw: Subjects whose labels fine-tuning uses.

    Raises:
        SettingsError: If pre-training is to learn from labels that fine-tuning may not use.
        DataError: If there are not the labels it asks for.
    """
    from fewlabel.protocol.label_draws import drawn_labels

    if pretraining is None or not load_plugin("fewlabel.methods", pretraining.method.name).uses_labels:
        return ()
    seen = drawn_labels(store, pretraining.labelled, pretraining.draw, pretraining.subjects).labelled
    if beyond := [subject for subject in seen if subject not in draw]:
        problem = f"would learn from labels that fine-tuning may not use, those of {', '.join(beyond)}"
        remedy = "Give labelled, draw or subjects without pretrain. or finetune. before it, for both"
        raise SettingsError("Labels would leak:", [Fault(problem, "pretrain", remedy)])
    return seen


def _check_part(store: PreparedStore, part: str, subjects: Sequence[str], met: Collection[str]) -> None:
    """Refuse a part of the split without labelled scans, or with some whose labels the training uses."""
    labelled = {case.subject for case in store.cases if case.label is not None} & set(subjects)
    remedy = "Leave out evaluate.part to score the test part"
    if not labelled:
        fault = Fault(f'"{part}" has no labelled scans to score', "part", remedy)
        raise DataError("The evaluation cannot be done:", [fault])
    if shared := sorted(labelled & set(met)):
        problem = f'"{part}" holds labels that training uses or selects by, those of {", ".join(shared)}'
        fault = Fault(problem, "part", remedy)
        raise DataError("The evaluation cannot be done:", [fault])


def _told_of(stage: str, error: FewlabelError) -> FewlabelError:
    """The error of a stage, its keys with the name of the stage before them as the user wrote them."""
    keys = settings_class(stage).model_fields
    faults = [
        replace(fault, where=f"{stage}.{fault.where}") if fault.where in keys else fault for fault in error.faults
    ]
    return type(error)(error.message, faults)
