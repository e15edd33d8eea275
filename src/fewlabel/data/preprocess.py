"""From a scan to the network's pixel grid: orient, normalise, resample in-plane, crop or pad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.exact_percentiles import percentiles
from fewlabel.data.io.geometry import Volume
from fewlabel.data.orient import Orientation, orient_to
from fewlabel.data.resample import AxisRecord, resample_plane, row_sums
from fewlabel.data.scanner_padding import padding_values
from fewlabel.data.store import UNLABELLED
from fewlabel.data.voxel_counts import value_counts

#: Slices that are worked on at a time.
SLAB = 16
_IDENTITY = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


@dataclass(frozen=True)
class Plan:
    """What is done to every scan of a data set; the content of ``plan.json``.

    Attributes:
        spacing: Target pixel size in mm, (row, column).
        size: Pixels after crop or pad, (height, width).
        channels: Names of the image channels.
        low: Percentile of a volume that becomes 0.
        high: Percentile of a volume that becomes 1.
        windows: For each channel the intensities that become 0 and 1 in every scan, or None for the percentiles of
            each; empty where all channels have these.
        voxel_size: (slice, row, column) in mm of scans whose files do not say; None for what their tags say, as plans
            made before do.
        voxel_size_given: Whether that is true, not assumed.
        slice_axis: ``nearest``: the file axis nearest to the frame's slice direction lies across the slices; or that
            axis (``x``, ``y``, ``z``). Older plans say ``auto``: the thickest axis of each scan.
        frame: Reference unit vectors of slice, row and column in patient axes (left, posterior, superior).
        label_values: Raw value of each class; the index is the class, 0 the background.
        ignore_value: Raw value that is neither class nor background, or None.
        label_names: Name of each class.
        label_aliases: Further raw values, and which of ``label_values``, or ``ignore_value``, each stands for.
        meta_labels: Slice meta label → number of classes.
        columns: Metadata columns: name, kind, source and, for a slice label, its values in order of their codes.
        position_parts: Parts along the slice axis.
        dataset: Name of the data set.
        reader: Id of the reader.
        ndim_slices: 2: the store is made of slices.
    """

    spacing: tuple[float, float]
    size: tuple[int, int]
    channels: tuple[str, ...] = ("image",)
    low: float = 1.0
    high: float = 99.0
    windows: tuple[tuple[float, float] | None, ...] = ()
    voxel_size: tuple[float, float, float] | None = None
    voxel_size_given: bool = False
    slice_axis: str = "auto"
    frame: tuple[tuple[float, ...], ...] = _IDENTITY
    label_values: tuple[int, ...] = (0,)
    ignore_value: int | None = None
    label_names: tuple[str, ...] = ("background",)
    label_aliases: Mapping[int, int] = field(default_factory=dict)
    meta_labels: Mapping[str, int] = field(default_factory=dict)
    columns: tuple[Mapping[str, Any], ...] = ()
    position_parts: int = 4
    dataset: str = ""
    reader: str = ""
    ndim_slices: int = 2

    def record(self) -> dict[str, Any]:
        """The content of ``plan.json``."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["normalise"] = {"low": values.pop("low"), "high": values.pop("high")}
        if windows := values.pop("windows"):
            values["normalise"]["windows"] = [None if window is None else list(window) for window in windows]
        values["orient"] = {"slice_axis": values.pop("slice_axis"), "frame": [list(row) for row in self.frame]}
        del values["frame"]
        values["label_names"] = {str(index): name for index, name in enumerate(self.label_names)}
        values["label_aliases"] = {str(raw): value for raw, value in self.label_aliases.items()}
        values["columns"] = [dict(column) for column in self.columns]
        values["meta_labels"] = dict(self.meta_labels)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def load(cls, record: Mapping[str, Any]) -> Plan:
        """The plan of a ``plan.json`` content; keys it does not know are left aside."""
        known = {item.name for item in fields(cls)}
        values = {key: value for key, value in record.items() if key in known}
        values |= {key: record["normalise"][key] for key in ("low", "high") if "normalise" in record}
        windows = record.get("normalise", {}).get("windows", ())
        values["windows"] = tuple(
            None if window is None else (float(window[0]), float(window[1])) for window in windows
        )
        if record.get("voxel_size") is not None:
            values["voxel_size"] = tuple(map(float, record["voxel_size"]))
        orient = record.get("orient", {})
        values["slice_axis"] = orient.get("slice_axis", "auto")
        values["frame"] = tuple(tuple(map(float, row)) for row in orient.get("frame", _IDENTITY))
        names = record.get("label_names", {"0": "background"})
        values["label_names"] = tuple(names[str(index)] for index in range(len(names)))
        values["label_aliases"] = {int(raw): int(value) for raw, value in record.get("label_aliases", {}).items()}
        for key in ("spacing", "size", "channels", "label_values", "columns"):
            if key in values:
                values[key] = tuple(values[key])
        return cls(**values)


