"""Asks the stages whether their settings fit the prepared data, before any training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from fewlabel.core.errors import Fault, FewlabelError, SettingsError
from fewlabel.core.settings.base import Settings
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines.stage_table import settings_class
from fewlabel.protocol.training_eligibility import drawn_labels
from fewlabel.stages import evaluate, finetune, pretrain

T = TypeVar("T")


def check_plans(
    store: PreparedStore,
    plans: Mapping[str, Settings],
    user_network: Collection[str] | None = None,
    *,
    trains: bool,
    evaluates: bool,
    steps_open: Collection[str] = (),
) -> None:
    """Refuse what the prepared data show to be wrong for the stages to come, before any training.

    Args:
        store: The prepared data.
        plans: Settings of the stages.
        user_network: Settings of fine-tuning's network that the user gave; None for all that are set.
        trains: Whether there are labels to fine-tune on.
        evaluates: Whether there are labels to evaluate on.
        steps_open: Stages whose steps are chosen later.

    Raises:
        SettingsError: If settings of a stage do not fit the data or those of another stage.
        DataError: If there are not enough labels, or the part that is scored has none or lends some to the training.
    """
    tuning: Any = plans["finetune"]
    pretraining: Any = plans.get("pretrain")
    scoring: Any = plans["evaluate"]
    errors: list[FewlabelError] = []

    def ask(stage: str, check: Callable[[], T]) -> T | None:
        try:
            return check()
        except FewlabelError as error:
            errors.append(_of_stage(stage, error))
            return None

    learnt: set[str] = set()
    if trains:
        # Where there is no such draw, that is a fault of fine-tuning below.
        with suppress(FewlabelError):
            learnt.update(drawn_labels(store, tuning.labelled, tuning.draw, tuning.subjects).labelled)
    encoder = None
    first_open, later_open = (stage in steps_open for stage in ("pretrain", "finetune"))
    if pretraining is not None:
        allowed = learnt if learnt and tuning.mode != "scratch" else None
        encoder = ask("pretrain", lambda: pretrain.check(pretraining, store, allowed, steps_open=first_open))
    if trains:
        checked = ask(
            "finetune", lambda: finetune.check(tuning, store, encoder, user_network=user_network, steps_open=later_open)
        )
        learnt |= checked[1].subjects if checked else set()
    if evaluates:
        ask("evaluate", lambda: evaluate.check(scoring, store, learnt))
    if len(errors) > 1:
        raise type(errors[0])(
            "These settings do not fit the data:", list(dict.fromkeys(fault for one in errors for fault in one.faults))
        )
    if errors:
        raise errors[0]


def check_steps(plans: Mapping[str, Settings], steps_open: Collection[str] = ()) -> None:
    """Refuse steps that a warm-up takes whole, which is known before any scan is read.

    Args:
        plans: Settings of the stages.
        steps_open: Stages whose steps are chosen later.

    Raises:
        SettingsError: With the faults of all stages.
    """
    told: dict[str, Callable[[Any], list[Fault]]] = {
        "pretrain": pretrain.steps_faults,
        "finetune": finetune.steps_faults,
    }
    faults = [
        replace(fault, where=f"{stage}.{fault.where}")
        for stage, ask in told.items()
        if stage in plans and stage not in steps_open
        for fault in ask(plans[stage])
    ]
    if faults:
        raise SettingsError("These settings are not valid:", faults)


def _of_stage(stage: str, error: FewlabelError) -> FewlabelError:
    """The error of a stage, its keys with the name of the stage before them as the user wrote them."""
    keys = settings_class(stage).model_fields
    faults = [
        replace(fault, where=f"{stage}.{fault.where}") if fault.where.split(".")[0] in keys else fault
        for fault in error.faults
    ]
    return type(error)(error.message, faults)
