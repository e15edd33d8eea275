"""Which piece of a prediction stays, and what is spared and counted beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fewlabel.scoring.component_rule import ComponentRule, Removed, clean
from fewlabel.scoring.connected_components import pieces_of

#: Two structures side by side within slices: along the second axis of three.
BESIDE = ((1, (0, 6), (0, 4), (0, 6)), (2, (0, 6), (4, 8), (0, 6)))


def mask_of(*blocks, shape=(20, 20, 20)):
    """Class indices: (class, z, rows, columns) of each block, later ones on top."""
    mask = np.zeros(shape, np.uint8)
    for index, *place in blocks:
        mask[tuple(slice(*part) for part in place)] = index
    return mask


@pytest.mark.parametrize("wide", [5, 6, 8])
@pytest.mark.parametrize("slice_axis", [0, 1])
def test_contacts_count_within_slices_alone(slice_axis: int, wide: int) -> None:
    """Of two equal pieces one has its structures side by side along the first axis, the other along the second."""
    rule = ComponentRule.decide([(mask_of(*BESIDE), 1.0)], [1, 2])
    along_second = mask_of(*BESIDE)
    along_first = mask_of((1, (10, 14), (10, 16), (10, 10 + wide)), (2, (14, 18), (10, 16), (10, 10 + wide)))
    right, wrong = (along_second, along_first) if slice_axis == 0 else (along_first, along_second)
    cleaned, removed = clean(right + wrong, rule, None, slice_axis)
    np.testing.assert_array_equal(cleaned, right)
    assert removed == {index: Removed(1, int((wrong == index).sum())) for index in (1, 2)}
    if slice_axis == 0:
        np.testing.assert_array_equal(clean(right + wrong, rule, None)[0], right)


def test_a_piece_of_exactly_a_quarter_is_a_rival() -> None:
    rule = replace(ComponentRule.decide([(mask_of(*BESIDE), 1.0)], [1, 2]), always=())
    right = mask_of((1, (0, 3), (0, 2), (0, 6)), (2, (0, 3), (2, 4), (0, 6)))
    wrong = mask_of((1, (8, 16), (10, 16), (10, 16)))
    assert (wrong > 0).sum() == 4 * (right > 0).sum()
    np.testing.assert_array_equal(clean(right + wrong, rule, None)[0], right)
    wrong[16, 10, 10] = 1
    np.testing.assert_array_equal(clean(right + wrong, rule, None)[0], wrong)


def test_specks_of_exactly_one_percent_count() -> None:
    whole = (1, (0, 3), (0, 11), (0, 12))
    assert (mask_of(whole) > 0).sum() == 396
    assert ComponentRule.decide([(mask_of(whole, (1, (0, 1), (15, 17), (15, 17))), 1.0)], [1]).largest == ()
    assert ComponentRule.decide([(mask_of(whole, (1, (0, 1), (15, 16), (15, 18))), 1.0)], [1]).largest == (1,)


#: One large piece of 1 that the labelled masks have beside 2 and 3.
MAIN = (1, (0, 6), (0, 8), (0, 8))
CONTACTS = {1: (1.0, 0.0, 0.0, 0.0)}


def test_each_class_that_the_piece_lacks_keeps_its_largest_elsewhere() -> None:
    apart = ((2, (0, 2), (12, 15), (0, 3)), (3, (10, 12), (12, 15), (10, 12)))
    strays = ((2, (0, 1), (18, 20), (18, 20)), (3, (15, 16), (0, 2), (18, 20)))
    rule = ComponentRule(True, (), {}, CONTACTS, always=(1, 2, 3))
    cleaned, removed = clean(mask_of(MAIN, *apart, *strays), rule, None)
    np.testing.assert_array_equal(cleaned, mask_of(MAIN, *apart))
    assert removed == {2: Removed(1, 4), 3: Removed(1, 4)}


def test_a_class_that_the_piece_has_is_not_kept_elsewhere_even_where_it_is_larger() -> None:
    inside, outside = (2, (0, 1), (0, 8), (8, 10)), (2, (10, 14), (12, 15), (0, 3))
    rule = ComponentRule(True, (), {}, CONTACTS, always=(1, 2))
    cleaned, removed = clean(mask_of(MAIN, inside, outside), rule, None)
    np.testing.assert_array_equal(cleaned, mask_of(MAIN, inside))
    assert removed == {2: Removed(1, 36)}


def test_what_several_steps_remove_of_a_class_is_added_up() -> None:
    far = (1, (10, 12), (12, 14), (12, 14))
    within = ((2, (0, 6), (8, 12), (0, 8)), (1, (1, 2), (10, 11), (3, 4)))
    cleaned, removed = clean(mask_of(MAIN, *within, far), ComponentRule(True, (1, 2)), None)
    assert removed == {1: Removed(2, 8 + 1)}
    assert set(np.unique(cleaned)) == {0, 1, 2}


def test_a_mask_that_holds_nothing_has_an_empty_box() -> None:
    pieces = pieces_of(np.zeros((3, 4, 5), bool))
    assert pieces.numbers.shape == np.zeros((3, 4, 5))[pieces.box].shape == (0, 0, 0)
    assert pieces.sizes.tolist() == []
