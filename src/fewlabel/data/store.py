"""The prepared store: all slices of a data set on one pixel grid, memory-mapped.

A prepared folder holds ``images.npy`` (slices, channels, height, width; float16, intensities in [0, 1]),
``labels.npy`` (slices, height, width; uint8 class indices, 255 where the scan has no label), ``slices.parquet``
(a row per slice), ``catalog.parquet`` (a row per case), ``cases.json`` (per-case geometry record), ``plan.json``,
``split.json`` and ``qc.json``. A volume is a run of consecutive slices, so 2D and 3D training read one file. Beside
them, and no part of the content, lie ``sources.json``, ``pose.json`` (:mod:`fewlabel.data.pose_record`) and
``data_folder.json`` (:mod:`fewlabel.data.scan_locations`).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import ArtifactError, Fault, reason
from fewlabel.data.io.npz import NPZ_ERRORS
from fewlabel.data.scan_locations import located, read_data_folder

UNLABELLED = 255

#: The files of a prepared folder that make up its content.
STORE_FILES = (
    "images.npy",
    "labels.npy",
    "slices.parquet",
    "catalog.parquet",
    "cases.json",
    "plan.json",
    "split.json",
    "qc.json",
)


@dataclass(frozen=True)
class PreparedCase:
    """One scan in the store: slices ``start`` to ``stop`` (exclusive) and how to get back to its file.

    ``record`` is the preprocessing record that ``fewlabel.data.preprocess`` can invert.
    """

    id: str
    subject: str
    start: int
    stop: int
    images: tuple[str, ...]
    label: str | None
    record: dict[str, Any]


class PreparedStore:
    """Read access to a prepared folder.

    Args:
        source: A finished artifact of kind ``prepared``, or its folder.

    Raises:
        ArtifactError: If it is not, or a file of it is damaged; and when more of it is read, if it was replaced since.
    """

    def __init__(self, source: Path | Artifact) -> None:
        self.artifact = source if isinstance(source, Artifact) else Artifact.open(source, "prepared")
        self.folder = self.artifact.folder
        self.manifest = self.artifact.manifest
        self.plan: dict[str, Any] = self.artifact.json("plan.json")
        self.split: dict[str, Any] = self.artifact.json("split.json")

    @cached_property
    def images(self) -> NDArray[np.float16]:
        """All slices, (slices, channels, height, width), float16 in [0, 1]; memory-mapped."""
        images: NDArray[np.float16] = self._array("images.npy")
        if images.ndim != 4 or len(images) != len(self.slices):
            raise self._damaged("images.npy", f"its shape is {images.shape} for {len(self.slices)} slices")
        return images

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """All masks, (slices, height, width), class index or 255; memory-mapped."""
        labels: NDArray[np.uint8] = self._array("labels.npy")
        wanted = (len(self.images), *self.images.shape[2:])
        if labels.shape != wanted:
            raise self._damaged("labels.npy", f"its shape is {labels.shape}, not {wanted} as of the images")
        return labels

    @cached_property
    def slices(self) -> pd.DataFrame:
        """A row per slice, in store order.

        Columns: ``case``, ``subject``, ``z`` (index along the slice axis), ``depth`` (slices in the volume),
        ``height_fraction`` ((z + 0.5) / depth), ``labelled`` (bool), and per meta label a column ``meta_NAME`` of
        int codes, -1 where missing (``meta_patient``, ``meta_position``, ``meta_phase``, …).
        """
        table = pd.read_parquet(io.BytesIO(self.artifact.content("slices.parquet")))
        self.artifact.check_unchanged()
        return table

    @cached_property
    def cases(self) -> tuple[PreparedCase, ...]:
        """All scans, in store order."""
        rows = self.artifact.json("cases.json")
        folder = read_data_folder(self.folder)
        self.artifact.check_unchanged()
        return tuple(
            PreparedCase(
                **{
                    **row,
                    "images": tuple(located(path, self.folder, folder) for path in row["images"]),
                    "label": None if row["label"] is None else located(row["label"], self.folder, folder),
                }
            )
            for row in rows
        )

    @property
    def meta_labels(self) -> dict[str, int]:
        """Name of each slice meta label and its number of classes, as in ``plan.json``."""
        return dict(self.plan["meta_labels"])

    def classes_among(self, label: str, indices: NDArray[np.int64]) -> int:
        """How many classes of a meta label these slices show; slices without one count for none."""
        codes = self.slices[f"meta_{label}"].to_numpy(dtype=np.int64)[indices]
        return len(np.unique(codes[codes >= 0]))

    @property
    def label_names(self) -> dict[int, str]:
        """Class index to name; 0 is background."""
        return {int(key): value for key, value in self.plan["label_names"].items()}

    def slices_of(self, subjects: tuple[str, ...] | list[str], *, labelled: bool = False) -> NDArray[np.int64]:
        """Store indices of all slices of these subjects, in order; only labelled ones if asked."""
        wanted = self.slices["subject"].isin(list(subjects))
        if labelled:
            wanted &= self.slices["labelled"]
        return np.flatnonzero(wanted.to_numpy())

    def _array(self, name: str) -> NDArray[Any]:
        """A memory-mapped array whose file is as it was made: read once by a process, at about 700 MB a second."""
        path = self.folder / name
        try:
            array = np.load(path, mmap_mode="r")
            size = path.stat().st_size
        except (*NPZ_ERRORS, OSError) as error:
            self.artifact.check_unchanged()
            raise self._damaged(name, reason(error) or "it is empty") from error
        self.artifact.check_unchanged()
        if not isinstance(array, np.memmap):
            raise self._damaged(name, "it is not a plain array")
        if size != array.offset + array.nbytes:
            raise self._damaged(name, f"it has {size} bytes, but its header says {array.offset + array.nbytes}")
        try:
            self.artifact.verified(name)
        except ArtifactError:
            self.artifact.check_unchanged()
            raise
        return array

    def _damaged(self, name: str, how: str) -> ArtifactError:
        fault = Fault(f"{self.folder / name} is damaged: {how}", remedy="Prepare the scans again")
        return ArtifactError("An artifact is damaged:", [fault])
