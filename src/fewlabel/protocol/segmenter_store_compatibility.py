"""Whether a segmenter was trained on pixels prepared as those of a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What must be equal in the plans of a store and a segmenter for the store's pixels to be what the segmenter expects.
_SAME_PLAN = ("spacing", "size", "channels", "normalise", "label_values")
#: Where the patient axes of a frame run to, and against them.
_TOWARDS = (("left", "right"), ("posterior", "anterior"), ("superior", "inferior"))


def plan_differences(facts: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What keeps a segmenter from reading a store's pixels: key → its value then, and in the store now.

    Args:
        facts: Content of ``segmenter.json``.
        plan: The store's.
    """
    then = facts.get("plan", {})
    differing = {key: (then.get(key), plan.get(key)) for key in _SAME_PLAN if then.get(key) != plan.get(key)}
    return {**differing, **_laid_otherwise(then, plan)}


def _laid_otherwise(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Whether scans are laid along other axes, or another way round, than they were; plans that do not say are alike.

    What counts is how the slices lie in the patient: the name of the axis across them depends on how a file is stored,
    and the frame is that of one scan, so it differs a little between stores whose scans lie alike. Frames are alike
    where each axis of one is nearest to the same axis of the other, and runs the same way.
    """
    before, after = _frame(then), _frame(now)
    if before is None or after is None:
        return {}
    cosines = before @ after.T
    nearest = np.abs(cosines).argmax(axis=1)
    if nearest[0] != 0:
        named = [f"{plan['orient'].get('slice_axis')} (slices run to {_towards(plan)[0]})" for plan in (then, now)]
        return {"slice_axis": (named[0], named[1])}
    if nearest.tolist() == [0, 1, 2] and bool((np.diag(cosines) > 0).all()):
        return {}
    turns = ["slices to {}, rows to {}, columns to {}".format(*_towards(plan)) for plan in (then, now)]
    return {"orientation": (turns[0], turns[1])}


def _frame(plan: Mapping[str, Any]) -> NDArray[np.float64] | None:
    frame = (plan.get("orient") or {}).get("frame")
    return None if frame is None else np.asarray(frame, dtype=np.float64)


def _towards(plan: Mapping[str, Any]) -> list[str]:
    """Where slices, rows and columns run to, by the nearest patient axis."""
    rows = np.asarray(plan["orient"]["frame"], dtype=np.float64)
    return [_TOWARDS[axis][int(row[axis] < 0)] for row, axis in zip(rows, np.abs(rows).argmax(axis=1), strict=True)]
