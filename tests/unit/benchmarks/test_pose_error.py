"""Errors of poses against masks: what the command counts, and whom it looks at."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from fewlabel.data.pose import Pose
from fewlabel.data.store import PreparedStore
from kit.stores import make_store

TOOL = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "pose_error.py"))


def test_masks_tell_direction_place_and_size():
    mask = np.zeros((4, 20, 30), np.uint8)
    mask[:, 4:10, 5:11] = 2
    mask[:, 14:20, 5:11] = 1
    # The outer slices of a stack do not count.
    mask[0], mask[3] = 1, 0
    truth = TOOL["truth_of"]([mask, mask], [2, 3], [1])
    assert truth.turn == pytest.approx(90)
    assert truth.place == pytest.approx((6.5, 7.5))
    assert truth.size == pytest.approx(0.5 * np.log(72))
    alone = TOOL["truth_of"]([mask], [], [])
    assert alone.turn is None
    assert alone.place == pytest.approx((11.5, 7.5))
    assert TOOL["truth_of"]([np.zeros_like(mask)], [2], [1]) is None
    assert TOOL["truth_of"]([np.full_like(mask, 255)], [2], [1]) is None


def test_errors_are_up_to_a_constant_that_all_scans_share():
    truths = [TOOL["Truth"](170.0 + 10 * at, (30.0 + at, 40.0 - at), 3 + 0.1 * at) for at in range(4)]
    turns, off = [-40.0 + 10 * at for at in range(4)], [0, 0, 0, 2.0]
    poses = [Pose(str(at), (), (at - 9.0 + off[at], 5.0 - at), float(np.exp(0.05 * at)), turns[at]) for at in range(4)]
    found = dict(zip(TOOL["COLUMNS"][1:], TOOL["errors"](poses, truths), strict=False))
    assert (found["unknown"], found["turn rms"], found["median"], found["over 30"]) == ("0", "0.0", "0.0", "0")
    # One place 2 rows off, less their mean: the root of (3 * 0.25 + 2.25) / 4.
    assert found["place rms"] == "0.9, 0.0"
    assert (found["spread found"], found["r"]) == ("0.056", "1.00")
    # Half of the spread is missing: 0.05 times the spread of 0 to 3.
    assert found["size rms"] == "0.056"
    # One turn 80 degrees off pulls the circular mean a little, and is the one above 30.
    poses[3] = Pose("3", (), poses[3].shift, poses[3].size, turns[3] + 80)
    poses[0] = Pose("0", (), None, None, None)
    again = TOOL["errors"](poses, [*truths[:2], truths[2], truths[3]])
    assert (again[0], again[3]) == ("1", "1")
    assert TOOL["errors"](poses, [None] * 4) == ["0", *["-"] * 10]


def test_patients_that_train_or_validate_are_looked_at_and_no_others(tmp_path):
    store = PreparedStore(make_store(tmp_path / "p", subjects=8, depth=4, size=(32, 32)))
    parts = store.split["parts"]
    parts["pretrain"], parts["train"] = parts["train"], parts["train"][1:]
    wanted = {*parts["train"], *parts["validation"]}
    views = TOOL["allowed_views"](store)
    assert parts["test"]
    assert {view.subject for view in views} == wanted
    assert any(len(view.cases) > 1 for view in views)
    single = TOOL["allowed_views"](store, one_phase=True)
    assert [view.cases for view in single] == [view.cases[:1] for view in views]


@pytest.mark.parametrize("moving", [True, False])
def test_one_threshold_changes_at_a_time_among_those_that_count(moving):
    rows = list(TOOL["settings"](moving))
    assert rows[0][0] == "as shipped"
    _, usual, matching = rows[0]
    for name, thresholds, other in rows[1:]:
        changed = [
            key
            for first, second in ((usual, thresholds), (matching, other))
            for key in vars(first)
            if vars(first)[key] != vars(second)[key]
        ]
        assert changed == [name.split()[0]]
    names = {name.split()[0] for name, *_ in rows[1:]}
    assert names == set(TOOL["GRID"]) - ({"common_still"} if moving else {"common_moving", "moving"})
