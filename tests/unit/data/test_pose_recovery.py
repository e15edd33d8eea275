"""Poses of scans in the plane: known turns, shifts and sizes are found again, and what cannot be told is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from fewlabel.data.augment_settings import finetuning_augmentation
from fewlabel.data.augmentation_from_poses import (
    UNKNOWN_ROTATION,
    UNKNOWN_SCALE,
    UNKNOWN_TRANSLATION,
    Reach,
    reach,
    wider_ranges,
)
from fewlabel.data.pose import Pose, estimate_poses
from fewlabel.data.pose_matching import synchronise, wrapped
from fewlabel.data.pose_record import Poses, poses_of, read_poses, write_poses
from fewlabel.data.pose_thumbnails import View
from fewlabel.data.store import PreparedStore
from kit.stores import make_store

SIDE = 72


def body() -> np.ndarray:
    """Blobs of some sizes about the middle, alike under no turn."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    places = [(0, 0, 7, 1.0), (-9, 6, 5, 0.8), (12, 3, 4, 0.6), (2, -14, 5, 0.9), (-14, -8, 3, 0.7), (9, 14, 3, 0.5)]
    return sum(
        level * np.exp(-((y - down) ** 2 + (x - right) ** 2) / (2 * wide**2)) for down, right, wide, level in places
    )


def view(
    number: int, turn: float = 0.0, shift: tuple[float, float] = (0, 0), size: float = 1.0, noise: float = 0.02
) -> View:
    """The body turned clockwise on the screen by degrees, shifted by (rows, columns) and magnified."""
    angle = math.radians(turn)
    # Rows run down, so a clockwise turn takes (row, column) by this matrix; the inverse is what is sampled.
    forward = size * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(forward)
    middle = np.full(2, (SIDE - 1) / 2)
    image = ndimage.affine_transform(body(), inverse, middle - inverse @ (middle + np.asarray(shift)), order=1)
    image = image + noise * np.random.default_rng(number).normal(size=image.shape)
    return View(f"s{number}", (f"c{number}",), image.astype(np.float32), None, (0.0, SIDE - 1, 0.0, SIDE - 1), 1)


def apart(found: list[float], wanted: list[float]) -> np.ndarray:
    """Differences of angles in degrees, but for one common turn either way round."""
    best = None
    for sign in (1, -1):
        off = wrapped(np.radians(np.asarray(found) - sign * np.asarray(wanted)))
        off = np.degrees(wrapped(off - np.angle(np.exp(1j * off).mean())))
        best = off if best is None or np.abs(off).max() < np.abs(best).max() else best
    return best


def test_turns_are_found_but_for_a_common_one():
    wanted = [0, 25, -40, 70, -15, 50, -75, 10]
    poses = estimate_poses([view(number, turn) for number, turn in enumerate(wanted)])
    assert all(pose.turn is not None for pose in poses)
    assert np.abs(apart([pose.turn for pose in poses], wanted)).max() < 8


def test_another_turn_of_one_scan_moves_its_angle_alone():
    still = [0, 25, -40, 30, -15, 50]
    first = estimate_poses([view(number, turn) for number, turn in enumerate(still)])
    moved = estimate_poses([view(number, turn + 40 * (number == 2)) for number, turn in enumerate(still)])
    before, after = (np.array([pose.turn for pose in poses]) for poses in (first, moved))
    change = np.degrees(wrapped(np.radians(after - before)))
    change -= np.median(change)
    assert abs(abs(change[2]) - 40) < 8
    assert np.abs(np.delete(change, 2)).max() < 8


def test_shifts_and_sizes_are_found():
    shifts = [(0, 0), (4, -3), (-5, 2), (3, 5), (-2, -4), (1, 3)]
    poses = estimate_poses([view(number, shift=shift) for number, shift in enumerate(shifts)])
    found = np.array([pose.shift for pose in poses])
    off = (found - found.mean(axis=0)) - (np.array(shifts) - np.mean(shifts, axis=0))
    assert np.abs(off).max() < 2
    sizes = [1.0, 1.2, 0.85, 1.1, 0.95, 1.0]
    poses = estimate_poses([view(number, size=size) for number, size in enumerate(sizes)])
    logs, wanted = np.log([pose.size for pose in poses]), np.log(sizes)
    assert np.abs((logs - logs.mean()) - (wanted - wanted.mean())).max() < 0.08


def test_the_same_scans_give_the_same_poses():
    views = [view(number, 20 * number) for number in range(5)]
    assert estimate_poses(views) == estimate_poses(views)


