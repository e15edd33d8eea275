"""Pictures of a store's scans: whose they are, what they show, and what is never read for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from fewlabel.data.pose_record import write_poses
from fewlabel.data.pose_thumbnails import MOST_VIEWS, evenly, store_views, subject_views
from fewlabel.data.store import PreparedStore
from kit.poses import heart, placed
from kit.stores import make_store, resealed

AXIS = {"pixels": 96, "spacing": 1.0, "target": 1.0, "resampled": 96, "offset": 0, "size": 96}


def rewritten(folder: Path, rows: np.ndarray) -> None:
    """Fill slices of a store with what would show, in place."""
    for name, value in (("images.npy", np.nan), ("labels.npy", 77)):
        array = np.load(folder / name, mmap_mode="r+")
        array[rows] = value
        array.flush()


def test_phases_of_a_subject_make_one_picture(tmp_path: Path) -> None:
    store = PreparedStore(make_store(tmp_path / "p", subjects=6))
    views = store_views(store)
    allowed = {*store.split["parts"]["pretrain"], *store.split["parts"]["validation"]}
    assert [view.subject for view in views] == sorted(allowed)
    first = views[0]
    assert first.cases == ("patient001_phase0", "patient001_phase1")
    stacks = []
    for case in store.cases[:2]:
        count = case.stop - case.start
        middle = store.images[case.start + count // 4 : case.stop - count // 4, 0]
        stacks.append(np.asarray(middle, np.float32))
    np.testing.assert_allclose(first.image, np.mean(stacks, axis=(0, 1)), atol=1e-6)
    moved = ndimage.gaussian_filter(np.abs(stacks[0] - stacks[1]), (0, 2, 2)).mean(axis=0)
    np.testing.assert_allclose(first.motion, moved, atol=1e-6)
    assert (first.box, first.shrink) == ((0, 63, 0, 63), 1)


def test_one_phase_shows_no_motion(tmp_path: Path) -> None:
    views = store_views(PreparedStore(make_store(tmp_path / "p", subjects=5, phases=1)))
    assert all(view.motion is None and len(view.cases) == 1 for view in views)


def test_scans_that_are_no_phases_of_each_other_stay_apart() -> None:
    stack = placed(heart(1, "ED"))[None]
    names = lambda scans: [view.cases for view in subject_views("p", scans)]  # noqa: E731
    assert names([("a", stack, {}), ("b", stack * 0.9, {})]) == [("a", "b")]
    # Another geometry, another number of slices, another place.
    assert names([("a", stack, {"spacing": [1]}), ("b", stack, {"spacing": [2]})]) == [("a",), ("b",)]
    assert names([("a", stack, {}), ("b", stack[:, 2:], {})]) == [("a",), ("b",)]
    turned = placed(heart(1, "ED"), 180)[None]
    assert names([("a", stack, {}), ("b", turned, {}), ("c", stack, {})]) == [("a", "c"), ("b",)]


def test_equal_phases_show_no_motion() -> None:
    stack = placed(heart(1, "ED"))[None]
    (view,) = subject_views("p", [("a", stack, {}), ("b", stack, {})])
    assert view.motion is None


def test_outside_of_the_field_of_view_the_edge_goes_on() -> None:
    stack = placed(heart(1, "ED"))[None].copy()
    stack[..., :10, :] = 0
    stack[..., 90:] = 0
    rows, columns = {**AXIS, "resampled": 80, "offset": -10}, {**AXIS, "resampled": 100, "offset": 10}
    (view,) = subject_views("p", [("a", stack, {"rows": rows, "columns": columns})])
    assert view.box == (10, 89, 0, 89)
    np.testing.assert_array_equal(view.image[:10], np.broadcast_to(view.image[10], (10, 96)))
    np.testing.assert_array_equal(view.image[:, 90:], np.broadcast_to(view.image[:, 89:90], (96, 6)))


def test_large_slices_are_shrunk_about_their_middle() -> None:
    stack = np.random.default_rng(0).random((2, 5, 250, 292)).astype(np.float32)
    rows, columns = {**AXIS, "resampled": 201, "offset": -25}, {**AXIS, "resampled": 292, "offset": 0}
    (view,) = subject_views("p", [("a", stack, {"rows": rows, "columns": columns})])
    assert (view.shrink, view.image.shape) == (3, (83, 97))
    # One row of 250 is left over, and half a pixel of it at the start: rows 25 to 225 hold the pictures 9 to 74.
    assert view.box == (9, 74, 0, 96)
    np.testing.assert_allclose(view.image[20, 30], stack[:, 1:4, 60:63, 90:93].mean(), rtol=1e-5)


def test_no_more_than_there_is_room_for() -> None:
    assert evenly([False] * 5, 9) == [0, 1, 2, 3, 4]
    assert evenly([False] * 9, 3) == [0, 4, 8]
    chosen = evenly([at in (3, 7) for at in range(1000)], MOST_VIEWS)
    assert len(chosen) == len(set(chosen)) == MOST_VIEWS
    assert {3, 7} <= set(chosen)
    assert chosen == sorted(chosen)
    # Where the marked ones are most, they have no privilege.
    assert evenly([True] * 9, 3) == [0, 4, 8]


def test_neither_masks_nor_the_test_part_nor_what_is_in_no_part_are_read(tmp_path: Path) -> None:
    clean, spoilt = (PreparedStore(make_store(tmp_path / name, subjects=9)) for name in ("clean", "spoilt"))
    for store in (clean, spoilt):
        store.split["parts"]["pretrain"].remove("patient003")
        store.split["parts"]["train"].remove("patient003")
    hidden = np.isin(spoilt.slices["subject"], [*spoilt.split["parts"]["test"], "patient003"])
    assert 0 < hidden.sum() < len(hidden)
    rewritten(spoilt.folder, np.flatnonzero(hidden))
    masks = np.load(spoilt.folder / "labels.npy", mmap_mode="r+")
    masks[:] = 99
    masks.flush()
    parts = spoilt.split["parts"]
    spoilt = PreparedStore(resealed(spoilt.folder))
    spoilt.split["parts"] = parts
    found = [write_poses(store, store.folder) for store in (clean, spoilt)]
    assert found[0] == found[1]
    told = json.loads((spoilt.folder / "pose.json").read_text())
    seen = {row["subject"] for row in told["scans"]}
    assert seen.isdisjoint({"patient003", *spoilt.split["parts"]["test"]})
    assert (spoilt.folder / "pose.json").read_bytes() == (clean.folder / "pose.json").read_bytes()


def test_a_store_without_anybody_to_look_at_has_no_picture(tmp_path: Path) -> None:
    store = PreparedStore(make_store(tmp_path / "p", subjects=3))
    store.split["parts"] = {"test": store.split["parts"]["test"]}
    assert store_views(store) == []
    assert write_poses(store, tmp_path).scans == ()


@pytest.mark.parametrize(("size", "little"), [((4, 4), True), ((8, 6), True), ((16, 16), False)])
def test_tiny_slices_are_no_trouble(tmp_path: Path, size: tuple[int, int], little: bool) -> None:
    store = PreparedStore(make_store(tmp_path / "p", subjects=8, size=size, phases=1))
    scans = write_poses(store, tmp_path).scans
    assert len(scans) == 6
    assert all(pose.shift is None for pose in scans) is little