class ScanPreparation:
    """Brings a scan to the plan's pixel grid, slab by slab: of what is prepared only a slab is in memory.

    Args:
        volume: The scan.
        plan: What to do.

    Attributes:
        record: JSON-ready, what :func:`prepare_mask` and :class:`Restoration` need.

    Raises:
        DataError: If the number of channels differs from the plan's, or no voxel is finite.
    """

    def __init__(self, volume: Volume, plan: Plan) -> None:
        if len(volume.array) != len(plan.channels):
            present = f"{len(volume.array)} in {', '.join(map(str, volume.paths))}"
            problem = f"must have the channels {', '.join(plan.channels)}, but there are {present}"
            fault = Fault(problem, str(volume.paths[0]))
            raise DataError("A scan cannot be used:", [fault])
        geometry = volume.geometry.sized(plan.voxel_size, known=plan.voxel_size_given)
        self._orientation = orient_to(geometry, np.asarray(plan.frame), plan.slice_axis)
        axes = self._orientation.axes
        spacing, shape = [geometry.spacing[axis] for axis in axes], [geometry.shape[axis] for axis in axes]
        rows = AxisRecord.plan(shape[1], spacing[1], plan.spacing[0], plan.size[0])
        columns = AxisRecord.plan(shape[2], spacing[2], plan.spacing[1], plan.size[1])
        self._rows, self._columns = rows.forward(), columns.forward()
        self._depth, self._size = shape[0], plan.size
        self._channels = [_finite(raw, volume) for raw in volume.array]
        self._windows: list[tuple[float, float]] = []
        padded: list[tuple[float, ...]] = []
        for channel, finite in enumerate(self._channels):
            window = plan.windows[channel] if plan.windows else None
            padded.append(padding_values(finite))
            if window is None:
                low, high = percentiles(finite, (plan.low, plan.high), padded[-1][-1] if padded[-1] else None)
                window = (low, high)
            self._windows.append(window)
        self.record: dict[str, Any] = {
            "shape": list(geometry.shape),
            "spacing": list(geometry.spacing),
            "axes": list(axes),
            "flips": list(self._orientation.flips),
            "rows": rows.record(),
            "columns": columns.record(),
            "percentiles": [list(window) for window in self._windows],
        }
        if any(padded):
            self.record["padding"] = [list(values) for values in padded]
        if not geometry.spacing_known:
            self.record["spacing_known"] = False
        self._last: tuple[tuple[int, int], NDArray[np.float32]] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(channels, slices, height, width) of what is prepared."""
        return (len(self._channels), self._depth, *self._size)

    def slab(self, start: int, stop: int) -> NDArray[np.float32]:
        """Slices ``start`` to ``stop`` (channels, stop - start, height, width) in [0, 1], zero where padded.

        What is asked for twice in a row, as by the members of an ensemble, is made once; it is not to be changed.
        """
        if self._last is None or self._last[0] != (start, stop):
            self._last = None
            slab = np.empty((len(self._channels), stop - start, *self._size), dtype=np.float32)
            for channel, window in enumerate(self._windows):
                # Clipped before resampling: one outlier must not brighten its neighbours. The weights keep [0, 1].
                raw = self._orientation.apply(self._channels[channel])[start:stop]
                laid = np.ascontiguousarray(_normalise(raw, window))
                slab[channel] = resample_plane(laid, self._rows, self._columns)
            self._last = ((start, stop), slab)
        return self._last[1]

    def slabs(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """All of it: which slices, and :meth:`slab`."""
        return ((at, self.slab(at.start, at.stop)) for at in slabs_of(self._depth))


def slabs_of(slices: int) -> Iterator[slice]:
    """A volume's slices in order, some at a time."""
    return (slice(start, min(start + SLAB, slices)) for start in range(0, slices, SLAB))


