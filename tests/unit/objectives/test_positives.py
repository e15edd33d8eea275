import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabel.objectives.positives import apart, close_positions, guided_positives, others, same_id, two_views


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 2)), min_size=1, max_size=6))
def test_positives_are_the_set_of_the_specification(rows):
    slices = torch.tensor([r[0] for r in rows])
    label = torch.tensor([r[1] for r in rows])
    count = 2 * len(rows)
    anchors = torch.arange(count)
    mask = guided_positives(slices, label, anchors)
    for i in range(count):
        for j in range(count):
            a, b = i % len(rows), j % len(rows)
            expected = i != j and (rows[a][0] == rows[b][0] or rows[a][1] == rows[b][1])
            assert bool(mask[i, j]) == expected
    assert mask.any(dim=1).all()
    assert torch.equal(mask, mask.T)


def test_without_a_label_only_views_of_the_slice_are_positive():
    mask = guided_positives(torch.tensor([5, 9]), None, torch.arange(4))
    assert mask.long().tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]


def test_a_slice_drawn_twice_is_its_own_positive():
    assert guided_positives(torch.tensor([5, 5]), None, torch.tensor([0])).long().tolist() == [[0, 1, 1, 1]]


def test_an_undefined_label_with_an_id_of_its_own_leaves_only_own_views():
    mask = guided_positives(torch.tensor([0, 1, 2]), torch.tensor([7, 7, -1]), torch.arange(6))
    assert mask[2].nonzero().flatten().tolist() == [5]
    assert mask[0].nonzero().flatten().tolist() == [1, 3, 4]


def test_rows_choose_anchors_of_one_rank():
    ids = torch.tensor([1, 2, 1])
    every = same_id(two_views(ids), torch.arange(6))
    assert torch.equal(same_id(two_views(ids), torch.tensor([4, 2])), every[[4, 2]])
    assert others(torch.tensor([1]), 3).tolist() == [[True, False, True]]


HEIGHTS = st.lists(st.tuples(st.integers(0, 3), st.floats(0.0625, 0.9375, width=32)), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(HEIGHTS, st.floats(0.01, 1.5))
def test_close_positions_are_the_set_of_the_specification(rows, threshold):
    slices, heights = torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows])
    mask = close_positions(slices, heights, threshold, torch.arange(2 * len(rows)))
    for i in range(2 * len(rows)):
        for j in range(2 * len(rows)):
            a, b = i % len(rows), j % len(rows)
            gap = abs(heights.double()[a] - heights.double()[b])
            if abs(gap - threshold) > 2e-6:
                assert bool(mask[i, j]) == (i != j and (rows[a][0] == rows[b][0] or bool(gap < threshold)))
    assert torch.equal(mask, mask.T)
    assert mask.any(dim=1).all()
    wider = close_positions(slices, heights, threshold + 0.1, torch.arange(2 * len(rows)))
    assert (wider | ~mask).all()


@pytest.mark.parametrize("depth", [3, 8, 9, 10, 20, 30, 100])
def test_pairs_equally_far_apart_are_treated_alike_whatever_rounding_does(depth):
    """Strictly less than t: at t = k / depth, pairs k slices apart are never positives, k - 1 apart always."""
    heights = ((torch.arange(depth) + 0.5) / depth).float()
    rows = torch.arange(depth)
    for gap in range(1, depth, max(1, depth // 10)):
        mask = close_positions(rows, heights, gap / depth, rows)[:, :depth]
        steps = (rows[:, None] - rows).abs()
        assert torch.equal(mask, (steps < gap) & (steps > 0))


def test_the_smallest_threshold_leaves_own_views_and_the_largest_takes_all():
    slices, heights, rows = torch.arange(5), torch.rand(5, generator=torch.Generator().manual_seed(0)), torch.arange(10)
    assert torch.equal(close_positions(slices, heights, 1e-9, rows), guided_positives(slices, None, rows))
    assert torch.equal(close_positions(slices, heights, 1.01, rows), others(rows, 10))


def test_only_differences_of_heights_matter():
    slices, heights, rows = torch.arange(6), (torch.arange(6) + 0.5) / 6, torch.arange(12)
    plain = close_positions(slices, heights, 0.34, rows)
    assert torch.equal(close_positions(slices, heights + 0.4, 0.34, rows), plain)
    assert torch.equal(close_positions(slices, 1 - heights, 0.34, rows), plain)
    assert plain[0].nonzero().flatten().tolist() == [1, 2, 6, 7, 8]


def test_a_slice_drawn_twice_is_close_to_itself_and_rows_choose_anchors():
    slices, heights = torch.tensor([4, 9, 4]), torch.tensor([0.1, 0.9, 0.1])
    assert close_positions(slices, heights, 1e-9, torch.tensor([0])).long().tolist() == [[0, 0, 1, 1, 0, 1]]
    every = close_positions(slices, heights, 0.5, torch.arange(6))
    assert torch.equal(close_positions(slices, heights, 0.5, torch.tensor([4, 2])), every[[4, 2]])


def test_views_of_other_classes_are_apart():
    label, rows = torch.tensor([3, 1, 3, -4]), torch.arange(8)
    mask = apart(label, rows)
    assert mask[:4, :4].long().tolist() == [[0, 1, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]
    assert torch.equal(mask, mask[:4, :4].repeat(2, 2))
    # With views of the class they are all views but the anchor.
    same = guided_positives(torch.arange(4), label, rows)
    assert not (mask & same).any()
    assert torch.equal(mask | same, others(rows, 8))
    assert torch.equal(apart(label, torch.tensor([6, 1])), mask[[6, 1]])
