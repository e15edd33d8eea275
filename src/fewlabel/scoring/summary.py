"""The summary of an evaluation: per arm and class, over classes, and against the control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fewlabel.scoring.statistics import bootstrap_interval, paired_comparison

#: Column of the per-case table → whether larger is better.
MEASURES = {"dice": True, "hd95_mm": False, "assd_mm": False}
#: Columns whose sum over scans counts structures or pieces, and those in ml.
COUNTS = ("present", "missed", "lost", "invented", "stray")
VOLUMES = ("stray_ml",)
#: Columns that say what cleaning took.
_CLEANED = ("removed", "removed_ml")
MEAN_RULE = (
    "The mean over classes is taken within each case first, over its classes with a value. Means and standard "
    "deviations are over cases; intervals are percentile bootstraps that resample subjects; p is a two-sided Wilcoxon "
    "signed-rank test of the subjects' mean differences."
)


def summarise(
    table: pd.DataFrame,
    class_names: Mapping[int, str],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Summary of a per-case table.

    Args:
        table: A row per arm, case and class with columns ``arm``, ``case``, ``subject``, ``class``, the measures of
            :data:`MEASURES`, ``missed``, ``invented``, ``reference_ml``, ``stray``, ``stray_ml``, ``removed``,
            ``removed_ml`` and ``dice_before``. The arms are ``model`` and, optionally, ``control``.
        class_names: Class index to name, background left out.
        confidence: Coverage of the intervals.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        JSON-ready: ``arms`` → arm → ``classes`` → index → {``name``, ``dice``, ``hd95_mm``, ``assd_mm`` (each with
        ``mean``, ``std``, ``low``, ``high``, ``n``, ``subjects``), ``present`` (scans that have the class), ``missed``,
        ``lost`` (those with Dice 0 among them, missed or not), ``invented``, ``stray`` and ``stray_ml`` (objects that
        do not touch the annotation), ``postprocess`` → {``removed`` (pieces), ``removed_ml``, ``scans`` (in how many),
        ``dice_before`` (mean Dice without)}}, and → ``mean`` with the same keys but the name, counts and ml summed;
        ``gain`` → ``classes`` and ``mean`` in the same way, each measure with ``p`` and ``verdict`` too, or None
        without a control.
    """
    present = table["reference_ml"] > 0
    table = table.assign(present=present, lost=present & (table["dice"] == 0))
    options: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed}
    groups = {str(index): table[table["class"] == index] for index in class_names}
    groups["mean"] = _over_classes(table)
    arms: dict[str, Any] = {}
    for arm in table["arm"].unique():
        rows = {key: _arm(group[group["arm"] == arm], options) for key, group in groups.items()}
        arms[str(arm)] = _nested(rows, class_names)
    gain = None
    if "control" in arms:
        gain = _nested({key: _gain(group, options) for key, group in groups.items()}, class_names)
    return {"arms": arms, "gain": gain}


def _nested(rows: Mapping[str, Any], class_names: Mapping[int, str]) -> dict[str, Any]:
    classes = {str(index): {"name": name, **rows[str(index)]} for index, name in class_names.items()}
    return {"classes": classes, "mean": rows["mean"]}


def _over_classes(table: pd.DataFrame) -> pd.DataFrame:
    """A row per arm and case: the mean of each measure over classes with a value, and sums of all that is counted."""
    keys = ["arm", "case", "subject"]
    grouped = table.groupby(keys, sort=False)
    summed = grouped[[*COUNTS, *VOLUMES, *_CLEANED]].sum()
    return grouped[[*MEASURES, "dice_before"]].mean().join(summed).reset_index()


def _arm(rows: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, Any]:
    subjects = rows["subject"].tolist()
    summary: dict[str, Any] = {
        name: bootstrap_interval(rows[name].tolist(), subjects, **options).record() for name in MEASURES
    }
    summary |= {name: int(rows[name].sum()) for name in COUNTS}
    summary |= {name: float(rows[name].sum()) for name in VOLUMES}
    summary["postprocess"] = {
        "removed": int(rows["removed"].sum()),
        "removed_ml": float(rows["removed_ml"].sum()),
        "scans": int((rows["removed"] > 0).sum()),
        "dice_before": float(rows["dice_before"].mean()),
    }
    return summary


def _gain(rows: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, Any]:
    model = rows[rows["arm"] == "model"].set_index("case")
    control = rows[rows["arm"] == "control"].set_index("case").loc[model.index]
    return {
        name: paired_comparison(
            model[name].tolist(),
            control[name].tolist(),
            model["subject"].tolist(),
            larger_is_better=larger,
            **options,
        ).record()
        for name, larger in MEASURES.items()
    }
