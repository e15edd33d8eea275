"""Settings of ``prepare``."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Literal

from fewlabel.core.errors import Fault
from fewlabel.core.settings.config import Floats, Integers, PathSetting, Settings, setting


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
        "auto", "File axis across the slices; auto takes the one with the largest spacing."
    )
    position_parts: int = setting(4, "Parts along the slice axis.", source="GCL, slice position", ge=1, le=64)
    workers: int = setting(0, "Threads; 0 for one per core.", ge=0)
    seed: int = setting(0, "Seed of a random split.", ge=0)

    def contradictions(self, where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:
        """Sizes must be pairs, low be below high, and somebody be left to train on."""
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
        if without.isdisjoint({"low", "high"}) and self.low >= self.high:
            faults.append(Fault(f"must be below high, which is {self.high}, not {self.low}", f"{where}low"))
        test, validation = self.test_fraction, self.validation_fraction
        if without.isdisjoint({"test_fraction", "validation_fraction"}) and test + validation >= 1:
            problem = f"{test} for testing and {validation} for validation leave nobody to train on"
            faults.append(Fault(problem, f"{where}test_fraction", "Lower one of them"))
        return faults
