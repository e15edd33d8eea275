"""Settings of ``prepare``."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.settings.config import Floats, Integers, PathSetting, Settings, setting
from fewlabel.data.ct_window import Modality
from fewlabel.data.empty_slices import EmptySlices
from fewlabel.data.label_values import read_meanings


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
    workers: int = setting(0, "Threads; 0 for one per core.", ge=0)
    seed: int = setting(0, "Seed of a random split.", ge=0)

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str = "", base: Settings | None = None) -> Self:
        """As for all settings, and those that belong together must agree; all faults come at once."""
        try:
            built = super().parse(values, where=where, base=base)
        except SettingsError as error:
            wrong = {fault.where.removeprefix(where).split(".")[0] for fault in error.faults}
            rest = {"data": "", "out": "", **{key: value for key, value in values.items() if key not in wrong}}
            try:
                left = super().parse(rest, where=where, base=base)
            except SettingsError:
                raise error from None
            faults = contradictions(dict(left), where, without=wrong)
            raise SettingsError(error.message, [*error.faults, *faults]) from None
        faults = contradictions(dict(built), where)
        if faults:
            raise SettingsError("These settings are not valid:", faults)
        return built


def contradictions(values: Mapping[str, Any], where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:
    """What no single setting shows to be wrong: sizes that are no pair, and settings that contradict each other.

    Args:
        values: The settings by name.
        where: Prefix of keys in messages.
        without: Settings that are wrong anyhow: rules that need them are passed over.
    """
    faults = []
    for name in ("spacing", "size"):
        pair = values[name]
        if name in without or pair is None:
            continue
        if len(pair) != 2 or min(pair) <= 0:
            problem = f"must be two positive numbers (row, column), not {list(pair)}"
            faults.append(Fault(problem, f"{where}{name}"))
        elif name == "size" and any(value % 2 for value in pair):
            problem = f"must be even numbers, not {list(pair)}"
            faults.append(Fault(problem, f"{where}size", "Give multiples of 16, which suit every network"))
    if "voxel_size" not in without and values["voxel_size"] is not None:
        size = values["voxel_size"]
        if len(size) != 3 or min(size) <= 0:
            problem = f"must be three positive numbers (slice, row, column), not {list(size)}"
            faults.append(Fault(problem, f"{where}voxel_size"))
    if "window" not in without and values["window"] is not None:
        window = values["window"]
        if (
            len(window) < 2
            or len(window) % 2
            or any(low >= high for low, high in zip(window[::2], window[1::2], strict=True))
        ):
            problem = f"must be pairs of numbers, the lower first, not {list(window)}"
            faults.append(Fault(problem, f"{where}window", "Write it like [-160,240]"))
    low, high = values["low"], values["high"]
    if without.isdisjoint({"low", "high"}) and low >= high:
        faults.append(Fault(f"must be below high, which is {high}, not {low}", f"{where}low"))
    test, validation = values["test_fraction"], values["validation_fraction"]
    if without.isdisjoint({"test_fraction", "validation_fraction"}) and test + validation >= 1:
        problem = f"{test} for testing and {validation} for validation leave nobody to train on"
        faults.append(Fault(problem, f"{where}test_fraction", "Lower one of them"))
    return faults