@pytest.mark.parametrize("images", ["constant", "noise", "few"])
def test_what_cannot_be_told_is_unknown(images):
    shape = (SIDE, SIDE)
    made = {
        "constant": [np.full(shape, 0.5) for _ in range(6)],
        "noise": [np.random.default_rng(number).random(shape) for number in range(6)],
        "few": [body() for _ in range(3)],
    }[images]
    box = (0.0, SIDE - 1, 0.0, SIDE - 1)
    views = [View(f"s{n}", (f"c{n}",), image.astype(np.float32), None, box, 1) for n, image in enumerate(made)]
    poses = estimate_poses(views)
    assert all(pose.turn is None for pose in poses)
    assert reach(Poses(tuple(poses), 0, shape, (1.0, 1.0)), ["s0"]).rotation == UNKNOWN_ROTATION


def test_angles_agree_in_spite_of_noise_and_of_pairs_that_say_nothing():
    draw = np.random.default_rng(0)
    angles = draw.uniform(-math.pi, math.pi, 40)
    turns = angles[:, None] - angles[None, :] + np.radians(17) * draw.normal(size=(40, 40))
    turns = np.triu(turns, 1) - np.triu(turns, 1).T
    wild = np.triu(draw.random((40, 40)) < 0.3, 1)
    random = np.triu(draw.uniform(-math.pi, math.pi, (40, 40)), 1)
    turns = np.where(wild, random, np.where(wild.T, -random.T, turns))
    off = wrapped(synchronise(turns, np.ones((40, 40))) - angles)
    off = wrapped(off - np.angle(np.exp(1j * off).mean()))
    assert np.degrees(np.sqrt((off**2).mean())) < 10


def pose(
    subject: str, turn: float | None, shift: tuple[float, float] | None = (0.0, 0.0), size: float | None = 1.0
) -> Pose:
    return Pose(subject, (subject,), shift, size, turn)


def test_every_scan_is_reached_from_the_labelled_one_nearest_to_it():
    turns = {"a": 0.0, "b": 100.0, "c": 40.0, "d": 60.0, "e": -170.0}
    poses = Poses(tuple(pose(name, turn) for name, turn in turns.items()), 0, (64, 64), (1.0, 1.0))
    # From a: 100, 40, 60 and 170; from a and b: 40, 40 and 90.
    assert reach(poses, ["a"]).rotation == pytest.approx(np.quantile([100, 40, 60, 170], 0.95))
    assert reach(poses, ["a", "b"]).rotation == pytest.approx(np.quantile([40, 40, 90], 0.95))


def test_ranges_become_wider_and_never_narrower():
    augment = finetuning_augmentation()
    assert wider_ranges(augment, Reach(5.0, 0.95, 1.05, 0.01)) == {}
    assert wider_ranges(augment, Reach(81.2, 0.61, 1.42, 0.193)) == {
        "rotation": 82.0,
        "scale_low": 0.61,
        "scale_high": 1.42,
        "translation": 0.2,
    }
    assert wider_ranges(augment, Reach(300.0, 0.1, 9.0, 0.9)) == {
        "rotation": 180.0,
        "scale_low": 0.5,
        "scale_high": 2.0,
        "translation": 0.25,
    }
    assert wider_ranges(augment, Reach()) == {
        "rotation": UNKNOWN_ROTATION,
        "scale_low": UNKNOWN_SCALE[0],
        "scale_high": UNKNOWN_SCALE[1],
        "translation": UNKNOWN_TRANSLATION,
    }


def test_a_store_is_looked_at_without_masks_and_without_its_test_part(tmp_path, monkeypatch):
    store = PreparedStore(make_store(tmp_path / "prepared", subjects=8, depth=4, size=(48, 48)))
    monkeypatch.setitem(store.__dict__, "labels", None)
    images, test = store.images, {case.subject for case in store.cases} & set(store.split["parts"]["test"])

    class Guarded:
        shape = images.shape

        def __getitem__(self, rows):
            subjects = set(store.slices["subject"].iloc[rows])
            assert not subjects & test
            return images[rows]

        def __len__(self):
            return len(images)

    monkeypatch.setitem(store.__dict__, "images", Guarded())
    assert test
    found = write_poses(store, tmp_path)
    assert {pose.subject for pose in found.scans}.isdisjoint(test)
    assert read_poses(tmp_path) == found
    assert read_poses(tmp_path / "nothing") is None


def test_poses_are_told_in_a_sentence():
    poses = poses_of(
        [view(number, turn) for number, turn in enumerate([0, 30, -30, 60, -60, 15])], (SIDE, SIDE), (1.5, 1.5)
    )
    assert "degrees in orientation" in poses.sentence()
