"""The scans of a run as a data store of MONAI Label: ids, files, masks, and the numbers of the classes."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import ArtifactError, DataError, Fault
from fewlabel.core.output_paths import as_file_name
from fewlabel.core.progress import say, silence
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.added_mask_reading import NOT_LOOKED_AT, plan_with_ignored, read_annotation
from fewlabel.data.io.catalog_paths import files_behind, is_file_path, is_there, shown
from fewlabel.data.io.dicom.address import parse_dicom
from fewlabel.data.io.image_writing import write_volume
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.io.volume_reading import read_geometry, read_volume
from fewlabel.data.masks_added_later import FOLDER, look_through
from fewlabel.data.preprocess import Plan, indices_of_values
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.stages import predict

#: What the masks of the data set and those that a person saved are called.
ORIGINAL, FINAL = "original", "final"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


@dataclass(frozen=True)
class State:
    """What a run is at a moment: ``learn`` changes it.

    Attributes:
        segmenter: Content hash of the network in use.
        facts: Its ``segmenter.json``.
        store: The data it learnt from.
        plan: Of these data, with a value for what nobody looked at.
    """

    segmenter: str
    facts: Mapping[str, Any]
    store: PreparedStore
    plan: Plan

    @property
    def numbers(self) -> dict[str, int]:
        """Class → its number in masks of the protocol; no background."""
        return {name: number for number, name in enumerate(self.plan.label_names) if number}

    @property
    def ignored(self) -> int | None:
        """Number of what nobody looked at; None where it is that of a class."""
        return NOT_LOOKED_AT if len(self.plan.label_names) <= NOT_LOOKED_AT else None


class RunScans:
    """The scans of a run.

    Args:
        run: Its folder, as ``train`` made it.

    Raises:
        ArtifactError: If it is no run with a network.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._told: set[Fault] = set()
        self._uids: dict[str, str] | None = None
        self._state: State | None = None
        self.state()

    def state(self) -> State:
        """The run as it is now."""
        with self._lock, silence():
            segmenter = predict.find_segmenter(self.run)
            if self._state is None or self._state.segmenter != segmenter.content_hash:
                data = segmenter.parent_folder("prepared")
                if data is None:
                    fault = Fault(f"the prepared data of {segmenter.folder} are gone", remedy="Train again")
                    raise ArtifactError("There is nothing to serve:", [fault])
                store = PreparedStore(data)
                plan = plan_with_ignored(Plan.load(store.plan))
                self._state = State(segmenter.content_hash, segmenter.json("segmenter.json"), store, plan)
            return self._state

    def case(self, image: str) -> PreparedCase:
        """A scan by its id, or by the SeriesInstanceUID of its DICOM series, as OHIF calls it.

        Raises:
            KeyError: If there is none, with what may have been meant.
        """
        cases = {case.id: case for case in self.state().store.cases}
        if image not in cases and _UID.fullmatch(image):
            image = self._by_uid(cases).get(image, image)
        if image not in cases:
            raise KeyError(f"There is no scan {image!r}. {did_you_mean(image, cases)}")
        return cases[image]

    def masks(self) -> dict[str, dict[str, Path]]:
        """Scan → what its masks are called → where they are."""
        store = self.state().store
        saved = self._saved(store)
        masks: dict[str, dict[str, Path]] = {}
        for case in store.cases:
            own = {ORIGINAL: Path(case.label)} if case.label is not None else {}
            masks[case.id] = {**own, **({FINAL: saved[case.id]} if case.id in saved else {})}
        return masks

    def _saved(self, store: PreparedStore) -> dict[str, Path]:
        """The masks that a person saved; what else lies there is left out, and said once."""
        looked = look_through(self.run / FOLDER, store.cases)
        faults, readable = [*looked.strays, *looked.several.values()], {}
        for case_id, path in looked.masks.items():
            try:
                read_geometry(path)
            except DataError as error:
                faults.extend(error.faults)
            else:
                readable[case_id] = path
        for fault in faults:
            with self._lock:
                new = fault not in self._told
                self._told.add(fault)
            if new:
                say(f"Left out of the masks: {fault}")
        return readable

    def image_file(self, case: PreparedCase, folder: Path) -> Path:
        """A file with the first channel of a scan: its own, or a NIfTI made of what lies in series and archives.

        Raises:
            KeyError: If the file is gone.
        """
        path = Path(case.images[0])
        if not is_there(path):
            raise KeyError(f"The file of {case.id} is gone: {shown(path)}")
        if is_file_path(path):
            return path
        volume = read_volume([path])
        made = folder / f"{as_file_name(case.id)}.nii.gz"
        write_volume(made, volume.array[0], volume.geometry)
        return made

    def mask_file(self, case: PreparedCase, path: Path, folder: Path) -> Path:
        """A NIfTI with a mask in the numbers of the protocol: the indices of classes, 255 where nobody looked.

        Raises:
            DataError: If it cannot be read, lies on another grid, or holds a value of no class, or no annotation.
        """
        plan = self.state().plan
        made = folder / f"{as_file_name(case.id)}.nii.gz"
        write_mask(made, indices_of_values(read_annotation(case, path, plan), plan), Path(case.images[0]))
        return made

    def to_values(self, numbers: NDArray[np.integer[Any]], names: Mapping[int, str] | None = None) -> NDArray[np.int64]:
        """The other way round.

        Args:
            numbers: The mask.
            names: What its numbers stand for, where its sender says so; None for those of the protocol.

        Raises:
            DataError: If it holds a number, or a name, that stands for no class.
        """
        state = self.state()
        value_of = dict(zip(state.plan.label_names, state.plan.label_values, strict=True))
        background = state.plan.label_names[0]
        own = {number: name for name, number in state.numbers.items()}
        known = {0: background, **(own if names is None else names)}
        faults: list[Fault] = []
        made = np.empty(numbers.shape, dtype=np.int64)
        for number in np.unique(numbers).tolist():
            name = known.get(number)
            if number == state.ignored and name is None and state.plan.ignore_value is not None:
                made[numbers == number] = state.plan.ignore_value
            elif name in value_of:
                made[numbers == number] = value_of[name]
            else:
                named = f" ({name})" if name is not None else ""
                remedy = did_you_mean(name, value_of) if name is not None else f"Use {_listed(state)}"
                faults.append(Fault(f"{number}{named} is no class of this run", remedy=remedy))
        if faults:
            raise DataError("The mask cannot be saved:", faults)
        return made

    def _by_uid(self, cases: Mapping[str, PreparedCase]) -> dict[str, str]:
        """SeriesInstanceUID → id; read once, from a file of each series."""
        if self._uids is None:
            uids: dict[str, str] = {}
            for case in cases.values():
                if parse_dicom(Path(case.images[0])) is not None:
                    import pydicom

                    header = pydicom.dcmread(files_behind(Path(case.images[0]))[0], stop_before_pixels=True)
                    uids.setdefault(str(header.SeriesInstanceUID), case.id)
            self._uids = uids
        return self._uids


def _listed(state: State) -> str:
    classes = [f"{number} ({name})" for name, number in state.numbers.items()]
    ignored = [f"{state.ignored} where nobody looked"] if state.ignored is not None else []
    return ", ".join(["0 (background)", *classes, *ignored])
