"""Relational KL and nearest neighbours: loops, closed forms, ranges, and where gradients go."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from fewlabel.objectives.relation_consistency import nearest, neighbour_distance, relational_kl

TAUS = {"student_temperature": 0.1, "teacher_temperature": 0.01}


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def cosines(seed, rows=4, keys=6):
    return unit(rows, 3, seed=seed) @ unit(keys, 3, seed=99).T


def test_the_divergence_is_that_of_a_loop():
    student, teacher = cosines(0), cosines(1)
    candidates = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) < 0.6
    candidates[2] = False
    total, rows = 0.0, 0
    for i in range(4):
        places = candidates[i].nonzero().flatten().tolist()
        if not places:
            continue
        rows += 1
        t = [math.exp(float(teacher[i, k]) / 0.2) for k in places]
        s = [math.exp(float(student[i, k]) / 0.3) for k in places]
        total += sum(a / sum(t) * math.log((a / sum(t)) / (b / sum(s))) for a, b in zip(t, s, strict=True))
    found = relational_kl(student, teacher, candidates, student_temperature=0.3, teacher_temperature=0.2)
    assert float(found) == pytest.approx(total / rows, abs=1e-12)


def test_golden_value():
    student, teacher = torch.tensor([[0.1, 0.0]], dtype=torch.float64), torch.tensor([[0.0, 0.01]], dtype=torch.float64)
    t, s = 1 / (1 + math.e), math.e / (1 + math.e)
    expected = t * math.log(t / s) + s * math.log(s / t)
    found = relational_kl(student, teacher, torch.ones(1, 2, dtype=torch.bool), **TAUS)
    assert float(found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_never_negative_and_zero_for_equal_views_and_temperatures(seed):
    every = torch.ones(4, 6, dtype=torch.bool)
    student, teacher = cosines(seed), cosines(seed + 10)
    assert float(relational_kl(student, teacher, every, **TAUS)) > 0
    same = relational_kl(student, student.clone(), every, student_temperature=0.1, teacher_temperature=0.1)
    assert float(same) == pytest.approx(0, abs=1e-14)


def test_the_teacher_is_the_target_and_gets_no_gradient():
    student, teacher = cosines(0).requires_grad_(), cosines(1).requires_grad_()
    loss = relational_kl(student, teacher, torch.ones(4, 6, dtype=torch.bool), **TAUS)
    gradients = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
    assert gradients[1] is None
    # ∂KL(t ‖ s)/∂s-logits = softmax(s) - softmax(t): of the reverse direction it would not be.
    expected = ((student / 0.1).softmax(1) - (teacher / 0.01).softmax(1)) / 0.1 / 4
    torch.testing.assert_close(gradients[0], expected, rtol=1e-9, atol=1e-12)


def test_one_candidate_or_none_costs_nothing():
    student = cosines(0).requires_grad_()
    one = torch.zeros(4, 6, dtype=torch.bool)
    one[:, 2] = True
    assert float(relational_kl(student, cosines(1), one, **TAUS).detach()) == pytest.approx(0, abs=1e-14)
    none = relational_kl(student, cosines(1), torch.zeros(4, 6, dtype=torch.bool), **TAUS)
    none.backward()
    assert float(none.detach()) == 0
    assert float(student.grad.abs().sum()) == 0


def test_neighbours_are_those_of_a_loop():
    teacher, bank = unit(5, 3), unit(9, 3, seed=1)
    candidates = torch.rand(5, 9, generator=torch.Generator().manual_seed(2)) < 0.5
    candidates[4] = False
    candidates[3] = torch.arange(9) == 6
    places, real = nearest(teacher, bank, candidates, 3)
    for i in range(5):
        allowed = [k for k in range(9) if candidates[i, k]]
        expected = sorted(allowed, key=lambda k: -float(teacher[i] @ bank[k]))[:3]
        assert places[i][real[i]].tolist() == expected
    assert nearest(teacher, bank, candidates, 50)[0].shape == (5, 9)


def test_the_distance_is_that_of_a_loop():
    student, bank = unit(4, 3, seed=3), unit(6, 3, seed=1)
    places, real = nearest(unit(4, 3), bank, torch.ones(4, 6, dtype=torch.bool), 3)
    real[1, 2] = False
    real[2] = False
    each = []
    for i in (0, 1, 3):
        squared = [(student[i] - bank[k]).square().sum() for k, kept in zip(places[i], real[i], strict=True) if kept]
        each.append(sum(squared) / len(squared))
    assert float(neighbour_distance(student, bank, places, real)) == pytest.approx(float(sum(each) / 3), abs=1e-12)


def test_it_lies_between_0_and_4_and_is_0_only_on_all_neighbours():
    key = unit(1, 3)
    bank = key.repeat(3, 1)
    places, real = torch.arange(3).view(1, 3), torch.ones(1, 3, dtype=torch.bool)
    assert float(neighbour_distance(key, bank, places, real)) == pytest.approx(0, abs=1e-14)
    assert float(neighbour_distance(-key, bank, places, real)) == pytest.approx(4, abs=1e-14)
    bank[1] = unit(1, 3, seed=5)
    assert float(neighbour_distance(key, bank, places, real)) > 0.01
    for seed in range(5):
        found = neighbour_distance(unit(4, 3, seed=seed), unit(3, 3, seed=9), places.expand(4, 3), real.expand(4, 3))
        assert 0 <= float(found) <= 4


def test_only_the_student_is_moved_and_the_teacher_alone_chooses():
    student, teacher, bank = (unit(4, 3, seed=s).requires_grad_() for s in range(3))
    every = torch.ones(4, 4, dtype=torch.bool)
    places, real = nearest(teacher, bank, every, 2)
    loss = neighbour_distance(student, bank, places, real)
    # With the roles of the public code this would not require a gradient.
    gradients = torch.autograd.grad(loss, (student, teacher, bank), allow_unused=True)
    assert float(gradients[0].abs().sum()) > 0
    assert gradients[1] is None
    assert gradients[2] is None


def test_without_any_neighbour_it_is_zero_with_a_usable_graph():
    student = unit(2, 3).requires_grad_()
    places, real = nearest(unit(2, 3), unit(4, 3), torch.zeros(2, 4, dtype=torch.bool), 3)
    loss = neighbour_distance(student, unit(4, 3), places, real)
    loss.backward()
    assert float(loss.detach()) == 0
