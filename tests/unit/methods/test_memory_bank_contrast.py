"""Contrast with one remembered vector per slice."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from fewlabel.methods.memory_bank_contrast import SlotContrast, lowest_cost, slot_costs

FORMS = ("nce", "info_nce")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def unit(count, dim=5, seed=0):
    return functional.normalize(torch.randn(count, dim, dtype=torch.float64, generator=generator(seed)), dim=1)


def by_formula(logits, positive, negatives, form):
    """-log h(p) - Σ log(1 - h(n)) of one row, without any trick for large numbers."""
    weight = {place: math.exp(logits[place]) for place in [positive, *negatives]}
    total = sum(weight.values())
    cost = -math.log(weight[positive] / total)
    if form == "nce":
        cost -= sum(math.log(1 - weight[place] / total) for place in negatives)
    return cost


def memory(form="nce", *, slots=8, taking_part=8, negatives=100, momentum=0.5, temperature=0.5, dim=5):
    return SlotContrast(
        slots,
        taking_part,
        dim=dim,
        momentum=momentum,
        temperature=temperature,
        negatives=negatives,
        contrast=form,
    ).double()


MASKS = (
    torch.tensor([[1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]], dtype=torch.bool),
    torch.tensor([[0, 1, 1, 0, 1, 1], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]], dtype=torch.bool),
)


@pytest.mark.parametrize("form", FORMS)
def test_costs_equal_the_formula(form):
    logits = torch.randn(3, 6, dtype=torch.float64, generator=generator()) * 3
    found = slot_costs(logits, *MASKS, form)
    for row in range(3):
        negatives = MASKS[1][row].nonzero().flatten().tolist()
        expected = by_formula(logits[row].tolist(), int(MASKS[0][row].nonzero()), negatives, form)
        assert found[row].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_neither_positive_nor_negative_takes_no_part(form):
    logits = torch.randn(3, 6, dtype=torch.float64, generator=generator())
    changed = torch.where(MASKS[0] | MASKS[1], logits, logits + 50)
    assert not torch.equal(changed, logits)
    assert torch.equal(slot_costs(logits, *MASKS, form), slot_costs(changed, *MASKS, form))


@pytest.mark.parametrize(("form", "expected"), [("nce", math.log(5) - 4 * math.log(4 / 5)), ("info_nce", math.log(5))])
def test_equal_similarities_have_a_known_cost(form, expected):
    positives, negatives = (mask[:1] for mask in MASKS)
    cost = slot_costs(torch.full((1, 6), 0.3, dtype=torch.float64), positives, negatives, form)
    assert cost.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_costs_and_gradients_are_finite_and_right_for_any_logits(form):
    for positive, negative in ((0.0, 200.0), (200.0, 0.0), (1e4, -1e4), (-1e4, 1e4), (0.0, 0.0)):
        logits = torch.tensor([[positive, negative, -3.0, 0.0, negative - 1, 0.0]], requires_grad=True)
        cost = slot_costs(logits, *(mask[:1] for mask in MASKS), form)
        (gradient,) = torch.autograd.grad(cost.sum(), logits)
        assert cost.item() >= 0
        assert torch.isfinite(cost)
        assert torch.isfinite(gradient).all()
    # One negative at d above its positive costs 2 log(1 + e^d): d from either part.
    logits = torch.tensor([[0.0, 90.0]])
    masks = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    assert slot_costs(logits, *masks, form).item() == pytest.approx(180 if form == "nce" else 90, rel=1e-6)
    # And one far below costs what it should, not the rounding of 1 - h.
    cost = slot_costs(torch.tensor([[0.0, -30.0]]), *masks, form).item()
    assert cost == pytest.approx((2 if form == "nce" else 1) * math.exp(-30), rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_that_of_finite_differences(form):
    logits = torch.randn(3, 6, dtype=torch.float64, generator=generator()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: slot_costs(x, *MASKS, form), (logits,))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("temperature", [0.07, 0.5, 5.0])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_lowest_cost_is_that_of_opposite_negatives_and_nothing_costs_less(form, temperature, count):
    positives = torch.arange(count + 1)[None] == 0
    bound = lowest_cost(count, temperature, form)

    def cost(similarities):
        rows = len(similarities)
        masks = positives.expand(rows, -1), ~positives.expand(rows, -1)
        return slot_costs(similarities / temperature, *masks, form)

    best = torch.where(positives, 1.0, -1.0).double()
    assert cost(best).item() == pytest.approx(bound, rel=1e-9)
    # Also where negatives differ, one of them far above the others.
    others = torch.rand(400, count + 1, dtype=torch.float64, generator=generator()) * 2 - 1
    others[200:] = others[200:].sign()
    assert (cost(others) >= bound * (1 - 1e-12)).all()


def test_without_negatives_nothing_is_learnt():
    assert lowest_cost(0, 0.1, "nce") == lowest_cost(0, 0.1, "info_nce") == 0
    positives = torch.ones(1, 1, dtype=torch.bool)
    for form in FORMS:
        assert slot_costs(torch.tensor([[3.0]]), positives, ~positives, form).item() == 0


@pytest.mark.parametrize(("form", "expected"), [("nce", 3.6503268125002375), ("info_nce", 2.440283841539639)])
def test_golden_values(form, expected):
    slots = memory(form, slots=4, dim=2)
    with torch.no_grad():
        angle = torch.tensor([0.0, 0.8, 2.0, 4.0], dtype=torch.float64)
        slots.memory.rows.copy_(torch.stack([angle.cos(), angle.sin()], dim=1))
    rows = torch.tensor([[0.6, 0.8], [-1.0, 0.0]], dtype=torch.float64)
    own = torch.tensor([2, 1])
    slots.drawn.fill_(True)
    negatives = slots.choose(own, torch.arange(2), generator())
    assert slots.loss(rows, own, negatives, slots.memory.rows).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_the_mean_over_anchors_by_a_loop(form):
    slots, rows, own = memory(form, temperature=0.3), unit(3), torch.tensor([6, 1, 4])
    slots.drawn[[0, 1, 3, 6]] = True
    negatives = slots.choose(own, torch.arange(3), generator())
    expected = 0.0
    for row, slice_ in zip(rows, own.tolist(), strict=True):
        logits = [(row @ slot).item() / 0.3 for slot in slots.memory.rows]
        expected += by_formula(logits, slice_, [n for n in (0, 1, 3, 4, 6) if n != slice_], form) / 3
    assert slots.loss(rows, own, negatives, slots.memory.rows).item() == pytest.approx(expected, abs=1e-12)


def test_negatives_are_all_other_slices_drawn_so_far_and_nothing_is_drawn_for_that():
    slots, stream = memory(), generator()
    slots.drawn[[2, 5]] = True
    found = slots.choose(torch.tensor([0, 2, 7]), torch.tensor([1, 2]), stream)
    assert found.int().tolist() == [[1, 0, 0, 0, 0, 1, 0, 1], [1, 0, 1, 0, 0, 1, 0, 0]]
    assert torch.equal(stream.get_state(), generator().get_state())


def test_fewer_negatives_are_drawn_evenly_without_replacement():
    slots, own = memory(slots=9, taking_part=8, negatives=3), torch.tensor([1, 4])
    slots.drawn[[0, 1, 2, 5, 6, 7]] = True
    stream, counts, trials = generator(), torch.zeros(2, 9), 1500
    for _ in range(trials):
        found = slots.choose(own, torch.arange(2), stream)
        assert found.sum(dim=1).tolist() == [3, 3]
        counts += found
    allowed = torch.tensor([[1, 0, 1, 0, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 1, 1, 1, 0]]).bool()
    assert (counts[~allowed] == 0).all()
    assert ((counts[allowed] - trials / 2).abs() < 4.5 * math.sqrt(trials / 4)).all()
    # Anchors draw apart from each other.
    assert not torch.equal(counts[0, 5:], counts[1, 5:])


def test_at_the_start_there_are_fewer_negatives_than_wanted():
    slots = memory(slots=9, taking_part=8, negatives=5)
    found = slots.choose(torch.tensor([3, 0, 8]), torch.arange(3), generator())
    assert found.int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0, 0, 0, 0, 1],
        [1, 0, 0, 1, 0, 0, 0, 0, 0],
    ]
    # A slice that comes twice is no negative of itself.
    assert not slots.choose(torch.tensor([3, 3]), torch.arange(2), generator()).any()


@pytest.mark.parametrize("negatives", [7, 8, 1000])
def test_no_more_negatives_than_slices_less_one(negatives):
    slots, stream = memory(negatives=negatives), generator()
    slots.drawn.fill_(True)
    found = slots.choose(torch.arange(8), torch.arange(8), stream)
    assert torch.equal(found, ~torch.eye(8, dtype=torch.bool))
    assert torch.equal(stream.get_state(), generator().get_state())


def test_rows_of_a_rank_are_those_of_the_joined_batch():
    slots, joined = memory(slots=30, taking_part=30, negatives=4), torch.tensor([4, 9, 12, 3])
    slots.drawn.fill_(True)
    whole = slots.choose(joined, torch.arange(4), generator(5))
    part = slots.choose(joined, torch.tensor([2, 3]), generator(5))
    assert torch.equal(whole[2:], part)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_a_slot_moves_by_the_momentum_and_stays_of_unit_length(momentum):
    slots = memory(momentum=momentum)
    before, rows, own = slots.memory.rows.clone(), unit(3, seed=4), torch.tensor([6, 0, 2])
    slots.drawn[own] = True
    slots.remember(own, rows)
    for row, slice_ in zip(rows, own.tolist(), strict=True):
        mixed = momentum * before[slice_] + (1 - momentum) * row
        torch.testing.assert_close(slots.memory.rows[slice_], mixed / mixed.norm(), rtol=0, atol=1e-14)
    rest = [1, 3, 4, 5, 7]
    assert torch.equal(slots.memory.rows[rest], before[rest])
    assert slots.drawn.nonzero().flatten().tolist() == [0, 2, 6]
    torch.testing.assert_close(slots.memory.rows.norm(dim=1), torch.ones(8, dtype=torch.float64))


def test_a_slot_that_was_never_drawn_is_its_slices_embedding_of_this_step():
    slots, joined, rows = memory(), torch.tensor([6, 0, 2]), unit(3, seed=4)
    slots.drawn[[0, 5]] = True
    before = slots.memory.rows.clone()
    seen = slots.seen(joined, rows.requires_grad_())
    assert not seen.requires_grad
    expected = before.clone()
    expected[6], expected[2] = rows.detach()[0], rows.detach()[2]
    assert torch.equal(seen, expected)
    # Looking changes nothing; remembering keeps what was seen, and mixes it into the slot that was there.
    assert torch.equal(slots.memory.rows, before)
    slots.remember(joined, rows.detach())
    expected[0] = functional.normalize(before[0] + rows.detach()[1], dim=0)
    torch.testing.assert_close(slots.memory.rows, expected, rtol=0, atol=1e-15)
    assert slots.drawn.nonzero().flatten().tolist() == [0, 2, 5, 6]


def test_of_a_slice_that_comes_twice_at_first_the_last_embedding_is_its_slot():
    slots, joined, rows = memory(), torch.tensor([3, 1, 3, 3]), unit(4)
    seen = slots.seen(joined, rows)
    assert torch.equal(seen[3], rows[3])
    slots.remember(joined, rows)
    torch.testing.assert_close(slots.memory.rows[[3, 1]], rows[[3, 1]], rtol=0, atol=1e-15)


def test_no_gradient_enters_the_slots_and_all_state_is_saved():
    slots, rows = memory(), unit(2).requires_grad_()
    slots.drawn.fill_(True)
    own = torch.tensor([1, 3])
    loss = slots.loss(rows, own, slots.choose(own, torch.arange(2), generator()), slots.seen(own, rows))
    (gradient,) = torch.autograd.grad(loss, rows)
    assert gradient.abs().sum() > 0
    assert not slots.memory.rows.requires_grad
    assert list(slots.parameters()) == []
    assert set(slots.state_dict()) == {"drawn", "memory.rows"}
