"""Poses of scans: what was done to a picture comes out, and what cannot be known is said to be unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from fewlabel.data.motion_region import moving_bodies, moving_body
from fewlabel.data.phantom.scans import sample_patient
from fewlabel.data.pose import Pose, Thresholds, estimate_poses, judge
from fewlabel.data.pose_matching import Matched, Matching, match_views, synchronise, wrapped
from fewlabel.data.pose_thumbnails import View
from kit.poses import SIDE, around, heart_view

ED = ("ED",)


def copies(count: int = 5) -> list[View]:
    """One heart in poses that differ a little."""
    turns, zooms = np.linspace(-24, 24, count), np.linspace(0.92, 1.08, count)
    return [heart_view(1, turns[at], zooms[at], (at - 2.0, 2.0 - at), name=f"c{at}") for at in range(count)]


def numbers(poses: list[Pose]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert all(pose.turn is not None and pose.size is not None and pose.shift is not None for pose in poses)
    turns, sizes = np.array([pose.turn for pose in poses]), np.array([pose.size for pose in poses])
    return turns, np.log(sizes), np.array([pose.shift for pose in poses])


def test_angles_come_out_of_their_differences() -> None:
    angles = np.random.default_rng(0).uniform(-3, 3, 12)
    found = synchronise(angles[:, None] - angles, np.ones((12, 12)))
    np.testing.assert_allclose(wrapped(found - found[0]), wrapped(angles - angles[0]), atol=1e-9)


def test_angles_survive_noise_and_pairs_at_random() -> None:
    errors = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        angles = rng.uniform(-np.pi, np.pi, 40)
        turns = angles[:, None] - angles + rng.normal(0, np.radians(17), (40, 40))
        wrong = rng.random((40, 40)) < 0.3
        turns = np.triu(np.where(wrong, rng.uniform(-np.pi, np.pi, (40, 40)), turns), 1)
        found = synchronise(turns - turns.T, np.ones((40, 40)))
        errors.append(np.sqrt((around(np.degrees(found - angles)) ** 2).mean()))
    assert np.mean(errors) < 8
    assert max(errors) < 10


def test_a_weight_of_0_takes_a_pair_out() -> None:
    angles = np.random.default_rng(1).uniform(-3, 3, 8)
    turns, weights = angles[:, None] - angles, np.ones((8, 8))
    turns[2, 5], weights[2, 5] = 1.234, 0
    turns[5, 2], weights[5, 2] = 2.345, 0
    found = synchronise(turns, weights)
    np.testing.assert_allclose(wrapped(found - found[0]), wrapped(angles - angles[0]), atol=1e-9)


@pytest.mark.parametrize("phases", [("ED", "ES"), ED])
def test_what_is_done_to_one_scan_comes_out(phases: tuple[str, ...]) -> None:
    base = [heart_view(1, name=f"c{at}", phases=phases) for at in range(5)]
    for turn, zoom, shift in ((60, 1.0, (0, 0)), (0, 1.2, (0, 0)), (0, 1.0, (5, -7)), (-110, 0.85, (-4, 3))):
        changed = [*base, heart_view(1, turn, zoom, shift, phases=phases, name="new")]
        turns, sizes, shifts = numbers(estimate_poses(changed))
        assert abs((turns[5] - turns[0] - turn + 180) % 360 - 180) < 4
        assert sizes[5] - sizes[0] == pytest.approx(np.log(zoom), abs=0.05)
        # The heart's own centre turns and grows about the middle of the slice.
        angle = np.radians(turn)
        down, right = shifts[0]
        place = np.cos(angle) * np.array([down, right]) + np.sin(angle) * np.array([right, -down])
        np.testing.assert_allclose(shifts[5], zoom * place + shift, atol=2.5)
        np.testing.assert_allclose(turns[:5], turns[0], atol=0.1)


def test_a_shift_changes_the_centre_alone() -> None:
    turns, sizes, _ = numbers(estimate_poses([heart_view(1, 0, 1, (at, 2 * at), name=f"c{at}") for at in range(5)]))
    np.testing.assert_allclose(turns, 0, atol=2)
    np.testing.assert_allclose(sizes, 0, atol=0.02)


def test_hearts_of_known_pose_are_recovered() -> None:
    rng, count = np.random.default_rng(0), 8
    turns, zooms = rng.uniform(-180, 180, count), np.exp(rng.uniform(-0.2, 0.2, count))
    shifts = rng.uniform(-6, 6, (count, 2))
    views = [heart_view(at + 1, turns[at], zooms[at], shifts[at]) for at in range(count)]
    poses = estimate_poses(views)
    truth = [turns[at] + np.degrees(sample_patient(at + 1, 0).heart.rv_angle) for at in range(count)]
    known = [at for at in range(count) if poses[at].turn is not None]
    assert len(known) > count / 2
    errors = around([poses[at].turn - truth[at] for at in known])
    assert np.sqrt((errors**2).mean()) < 12
    placed = [at for at in range(count) if poses[at].size is not None]
    assert np.corrcoef([np.log(poses[at].size) for at in placed], np.log(zooms[placed]))[0, 1] > 0.6


def test_a_constant_slice_is_unknown_and_moves_nobody() -> None:
    views = copies()
    flat = View("flat", ("flat",), np.full((SIDE, SIDE), 0.4, np.float32), None, views[0].box, 1)
    poses = estimate_poses([*views, flat])
    assert (poses[5].shift, poses[5].size, poses[5].turn) == (None, None, None)
    turns, _, _ = numbers(poses[:5])
    np.testing.assert_allclose(np.diff(turns), 12, atol=3)
    assert all(pose.turn is None for pose in estimate_poses([flat] * 5))


def test_noise_has_nothing_in_common() -> None:
    rng = np.random.default_rng(0)
    views = []
    for at in range(16):
        image = ndimage.gaussian_filter(rng.normal(size=(64, 64)), 2).astype(np.float32)
        views.append(View(str(at), (str(at),), image, None, (0, 63, 0, 63), 1))
    assert sum(pose.turn is not None for pose in estimate_poses(views)) < 3


def compared(count: int = 7, **changed: Any) -> Matched:
    """Scans that all lie alike, and pairs and edges that say so."""
    zeros, ones, table = np.zeros(count), np.ones(count), np.zeros((count, count))
    fields = {
        "moving": False, "centres": np.zeros((count, 2)), "angles": zeros, "edge_angles": zeros, "turns": table,
        "peaks": table + 1, "common": ones, "ratios": table, "trust": table + 1, "sizes": zeros,
    }  # fmt: skip
    return Matched(**{**fields, **changed})


def test_a_turn_is_known_where_pairs_and_edges_agree() -> None:
    def known(**changed: Any) -> list[bool]:
        alike, clear = judge(compared(**changed), Thresholds())
        assert alike.all()
        return clear.tolist()

    assert known() == [True] * 7
    # All pairs say that one is turned, and edges that it is not.
    angles = np.array([0, 0, 0, 2.0, 0, 0, 0])
    assert known(angles=angles, turns=angles[:, None] - angles) == [True] * 3 + [False] + [True] * 3
    # A common turn of all edges says nothing.
    assert known(edge_angles=np.full(7, 2.0)) == [True] * 7
    # Two pairs in six of one scan say something else: more than three in ten.
    turns = np.zeros((7, 7))
    turns[3, :2], turns[:2, 3] = 2.0, -2.0
    assert known(turns=turns) == [True] * 3 + [False] + [True] * 3


def test_a_threshold_is_where_it_is_said_to_be() -> None:
    def known(count: int = 11, **changed: Any) -> int:
        return int(judge(compared(count, **changed), Thresholds())[1].sum())

    # Of ten pairs seven must agree, within 30 degrees.
    for off, pairs, wanted in ((29, 4, 11), (31, 3, 11), (31, 4, 10)):
        turns = np.zeros((11, 11))
        turns[0, 1 : 1 + pairs] = np.radians(off)
        assert known(turns=turns) == wanted
    # Edges within 30 degrees of their own mean, an eleventh of the way to the one that is off.
    for off, wanted in ((32, 11), (34, 10)):
        assert known(edge_angles=np.radians([off] + [0] * 10)) == wanted
    # Edges say whether there is anything in common: less is asked for where motion shows the body.
    common = np.array([0.29, 0.31, 0.39, 0.41] + [1.0] * 7)
    assert known(common=common) == 8
    assert known(common=common, moving=True) == 10
    assert judge(compared(common=common[:7]), Thresholds(common_still=0.3))[0].tolist() == [False] + [True] * 6


def test_pictures_of_one_heart_agree_by_edges_too() -> None:
    matched = match_views([heart_view(1, name=f"c{at}", phases=ED) for at in range(7)], Matching())
    assert matched is not None
    assert not matched.moving
    np.testing.assert_allclose(wrapped(matched.edge_angles - matched.edge_angles[0]), 0, atol=1e-6)
    assert matched.common.min() > 0.95
    np.testing.assert_allclose(matched.sizes, 0, atol=1e-3)


def test_three_scans_say_nothing() -> None:
    assert [pose.turn for pose in estimate_poses(copies()[:3])] == [None] * 3
    assert estimate_poses([]) == []


def test_twice_the_same() -> None:
    assert estimate_poses(copies()) == estimate_poses(copies())


def test_sizes_have_mean_1_and_turns_mean_0() -> None:
    turns, sizes, _ = numbers(estimate_poses(copies()))
    assert sizes.mean() == pytest.approx(0, abs=1e-3)
    assert np.angle(np.exp(1j * np.radians(turns)).sum()) == pytest.approx(0, abs=2e-3)


def test_a_shrunk_picture_gives_pixels_of_the_slice() -> None:
    views = copies()
    large = [View(v.subject, v.cases, v.image, v.motion, v.box, 2) for v in views]
    ours, theirs = numbers(estimate_poses(views))[2], numbers(estimate_poses(large))[2]
    np.testing.assert_allclose(theirs, 2 * ours, atol=0.2)


def test_the_moving_body_is_found_beside_what_moves_more_at_the_border() -> None:
    rows, columns = np.indices((80, 80))
    body = np.exp(-((rows - 30) ** 2 + (columns - 44) ** 2) / (2 * 6**2))
    centre, size = moving_body(body)
    np.testing.assert_allclose(centre, (30, 44), atol=0.1)
    # A Gaussian of variance 36 along each axis under one four times as wide as itself in all.
    assert size**2 == pytest.approx(2 / (1 / 36 + 1 / (4 * size**2)), rel=1e-2)
    arm = 3 * np.exp(-((rows - 76) ** 2 + (columns - 4) ** 2) / (2 * 4**2))
    led = moving_body(body + arm, (32.0, 42.0), 8.0)[0]
    np.testing.assert_allclose(led, (30, 44), atol=1)
    # Where nothing moves near the start, the whole picture is looked at.
    np.testing.assert_allclose(moving_body(body * (body > 0.01), (79.0, 0.0), 0.5)[0], (30, 44), atol=1)


def test_most_bodies_show_where_to_look_for_the_one_beside_a_moving_arm() -> None:
    rows, columns = np.indices((80, 80))

    def blob(row: float, column: float, width: float, strength: float) -> np.ndarray:
        return strength * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * width**2))

    views = []
    for at in range(5):
        motion = blob(38 + at, 42 - at, 6, 1) + (blob(74, 6, 5, 2) if at == 4 else 0)
        views.append(View(str(at), (str(at),), motion, motion.astype(np.float32), (0, 79, 0, 79), 1))
    centres, size = moving_bodies(views)
    np.testing.assert_allclose(centres, [(38 + at, 42 - at) for at in range(5)], atol=1)
    assert 4 < size < 8
    # What goes on at the edge outside of the field of view is no motion.
    framed = View("f", ("f",), views[0].image, views[0].motion + (rows > 60) * 9, (0, 60, 0, 79), 1)
    np.testing.assert_allclose(moving_bodies([*views, framed])[0][5], (38, 42), atol=1)