def prepare_volume(volume: Volume, plan: Plan) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Bring a scan to the plan's pixel grid, all of it in memory.

    Args:
        volume: The scan.
        plan: What to do.

    Returns:
        The array (channels, slices, height, width) in [0, 1], zero where padded, and the JSON-ready record that
        :func:`prepare_mask` and :func:`restore_probabilities` need.

    Raises:
        DataError: As :class:`ScanPreparation`.
    """
    preparation = ScanPreparation(volume, plan)
    out = np.empty(preparation.shape, dtype=np.float32)
    for at, slab in preparation.slabs():
        out[:, at] = slab
    return out, preparation.record


def prepare_mask(mask: NDArray[np.integer[Any]], record: Mapping[str, Any], plan: Plan) -> NDArray[np.uint8]:
    """Bring a mask to the grid of its prepared scan.

    Each class is resampled as a linear weight and the heaviest wins, so borders do not jump as with nearest
    neighbours; ties go to the lower class.

    Args:
        mask: Raw values (z, y, x) on the scan's grid.
        record: Of the scan, from :func:`prepare_volume`.
        plan: What to do.

    Returns:
        Class indices (slices, height, width); 255 where the raw value is the one to ignore.

    Raises:
        DataError: If the shape differs from the scan's or a value is not in the plan.
    """
    indices = class_indices(mask, record, plan)
    orientation, rows, columns = recorded_steps(record)
    laid = orientation.apply(indices)
    result = np.zeros((laid.shape[0], rows.size, columns.size), dtype=np.uint8)
    row_matrix, column_matrix = rows.forward(), columns.forward()
    # One-hot masks of some slices at a time.
    for at in slabs_of(laid.shape[0]):
        _heaviest_classes(laid[at], row_matrix, column_matrix, len(plan.label_values), result[at])
    return result


def _heaviest_classes(
    laid: NDArray[np.uint8],
    rows: csr_array,
    columns: csr_array,
    classes: int,
    result: NDArray[np.uint8],
) -> None:
    """Of slices (n, h, w) of class indices, those (n, height, width) on the prepared grid, into ``result``."""
    inside = np.outer(row_sums(rows), row_sums(columns))
    # The background starts with the weight that no class has taken, and with all of it where padded.
    rest = np.broadcast_to(inside, result.shape).copy()
    heaviest = np.zeros(result.shape, dtype=np.float32)
    for index in (*range(1, classes), UNLABELLED):
        weight = _class_weight(laid == index, rows, columns)
        if weight is None:
            continue
        rest -= weight
        ahead = weight > heaviest
        result[ahead] = index
        np.maximum(heaviest, weight, out=heaviest)
    result[rest >= heaviest] = 0
    # A slice of which nothing is known holds no background around the scan either.
    result[(laid == UNLABELLED).all(axis=(1, 2))] = UNLABELLED


def class_indices(mask: NDArray[np.integer[Any]], record: Mapping[str, Any], plan: Plan) -> NDArray[np.uint8]:
    """The classes of a mask on its own grid.

    Args:
        mask: Raw values (z, y, x) on the scan's grid.
        record: Of the scan, from :func:`prepare_volume`.
        plan: What values stand for.

    Returns:
        Class indices (z, y, x); 255 where nothing is known: the raw value is the one to ignore, or the slice is one of
        the record's ``unannotated`` (:mod:`fewlabel.data.unannotated_slices`).

    Raises:
        DataError: If the shape differs from the scan's or a value is not in the plan.
    """
    if list(mask.shape) != list(record["shape"]):
        fault = Fault(f"the mask has shape {mask.shape}, but the scan has {tuple(record['shape'])}")
        raise DataError("A mask cannot be used:", [fault])
    indices = indices_of_values(mask, plan)
    if slices := record.get("unannotated"):
        np.moveaxis(indices, record["axes"][0], 0)[slices] = UNLABELLED
    return indices


def indices_of_values(values: NDArray[np.integer[Any]], plan: Plan) -> NDArray[np.uint8]:
    """Raw values of any shape as the index of each class, 255 for the value to ignore.

    Raises:
        DataError: If a value is not in the plan.
    """
    meanings = {value: index for index, value in enumerate(plan.label_values)}
    if plan.ignore_value is not None:
        meanings[plan.ignore_value] = UNLABELLED
    meanings |= {raw: meanings[value] for raw, value in plan.label_aliases.items()}
    present = value_counts(values)
    unknown = sorted(set(present) - set(meanings))
    if unknown:
        fault = Fault(f"label values must be among {list(meanings)}, but {unknown} occur")
        raise DataError("A mask cannot be used:", [fault])
    indices = np.zeros(values.shape, dtype=np.uint8)
    for value in present:
        if meanings[value]:
            indices[values == value] = meanings[value]
    return indices


def recorded_steps(record: Mapping[str, Any]) -> tuple[Orientation, AxisRecord, AxisRecord]:
    """The orientation of a prepared scan, and how its rows and columns were resampled."""
    first, second, third = record["axes"]
    flips = [bool(flip) for flip in record["flips"]]
    orientation = Orientation((first, second, third), (flips[0], flips[1], flips[2]))
    return orientation, AxisRecord(**record["rows"]), AxisRecord(**record["columns"])


def _finite(raw: NDArray[np.float32], volume: Volume) -> NDArray[np.float32]:
    if all(np.isfinite(plane).all() for plane in raw):
        return raw
    good = np.isfinite(raw)
    if not good.any():
        raise DataError("A scan cannot be used:", [Fault("has no finite intensity", str(volume.paths[0]))])
    return np.where(good, raw, np.min(raw, where=good, initial=np.inf))


def _normalise(raw: NDArray[np.float32], window: Sequence[float]) -> NDArray[np.float32]:
    low, high = window
    if high <= low:
        return np.zeros_like(raw)
    scaled: NDArray[np.float32] = raw - np.float32(low)
    scaled *= np.float32(1 / (high - low))
    return np.clip(scaled, 0, 1, out=scaled)


def _class_weight(mask: NDArray[np.bool_], rows: csr_array, columns: csr_array) -> NDArray[np.float32] | None:
    # Only the box that holds the class is multiplied: a structure fills a small part of the field of view.
    used_rows = np.flatnonzero(mask.any((0, 2)))
    if not used_rows.size:
        return None
    used_columns = np.flatnonzero(mask.any((0, 1)))
    r, c = slice(used_rows[0], used_rows[-1] + 1), slice(used_columns[0], used_columns[-1] + 1)
    return resample_plane(mask[:, r, c].astype(np.float32), rows[:, r], columns[:, c])
