"""Scores against closed forms, a slow loop and medpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from medpy.metric import binary
from scipy.ndimage import binary_erosion

from fewlabel.scoring.metrics import dice_per_class, image_diagonal, score_case, surface_distances, union_box

SPACING = (8.0, 1.4, 1.9)


def blobs(seed, shape=(6, 22, 18)):
    """Two overlapping ragged masks that also touch the image border."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    masks = []
    for _ in range(2):
        centre = generator.uniform(-0.4, 0.4, 3)[:, None, None, None]
        radius = generator.uniform(0.5, 0.9)
        masks.append(np.hypot.reduce(grid - centre, axis=0) + generator.normal(0, 0.08, shape) < radius)
    return masks


def border(mask):
    return np.argwhere(mask ^ binary_erosion(mask))


def slow_distances(first, second, spacing):
    """Every border voxel against every other, in float64."""
    a, b = border(first) * np.array(spacing), border(second) * np.array(spacing)
    all_pairs = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    return all_pairs.min(1), all_pairs.min(0)


@pytest.mark.parametrize("seed", range(4))
def test_distances_equal_a_slow_loop(seed):
    first, second = blobs(seed)
    there, back = slow_distances(first, second, SPACING)
    hd95, assd = surface_distances(first, second, SPACING)
    assert hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-6)
    assert assd == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_distances_agree_with_medpy(seed):
    first, second = blobs(seed)
    hd95, assd = surface_distances(first, second, SPACING)
    assert assd == pytest.approx(binary.assd(first, second, voxelspacing=SPACING), rel=1e-6)
    # medpy pools both directions before it takes the percentile; ours takes the worse direction.
    directed = getattr(binary, "__surface_distances")
    there, back = directed(first, second, SPACING, 1), directed(second, first, SPACING, 1)
    assert hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-6)
    assert hd95 >= binary.hd95(first, second, voxelspacing=SPACING) - 1e-6


def test_hd95_is_the_worse_direction():
    reference = np.zeros((1, 60, 60), bool)
    reference[0, 5:45, 5:45] = True
    prediction = reference.copy()
    prediction[0, 50:58, 50:58] = True  # a far speck: seen from the prediction only
    hd95, _ = surface_distances(prediction, reference, (1, 1, 1))
    there, back = slow_distances(prediction[0], reference[0], (1, 1))
    assert np.percentile(back, 95) == 0 < np.percentile(there, 95)
    assert hd95 == pytest.approx(np.percentile(there, 95), rel=1e-6)
    assert hd95 == surface_distances(reference, prediction, (1, 1, 1))[0]


@pytest.mark.parametrize("shift", [1, 3])
def test_shifted_slab_has_a_known_distance(shift):
    reference = np.zeros((12, 10, 10), bool)
    reference[2:5] = True
    hd95, assd = surface_distances(np.roll(reference, shift, axis=0), reference, (2.5, 1.0, 1.0))
    assert hd95 == pytest.approx(shift * 2.5)
    assert 0 < assd <= hd95


def test_cropping_changes_nothing():
    """A far larger image around the same two masks gives the same distances as the tight one."""
    first, second = blobs(7)
    pads = ((3, 9), (0, 30), (25, 1))
    tight = surface_distances(first, second, SPACING)
    assert surface_distances(np.pad(first, pads), np.pad(second, pads), SPACING) == tight
    box = union_box(first, second)
    assert surface_distances(first[box], second[box], SPACING) == tight


def test_union_box_is_tight():
    first, second = np.zeros((2, 5, 6, 7), bool)
    first[1, 2, 3] = second[3, 4, 1] = True
    assert union_box(first, second) == (slice(1, 4), slice(2, 5), slice(1, 4))


def test_a_single_slice_is_measured_in_its_plane():
    """Along an axis of one voxel every voxel would be a border."""
    square = np.zeros((1, 30, 30), bool)
    square[0, 5:25, 5:25] = True
    smaller = np.zeros_like(square)
    smaller[0, 8:22, 8:22] = True
    hd95, assd = surface_distances(smaller, square, (10.0, 2.0, 2.0))
    there, back = slow_distances(smaller[0], square[0], (2, 2))
    assert (hd95, assd) == pytest.approx((np.percentile(back, 95), np.concatenate([there, back]).mean()), rel=1e-6)
    assert min(there) == 6.0


def test_two_slices_are_measured_across_too():
    masks = np.zeros((2, 2, 6, 6), bool)
    masks[0, 0, 1:5, 1:5] = masks[1, 1, 1:5, 1:5] = True
    assert surface_distances(masks[0], masks[1], (7.0, 1.0, 1.0)) == pytest.approx((7.0, 7.0))


def test_one_voxel_alone_is_found_or_not():
    voxel = np.ones((1, 1, 1), np.uint8)
    (score,) = score_case(voxel, voxel, (2.0, 1.0, 1.0), [1])
    assert (score.dice, score.hd95_mm, score.assd_mm) == (1.0, 0.0, 0.0)


