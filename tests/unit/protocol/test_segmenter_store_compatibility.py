"""What keeps a segmenter from reading a store's pixels, and what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewlabel.data.preprocess import Plan
from fewlabel.protocol.segmenter_store_compatibility import plan_differences

Z, Y, X = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def differences(then: Plan, now: Plan) -> dict[str, tuple[Any, Any]]:
    return plan_differences({"plan": json.loads(json.dumps(then.record()))}, json.loads(json.dumps(now.record())))


def plan(frame: Any = (Z, Y, X), choice: str = "auto", **over: Any) -> Plan:
    rows = tuple(tuple(float(value) for value in row) for row in frame)
    return Plan(**{"spacing": (1.0, 1.0), "size": (16, 16), "slice_axis": choice, "frame": rows, **over})


def turned(degrees: float, about: int = 2) -> Any:
    """The upright frame, turned about one of its own axes."""
    angle = np.deg2rad(degrees)
    others = [axis for axis in range(3) if axis != about]
    turn = np.eye(3)
    turn[np.ix_(others, others)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ np.array([Z, Y, X])


def test_equal_plans_do_not_differ() -> None:
    assert differences(plan(), plan()) == {}
    assert list(differences(plan(), plan(spacing=(2.0, 2.0)))) == ["spacing"]


def test_slices_along_another_axis_differ() -> None:
    found = differences(plan(choice="z"), plan((X, Z, Y), choice="x"))
    assert found == {"slice_axis": ("z (slices run to superior)", "x (slices run to left)")}
    assert list(differences(plan(), plan((Y, Z, X)))) == ["slice_axis"]


@pytest.mark.parametrize("frame", [(Z, X, Y), (Z, (0.0, -1.0, 0.0), X), ((0.0, 0.0, -1.0), Y, X)])
def test_slices_laid_another_way_round_differ(frame: Any) -> None:
    (key,) = differences(plan(), plan(frame))
    assert key == "orientation"
    found = differences(plan(), plan(((0.0, 0.0, -1.0), Y, X)))
    then, now = "slices to superior, rows to posterior, columns to left", "slices to inferior"
    assert found["orientation"] == (then, then.replace("slices to superior", now))


def test_oblique_scans_are_described_by_the_nearest_axes() -> None:
    found = differences(plan(turned(20.0, 0)), plan(turned(200.0, 0)))
    assert found["orientation"] == (
        "slices to superior, rows to posterior, columns to left",
        "slices to superior, rows to anterior, columns to right",
    )


def test_a_segmenter_without_a_plan_reads_nothing() -> None:
    assert plan_differences({}, {"spacing": [1.0, 1.0], "channels": 1}) == {
        "spacing": (None, [1.0, 1.0]), "channels": (None, 1),
    }  # fmt: skip


@pytest.mark.parametrize("about", [0, 1, 2])
@pytest.mark.parametrize("degrees", [0.0001, -12.0, 30.0, -44.0])
def test_scans_that_lie_a_little_otherwise_are_read(about: int, degrees: float) -> None:
    assert differences(plan(), plan(turned(degrees, about))) == {}
    assert differences(plan(turned(25.0, 1)), plan(turned(25.0 + degrees, 1))) == {}
    assert differences(plan(), plan(turned(46.0, about))) != {}


def test_the_name_of_the_axis_does_not_count_where_slices_lie_alike() -> None:
    assert differences(plan(choice="auto"), plan(choice="z")) == {}
    # Files whose axes are stored in another order.
    assert differences(plan(choice="x"), plan(choice="z")) == {}


def test_plans_that_do_not_say_how_scans_are_laid_are_not_judged() -> None:
    old = {**plan().record(), "orient": None}
    now = plan((X, Z, Y)).record()
    assert plan_differences({"plan": old}, now) == {}
    assert plan_differences({"plan": {**now, "orient": {}}}, plan().record()) == {}


def test_a_merged_or_renamed_data_set_is_read() -> None:
    merged = replace(plan(), dataset="a+b", reader="merge", meta_labels={"patient": 9})
    assert differences(plan(), merged) == {}
