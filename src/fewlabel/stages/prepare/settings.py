"""Settings of ``prepare``."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import Floats, Integers, PathSetting, Settings, setting
from fewlabel.data.ct_window import Modality
from fewlabel.data.duplicates import SameScans
from fewlabel.data.label_values import read_meanings
from fewlabel.data.subjects_from_names import Subjects
from fewlabel.data.unannotated_slices import EmptySlices

#: Settings that stores of earlier versions were made without, and which did what their defaults do.
LATER = (
    "labels",
    "empty_slices",
    "voxel_size",
    "window",
    "modality",
    "meta_bins",
    "subject_names",
    "same_scans",
    "accept_origin",
    "colours",
)


class PrepareSettings(Settings):
    """Settings of ``prepare``."""

    data: PathSetting = setting(..., "Folder, or table file, of the raw data set.")
    out: PathSetting = setting(..., "Folder of the prepared store.")
    reader: str | dict[str, Any] = setting("auto", "Reader by id, or auto to choose by the look of the data set.")
    split: str = setting("auto", "auto, random, chaitanya, ssl4mis, develop, or a JSON file with parts.")
    test_fraction: float = setting(0.2, "Share of labelled subjects kept for testing.", unit="0 to 1", ge=0, lt=1)
    validation_fraction: float = setting(
        0.1, "Share of labelled subjects kept for model selection.", unit="0 to 1", ge=0, lt=1
    )
    pretrain_on_test_scans: bool = setting(
        False, "Whether unlabelled scans that the data set keeps for testing may enter pre-training."
    )
    spacing: Floats | None = setting(
        None,
        "Pixel size (row, column); null for the median of the scans outside the test part, more where labels need it.",
        unit="mm",
    )
    size: Integers | None = setting(
        None,
        "Pixels (height, width) after crop or pad; null for what 95 % of the scans outside the test part cover and all "
        "their labels, a multiple of 16 of at most 256.",
        unit="pixels",
    )
    low: float = setting(1.0, "Percentile of a volume that becomes 0.", unit="percent", ge=0, lt=100)
    high: float = setting(99.0, "Percentile of a volume that becomes 1.", unit="percent", gt=0, le=100)
    slice_axis: Literal["auto", "x", "y", "z"] = setting(
        "auto",
        "File axis across the slices; auto chooses one plane for all scans, where most are coarsest across it.",
    )
    labels: Annotated[dict[int, int | Literal["ignore"]] | None, BeforeValidator(read_meanings)] = setting(
        None,
        "What label values in masks stand for, as {255: 1, 4: ignore}: a declared value, 0 for background, or ignore; "
        "a value that stands for itself is a class. Predictions write the values of the masks.",
    )
    empty_slices: EmptySlices = setting(
        "auto",
        "What slices of a mask without any label are: background, or left out of training and scoring (between: those "
        "between labelled ones; all: all of a mask with labels); auto leaves out those between labelled ones where the "
        "structures cannot vanish.",
    )
    modality: Modality = setting(
        "auto",
        "ct: one window for all scans; other: percentiles of each scan; auto tells CT by names of channels and by air.",
    )
    window: Floats | None = setting(
        None,
        "Intensities that become 0 and 1 in every scan, a pair for all channels or one for each; null for the "
        "percentiles low and high: of the labelled voxels of all scans in CT, else of each scan.",
    )
    voxel_size: Floats | None = setting(
        None,
        "Voxel size (slice, row, column) of scans whose files do not say, such as PNG; null where nobody knows: "
        "distances and volumes are in voxels then.",
        unit="mm",
    )
    position_parts: int = setting(4, "Parts along the slice axis.", source="GCL, slice position", ge=1, le=64)
    meta_bins: int = setting(
        0,
        "Classes of each metadata column of numbers, by quantiles of the scans outside the test part, to make slice "
        "meta labels of them; 0 for none.",
        ge=0,
        le=64,
    )
    subject_names: Subjects = setting(
        "auto", "Subjects that differ in case, separators, zeros or side alone: one person (auto) or as_written."
    )
    same_scans: SameScans = setting(
        "refuse", "What to do where two subjects hold scans of equal voxels: refuse the data, or accept them."
    )
    accept_origin: bool = setting(
        False, "Whether masks may lie elsewhere than their scan where all but the origin in their header agrees."
    )
    colours: dict[str, int] | None = setting(
        None,
        "Class value of each colour (rrggbb) where masks are pictures in colours, as in colours.000000=0 "
        "colours.ff0000=1; in a lossy picture the nearest colour counts.",
    )
    workers: int = setting(0, "Threads; 0 for one per core.", ge=0)
    seed: int = setting(0, "Seed of a random split.", ge=0)

    def contradictions(self, where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:
        """Sizes and windows must be complete, low be below high, and somebody be left to train on."""
        faults = []
        for name, pair in (("spacing", self.spacing), ("size", self.size)):
            if name in without or pair is None:
                continue
            if len(pair) != 2 or min(pair) <= 0:
                problem = f"must be two positive numbers (row, column), not {list(pair)}"
                faults.append(Fault(problem, f"{where}{name}"))
            elif name == "size" and any(value % 2 for value in pair):
                problem = f"must be even numbers, not {list(pair)}"
                faults.append(Fault(problem, f"{where}size", "Give multiples of 16, which suit every network"))
        if "voxel_size" not in without and (size := self.voxel_size) is not None and (len(size) != 3 or min(size) <= 0):
            problem = f"must be three positive numbers (slice, row, column), not {list(size)}"
            faults.append(Fault(problem, f"{where}voxel_size"))
        if "window" not in without and self.window is not None and not _are_pairs(self.window):
            problem = f"must be pairs of numbers, the lower first, not {list(self.window)}"
            faults.append(Fault(problem, f"{where}window", "Write it like [-160,240]"))
        if without.isdisjoint({"low", "high"}) and self.low >= self.high:
            faults.append(Fault(f"must be below high, which is {self.high}, not {self.low}", f"{where}low"))
        test, validation = self.test_fraction, self.validation_fraction
        if without.isdisjoint({"test_fraction", "validation_fraction"}) and test + validation >= 1:
            problem = f"{test} for testing and {validation} for validation leave nobody to train on"
            faults.append(Fault(problem, f"{where}test_fraction", "Lower one of them"))
        return faults


def _are_pairs(window: Sequence[float]) -> bool:
    """Whether numbers are one or more pairs, the lower first."""
    pairs = list(zip(window[::2], window[1::2], strict=False))
    return bool(pairs) and not len(window) % 2 and all(low < high for low, high in pairs)
