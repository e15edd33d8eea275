"""The network that fine-tuning builds, and settings of the network that it cannot follow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import Fault
from fewlabel.core.progress import say
from fewlabel.data.store import PreparedStore
from fewlabel.data.voxel_counts import counts_of
from fewlabel.nets.unet import UNetConfig
from fewlabel.stages._encoder_to_be_trained import PlannedEncoder
from fewlabel.stages._shape_checks import patch_side_faults
from fewlabel.stages.finetune.settings import FinetuneSettings


def architecture_of(encoder: Artifact | PlannedEncoder) -> UNetConfig:
    """The network that an encoder is the first half of."""
    if isinstance(encoder, PlannedEncoder):
        return encoder.network
    return UNetConfig.parse(encoder.json("encoder.json")["architecture"])


def built_network(
    settings: FinetuneSettings, channels: int, size: Sequence[int], encoder: Artifact | PlannedEncoder | None
) -> UNetConfig:
    """The network as it is built: that of the encoder, or that of the settings at a depth that fits the images.

    Args:
        settings: Settings of the stage.
        channels: Of the prepared images.
        size: (height, width) of the prepared slices.
        encoder: What training starts from, or will once it is trained; None for random weights.
    """
    network = settings.network.fitted(settings.patch or size) if encoder is None else architecture_of(encoder)
    return network.model_copy(update={"in_channels": channels, "ndim": 2 if settings.patch is None else 3})


def class_counts(store: PreparedStore, labelled: NDArray[np.int64]) -> Tensor:
    """Labelled pixels of each class, (classes,) int64.

    Args:
        store: The prepared data.
        labelled: Store indices of the slices that are learnt from.
    """
    counts = np.zeros(len(store.label_names), dtype=np.int64)
    for index in labelled:
        counts += counts_of(np.asarray(store.labels[index]), len(counts))[: len(counts)]
    return torch.from_numpy(counts)


def say_unlearnt(store: PreparedStore, labelled: tuple[str, ...]) -> None:
    """Say which classes of the data set no labelled slice shows: nothing is learnt of them.

    Args:
        store: The prepared data.
        labelled: Subjects whose labels are learnt from.
    """
    counts = class_counts(store, store.slices_of(labelled, labelled=True)).tolist()
    names = [store.label_names[label] for label, count in enumerate(counts) if label and not count]
    if names:
        them = "it" if len(names) == 1 else "them"
        say(f"No labelled slice shows {' or '.join(names)}: nothing is learnt of {them}.")


def encoder_faults(
    patch: Sequence[int] | None, encoder: Path | None, network: UNetConfig, single: Sequence[str] = ()
) -> list[Fault]:
    """What is wrong with an encoder of slices for patches, one of patches for slices, or too deep a one for patches.

    Args:
        patch: The setting; None trains on slices.
        encoder: Its folder, for the message.
        network: Its architecture.
        single: Settings that have one row in a stream of the batch.
    """
    if patch is None and network.ndim == 3:
        problem, remedy = "is a 3D encoder, and slices need a 2D one", "Give patch=[DEPTH,HEIGHT,WIDTH]"
    elif patch is not None and network.ndim == 2:
        problem = "is a 2D encoder, and patches need a 3D one"
        remedy = "Leave out encoder to train on volumes from scratch, or leave out patch to train on slices"
    else:
        return [] if patch is None else patch_side_faults(patch, network, "", single)
    return [Fault(f"{encoder} {problem}", remedy=remedy)]


def network_faults(
    settings: FinetuneSettings, built: UNetConfig, user_network: Collection[str] | None = None
) -> list[Fault]:
    """Settings of the network that would have no effect, and what the encoder or the data have instead.

    An encoder brings its architecture along, so the default and a recipe give way to it: they serve where there is no
    encoder. What the user set does not.

    Args:
        settings: Settings of the stage.
        built: The network to build.
        user_network: Settings of the network that the user gave; None for all that are set.
    """
    asked = settings.network
    faults = []
    for key, (wanted, value) in _differences(asked, built).items():
        remedy = f"Leave out network.{key}"
        if key == "in_channels":
            problem = f"is {wanted}, but the data in {settings.data} have {value}"
        elif key == "ndim":
            problem = f"is {wanted}, but a network of {'slices' if settings.patch is None else 'patches'} is {value}D"
        elif user_network is None or key in user_network:
            origin = "encoder" if settings.encoder is not None else "start"
            problem = f"is {wanted}, but the {origin} {getattr(settings, origin)} has {value}"
            remedy += f", or give another {origin}"
        else:
            continue
        faults.append(Fault(problem, f"network.{key}", remedy))
    return faults


def say_network(asked: UNetConfig, built: UNetConfig, encoder: Path | None) -> None:
    """Say where an encoder takes the place of what a recipe asks of the network."""
    differing = _differences(asked, built)
    if differing:
        text = ", ".join(f"{key}={value} (not {wanted})" for key, (wanted, value) in differing.items())
        say(f"network: that of {encoder}, {text}.")


def _differences(asked: UNetConfig, built: UNetConfig) -> dict[str, tuple[object, object]]:
    """Setting → what is asked and what is built, of those that are set."""
    pairs = {key: (getattr(asked, key), getattr(built, key)) for key in UNetConfig.model_fields}
    return {key: pair for key, pair in pairs.items() if key in asked.model_fields_set and pair[0] != pair[1]}
