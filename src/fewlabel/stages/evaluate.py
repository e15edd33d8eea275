"""``evaluate``: how well a segmenter finds each class on labelled scans it never learnt from, beside its control."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.artifact.files import building, write_bytes, write_json
from fewlabel.core.errors import DataError, Fault, FewlabelError, SettingsError
from fewlabel.core.output_paths import conflict_sentence, path_conflict
from fewlabel.core.progress import say, task
from fewlabel.core.provenance import machine_facts
from fewlabel.core.settings.base import PathSetting, Settings, setting
from fewlabel.data.back_to_scan_grid import restore_probabilities
from fewlabel.data.io.volume_reading import needs_grid, read_geometry, read_mask
from fewlabel.data.preprocess import Plan, class_indices, prepare_mask
from fewlabel.data.store import UNLABELLED, PreparedCase, PreparedStore
from fewlabel.engine.runtime import Device, Precision, choose_device, resolved_precision, thread_setting, use_threads
from fewlabel.protocol.fair_control import differences
from fewlabel.protocol.unseen_labelled_cases import scorable_cases, subjects_of
from fewlabel.scoring.component_rule import POSTPROCESS_RULE, Removed, clean
from fewlabel.scoring.disagreement import COLUMN as DISAGREEMENT
from fewlabel.scoring.disagreement import DISAGREEMENT_RULE, disagreement_summary
from fewlabel.scoring.distance_units import KEY, NAMES, VOXELS, named_in_voxels
from fewlabel.scoring.metrics import DISTANCE_RULE, EMPTY_MASK_RULE, STRAY_RULE, dice_per_class, score_case
from fewlabel.scoring.summary import MEAN_RULE, summarise
from fewlabel.scoring.thirds import COLUMNS as THIRDS
from fewlabel.scoring.thirds import THIRDS_RULE, dice_of_thirds
from fewlabel.stages._cleaning_rule import KEY as POSTPROCESS
from fewlabel.stages._console_scores import gain_lines, score_lines
from fewlabel.stages._segmenter import Segmenter

__all__ = ["SETTINGS", "EvaluateSettings", "Segmenter", "check", "gain_lines", "reference_of", "run", "segmented"]

FILES = ("per_case.parquet", "per_case.csv", "summary.json")
COLUMNS = (
    "arm",
    "case",
    "subject",
    "class",
    "class_name",
    "dice",
    "hd95_mm",
    "assd_mm",
    "missed",
    "invented",
    "reference_ml",
    "predicted_ml",
    "stray",
    "stray_ml",
    "removed",
    "removed_ml",
    "dice_before",
    *THIRDS,
)
UNSIZED = "voxels: the files do not say how large these are"
#: Settings that change no score, or that the parents' hashes stand for.
_FREE_SETTINGS = frozenset({"data", "segmenter", "control", "out", "device", "batch", "threads"})


class EvaluateSettings(Settings):
    """Settings of ``fewlabel evaluate``."""

    data: PathSetting = setting(..., "prepared folder")
    segmenter: PathSetting = setting(..., "segmenter folder")
    out: PathSetting = setting(..., "folder of the scores to make")
    control: PathSetting | None = setting(None, "segmenter folder to compare with")
    part: str = setting("test", "part of the split whose labelled scans are scored")
    grid: Literal["original", "prepared"] = setting(
        "original", "score on the grid of the label files, or faster on the prepared one"
    )
    surface: bool = setting(True, "measure surface distances; false: Dice only")
    flip: bool = setting(False, "average predictions over the flips of the slice plane")
    postprocess: bool = setting(True, "clean predictions by the rule stored with the segmenter, if any")
    batch: int = setting(0, "slices, or windows of a 3D network, in one pass; 0 for what suits the device", ge=0)
    confidence: float = setting(0.95, "coverage of the intervals", unit="0 to 1", gt=0, lt=1)
    resamples: int = setting(2000, "bootstrap resamples of subjects", ge=1)
    seed: int = setting(0, "seed of the bootstrap", ge=0)
    device: Device = setting("auto", "where to predict")
    precision: Precision = setting("auto", "bf16 where the hardware supports it; probabilities are always float32")
    threads: int = thread_setting()


SETTINGS = EvaluateSettings


def run(settings: EvaluateSettings) -> Path:
    """Score and leave an artifact of kind ``scores``; nothing is done where the same scores are there already.

    Raises:
        SettingsError: If there is no such part, or ``out`` holds something else.
        DataError: If a subject took part in training or selection (a leak, named), if the segmenter was made for
            other pixels, if there is no labelled scan, or if a label file is gone or changed.
        ArtifactError: If an input folder is not a finished artifact of its kind.
    """
    started = time.monotonic()
    store = PreparedStore(settings.data)
    subjects = subjects_of(store, settings.part)
    device = choose_device(settings.device)
    use_threads(settings.threads)
    folders = {"model": settings.segmenter, **({"control": settings.control} if settings.control else {})}
    arms = {name: Segmenter.load(folder) for name, folder in folders.items()}
    same = {
        **{key: value for key, value in settings.record().items() if key not in _FREE_SETTINGS},
        "parents": [store.manifest.content_hash, *(arm.content_hash for arm in arms.values())],
    }
    if _done_before(settings.out, same):
        say(f"{settings.out} is up to date and kept.")
        return settings.out
    cases = scorable_cases(store, settings.part, subjects, arms, label_files=settings.grid == "original")
    # Where nobody knows how large a voxel of one of them is, all are measured in voxels.
    sized = all(case.record.get("spacing_known", True) for case in cases)
    table = _score(store, cases, arms, settings, device, sized=sized)
    names = {index: name for index, name in store.label_names.items() if index}
    compared = [arm.facts if settings.postprocess else {**arm.facts, POSTPROCESS: None} for arm in arms.values()]
    resampling: Any = {key: getattr(settings, key) for key in ("confidence", "resamples", "seed")}
    summary = {
        "part": settings.part,
        "grid": settings.grid,
        "subjects": sorted({case.subject for case in cases}),
        "cases": len(cases),
        "classes": {str(index): name for index, name in names.items()},
        **summarise(table, names, **resampling),
        "disagreement": disagreement_summary(table, **resampling),
        "segmenters": {name: _description(arm) for name, arm in arms.items()},
        # Where this is not empty, a gain is not that of the start or the regime alone.
        "differences": differences(*compared) if len(compared) > 1 else [],
        "protocol": _protocol(settings, store, sized=sized)
        | ({"disagreement": DISAGREEMENT_RULE} if DISAGREEMENT in table else {}),
        "machine": machine_facts(),
    }
    lines = score_lines(summary if sized else {**summary, KEY: VOXELS})
    if not sized:
        table = table.rename(columns={name: written for written, name in NAMES.items()})
        summary = {**named_in_voxels(summary), KEY: VOXELS}
    with building(settings.out) as folder:
        write_bytes(folder / "per_case.parquet", table.to_parquet(index=False))
        write_bytes(folder / "per_case.csv", table.to_csv(index=False).encode())
        write_json(folder / "summary.json", summary)
        finish_artifact(
            folder,
            "scores",
            FILES,
            parents=[store.artifact, *(arm.artifact for arm in arms.values())],
            final_folder=settings.out,
            settings={**settings.record(settings.out), "identity": same},
            seed=settings.seed,
            device=device,
            precision=resolved_precision(settings.precision, device),
            wall_seconds=time.monotonic() - started,
        )
    for line in lines:
        say(line)
    return settings.out


def check(settings: EvaluateSettings, store: PreparedStore, learnt: Collection[str]) -> None:
    """Make sure that the part to score has labelled scans, none of whose labels a training uses.

    Args:
        settings: Settings of the stage.
        store: The prepared data.
        learnt: Subjects whose labels are learnt from or selected by.

    Raises:
        SettingsError: If there is no such part.
        DataError: If it has no labelled scan, or one of these subjects.
    """
    part = settings.part
    labelled = {case.subject for case in store.cases if case.label is not None} & set(subjects_of(store, part))
    shared = sorted(labelled & set(learnt))
    if labelled and not shared:
        return
    problem = f'"{part}" has no labelled scans to score'
    if shared:
        problem = f'"{part}" holds labels that training uses or selects by, those of {", ".join(shared)}'
    fault = Fault(problem, "part", "Leave out evaluate.part to score the test part")
    raise DataError("The evaluation cannot be done:", [fault])


def _done_before(out: Path, same: Mapping[str, Any]) -> bool:
    obstacle = path_conflict(out)
    if not obstacle:
        return False
    if (scores := Artifact.find(out, "scores")) is not None:
        if scores.manifest.settings.get("identity") == dict(same):
            return True
        fault = Fault(f"{out} holds scores of other settings or artifacts", remedy="Give another --out, or remove it")
    else:
        fault = Fault(conflict_sentence(out, obstacle), remedy="Give another --out")
    raise SettingsError("Nothing was written:", [fault])


def _score(
    store: PreparedStore,
    cases: Sequence[PreparedCase],
    arms: Mapping[str, Segmenter],
    settings: EvaluateSettings,
    device: str,
    *,
    sized: bool,
) -> pd.DataFrame:
    plan = Plan.load(store.plan)
    classes = [index for index in store.label_names if index]
    # Both arrays are opened here, so that damage is reported once and not for every case.
    pixels, _ = store.images, store.labels
    rows: list[tuple[Any, ...]] = []
    faults: list[Fault] = []
    with task("evaluate", len(cases) * len(arms)) as bar:
        for case in cases:
            try:
                reference, spacing = reference_of(store, case, plan, settings.grid)
            except FewlabelError as error:
                faults.extend(error.faults)
                continue
            steps = spacing if sized else voxel_steps(case, plan, settings.grid)
            ignored = reference == UNLABELLED
            reference[ignored] = 0
            images = np.asarray(pixels[case.start : case.stop], dtype=np.float32).swapaxes(0, 1)
            for name, arm in arms.items():
                found = segmented(arm, images, case, settings, device, prod(spacing))
                whole, predicted, removed, across = found.whole, found.cleaned, found.removed, found.across
                predicted[ignored] = whole[ignored] = 0
                before = dice_per_class(whole, reference, len(store.label_names))
                thirds = dict(zip(classes, dice_of_thirds(predicted, reference, classes, across), strict=True))
                for score in score_case(predicted, reference, steps, classes, surface=settings.surface):
                    values = asdict(score)
                    index = values.pop("index")
                    took = removed.get(index, Removed(0, 0))
                    cleaning = (took.pieces, took.voxels * prod(steps) / 1000.0, float(before[index - 1]))
                    apart = None if found.by_class is None else float(found.by_class[index - 1])
                    named = (name, case.id, case.subject, index, store.label_names[index])
                    rows.append((*named, *values.values(), *cleaning, *thirds[index], apart))
                bar.advance(note=case.id)
    if faults:
        raise DataError("The evaluation cannot be done:", faults)
    table = pd.DataFrame(rows, columns=[*COLUMNS, DISAGREEMENT])
    # Undefined distances are missing numbers, not objects.
    table = table.astype(dict.fromkeys(("hd95_mm", "assd_mm", *THIRDS, DISAGREEMENT), "float64"))
    if not sized:
        volumes = [name for name in table.columns if name.endswith("_ml")]
        # Of steps of one voxel, millilitres are thousandths of voxels.
        table[volumes] *= 1000.0
    ensembles = any(len(arm.networks) > 1 for arm in arms.values())
    return table if ensembles else table.drop(columns=DISAGREEMENT)


@dataclass(frozen=True)
class Segmented:
    """What a segmenter says of a scan, on the grid that is scored.

    Attributes:
        whole: Class indices (z, y, x) before they are cleaned.
        cleaned: And after.
        removed: Class → what cleaning took.
        across: The axis across slices.
        by_class: How far the members lie apart, for each class; None of one network.
    """

    whole: NDArray[np.uint8]
    cleaned: NDArray[np.uint8]
    removed: Mapping[int, Removed]
    across: int
    by_class: Any


def segmented(
    arm: Segmenter,
    images: NDArray[np.float32],
    case: PreparedCase,
    settings: EvaluateSettings,
    device: str,
    voxel: float,
) -> Segmented:
    """What a segmenter says of a scan.

    Args:
        arm: The segmenter.
        images: The scan as it was prepared, (channels, depth, height, width) in [0, 1].
        case: The scan.
        settings: Of the stage.
        device: Where to predict.
        voxel: Volume of a voxel of the grid that is scored, in mm³.
    """
    prediction = arm.predict(
        images, batch=settings.batch, flip=settings.flip, device=device, precision=settings.precision
    )
    original = settings.grid == "original"
    probabilities = prediction.probabilities
    if original:
        probabilities = restore_probabilities(probabilities, case.record)
    whole = probabilities.argmax(axis=0).astype(np.uint8)
    across = int(case.record["axes"][0]) if original else 0
    cleaned, removed = clean(whole, arm.rule if settings.postprocess else None, voxel, across)
    return Segmented(whole, cleaned, removed, across, prediction.by_class)


def voxel_steps(case: PreparedCase, plan: Plan, grid: str) -> tuple[float, float, float]:
    """(z, y, x) spacing of a scan in voxels of its own file.

    Args:
        case: The scan.
        plan: How it was prepared.
        grid: ``original`` or ``prepared``.
    """
    if grid == "original":
        return 1.0, 1.0, 1.0
    _, row, column = (float(case.record["spacing"][axis]) for axis in case.record["axes"])
    return 1.0, plan.spacing[0] / row, plan.spacing[1] / column


def reference_of(
    store: PreparedStore, case: PreparedCase, plan: Plan, grid: str
) -> tuple[NDArray[np.uint8], tuple[float, float, float]]:
    """Class indices to compare with, 255 where ignored, and their (z, y, x) spacing in mm.

    Args:
        store: The prepared data.
        case: A labelled scan of it.
        plan: How it was prepared.
        grid: ``original`` or ``prepared``.

    Raises:
        DataError: If the label file is gone or has changed.
    """
    prepared = np.array(store.labels[case.start : case.stop])
    steps = case.record["spacing"]
    if grid == "prepared":
        return prepared, (float(steps[case.record["axes"][0]]), float(plan.spacing[0]), float(plan.spacing[1]))
    label = Path(case.label or "")
    raw = read_mask(label, grid=read_geometry(Path(case.images[0])) if needs_grid(label) else None)
    if list(raw.shape) != list(case.record["shape"]) or not np.array_equal(
        prepare_mask(raw, case.record, plan), prepared
    ):
        remedy = "Prepare the data again, or score with grid=prepared"
        fault = Fault(f"{case.label} is not the label that was prepared", case.id, remedy)
        raise DataError("A label file has changed:", [fault])
    reference = class_indices(raw, case.record, plan)
    return reference, (float(steps[0]), float(steps[1]), float(steps[2]))


def _description(arm: Segmenter) -> dict[str, Any]:
    keys = (
        "regime",
        "members",
        "initialisation",
        "labelled_subjects",
        "labelled_slices",
        "validation_subjects",
        "selection",
        "steps",
    )
    return {
        "folder": arm.folder.name,
        "content_hash": arm.content_hash,
        **{key: arm.facts[key] for key in keys if key in arm.facts},
    }


def _in_units(rule: str, *, sized: bool) -> str:
    return rule if sized else rule.replace(" in mm³", " in voxels").replace(" in mm", " in voxels")


def _protocol(settings: EvaluateSettings, store: PreparedStore, *, sized: bool) -> dict[str, Any]:
    where = "of the label files" if settings.grid == "original" else "of the prepared store"
    return {
        "data_set": store.plan.get("dataset", ""),
        "split": store.split.get("name", ""),
        "grid": f"Scores are on the grid {where}, in {'mm' if sized else UNSIZED}.",
        "empty_masks": _in_units(EMPTY_MASK_RULE, sized=sized),
        "distances": _in_units(DISTANCE_RULE, sized=sized) if settings.surface else "Not measured.",
        "stray": STRAY_RULE,
        "thirds": THIRDS_RULE,
        "postprocess": _in_units(POSTPROCESS_RULE, sized=sized) if settings.postprocess else "Left out.",
        "means": MEAN_RULE,
        "leaks": "No scored subject's label was trained on or chose the model; checked against the segmenter's record.",
        "confidence": settings.confidence,
        "resamples": settings.resamples,
        "seed": settings.seed,
        "flip": settings.flip,
    }
