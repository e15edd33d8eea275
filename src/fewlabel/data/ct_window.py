"""Computed tomography: recognised by name or by its air, and seen through one window in all scans of a data set.

Hounsfield units mean the same in every scan, so percentiles of each scan by itself, which suit magnetic resonance,
would throw away what they say. As in nnU-Net (Isensee et al., Nature Methods 2021) the window follows the labelled
voxels of all scans together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.data.label_values import LabelMap
from fewlabel.data.pose_thumbnails import evenly
from fewlabel.data.scan_inspection import CaseFacts, in_threads
from fewlabel.data.scanner_padding import padding_values

Modality = Literal["auto", "ct", "other"]
Window = tuple[float, float]
#: Scans whose intensities tell whether they are CT, and scans that a window follows from.
_LOOKED_AT, _MEASURED = 5, 40
#: Labelled voxels of a scan, at most, that take part; and voxels that its look is judged by.
_VOXELS, _SAMPLE = 10_000, 1 << 18
#: HU of air, of soft tissue, and the shares of a scan that are at least so; hardly anything lies below air.
_AIR, _AIR_SHARE = (-1100, -900), 0.005
_TISSUE, _TISSUE_SHARE = (-200, 200), 0.02
_BELOW_SHARE = 0.001
#: Above this HU lies the body.
_BODY = -500
_NAMED = re.compile(r"(?<![a-z0-9])(cb)?ct(?![a-z])|hounsfield|computed tomography", re.IGNORECASE)


@dataclass(frozen=True)
class Windows:
    """How intensities of a data set become [0, 1].

    Attributes:
        windows: For each channel the values that become 0 and 1 in every scan; None where each scan has its own
            percentiles. Empty where all do.
        notes: What was recognised, one sentence each.
    """

    windows: tuple[Window | None, ...] = ()
    notes: tuple[str, ...] = ()


def find_windows(
    facts: Sequence[CaseFacts],
    labels: LabelMap,
    channels: Sequence[str],
    *,
    window: Sequence[float] | None = None,
    modality: Modality = "auto",
    low: float = 1.0,
    high: float = 99.0,
    workers: int = 1,
) -> Windows:
    """The windows of a data set.

    Args:
        facts: Of the scans that may decide; those with faults are passed over.
        labels: Classes.
        channels: Names of the channels.
        window: What becomes 0 and 1, given by the user: for all channels, or a pair for each.
        modality: ``ct``; ``other``, which has no common window; ``auto`` to look at names and intensities.
        low: Percentile of the labelled voxels that becomes 0.
        high: Percentile that becomes 1.
        workers: Threads; each holds one volume at a time.

    Raises:
        SettingsError: If ``window`` does not fit the channels.
    """
    usable = [fact for fact in facts if not fact.faults and fact.geometry is not None]
    looks = _looks(usable, len(channels), workers)
    notes = _padding_notes(looks)
    if window is not None:
        pairs = [(float(window[at]), float(window[at + 1])) for at in range(0, len(window), 2)]
        if len(pairs) not in {1, len(channels)}:
            problem = f"must be one pair, or one for each of {len(channels)} channels, not {list(window)}"
            raise SettingsError("These settings are not valid:", [Fault(problem, "window")])
        return Windows(tuple(pairs if len(pairs) == len(channels) else pairs * len(channels)), tuple(notes))
    if modality == "other":
        return Windows((), tuple(notes))
    reasons = [_reason(name, [look.ct[at] for look in looks], modality) for at, name in enumerate(channels)]
    if not any(reasons):
        return Windows((), tuple(notes))
    pools = _measure(usable, labels, len(channels), workers)
    windows: list[Window | None] = []
    for at, (name, reason) in enumerate(zip(channels, reasons, strict=True)):
        measured = _window(pools, at, low, high) if reason else None
        windows.append(measured[0] if measured else None)
        if measured:
            (bottom, top), whose = measured
            notes.append(
                f"{name} is CT ({reason}): {bottom:g} to {top:g} become 0 to 1 in all scans, percentiles {low:g} and "
                f"{high:g} of {whose}; window=[LOW,HIGH] sets others, modality=other takes each scan by itself"
            )
    return Windows(tuple(windows) if any(windows) else (), tuple(notes))


@dataclass(frozen=True)
class _Look:
    """What a scan looks like: for each channel whether it is CT, and its padding with the share that it fills."""

    ct: tuple[bool, ...]
    padding: tuple[tuple[float, float], ...]


def looks_like_ct(channel: NDArray[np.floating[Any]]) -> bool:
    """Whether intensities are Hounsfield units, by air near -1000 and soft tissue near 0.

    Args:
        channel: Finite intensities, padding left out.
    """
    values = channel.reshape(-1)[:: max(1, channel.size // _SAMPLE)]
    if not values.size:
        return False
    air = ((values >= _AIR[0]) & (values <= _AIR[1])).mean()
    tissue = ((values >= _TISSUE[0]) & (values <= _TISSUE[1])).mean()
    return bool(air >= _AIR_SHARE and tissue >= _TISSUE_SHARE and (values < _AIR[0]).mean() <= _BELOW_SHARE)


def _looks(facts: Sequence[CaseFacts], channels: int, workers: int) -> list[_Look]:
    def look(fact: CaseFacts) -> _Look | None:
        try:
            array = read_volume(fact.case.images).array
        except DataError:
            return None
        if len(array) != channels:
            return None
        seen, padded = [], []
        for channel in array:
            whole = all(np.isfinite(plane).all() for plane in channel)
            finite = channel if whole else channel[np.isfinite(channel)]
            values = padding_values(finite)
            inside = finite[finite > values[-1]] if values else finite
            padded += [(values[0], 1 - inside.size / finite.size)] if values else []
            seen.append(looks_like_ct(inside))
        return _Look(tuple(seen), tuple(padded))

    looked_at = [facts[at] for at in evenly([False] * len(facts), _LOOKED_AT)]
    return [look_result for look_result in in_threads(look, looked_at, workers) if look_result is not None]


def _reason(name: str, looks: Sequence[bool], modality: Modality) -> str:
    """Why a channel is CT; empty where it is not."""
    if modality == "ct":
        return "modality=ct"
    if _NAMED.search(name):
        return "by its name"
    if looks and 2 * sum(looks) > len(looks):
        return f"air near -1000 HU in {sum(looks)} of {len(looks)} scans looked at"
    return ""


def _padding_notes(looks: Sequence[_Look]) -> list[str]:
    padded = [look.padding for look in looks if look.padding]
    if not padded:
        return []
    values = ", ".join(f"{value:g}" for value in sorted({value for scan in padded for value, _ in scan}))
    share = float(np.mean([part for scan in padded for _, part in scan]))
    return [
        f"padding of {values} in {len(padded)} of {len(looks)} scans looked at ({share:.0%} of their voxels) "
        "is left out of the intensities"
    ]


@dataclass(frozen=True)
class _Pool:
    """Intensities of one scan, for each channel: of labelled voxels and of the body."""

    labelled: tuple[NDArray[np.float32], ...]
    body: tuple[NDArray[np.float32], ...]


def _measure(facts: Sequence[CaseFacts], labels: LabelMap, channels: int, workers: int) -> list[_Pool]:
    def measure(fact: CaseFacts) -> _Pool | None:
        try:
            array = read_volume(fact.case.images).array
            mask = None if fact.case.label is None else read_mask(fact.case.label, grid=fact.geometry)
        except DataError:
            return None
        if len(array) != channels:
            return None
        inside = None
        if mask is not None and mask.shape == array.shape[1:]:
            wanted = [value for value in np.unique(mask).tolist() if labels.stands_for(value) in labels.values[1:]]
            inside = np.isin(mask, wanted)
        labelled, body = [], []
        for channel in array:
            finite = np.isfinite(channel)
            values = padding_values(channel if finite.all() else channel[finite])
            seen = finite & (channel > values[-1]) if values else finite
            labelled.append(_some(channel[seen & inside] if inside is not None else channel[:0].ravel()))
            body.append(_some(channel[seen & (channel > _BODY)]))
        return _Pool(tuple(labelled), tuple(body))

    drawn = [fact for fact in facts if fact.case.label is not None] or list(facts)
    sample = [drawn[at] for at in evenly([False] * len(drawn), _MEASURED)]
    return [pool for pool in in_threads(measure, sample, workers) if pool is not None]


def _some(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """An even part of values, so that large structures do not outweigh all others."""
    return values[:: -(-values.size // _VOXELS)] if values.size > _VOXELS else values


def _window(pools: Sequence[_Pool], channel: int, low: float, high: float) -> tuple[Window, str] | None:
    """The window of a channel and whose percentiles it is; None where nothing sets values apart."""
    for whose, name in (("labelled", "the labelled voxels"), ("body", "the body")):
        parts = [part for pool in pools if (part := getattr(pool, whose)[channel]).size]
        if not parts:
            continue
        bottom, top = (float(f"{value:.6g}") for value in np.percentile(np.concatenate(parts), (low, high)))
        if bottom < top:
            scans = "1 scan" if len(parts) == 1 else f"{len(parts)} scans"
            return (bottom, top), f"{name} of {scans}"
    return None
