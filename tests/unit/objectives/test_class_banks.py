"""Banks of keys by class: first in first out, by class id, negatives of other classes only."""

from __future__ import annotations

import pytest
import torch

from fewlabel.objectives.class_banks import ClassBanks


def labelled_keys(count, first=0, classes=3):
    """Keys (classes, count, 2): class and running number."""
    number = torch.arange(first, first + count).float()
    return torch.stack([torch.stack([torch.full((count,), float(c)), number], dim=1) for c in range(classes)])


def held(banks, label):
    return sorted(banks.keys[label, : int(banks.filled[label]), 1].tolist())


def every(classes=3):
    return torch.ones(classes, dtype=torch.bool)


@pytest.mark.parametrize(("size", "count"), [(5, 2), (4, 4), (3, 5), (7, 1)])
def test_the_last_keys_of_each_class_stay(size, count):
    banks = ClassBanks(3, size, 2)
    past = {label: [] for label in range(3)}
    for turn in range(6):
        present = torch.tensor([True, turn % 2 == 0, False])
        banks.push(labelled_keys(count, 10 * turn), present)
        for label in range(3):
            if present[label]:
                past[label] = [*past[label], *(10.0 * turn + i for i in range(count))][-size:]
            assert int(banks.filled[label]) == len(past[label])
            assert held(banks, label) == sorted(past[label])
            assert bool((banks.keys[label, : int(banks.filled[label]), 0] == label).all())
    assert int(banks.filled[2]) == 0


def test_memory_is_bounded():
    banks = ClassBanks(3, 8, 4)
    for _ in range(5):
        banks.push(torch.randn(3, 6, 4), every())
    assert banks.keys.shape == (3, 8, 4)


def test_negatives_never_carry_the_class_of_the_query():
    banks = ClassBanks(3, 6, 2)
    generator = torch.Generator().manual_seed(0)
    for turn in range(4):
        present = torch.tensor([True, turn > 0, turn > 1])
        fresh = labelled_keys(4, 10 * turn)
        available = banks.available(fresh, present)
        assert bool((available.diagonal() == 0).all())
        for sampling in ("ns", "sg", "sag"):
            drawn = banks.negatives(fresh, present, 50, sampling, generator)
            for label in range(3):
                if int(available[label].sum()):
                    others = drawn[label, :, 0]
                    assert bool((others != label).all())
                    assert all(int(available[label, int(other)]) > 0 for other in others.unique())
        banks.push(fresh, present)


def test_an_absent_class_does_not_shift_the_others():
    # The public code looks class 2's keys up at place 1 when class 1 is absent.
    banks = ClassBanks(3, 4, 2)
    banks.push(labelled_keys(4), torch.tensor([True, False, True]))
    drawn = banks.negatives(labelled_keys(2, 50), torch.tensor([True, False, True]), 40, "ns", torch.Generator())
    assert set(drawn[0, :, 0].tolist()) == {2.0}
    assert set(drawn[1, :, 0].tolist()) == {0.0, 2.0}
    assert set(drawn[2, :, 0].tolist()) == {0.0}


def test_all_keys_of_banks_and_step_are_met_equally_often():
    banks = ClassBanks(2, 4, 2)
    banks.push(labelled_keys(3, classes=2), every(2))
    fresh = labelled_keys(2, 100, classes=2)
    assert banks.available(fresh, every(2)).tolist() == [[0, 5], [5, 0]]
    drawn = banks.negatives(fresh, every(2), 5000, "ns", torch.Generator().manual_seed(1))
    values, counts = drawn[0, :, 1].unique(return_counts=True)
    assert values.tolist() == [0, 1, 2, 100, 101]
    assert float((counts - 1000).abs().max()) < 130


def test_stratified_negatives_come_from_each_class_in_proportion():
    banks = ClassBanks(3, 12, 2)
    banks.push(labelled_keys(12), torch.tensor([False, True, False]))
    banks.push(labelled_keys(4), torch.tensor([False, False, True]))
    drawn = banks.negatives(labelled_keys(1), ~every(), 8, "sg", torch.Generator().manual_seed(0))
    assert sorted(drawn[0, :, 0].tolist()) == [1.0] * 6 + [2.0] * 2


def test_without_a_bank_the_step_alone_gives_negatives():
    banks = ClassBanks(2, 0, 2)
    fresh = labelled_keys(3, 7, classes=2)
    banks.push(fresh, every(2))
    assert banks.keys.numel() == 0
    assert banks.available(fresh, every(2)).tolist() == [[0, 3], [3, 0]]
    drawn = banks.negatives(fresh, every(2), 30, "sg", torch.Generator().manual_seed(0))
    assert set(drawn[1, :, 1].tolist()) == {7.0, 8.0, 9.0}


def test_keys_carry_no_gradient_in_or_out():
    banks = ClassBanks(2, 4, 2)
    fresh = torch.randn(2, 3, 2, requires_grad=True)
    assert not banks.negatives(fresh, every(2), 5, "ns", torch.Generator()).requires_grad
    banks.push(fresh, every(2))
    assert not banks.keys.requires_grad
    assert set(banks.state_dict()) == {"keys", "pointer", "filled"}


@pytest.mark.parametrize("shape", [(0, 4, 2), (2, -1, 2), (2, 4, 0)])
def test_impossible_sizes_are_errors(shape):
    with pytest.raises(ValueError, match="banks need"):
        ClassBanks(*shape)
