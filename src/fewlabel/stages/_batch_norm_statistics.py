"""When the statistics of batch normalisation are taken anew after training, and from which images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from fewlabel.core.errors import Fault
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.base import Settings
from fewlabel.data.evenly_spread_slices import Indices, Spread, spread_slices
from fewlabel.data.patch_positions import Patch
from fewlabel.data.store import PreparedStore
from fewlabel.engine.recalibrate import recalibrate
from fewlabel.nets.unet import UNet, UNetConfig

Recalibrate = Literal["auto", "always", "never"]
#: Key of what was done in ``segmenter.json``.
KEY = "recalibrated"
#: Slices, or patches of a 3D network, that are looked at, at most.
SLICES, PATCHES = 128, 32
#: Of these in one batch, whose mean and variance each layer normalises by.
SLICES_AT_ONCE, PATCHES_AT_ONCE = 16, 2


def statistics_faults(asked: Recalibrate, network: UNetConfig) -> list[Fault]:
    """A fault where statistics are asked for that the network does not have."""
    if asked != "always" or network.norm == "batch":
        return []
    problem = f"must be batch for recalibrate=always, not {network.norm}, which has no statistics to estimate anew"
    return [Fault(problem, "network.norm", "Leave out recalibrate")]


def statistics_images(
    asked: Recalibrate,
    regime: Settings,
    network: UNetConfig,
    store: PreparedStore,
    subjects: Iterable[str],
    patch: Patch | None,
    seed: int,
) -> Spread | None:
    """The images whose statistics a trained network is to have; None where it keeps those of its training.

    With ``auto`` a network has them whose regime saw labelled slices only: a regime that looks at unlabelled ones has
    their statistics already.

    Args:
        asked: The setting.
        regime: Settings of the regime.
        network: The architecture.
        store: Prepared store.
        subjects: Whose images may be looked at, masks unread.
        patch: Size of the patches of a 3D network.
        seed: Seed of the choice.
    """
    supervised = not load_plugin("fewlabel.regimes", str(regime.name)).uses_unlabelled  # type: ignore[attr-defined]
    if network.norm != "batch" or asked == "never" or (asked == "auto" and not supervised):
        return None
    return representative(store, store.slices_of(sorted(subjects)), patch, seed)


def representative(store: PreparedStore, indices: Indices, patch: Patch | None, seed: int) -> Spread:
    """A few of these slices, or of patches about them, that stand for all."""
    return Spread(store, spread_slices(store, indices, SLICES if patch is None else PATCHES, seed), patch, seed)


def take_statistics(network: UNet, images: Spread, share: float, *, frozen: bool) -> None:
    """Mix statistics of these images into those of a network; a frozen encoder keeps its own."""
    rows = SLICES_AT_ONCE if images.patch is None else PATCHES_AT_ONCE
    device = next(network.parameters()).device
    recalibrate(network, images.batches(rows, device), share=share, keep=[network.encoder] if frozen else [])


def statistics_record(images: Spread | None, share: float) -> dict[str, Any] | None:
    """How many slices or patches of how many subjects with which share, for ``segmenter.json``."""
    if images is None:
        return None
    things = "slices" if images.patch is None else "patches"
    return {things: len(images.slices), "subjects": len(images.subjects), "share": share}


def statistics_words(images: Spread) -> str:
    """``128 slices of 40 patients``."""
    things = ("slice", "slices") if images.patch is None else ("patch", "patches")
    parts = ((len(images.slices), *things), (len(images.subjects), "patient", "patients"))
    return " of ".join(f"{count} {one if count == 1 else many}" for count, one, many in parts)
