"""Whether what was exported predicts as the segmenter itself does, on real scans."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.errors import ArtifactError, DataError, Fault
from fewlabel.core.printable import significant
from fewlabel.data.io.itk_image import is_scan
from fewlabel.data.io.volume_reading import read_volume
from fewlabel.data.preprocess import prepare_volume
from fewlabel.data.store import PreparedStore
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages.export.bundle_scripts.network import predict_volume

_Item = TypeVar("_Item")
#: Scans that are looked at, at most.
MOST_SCANS = 4
#: The masks of both may differ by less than this, as 1 - Dice of a class over all scans.
TOLERANCE = 0.002


@dataclass(frozen=True)
class Agreement:
    """How far two ways to compute one segmenter lie apart.

    Attributes:
        scans: How many were compared.
        slices: In all of them.
        dice: The largest 1 - Dice of a class between the two masks of all scans, in [0, 1].
        probability: The largest difference of a probability.
        seconds: Of a slice, by the exported model.
        eager: Of a slice, by PyTorch as it is, in float32.
    """

    scans: int
    slices: int
    dice: float
    probability: float
    seconds: float
    eager: float

    def words(self, name: str) -> str:
        """In a sentence."""
        here, there = (significant(1000 * seconds) for seconds in (self.seconds, self.eager))
        return (
            f"Checked on {self.slices} slices of {self.scans} scans: masks differ from PyTorch's by {self.dice:.2g} in "
            f"Dice, probabilities by up to {self.probability:.2g}; a slice takes {here} ms by {name} and {there} ms by "
            "PyTorch"
        )


def prepared_scans(segmenter: Segmenter, scans: Path | None) -> list[NDArray[np.float32]]:
    """Scans (channels, depth, height, width) as the networks take them, at most :data:`MOST_SCANS`.

    Args:
        segmenter: What is exported.
        scans: A scan or a folder of scans; None for those of the prepared folder that it was trained from.

    Raises:
        DataError: If there is no scan, or it cannot be read.
        ArtifactError: If the prepared folder is not there any more.
    """
    if scans is not None:
        files = [scans] if scans.is_file() else sorted(path for path in scans.glob("*") if is_scan(path))
        if not files:
            problem = f"{scans} holds no scans" if scans.exists() else f"{scans} does not exist"
            raise DataError(
                "The model cannot be checked:", [Fault(problem, "scans", "Give a scan or a folder of them")]
            )
        return [prepare_volume(read_volume(file), segmenter.plan)[0] for file in _spread(files)]
    folder = segmenter.artifact.parent_folder("prepared")
    if folder is None:
        problem = f"the prepared folder that {segmenter.folder} was trained from is not there any more"
        fault = Fault(problem, remedy="Give scans to check it on: scans=FILE or scans=FOLDER")
        raise ArtifactError("The model cannot be checked:", [fault])
    store = PreparedStore(folder)
    cases = [case for case in store.cases if case.label is not None] or list(store.cases)
    stacks = (store.images[case.start : case.stop] for case in _spread(cases))
    return [np.ascontiguousarray(np.moveaxis(stack, 1, 0), dtype=np.float32) for stack in stacks]


def agreement(
    segmenter: Segmenter, run: Callable[[Tensor], Tensor], volumes: Sequence[NDArray[np.float32]]
) -> Agreement:
    """Predict by both, and compare.

    Args:
        segmenter: Predicts by PyTorch, on the CPU and in float32.
        run: What was exported, as :meth:`fewlabel.stages.export.bundle_scripts.network.Segmenter.forward`.
        volumes: Prepared scans.
    """
    network = segmenter.networks[0]
    classes, ndim = network.classes, network.config.ndim
    shared, sums = np.zeros(classes), np.zeros(classes)
    largest, slices, clocks = 0.0, 0, np.zeros(2)
    for number, array in enumerate(volumes):
        for _ in range(2 if number == 0 else 1):
            # The first pass warms both up.
            started = time.perf_counter()
            ours = segmenter.predict(array, device="cpu", precision="32").probabilities
            between = time.perf_counter()
            theirs = predict_volume(
                run,
                torch.from_numpy(array),
                ndim=ndim,
                stride=network.config.stride,
                members=len(segmenter.networks),
                window=segmenter.window,
            ).numpy()
            ended = time.perf_counter()
        clocks += (ended - between, between - started)
        slices += array.shape[1]
        largest = max(largest, float(np.abs(ours - theirs).max()))
        one, two = ours.argmax(axis=0), theirs.argmax(axis=0)
        shared += np.bincount(one[one == two], minlength=classes)
        sums += np.bincount(one.ravel(), minlength=classes) + np.bincount(two.ravel(), minlength=classes)
    apart = 1 - 2 * shared[sums > 0] / sums[sums > 0]
    seconds, eager = (clocks / slices).tolist()
    return Agreement(len(volumes), slices, float(apart.max()), largest, seconds, eager)


def _spread(items: Sequence[_Item]) -> list[_Item]:
    """At most :data:`MOST_SCANS`, spread evenly over all."""
    places = np.linspace(0, len(items) - 1, min(MOST_SCANS, len(items))).round().astype(int)
    return [items[place] for place in places]