def test_identical_masks_are_perfect():
    mask = blobs(1)[0].astype(np.uint8)
    (score,) = score_case(mask, mask, SPACING, [1])
    assert (score.dice, score.hd95_mm, score.assd_mm, score.missed, score.invented) == (1.0, 0.0, 0.0, False, False)


def test_scores_are_symmetric_but_for_the_roles():
    first, second = (mask.astype(np.uint8) for mask in blobs(3))
    (one,), (two,) = score_case(first, second, SPACING, [1]), score_case(second, first, SPACING, [1])
    assert (one.dice, one.hd95_mm) == (two.dice, two.hd95_mm)
    assert one.assd_mm == pytest.approx(two.assd_mm, rel=1e-9)
    assert (one.reference_ml, one.predicted_ml) == (two.predicted_ml, two.reference_ml)


def test_distances_scale_with_the_spacing():
    first, second = (mask.astype(np.uint8) for mask in blobs(5))
    (one,) = score_case(first, second, SPACING, [1])
    (two,) = score_case(first, second, tuple(2 * step for step in SPACING), [1])
    assert two.hd95_mm == pytest.approx(2 * one.hd95_mm)
    assert two.assd_mm == pytest.approx(2 * one.assd_mm)
    assert two.dice == one.dice
    assert two.reference_ml == pytest.approx(8 * one.reference_ml)


def test_empty_mask_rule():
    prediction, reference = np.zeros((2, 4, 10, 20), np.uint8)
    prediction[0, :2, :5] = 1  # invented
    reference[1, 3, 3] = 2  # missed
    invented, missed, absent = score_case(prediction, reference, (2.0, 1.0, 0.5), [1, 2, 3])
    diagonal = math.sqrt(8**2 + 10**2 + 10**2)
    assert image_diagonal((4, 10, 20), (2.0, 1.0, 0.5)) == pytest.approx(diagonal)
    for score in (invented, missed):
        assert score.dice == 0.0
        assert score.hd95_mm == score.assd_mm == pytest.approx(diagonal)
    assert (invented.invented, invented.missed) == (True, False)
    assert (missed.invented, missed.missed) == (False, True)
    assert (absent.dice, absent.hd95_mm, absent.assd_mm) == (1.0, None, None)
    assert not absent.missed
    assert not absent.invented
    assert (invented.predicted_ml, invented.reference_ml) == pytest.approx((10 * 0.001, 0.0))
    assert (missed.predicted_ml, missed.reference_ml) == pytest.approx((0.0, 0.001))


def test_classes_are_scored_apart():
    prediction = np.zeros((1, 8, 8), np.int16)
    reference = np.zeros((1, 8, 8), np.int16)
    reference[0, :4] = 1
    reference[0, 4:] = 5
    prediction[0, :2] = 1
    prediction[0, 4:] = 5
    one, five = score_case(prediction, reference, (1, 1, 1), [1, 5])
    assert (one.index, five.index) == (1, 5)
    assert one.dice == pytest.approx(2 * 16 / (16 + 32))
    assert five.dice == 1.0


def test_without_surface_no_distance_even_where_one_is_empty():
    prediction, reference = np.zeros((2, 2, 4, 4), np.uint8)
    reference[0, 0, 0] = 1
    (score,) = score_case(prediction, reference, (1, 1, 1), [1], surface=False)
    assert (score.dice, score.hd95_mm, score.assd_mm, score.missed) == (0.0, None, None, True)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="must agree"):
        score_case(np.zeros((1, 2, 2), int), np.zeros((1, 2, 3), int), (1, 1, 1), [1])
    with pytest.raises(ValueError, match="must agree"):
        score_case(np.zeros((1, 2, 2), int), np.zeros((1, 2, 2), int), (1, 1), [1])


def test_dice_per_class_is_that_of_the_cases():
    generator = np.random.default_rng(0)
    prediction, reference = generator.integers(0, 4, (2, 3, 5, 6))
    reference[reference == 3] = 0
    wanted = [score.dice for score in score_case(prediction, reference, (1, 1, 1), [1, 2, 3], surface=False)]
    assert dice_per_class(prediction, reference, 4).tolist() == wanted
    assert wanted[2] == 0.0
    assert dice_per_class(prediction[:0], reference[:0], 4).tolist() == [1.0, 1.0, 1.0]


def test_stray_objects_are_counted_and_measured_beside_each_class():
    reference = np.zeros((3, 12, 12), np.uint8)
    reference[:, 1:5, 1:5] = 1
    prediction = np.zeros_like(reference)
    prediction[:, 3:6, 3:6] = 1  # overlaps
    prediction[0, 9:11, 9:11] = 1  # does not
    prediction[1, 2, 2] = 2  # lies in the structure of another class
    one, two = score_case(prediction, reference, (5.0, 2.0, 1.0), [1, 2])
    assert (one.stray, two.stray) == (1, 1)
    assert (one.stray_ml, two.stray_ml) == pytest.approx((4 * 0.01, 0.01))
    assert [(score.missed, score.invented) for score in (one, two)] == [(False, False), (False, True)]
    (none,) = score_case(reference, reference, (5.0, 2.0, 1.0), [1])
    assert (none.stray, none.stray_ml) == (0, 0.0)
