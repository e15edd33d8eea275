"""Whether the settings of a pre-training fit the prepared data; nothing is trained or written."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault, FewlabelError, SettingsError
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.data.store import PreparedStore
from fewlabel.engine.optim import warmup_faults
from fewlabel.engine.trackers import missing_trackers
from fewlabel.methods.base import DataFacts, PretrainMethod
from fewlabel.protocol.training_eligibility import drawn_labels, training_slices
from fewlabel.stages._encoder_to_be_trained import PlannedEncoder
from fewlabel.stages._shape_checks import slice_faults
from fewlabel.stages.pretrain.settings import PretrainSettings


def check(
    settings: PretrainSettings,
    store: PreparedStore,
    allowed: Collection[str] | None = None,
    *,
    steps_open: bool = False,
) -> PlannedEncoder:
    """The encoder to train, once it is sure that the settings fit the data.

    Its network has the channels of the data and, where no depth is asked for, one that fits.

    Args:
        settings: Settings of the stage.
        store: The prepared data.
        allowed: Subjects whose labels may be learnt from, where fine-tuning follows on a draw; None for all.
        steps_open: Whether another number of steps is chosen later, so that the warm-up is held against none yet.

    Raises:
        SettingsError: With every fault: of the network, the parts of the split, labels that may not be used, what the
            method cannot work with, and the warm-up.
        DataError: If there are no such slices or labels; with all other faults.
    """
    asked, size, channels = settings.network, store.images.shape[2:], int(store.images.shape[1])
    network = asked.fitted(size).model_copy(update={"in_channels": channels})
    faults = [*slice_faults(size, network, str(settings.data)), *missing_trackers(settings.tracking)]
    if "in_channels" in asked.model_fields_set and asked.in_channels != channels:
        problem = f"is {asked.in_channels}, but the data in {settings.data} have {channels}"
        faults.append(Fault(problem, "network.in_channels", "Leave out network.in_channels"))
    method: type[PretrainMethod] = load_plugin("fewlabel.methods", settings.method.name)
    if not steps_open:
        faults += steps_faults(settings)
    try:
        indices = training_slices(store, settings.parts)
        faults += method.faults(settings.method, network, data_facts(store, indices))
        subjects = _subjects(settings, store, allowed)
    except FewlabelError as error:
        if not faults:
            raise
        raise type(error)("These settings do not fit the data:", [*faults, *error.faults]) from error
    if faults:
        raise SettingsError("These settings are not valid:", faults)
    return PlannedEncoder(network, subjects)


def steps_faults(settings: PretrainSettings) -> list[Fault]:
    """A fault where a phase of the run would not live to the end of the warm-up; needs no data.

    Args:
        settings: Settings of the stage, ``steps`` as they are to be.
    """
    method: type[PretrainMethod] = load_plugin("fewlabel.methods", settings.method.name)
    return warmup_faults(settings.optimiser, method.phase_lengths(settings.method, settings.steps))


def data_facts(store: PreparedStore, indices: NDArray[np.int64]) -> DataFacts:
    """What a method may know of the data before the first batch.

    Args:
        store: The prepared data.
        indices: Store indices of the slices of the pre-training part.
    """
    return DataFacts(
        meta_labels={name: store.classes_among(name, indices) for name in store.meta_labels},
        slices=len(indices),
        image_size=(int(store.images.shape[2]), int(store.images.shape[3])),
        store_slices=len(store.slices),
        classes=len(store.label_names),
        missing={name: float((store.slices[f"meta_{name}"].iloc[indices] < 0).mean()) for name in store.meta_labels},
    )


def _subjects(settings: PretrainSettings, store: PreparedStore, allowed: Collection[str] | None) -> tuple[str, ...]:
    """The subjects whose labels a method learns from: those of the draw, whatever else has labels."""
    if not load_plugin("fewlabel.methods", settings.method.name).uses_labels:
        return ()
    subjects = drawn_labels(store, settings.labelled, settings.draw, settings.subjects).labelled
    if len(store.slices_of(subjects, labelled=True)) == 0:
        problem = f"{settings.method.name} learns from labels, and {', '.join(subjects)} have none"
        fault = Fault(problem, "labelled", "Name other patients")
        raise DataError("There is nothing to train on:", [fault])
    if beyond := [subject for subject in subjects if allowed is not None and subject not in allowed]:
        problem = f"would learn from labels that fine-tuning may not use, those of {', '.join(beyond)}"
        remedy = "Give labelled, draw or subjects without pretrain. or finetune. before it, for both"
        raise SettingsError("Labels would leak:", [Fault(problem, "pretrain", remedy)])
    return subjects
