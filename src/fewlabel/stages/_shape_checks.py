"""Whether patches, slices, network, regime and encoder fit each other, before any work and all faults at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.progress import say
from fewlabel.core.settings.base import Settings
from fewlabel.data.patch_positions import Patch
from fewlabel.nets.unet import UNetConfig


def patch_size(patch: Sequence[int] | None) -> Patch | None:
    """A checked ``patch`` setting as a size."""
    if patch is None:
        return None
    depth, height, width = patch
    return depth, height, width


def patch_faults(
    patch: Sequence[int] | None,
    network: UNetConfig,
    regime: Settings,
    encoder: Path | None,
    where: str = "",
    single: Sequence[str] = (),
) -> list[Fault]:
    """What the settings alone show to be wrong.

    That is a 3D network without patches, a patch that is no size or does not fit the network, or a regime that works
    on slices only.

    Args:
        patch: The setting; None trains on slices.
        network: Architecture, used where there is no encoder.
        regime: Settings of the regime.
        encoder: Encoder folder, which need not be there yet.
        where: Prefix of keys in messages.
        single: Settings of ``where`` that have one row in a stream of the batch, see :func:`slice_faults`.
    """
    faults = []
    if patch is None:
        if network.ndim == 3:
            problem, remedy = "is 3 without a patch size", "Give patch=[DEPTH,HEIGHT,WIDTH]"
            faults.append(Fault(problem, f"{where}network.ndim", remedy))
    else:
        if len(patch) != 3 or min(patch) < 1:
            problem = f"must be three positive numbers (depth, height, width), not {list(patch)}"
            faults.append(Fault(problem, f"{where}patch"))
        elif encoder is None:
            faults.extend(patch_side_faults(patch, network.fitted(patch), where, single))
        name = str(regime.name)  # type: ignore[attr-defined]
        if not load_plugin("fewlabel.regimes", name).supports_3d:
            remedy = "Leave out patch, or choose a regime that does (see fewlabel regimes)"
            faults.append(Fault(f"{name} does not work on 3D patches", f"{where}regime", remedy))
    return faults


def view_faults(
    view: Sequence[int] | None,
    patch: Sequence[int] | None,
    network: UNetConfig,
    encoder: Path | None,
    where: str = "",
) -> list[Fault]:
    """What the settings alone show to be wrong with ``view``: no size, beside ``patch``, or not fit for the network.

    Args:
        view: The setting; None trains on whole slices.
        patch: The setting.
        network: Architecture, used where there is no encoder.
        encoder: Encoder folder, which need not be there yet.
        where: Prefix of keys in messages.
    """
    if view is None:
        return []
    if len(view) != 2 or min(view) < 1:
        return [Fault(f"must be two positive numbers (height, width), not {list(view)}", f"{where}view")]
    if patch is not None:
        return [Fault("cannot be combined with patch", f"{where}view", "Leave out view or patch")]
    # A depth that was not given becomes less on small slices; on which is known once they are prepared.
    fitted = network.fitted(view)
    if encoder is None and any(side % fitted.stride for side in view):
        near = ",".join(str(max(fitted.stride, fitted.stride * round(side / fitted.stride))) for side in view)
        problem = _sides_fault(view, fitted)
        return [Fault(problem, f"{where}view", f"Give view=[{near}], for example")]
    return []


def view_size(view: Sequence[int] | None, size: Sequence[int]) -> tuple[int, int] | None:
    """A checked ``view`` setting as a size, cut to that of the slices; None where it is theirs.

    Args:
        view: The setting; None trains on whole slices.
        size: (height, width) of the slices.
    """
    if view is None:
        return None
    height, width = (min(wanted, side) for wanted, side in zip(view, size, strict=True))
    return None if (height, width) == tuple(size) else (height, width)


def slice_faults(
    size: Sequence[int],
    network: UNetConfig,
    where: str,
    view: Sequence[int] | None = None,
    prefix: str = "",
    single: Sequence[str] = (),
) -> list[Fault]:
    """What is wrong with slices, and views of them: the network cannot halve them as often as it has to, or normalise.

    Args:
        size: (height, width) of the slices.
        network: Architecture, as it is built.
        where: The prepared folder or the setting that the size is of.
        view: The setting; None trains on whole slices.
        prefix: Of the keys of the view and of ``single`` in messages.
        single: Settings that have one row in a stream of the batch: batch normalisation needs two values of a channel.
    """
    cut = view_size(view, size)
    # What is trained on are views, where there are any.
    keys = [] if cut else [f"{prefix}{key}" for key in single]
    faults = _side_faults(size, network, where, keys)
    if cut:
        faults += _side_faults(cut, network, f"{prefix}view", [f"{prefix}{key}" for key in single])
    return faults


def _side_faults(size: Sequence[int], network: UNetConfig, where: str, single: Sequence[str]) -> list[Fault]:
    # Upwards: nothing is cropped that was not cropped before.
    near = [network.stride * math.ceil(side / network.stride) for side in size]
    if near == list(size):
        return _last_map_faults(size, network, where, single)
    sides = ",".join(map(str, near))
    fitting = f"Give view=[{sides}]" if where.endswith("view") else f"Prepare with size=[{sides}]"
    problem = _sides_fault(size, network)
    problem = problem if where.endswith(("view", "size")) else f"slices do not fit: {problem}"
    return [Fault(problem, where, f"{fitting}, or lower network.depth")]


def say_depth(asked: UNetConfig, built: UNetConfig, size: Sequence[int]) -> None:
    """Say where a network that is built without an encoder has fewer levels than usual, because images are small."""
    if built.depth != asked.depth:
        sides = "x".join(map(str, size))
        say(f"network: {built.depth} levels, not {asked.depth}, for images of {sides} (network.depth).")


def _last_map_faults(size: Sequence[int], network: UNetConfig, where: str, single: Sequence[str]) -> list[Fault]:
    """Normalisation needs two values of each channel of the smallest map: of an image, or of a stream of the batch."""
    if network.norm == "group" or math.prod(size) > network.stride ** len(size):
        return []
    cell = f"one cell of the smallest map ({network.stride} wide)"
    if network.norm == "instance":
        problem = f"images must be larger than {cell} for instance normalisation, not {list(size)}"
        return [Fault(problem, where, f"Lower network.depth, or use network.norm={'group' if single else 'batch'}")]
    problem = f"must be 2 or more for batch normalisation of images of {cell}, as {list(size)} are"
    return [Fault(problem, key, "Raise it, lower network.depth, or use network.norm=group") for key in single]


def _sides_fault(sides: Sequence[int], network: UNetConfig) -> str:
    return f"sides must be multiples of {network.stride} for a network of depth {network.depth}, not {list(sides)}"


def patch_side_faults(patch: Sequence[int], network: UNetConfig, where: str, single: Sequence[str] = ()) -> list[Fault]:
    """As :func:`slice_faults`, of patches; ``where`` is the prefix of all keys."""
    stride = network.stride
    if not any(side % stride for side in patch):
        return _last_map_faults(patch, network, f"{where}patch", [f"{where}{key}" for key in single])
    near = ",".join(str(max(stride, stride * round(side / stride))) for side in patch)
    return [Fault(_sides_fault(patch, network), f"{where}patch", f"Give patch=[{near}], for example")]
