"""``prepare``: from a folder of scans to the memory-mapped store that every later stage reads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from fewlabel.core.artifact.files import building, read_json, write_json
from fewlabel.core.artifact.manifest import finish_artifact, is_artifact
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.output_paths import conflict_sentence, path_conflict
from fewlabel.core.progress import say
from fewlabel.core.settings.config import Floats, Integers, PathSetting, Settings, setting
from fewlabel.data.catalog import Catalog
from fewlabel.data.checking import CaseFacts, cores, inspect, label_map
from fewlabel.data.duplicates import SameScans, equal_scans
from fewlabel.data.io.itk_log import collected_warnings
from fewlabel.data.label_faults import label_faults
from fewlabel.data.meta_labels import case_codes, edges_of, slice_table
from fewlabel.data.planning import depths_of, make_plan
from fewlabel.data.pose_record import POSES, find_poses, write_poses
from fewlabel.data.preprocess import Plan
from fewlabel.data.sources import SOURCES, read_sources, source_files, source_key
from fewlabel.data.store import STORE_FILES, PreparedStore
from fewlabel.data.store_writer import Written, store_bytes, write_store
from fewlabel.data.subjects import Subjects
from fewlabel.protocol.splits import make_split
from fewlabel.readers.base import read_catalog


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
    meta_bins: int = setting(
        0,
        "Classes of each metadata column of numbers, by quantiles of the scans outside the test part, to make slice "
        "meta labels of them; 0 for none.",
        ge=0,
        le=64,
    )
    subjects: Subjects = setting(
        "auto", "Subjects that differ in case, separators, zeros or side alone: one person (auto) or as_written."
    )
    same_scans: SameScans = setting(
        "refuse", "What to do where two subjects hold scans of equal voxels: refuse the data, or accept them."
    )
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
            faults = _contradictions(dict(left), where, without=wrong)
            raise SettingsError(error.message, [*error.faults, *faults]) from None
        faults = _contradictions(dict(built), where)
        if faults:
            raise SettingsError("These settings are not valid:", faults)
        return built


SETTINGS = PrepareSettings
#: Settings that stores of earlier versions were made without, and what those did.
_LATER = {"meta_bins": 0, "subjects": "auto", "same_scans": "refuse"}


def run(settings: PrepareSettings) -> Path:
    """Prepare a data set, or find that nothing changed.

    Returns:
        The folder of the prepared artifact.

    Raises:
        DataError: With every faulty case and file at once.
        SettingsError: If settings contradict each other, or ``out`` is somebody else's folder.
    """
    started = time.perf_counter()
    _check_settings(settings)
    _, catalog = read_catalog(settings.data, settings.reader, settings.subjects)
    files = source_files(catalog, settings.out)
    key = source_key(catalog, files, _key_settings(settings))
    if read_sources(settings.out).get("key") == key and is_artifact(settings.out, "prepared"):
        say(f"{settings.out} is up to date: {len(catalog.cases)} scans unchanged")
        _add_poses(settings.out)
        return settings.out
    workers = settings.workers or cores()
    collected_warnings(clear=True)
    facts = inspect(catalog, workers)
    labels, faults = label_map(catalog, facts)
    faults.extend(label_faults(labels, facts, str(catalog.root)))
    # A scan with a fault may have a grid of nonsense, which is not to be read.
    sound = [fact for fact in facts if not fact.faults]
    twice, same = equal_scans(catalog, sound, workers, settings.same_scans)
    faults = [fault for fact in facts for fault in fact.faults] + faults + twice
    if faults:
        raise DataError(f"The data set {settings.data} cannot be prepared:", faults)
    split = make_split(
        catalog,
        settings.split,
        settings.seed,
        test_fraction=settings.test_fraction,
        validation_fraction=settings.validation_fraction,
        pretrain_on_test_scans=settings.pretrain_on_test_scans,
    )
    plan = make_plan(
        catalog,
        facts,
        labels,
        split,
        spacing=settings.spacing,
        size=settings.size,
        low=settings.low,
        high=settings.high,
        slice_axis=settings.slice_axis,
        position_parts=settings.position_parts,
        meta_bins=settings.meta_bins,
    )
    depths = depths_of(facts, plan)
    table, classes = slice_table(catalog, depths, plan.position_parts, edges_of(plan.columns))
    plan = replace(plan, meta_labels=classes)
    _say_estimate(plan, catalog, facts, depths, workers)
    if is_artifact(settings.out, "prepared"):
        say(f"{settings.out} was made from other data or settings and is replaced; models made from it cannot use it.")
    with building(settings.out) as folder:
        written = write_store(folder, catalog.cases, depths, plan, workers)
        write_tables(folder, catalog, table, written)
        write_json(folder / "plan.json", plan.record())
        write_json(folder / "split.json", split)
        write_json(folder / "qc.json", _quality(replace(catalog, notes=(*catalog.notes, *same)), facts, written, split))
        write_json(folder / SOURCES, {"key": key, "files": files})
        finish_artifact(
            folder,
            "prepared",
            STORE_FILES,
            final_folder=settings.out,
            settings=settings.record(),
            seed=settings.seed,
            threads=workers,
            wall_seconds=time.perf_counter() - started,
        )
        poses = write_poses(PreparedStore(folder), folder)
        say(f"In the plane, {poses.sentence()}.")
    for line in read_json(settings.out / "qc.json")["notes"]:
        say(line)
    return settings.out


def _add_poses(out: Path) -> None:
    """Give a store of an earlier version its ``pose.json``; nothing else in it changes.

    Where it cannot be written, as in a store that is read-only, that is said: the store is as good as it was.
    """
    if (out / POSES).is_file():
        return
    poses = find_poses(PreparedStore(out))
    say(f"In the plane, {poses.sentence()}.")
    try:
        write_json(out / POSES, poses.record())
    except OSError as error:
        why = error.strerror or str(error)
        say(f"{POSES} cannot be written to {out} ({why}): fine-tuning will not know how the scans lie.")


def _contradictions(values: Mapping[str, Any], where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:
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
    low, high = values["low"], values["high"]
    if without.isdisjoint({"low", "high"}) and low >= high:
        faults.append(Fault(f"must be below high, which is {high}, not {low}", f"{where}low"))
    test, validation = values["test_fraction"], values["validation_fraction"]
    if without.isdisjoint({"test_fraction", "validation_fraction"}) and test + validation >= 1:
        problem = f"{test} for testing and {validation} for validation leave nobody to train on"
        faults.append(Fault(problem, f"{where}test_fraction", "Lower one of them"))
    return faults


def _check_settings(settings: PrepareSettings) -> None:
    faults = _contradictions(dict(settings))
    out = settings.out
    # A store that lost a file is still ours to replace; a folder without its sources is not.
    obstacle = path_conflict(out)
    if obstacle and not (out / SOURCES).is_file():
        problem, remedy = conflict_sentence(out, obstacle), "Give another --out"
        if obstacle == "other files":
            problem = f"{out} is neither empty nor a prepared folder"
        faults.append(Fault(problem, remedy=remedy))
    if faults:
        raise SettingsError("These settings are not valid:", faults)


def _key_settings(settings: PrepareSettings) -> dict[str, Any]:
    record = settings.record()
    for name in ("data", "out", "workers"):
        del record[name]
    # Stores of versions that did not know them stay as good as they were.
    for name, default in _LATER.items():
        if record[name] == default:
            del record[name]
    split = Path(settings.split)
    if settings.split.lower().endswith(".json") and split.is_file():
        record["split_content"] = split.read_text()
    return record


def _say_estimate(plan: Plan, catalog: Catalog, facts: list[CaseFacts], depths: list[int], workers: int) -> None:
    disk = store_bytes(sum(depths), len(plan.channels), plan.size) / 2**20
    prepared = max(depths, default=0) * plan.size[0] * plan.size[1]
    voxels = max(prepared, *(_voxels(fact) for fact in facts))
    # Bytes per voxel of the largest volume, per worker: measured with tracemalloc, masks with two classes.
    memory = workers * (32 + 12 * len(plan.channels)) * voxels / 2**20
    grid = f"{plan.size[0]}x{plan.size[1]} pixels of {plan.spacing[0]:.4g}x{plan.spacing[1]:.4g} mm"
    say(
        f"{len(catalog.cases)} scans of {len(catalog.subjects)} subjects, {sum(depths)} slices at {grid}: "
        f"about {disk:.0f} MB on disk, {memory:.0f} MB of memory"
    )


def _voxels(fact: CaseFacts) -> int:
    if fact.geometry is None:
        return 0
    z, y, x = fact.geometry.shape
    return z * y * x


def write_tables(folder: Path, catalog: Catalog, table: dict[str, Any], written: Sequence[Written]) -> None:
    """Write ``slices.parquet``, ``catalog.parquet`` and ``cases.json``.

    Args:
        folder: Of the store.
        catalog: The data set.
        table: Columns of the slice table.
        written: What each scan left, in catalog order.
    """
    import pandas as pd

    pd.DataFrame(table).to_parquet(folder / "slices.parquet", index=False)
    rows = [
        {
            "case": case.id,
            "subject": case.subject,
            "part": case.part,
            "images": [str(path) for path in case.images],
            "label": None if case.label is None else str(case.label),
            **{column.name: case.metadata.get(column.name) for column in catalog.columns},
        }
        for case in catalog.cases
    ]
    pd.DataFrame(rows).to_parquet(folder / "catalog.parquet", index=False)
    write_json(folder / "cases.json", [result.case for result in written])


def _quality(catalog: Catalog, facts: list[CaseFacts], written: list[Written], split: dict[str, Any]) -> dict[str, Any]:
    cases = []
    notes = [f"split {split['name']}: {note}" for note in split.get("notes", ())]
    notes = [*catalog.notes, *notes, *case_codes(catalog)[2]]
    for fact, result in zip(facts, written, strict=True):
        row = {**result.quality, "odd": [*fact.odd, *result.quality["odd"]]}
        cases.append(row)
    odd = [f"{row['id']}: {text}" for row in cases for text in row["odd"]]
    notes.extend(odd[:10])
    if len(odd) > 10:
        notes.append(f"… and {len(odd) - 10} more odd facts in qc.json")
    warnings = {text: list(paths) for text, paths in collected_warnings().items()}
    notes.extend(f"{len(paths)} files: {text}" for text, paths in warnings.items())
    return {"cases": cases, "warnings": warnings, "notes": notes}
