"""The largest connected component of each class: a flood fill is the oracle."""

from __future__ import annotations

import itertools

import pytest
import torch

from fewlabel.objectives.connected_components import component_counts, largest_components

PICTURE = """
11.22..2
11.22...
......2.
3.1..2..
.3.1.222
3....222
"""
#: Class 1: 4 pixels and 2 that touch by a corner; 2: 4 and 1 by themselves, against 8 in a chain of corners; 3: one
#: chain by corners.
KEPT = """
11......
11......
......2.
3....2..
.3...222
3....222
"""


def picture(text):
    rows = text.split()
    return torch.tensor([[0 if letter == "." else int(letter) for letter in row] for row in rows])


def flood(labels):
    """The same by a search from every pixel."""
    kept = torch.zeros_like(labels)
    space = labels.shape
    steps = [step for step in itertools.product((-1, 0, 1), repeat=len(space)) if any(step)]
    best, seen = {}, set()
    for start in itertools.product(*map(range, space)):
        label = int(labels[start])
        if label == 0 or start in seen:
            continue
        part, stack = {start}, [start]
        while stack:
            place = stack.pop()
            for step in steps:
                other = tuple(a + b for a, b in zip(place, step, strict=True))
                inside = all(0 <= a < size for a, size in zip(other, space, strict=True))
                if inside and other not in part and int(labels[other]) == label:
                    part.add(other)
                    stack.append(other)
        seen |= part
        if len(part) > len(best.get(label, ())):
            best[label] = part
    for label, part in best.items():
        for place in part:
            kept[place] = label
    return kept


def test_of_several_components_the_largest_is_kept_and_corners_connect():
    assert torch.equal(largest_components(picture(PICTURE)[None])[0], picture(KEPT))


def test_three_components_become_one():
    labels = torch.zeros(1, 9, 9, dtype=torch.int64)
    labels[0, 0, 0], labels[0, 4, :3], labels[0, 7:, 7:] = 2, 2, 2
    kept = largest_components(labels)
    assert int((kept == 2).sum()) == 4
    assert bool((kept[0, 7:, 7:] == 2).all())


@pytest.mark.parametrize("shape", [(3, 12, 12), (2, 5, 6, 7)])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_equals_a_flood_fill_in_slices_and_volumes(shape, share):
    source = torch.Generator().manual_seed(0)
    labels = torch.randint(1, 4, shape, generator=source)
    labels[torch.rand(shape, generator=source) > share] = 0
    expected = torch.stack([flood(row) for row in labels])
    found = largest_components(labels)
    assert torch.equal(found, expected)
    assert found.dtype == labels.dtype
    # It is idempotent, and each slice stands for itself.
    assert torch.equal(largest_components(found), found)
    assert torch.equal(largest_components(labels.flip(0)), found.flip(0))


def test_of_equals_the_first_is_kept():
    assert largest_components(torch.tensor([[[1, 1, 0, 1, 1, 0, 1]]])).tolist() == [[[1, 1, 0, 0, 0, 0, 0]]]


def test_absent_classes_and_empty_slices_stay_so_and_shift_nothing():
    labels = torch.zeros(3, 4, 4, dtype=torch.int64)
    labels[1, 0, 0], labels[2, :, 1] = 3, 1
    assert torch.equal(largest_components(labels), labels)
    assert largest_components(labels[:0]).shape == (0, 4, 4)


def test_the_labels_that_came_in_are_not_changed():
    labels = picture(PICTURE)[None]
    before = labels.clone()
    largest_components(labels)
    assert torch.equal(labels, before)


def test_components_are_counted_by_class_with_corners():
    found = component_counts(torch.stack([picture(PICTURE), torch.zeros(6, 8, dtype=torch.int64)]), 5)
    assert found.dtype == torch.int64
    assert found.tolist() == [[2, 3, 1, 0], [0, 0, 0, 0]]


def test_counts_in_volumes_and_of_nothing():
    labels = torch.zeros(2, 3, 4, 4, dtype=torch.int64)
    labels[0, 0, 0, 0] = labels[0, 1, 1, 1] = labels[0, 2, 3, 3] = 1
    labels[1] = 1
    assert component_counts(labels, 2).tolist() == [[2], [1]]
    for classes in (2, 4):
        assert component_counts(labels[:0], classes).shape == (0, classes - 1)
    # Pixels that are ignored belong to no class.
    assert component_counts(torch.full((1, 4, 4), 255), 3).tolist() == [[0, 0]]


def test_a_class_of_one_component_each_is_kept_whole():
    source = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (6, 5, 5), generator=source)
    counts = component_counts(labels, 3)
    kept = largest_components(labels)
    for row in range(6):
        for label in (1, 2):
            whole = torch.equal(kept[row] == label, labels[row] == label)
            assert whole == (int(counts[row, label - 1]) <= 1)
    assert component_counts(kept, 3).max() == 1
