"""Rules that masks decide, what they take from predictions, and stray objects."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabel.scoring.component_rule import ComponentRule, Removed, clean, stray
from fewlabel.scoring.connected_components import pieces_of

NAMES = {1: "RV", 2: "myo", 3: "tumour"}


def mask_of(*blocks, shape=(4, 20, 20)):
    """Class indices: (class, z, rows, columns) of each block, later ones on top."""
    mask = np.zeros(shape, np.uint8)
    for index, *place in blocks:
        mask[tuple(slice(*part) for part in place)] = index
    return mask


#: One piece of 1 beside one piece of 2; of 3 two pieces of 8 and of 2 voxels that touch nothing.
HEART = ((1, (0, 3), (2, 8), (2, 5)), (2, (0, 3), (2, 8), (5, 9)))
LESIONS = ((3, (0, 2), (14, 16), (14, 16)), (3, (3, 4), (12, 13), (2, 4)))


#: The shares along which a boundary of the heart touches background, 1 and 2.
CONTACTS = {1: (0.666667, 0.0, 0.333333), 2: (0.7, 0.3, 0.0)}
HEART_RULE = ComponentRule(True, (1, 2), {}, CONTACTS)


def slow_pieces(mask):
    """Flood fill over all 26 neighbours, voxel by voxel."""
    left, sizes = set(map(tuple, np.argwhere(mask))), []
    steps = list(itertools.product((-1, 0, 1), repeat=mask.ndim))
    while left:
        queue, size = [left.pop()], 0
        while queue:
            here = queue.pop()
            size += 1
            for step in steps:
                near = tuple(a + b for a, b in zip(here, step, strict=True))
                if near in left:
                    left.remove(near)
                    queue.append(near)
        sizes.append(size)
    return sorted(sizes)


@pytest.mark.parametrize("seed", range(4))
def test_pieces_equal_a_flood_fill(seed):
    mask = np.random.default_rng(seed).random((4, 9, 8)) < 0.12
    pieces = pieces_of(mask)
    assert sorted(pieces.sizes.tolist()) == slow_pieces(mask)
    whole = np.zeros(mask.shape, int)
    whole[pieces.box] = pieces.numbers
    np.testing.assert_array_equal(whole > 0, mask)
    assert np.bincount(whole.ravel())[1:].tolist() == pieces.sizes.tolist()


def test_corners_touch_and_an_empty_mask_has_no_piece():
    corner = mask_of((1, (0, 1), (0, 1), (0, 1)), (1, (1, 2), (1, 2), (1, 2))) > 0
    assert pieces_of(corner).sizes.tolist() == [2]
    assert pieces_of(np.zeros((2, 3, 3), bool)).sizes.tolist() == []


def test_what_masks_decide():
    one, two = mask_of(*HEART), mask_of(*HEART, *LESIONS)
    found = ComponentRule.decide([(one, 2.0), (one, 2.0)], [1, 2])
    assert found == replace(HEART_RULE, always=(1, 2))
    assert ComponentRule.load(json.loads(json.dumps(found.record()))) == found
    # A rule of a segmenter that says nothing of contacts goes by size.
    assert ComponentRule.load({"foreground": True, "largest": [1], "least_mm3": {}}) == ComponentRule(True, (1,))
    # Of one class alone there is nothing to compare.
    assert ComponentRule.decide([(np.minimum(one, 1), 2.0)], [1]) == ComponentRule(True, (1,))
    # Two pieces in one of the masks are enough, for the foreground too; volumes are in mm³.
    found = ComponentRule.decide([(one, 2.0), (two, 5.0)], [1, 2, 3])
    assert found == ComponentRule(False, (1, 2), {3: 10.0})
    assert ComponentRule.decide([(two, 0.5), (two, 5.0)], [1, 2, 3]).least_mm3 == {3: 1.0}
    assert ComponentRule.load(json.loads(json.dumps(found.record()))) == found


def test_what_decides_nothing():
    empty = np.zeros((2, 4, 4), np.uint8)
    assert ComponentRule.decide([(empty, 1.0)], [1, 2]) == ComponentRule()
    assert ComponentRule.decide([], [1, 2]) == ComponentRule()
    # Beside masks that have the class, empty ones do not count.
    assert ComponentRule.decide([(empty, 1.0), (mask_of(*HEART), 1.0)], [1, 2]) == HEART_RULE
    partial = mask_of(*HEART)
    partial[3] = 255
    assert ComponentRule.decide([(mask_of(*HEART), 1.0), (partial, 1.0)], [1, 2]) == ComponentRule()
    assert ComponentRule.decide([(mask_of(*LESIONS), None)], [3]) == ComponentRule()


#: 450 voxels of 1 in one piece, 300 of 2 beside it.
LARGE = ((1, (0, 3), (2, 12), (2, 17)), (2, (0, 3), (12, 17), (2, 22)))


def large(*specks):
    return mask_of(*LARGE, *specks, shape=(4, 30, 30))


@pytest.mark.parametrize(
    ("specks", "classes", "foreground"),
    [
        ([(1, (0, 1), (20, 21), (4, 8))], (1, 2), True),
        # Five voxels in one are a piece, and so are four and one, 5 of 455 voxels: more than 1 %.
        ([(1, (0, 1), (20, 21), (4, 9))], (2,), False),
        ([(1, (0, 1), (20, 21), (4, 8)), (1, (3, 4), (22, 23), (4, 5))], (2,), False),
        # Of 303 voxels 3 are less than 1 %, of 304 voxels 4 are more.
        ([(2, (0, 1), (20, 21), (4, 7))], (1, 2), True),
        ([(2, (0, 1), (20, 21), (4, 8))], (1,), False),
        # Inside of another class a speck is no piece of the foreground, whatever its size.
        ([(2, (1, 2), (4, 5), (4, 9))], (1,), True),
        # Beside each other two specks of two classes make a piece of the foreground of 7 voxels, and none that counts.
        ([(1, (0, 1), (20, 21), (4, 8)), (2, (0, 1), (20, 21), (8, 11))], (1, 2), True),
    ],
)
def test_specks_of_masks_count_for_nothing(specks, classes, foreground):
    mask = large(*specks)
    rule = ComponentRule.decide([(large(), 1.0), (mask, 1.0)], [1, 2])
    assert (rule.largest, rule.foreground) == (classes, foreground)
    cleaned, removed = clean(mask, rule, 1.0)
    lost = {index: (mask == index).sum() - (large() == index).sum() for index in (1, 2)}
    if classes == (1, 2):
        np.testing.assert_array_equal(cleaned, large())
        assert {index: found.voxels for index, found in removed.items()} == {k: v for k, v in lost.items() if v}
    else:
        assert cleaned is mask


def test_specks_beside_several_pieces_are_the_smallest_of_them():
    two = large((1, (0, 1), (20, 26), (4, 10)), (1, (3, 4), (28, 29), (4, 6)))
    assert ComponentRule.decide([(two, 2.0)], [1, 2]) == ComponentRule(False, (2,), {1: 4.0})


def test_a_speck_that_holds_the_foreground_together_is_no_gap_in_it():
    apart = mask_of((1, (0, 4), (0, 12), (0, 12)), (2, (0, 4), (13, 25), (0, 12)), shape=(4, 30, 30))
    assert ComponentRule.decide([(apart, 1.0)], [1, 2]) == ComponentRule(False, (1, 2))
    # A voxel of 2 at its edge joins the two.
    apart[0, 12, 3] = 2
    found = ComponentRule.decide([(apart, 1.0)], [1, 2])
    assert (found.foreground, found.largest) == (True, (1, 2))
    # A bridge of specks, three rows wide, joins them too.
    apart[:] = mask_of((1, (0, 4), (0, 10), (0, 12)), (2, (0, 4), (13, 25), (0, 12)), shape=(4, 30, 30))
    apart[0, 11, 3:5], apart[0, 10, 3], apart[0, 12, 3] = 1, 2, 2
    found = ComponentRule.decide([(apart, 1.0)], [1, 2])
    assert (found.foreground, found.largest) == (True, (1, 2))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(1, 3))
def test_masks_that_decide_lose_specks_alone(seed, specks, count):
    source = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        mask = large((3, (0, 4), (20, 29), (0, 1 + source.integers(0, 12))))
        for place in source.integers(0, (4, 30, 30), (specks, 3)):
            mask[tuple(place)] = source.integers(0, 4)
        masks.append(mask)
    rule = ComponentRule.decide([(mask, 1.0) for mask in masks], [1, 2, 3])
    for mask in masks:
        cleaned, _ = clean(mask, rule, 1.0)
        for index in (1, 2, 3):
            gone = (mask == index) & (cleaned != mask)
            assert gone.sum() < 0.01 * (mask == index).sum() or not gone.any()
            assert max(pieces_of(gone).sizes, default=0) <= 4


def test_a_second_heart_goes_as_a_whole():
    """Two structures of it would each be the largest of their class elsewhere in the scan."""
    second = ((1, (0, 4), (11, 18), (10, 14)), (2, (0, 1), (11, 18), (14, 16)))
    mask = mask_of(*HEART, *second)
    rule = ComponentRule(True, (1, 2))
    assert pieces_of(mask == 1).sizes.max() > (mask_of(*HEART) == 1).sum()
    cleaned, removed = clean(mask, rule, 1.0)
    np.testing.assert_array_equal(cleaned, mask_of(*HEART))
    assert removed == {1: Removed(1, 4 * 7 * 4), 2: Removed(1, 7 * 2)}
    # Without the first step the two would be torn apart.
    torn, _ = clean(mask, ComponentRule(False, (1, 2)), 1.0)
    assert (torn == 1).sum() == 4 * 7 * 4
    assert (torn == 2).sum() == (mask_of(*HEART) == 2).sum()


#: A second piece of more voxels than the heart, whose 2 lies round a core of 1.
OTHER = ((2, (0, 4), (11, 19), (9, 19)), (1, (0, 4), (14, 16), (13, 15)))


def test_a_larger_piece_whose_classes_touch_otherwise_goes():
    mask = mask_of(*HEART, *OTHER)
    assert (mask_of(*OTHER) > 0).sum() > 2 * (mask_of(*HEART) > 0).sum()
    cleaned, removed = clean(mask, HEART_RULE, None)
    np.testing.assert_array_equal(cleaned, mask_of(*HEART))
    assert removed == {1: Removed(1, 4 * 4), 2: Removed(1, 4 * 76)}
    # By size it would be kept.
    np.testing.assert_array_equal(clean(mask, ComponentRule(True, (1, 2)), None)[0], mask_of(*OTHER))


def test_contacts_are_those_within_slices_wherever_the_slices_lie():
    mask = np.ascontiguousarray(mask_of(*HEART, *OTHER).transpose(1, 0, 2))
    cleaned, _ = clean(mask, HEART_RULE, None, 1)
    np.testing.assert_array_equal(cleaned, mask_of(*HEART).transpose(1, 0, 2))


@pytest.mark.parametrize(("depth", "kept"), [(3, "heart"), (4, "other")])
def test_size_counts_too_and_small_pieces_are_no_rivals(depth, kept):
    """Of a piece with the right contacts: a quarter of the largest may be kept, less may not."""
    shape = (16, 20, 20)
    heart = mask_of((1, (0, 3), (2, 5), (2, 4)), (2, (0, 3), (2, 5), (4, 6)), shape=shape)
    # As large as three or four hearts and one voxel, of 2 alone.
    other = mask_of((2, (4, 4 + depth), (10, 16), (10, 16)), (2, (4, 5), (16, 17), (10, 11)), shape=shape)
    if depth == 3:
        other[4, 16, 10] = 0
    contacts = ComponentRule.decide([(heart, 1.0)], [1, 2]).contacts
    cleaned, _ = clean(heart + other, ComponentRule(True, (1, 2), {}, contacts), None)
    assert (heart > 0).sum() == 36
    assert (other > 0).sum() == (108 if depth == 3 else 145)
    np.testing.assert_array_equal(cleaned, heart if kept == "heart" else other)


def test_of_pieces_alike_the_larger_stays():
    small, big = mask_of(*HEART), mask_of((1, (0, 4), (10, 16), (2, 5)), (2, (0, 4), (10, 16), (5, 9)))
    np.testing.assert_array_equal(clean(small + big, HEART_RULE, None)[0], big)
    # Twice the size counts half of ln 2, .35, which a slightly other piece outweighs no more.
    bent = big.copy()
    bent[:, 15, 2] = 0
    np.testing.assert_array_equal(clean(small + bent, HEART_RULE, None)[0], bent)


def test_a_class_that_every_mask_has_is_not_lost_with_another_piece():
    """1 lies apart from 2 by a gap, in two pieces, beside a stray 3."""
    apart = mask_of(
        (2, (0, 3), (2, 8), (5, 9)),
        (1, (0, 3), (2, 8), (1, 3)),
        (1, (3, 4), (15, 17), (2, 4)),
        (3, (0, 1), (15, 18), (15, 18)),
    )
    rule = ComponentRule(True, (1, 2), {}, CONTACTS, always=(1, 2))
    cleaned, removed = clean(apart, rule, 1.0)
    expected = mask_of((2, (0, 3), (2, 8), (5, 9)), (1, (0, 3), (2, 8), (1, 3)))
    assert np.array_equal(cleaned, expected)
    assert removed == {1: Removed(1, 4), 3: Removed(1, 9)}
    # As it was, the smaller piece went as a whole, and with it the class.
    assert set(np.unique(clean(apart, HEART_RULE, 1.0)[0])) == {0, 2}


def test_a_class_that_the_piece_has_goes_elsewhere_and_one_that_a_mask_lacks_may_be_lost():
    apart = mask_of(*HEART, (1, (0, 3), (14, 18), (2, 5)))
    rule = ComponentRule(True, (), {}, CONTACTS, always=(1, 2))
    assert np.array_equal(clean(apart, rule, 1.0)[0], mask_of(*HEART))
    only_two = [mask_of(*HEART), mask_of((2, (0, 3), (2, 8), (5, 9)))]
    assert ComponentRule.decide([(mask, 1.0) for mask in only_two], [1, 2]).always == (2,)
    assert ComponentRule.decide([(mask_of(*HEART), 1.0)], [1, 2]).always == (1, 2)
    # Where the foreground may be in several pieces nothing of it is removed, and nothing has to be kept.
    assert ComponentRule.decide([(mask_of(*HEART, *LESIONS), 1.0)], [1, 2, 3]).always == ()


def test_a_class_that_no_mask_had_is_no_reason_to_go():
    mask = mask_of(*HEART, (9, (0, 1), (4, 5), (8, 9)))
    assert clean(mask, HEART_RULE, None)[0] is mask


def test_pieces_within_the_foreground_go_by_class():
    """A speck of 1 inside 2 is no piece of the foreground; it becomes background."""
    mask = mask_of(*HEART, (1, (1, 2), (4, 5), (7, 8)))
    cleaned, removed = clean(mask, ComponentRule(True, (1, 2)), None)
    assert removed == {1: Removed(1, 1)}
    assert cleaned[1, 4, 7] == 0
    assert (cleaned != mask).sum() == 1


@pytest.mark.parametrize(("voxel", "left"), [(2.0, [8]), (3.0, [2, 8]), (2.0 / 3, [8])])
def test_specks_go_by_their_volume_and_the_largest_stays(voxel, left):
    """Of 8 and 2 voxels, at 6 mm³ or more: 2 voxels of 3 mm³ just reach it; 8 of 2/3 mm³ are the largest there is."""
    mask = mask_of(*LESIONS)
    cleaned, removed = clean(mask, ComponentRule(least_mm3={3: 6.0}), voxel)
    assert sorted(pieces_of(cleaned == 3).sizes.tolist()) == left
    assert removed == ({} if len(left) == 2 else {3: Removed(1, 2)})


def test_nothing_is_touched_without_a_rule_or_a_reason():
    mask = mask_of(*HEART, *LESIONS)
    before = mask.copy()
    for rule, voxel in ((None, 1.0), (ComponentRule(), 1.0), (ComponentRule(least_mm3={3: 99.0}), None)):
        cleaned, removed = clean(mask, rule, voxel)
        assert cleaned is mask
        assert removed == {}
    empty = np.zeros((2, 3, 4), np.uint8)
    assert clean(empty, ComponentRule(True, (1,)), 1.0)[0] is empty
    clean(mask, ComponentRule(True, (1, 2, 3)), 1.0)
    np.testing.assert_array_equal(mask, before)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.02, 0.6), st.integers(1, 3), st.floats(0.1, 9))
def test_a_rule_changes_no_mask_that_decided_it_and_counts_what_it_takes(seed, density, count, voxel):
    source = np.random.default_rng(seed)
    masks = [
        ((source.random((3, 5, 5)) < density) * source.integers(1, 4, (3, 5, 5))).astype(np.uint8) for _ in range(count)
    ]
    rule = ComponentRule.decide([(mask, voxel) for mask in masks], [1, 2, 3])
    for mask in masks:
        assert clean(mask, rule, voxel)[0] is mask
    other = ((source.random((3, 6, 6)) < density) * source.integers(1, 4, (3, 6, 6))).astype(np.uint8)
    cleaned, removed = clean(other, rule, voxel)
    # Pieces of classes that went later may have held the foreground together; classes by themselves are done.
    assert clean(cleaned, ComponentRule(False, rule.largest, rule.least_mm3), voxel)[0] is cleaned
    assert set(np.unique(cleaned[cleaned != other])) <= {0}
    for index in (1, 2, 3):
        lost = removed.get(index, Removed(0, 0))
        assert (other == index).sum() - (cleaned == index).sum() == lost.voxels
        sizes = [len(pieces_of(mask == index).sizes) for mask in (other, cleaned)]
        assert sizes[0] - sizes[1] == lost.pieces
        if index in rule.largest and sizes[1]:
            assert sizes[1] == 1
    if rule.foreground and cleaned.any():
        assert len(pieces_of(clean(other, ComponentRule(True), voxel)[0] > 0).sizes) == 1


def test_stray_pieces_share_no_voxel_with_the_truth():
    wanted = mask_of((1, (0, 3), (2, 8), (2, 6))) > 0
    hit, beside, far = (1, (0, 3), (5, 9), (5, 9)), (1, (0, 2), (2, 8), (8, 9)), (1, (3, 4), (15, 18), (15, 17))
    assert stray(mask_of(hit) > 0, wanted) == Removed(0, 0)
    assert stray(mask_of(far) > 0, wanted) == Removed(1, 6)
    # Next to the truth, and joined to a piece that shares a voxel with it.
    assert stray(mask_of(beside, far) > 0, wanted) == Removed(2, 12 + 6)
    assert stray(mask_of(hit, (1, (0, 2), (2, 8), (7, 9)), far) > 0, wanted) == Removed(1, 6)
    assert stray(mask_of(far) > 0, np.zeros_like(wanted)) == Removed(1, 6)
    assert stray(np.zeros_like(wanted), wanted) == Removed(0, 0)


def test_a_rule_in_words():
    whole = ComponentRule(True, (1, 2), {3: 12.34})
    assert whole.words(NAMES) == (
        "all structures together in one piece; RV and myo in one piece each; tumour in pieces of 12.3 mm³ or more"
    )
    assert ComponentRule().words(NAMES) == "everything"
    assert ComponentRule(least_mm3={7: 12345.6}).words(NAMES) == "class 7 in pieces of 12346 mm³ or more"
    assert ComponentRule(largest=(7,)).words(NAMES) == "class 7 in one piece"
    assert ComponentRule(largest=(1, 2, 3)).words(NAMES) == "RV, myo and tumour in one piece each"
    assert HEART_RULE.words(NAMES) == (
        "all structures together in one piece, the one most like the labelled masks; RV and myo in one piece each"
    )


@pytest.mark.parametrize(
    ("volume", "said"),
    [(0.1234, "0.123"), (999.4, "999"), (999.7, "1000"), (1000.0, "1000"), (1000.4, "1000"), (1234.4, "1234")],
)
def test_volumes_in_words_have_three_digits_or_all_before_the_point(volume, said):
    assert ComponentRule(least_mm3={3: volume}).words(NAMES) == f"tumour in pieces of {said} mm³ or more"
