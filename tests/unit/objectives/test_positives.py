import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabel.objectives.positives import guided_positives, others, same_id, two_views


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
