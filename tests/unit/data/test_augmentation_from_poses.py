"""Ranges of augmentation that reach from labelled scans to the others, and never become narrower."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig, finetuning_augmentation
from fewlabel.data.augmentation_from_poses import Reach, reach, wider_ranges
from fewlabel.data.pose import Pose
from fewlabel.data.pose_record import Poses

SIDE = (100, 80)


def pose(name: str, turn: float | None = 0.0, shift: tuple[float, float] = (0.0, 0.0), size: float = 1.0) -> Pose:
    return Pose(name, (name,), shift, size, turn)


def poses(*scans: Pose) -> Poses:
    return Poses(scans, 0, SIDE, (1.0, 1.0))


def crowd(*others: Pose) -> Poses:
    """The labelled scan ``own``, and enough like it to be a data set."""
    return poses(pose("own"), *(pose(f"same{at}") for at in range(3)), *others)


def test_a_view_of_the_labelled_scan_lies_like_the_other() -> None:
    start, end = pose("own", -15.0, (6.0, -9.0), 0.9), pose("other", 25.0, (-12.0, 7.0), 1.2)
    found = reach(poses(start, *(pose(f"e{at}", 25.0, (-12.0, 7.0), 1.2) for at in range(4)), end), ["own"])
    assert found.rotation == pytest.approx(40)
    assert found.scale_high == pytest.approx(1.2 / 0.9)
    assert found.scale_low == 1
    config = AugmentConfig(
        flip_horizontal=0, flip_vertical=0, crop=1, rotation=40, scale_high=4 / 3, scale_low=1, translation=0.25
    )
    middle = (np.array(SIDE) - 1) / 2
    linear = 4 / 3 * np.array([[math.cos(math.radians(40)), -math.sin(math.radians(40))],
                               [math.sin(math.radians(40)), math.cos(math.radians(40))]])  # fmt: skip
    source, target = np.array(start.shift)[::-1], np.array(end.shift)[::-1]
    focus = source - np.linalg.solve(linear, target)
    share = np.abs(focus / np.array(SIDE)[::-1])
    assert found.translation == pytest.approx(share.max())
    draw = [0.9, 0.9, 1.0, 0.5, 1.0, *(0.5 + focus / np.array(SIDE)[::-1] / (2 * 0.25))]
    drawn = [torch.tensor([u], dtype=torch.float64) for u in draw]
    matrix = Augmenter(config)._matrices(drawn, SIDE, SIDE, None)[0].numpy()
    np.testing.assert_allclose(matrix @ [*(source + middle[::-1]), 1], [*(target + middle[::-1]), 1], atol=1e-9)


def test_the_nearest_labelled_scan_counts() -> None:
    scans = [pose("a", 0.0), pose("b", 90.0), *(pose(f"x{at}", 80.0) for at in range(6))]
    assert reach(poses(*scans), ["a"]).rotation == pytest.approx(np.quantile([90, *[80] * 6], 0.95))
    assert reach(poses(*scans), ["a", "b"]).rotation == pytest.approx(10)
    turned = [pose("a", 170.0), *(pose(f"x{at}", -170.0) for at in range(6))]
    assert reach(poses(*turned), ["a"]).rotation == pytest.approx(20)


def test_one_scan_in_twenty_may_lie_further() -> None:
    others = [pose(f"x{at}", 10.0) for at in range(39)]
    assert reach(poses(pose("a"), *others, pose("far", 170.0)), ["a"]).rotation == pytest.approx(10)
    assert reach(poses(pose("a"), *others[:4], pose("far", 170.0)), ["a"]).rotation > 100


def test_smaller_and_larger_scans_count_each_on_its_side() -> None:
    found = reach(crowd(*(pose(f"{size}-{at}", size=size) for size in (0.8, 1.5) for at in range(5))), ["own"])
    assert (found.scale_low, found.scale_high) == (pytest.approx(0.8), pytest.approx(1.5))


def test_a_labelled_scan_that_lies_nobody_knows_how_may_lie_like_any_other() -> None:
    scans = [pose(f"x{at}", 10.0 * at, (2.0 * at, 0.0), 1.05**at) for at in range(6)]
    found = reach(poses(Pose("own", ("own",), None, None, None), *scans), ["own"])
    pairs = [10 * abs(a - b) for a in range(6) for b in range(6) if a != b]
    assert found.rotation == pytest.approx(np.quantile(pairs, 0.95))
    assert found.translation is not None
    assert found.scale_low == pytest.approx(1 / found.scale_high)


def test_ranges_become_wider_and_are_rounded_outwards() -> None:
    augment = finetuning_augmentation()
    assert wider_ranges(augment, Reach(63.2, 0.7777, 1.3333, 0.101)) == {
        "rotation": 64.0, "scale_low": 0.77, "scale_high": 1.34, "translation": 0.11,
    }  # fmt: skip
    assert wider_ranges(augment, Reach(64.0, 0.77, 1.34, 0.11)) == {
        "rotation": 64.0, "scale_low": 0.77, "scale_high": 1.34, "translation": 0.11,
    }  # fmt: skip


def test_no_estimate_goes_beyond_half_a_turn_a_factor_of_2_and_a_quarter_of_the_side() -> None:
    found = wider_ranges(finetuning_augmentation(), Reach(179.9, 0.2, 5.0, 0.6))
    assert found == {"rotation": 180.0, "scale_low": 0.5, "scale_high": 2.0, "translation": 0.25}
    wide = AugmentConfig(scale_low=0.3, scale_high=3, translation=0.4, rotation=180)
    assert wider_ranges(wide, Reach(180.0, 0.2, 5.0, 0.6)) == {}
