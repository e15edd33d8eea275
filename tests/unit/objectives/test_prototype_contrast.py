"""Pixels against prototypes: slow loop, closed forms, bounds, and who receives a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from fewlabel.objectives.prototype_contrast import (
    class_means,
    contrast_gradient,
    prototype_contrast,
    prototype_logits,
    similarity_mass,
)


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def loss(queries, prototypes, negatives, temperature=0.5, counted=None, own=None):
    logits = prototype_logits(queries, prototypes, negatives, temperature)
    counted = torch.ones(len(queries), dtype=torch.bool) if counted is None else counted
    return prototype_contrast(logits, counted, own)


def slow(queries, prototypes, negatives, temperature, counted):
    """Equation E.2 with mean reduction, one query at a time."""
    values = []
    for c, rows in enumerate(queries):
        for query in rows if counted[c] else []:
            positive = math.exp(float(query @ prototypes[c]) / temperature)
            others = sum(math.exp(float(query @ key) / temperature) for key in negatives[c])
            values.append(-math.log(positive / (positive + others)))
    return sum(values) / max(len(values), 1)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
@pytest.mark.parametrize("absent", [None, 0, 2])
def test_the_loss_is_that_of_a_loop(temperature, absent):
    queries, prototypes, negatives = unit(3, 5, 4), unit(3, 4, seed=1), unit(3, 7, 4, seed=2)
    counted = torch.ones(3, dtype=torch.bool)
    if absent is not None:
        counted[absent] = False
    found = loss(queries, prototypes, negatives, temperature, counted)
    assert float(found) == pytest.approx(slow(queries, prototypes, negatives, temperature, counted), abs=1e-12)


def test_golden_value():
    queries = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]], dtype=torch.float64)
    prototypes = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    negatives = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], dtype=torch.float64)
    first = math.log(1 + math.exp(2) + math.exp(-2))
    second = math.log(1 + math.exp(1.2 - 1.6) + math.exp(-1.2 - 1.6))
    assert float(loss(queries, prototypes, negatives)) == pytest.approx((first + second) / 2, abs=1e-12)


@pytest.mark.parametrize(
    ("cosines", "expected"), [((1.0, -1.0), 2.340), ((1.0, 0.0), 4.253), ((1.0, 1.0), 6.240), ((-1.0, 1.0), None)]
)
def test_bounds_at_the_sizes_of_the_paper(cosines, expected):
    # K = 512 negatives, τ = 0.5: at best 2.340, with orthogonal negatives 4.253, with all equal 6.240.
    axis, across = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    positive, negative = (cosine * axis if cosine else across for cosine in cosines)
    found = float(loss(axis.view(1, 1, 2), positive.view(1, 2), negative.expand(1, 512, 2)))
    exact = math.log1p(512 * math.exp((cosines[1] - cosines[0]) / 0.5))
    assert found == pytest.approx(exact, abs=1e-12)
    if expected is not None:
        assert found == pytest.approx(expected, abs=5e-4)


def test_no_loss_leaves_the_bounds():
    queries, prototypes, negatives = unit(4, 50, 3), unit(4, 3, seed=1), unit(4, 20, 3, seed=2)
    logits = prototype_logits(queries, prototypes, negatives, 0.5)
    each = logits.logsumexp(dim=-1) - logits[..., 0]
    assert math.log1p(20 * math.exp(-4)) <= float(each.min())
    assert float(each.max()) <= math.log1p(20 * math.exp(4))


def test_gradients_flow_to_queries_only():
    tensors = [unit(2, 3, 4).requires_grad_(), unit(2, 4, seed=1).requires_grad_(), unit(2, 5, 4, seed=2)]
    tensors[2].requires_grad_()
    gradients = torch.autograd.grad(loss(*tensors), tensors, allow_unused=True)
    assert float(gradients[0].abs().sum()) > 0
    assert gradients[1] is None
    assert gradients[2] is None


def test_an_absent_class_changes_nothing():
    queries, prototypes, negatives = unit(3, 5, 4).requires_grad_(), unit(3, 4, seed=1), unit(3, 7, 4, seed=2)
    counted = torch.tensor([True, False, True])
    whole = loss(queries, prototypes, negatives, counted=counted)
    (gradient,) = torch.autograd.grad(whole, queries)
    assert float(gradient[1].abs().sum()) == 0
    kept = [0, 2]
    alone = loss(queries.detach()[kept], prototypes[kept], negatives[kept])
    assert float(whole.detach()) == pytest.approx(float(alone), abs=1e-14)


def test_no_class_gives_zero_with_a_usable_graph():
    queries = unit(2, 3, 4).requires_grad_()
    found = loss(queries, torch.zeros(2, 4).double(), torch.zeros(2, 5, 4).double(), counted=torch.zeros(2).bool())
    assert float(found.detach()) == 0
    found.backward()
    assert float(queries.grad.abs().sum()) == 0


def test_queries_of_other_ranks_count_in_the_mean_but_not_here(monkeypatch):
    queries, prototypes, negatives = unit(2, 6, 4), unit(2, 4, seed=1), unit(2, 7, 4, seed=2)
    own = torch.rand(2, 6, generator=torch.Generator().manual_seed(0)) < 0.4
    monkeypatch.setattr("fewlabel.objectives.prototype_contrast.world_size", lambda: 2)
    shares = [loss(queries, prototypes, negatives, own=part) for part in (own, ~own)]
    monkeypatch.undo()
    assert float(sum(shares) / 2) == pytest.approx(float(loss(queries, prototypes, negatives)), abs=1e-14)


def test_means_by_class_are_those_of_a_loop():
    rows, labels = unit(40, 5), torch.randint(0, 5, (40,), generator=torch.Generator().manual_seed(0))
    labels[labels == 3] = 255
    means, counts = class_means(rows.requires_grad_(), labels, 4)
    assert counts.tolist() == [int((labels == c).sum()) for c in range(4)]
    assert not means.requires_grad
    for c in range(3):
        mean = rows[labels == c].mean(dim=0)
        torch.testing.assert_close(means[c], mean / mean.norm())
    assert float(means[3].abs().sum()) == 0


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_closed_form_of_the_gradient_is_autograd_s(temperature):
    outputs = (3 * torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).requires_grad_()
    prototypes, negatives = unit(3, 4, seed=1), unit(3, 7, 4, seed=2)
    labels = torch.tensor([0, 1, 2, 255, 0, 0, 2, 1, 1, 255, 2, 0])
    found = contrast_gradient(outputs, prototypes, negatives, labels, temperature)
    assert not found.requires_grad
    for row, label in enumerate(labels.tolist()):
        if label == 255:
            assert float(found[row].abs().sum()) == 0
            continue
        query = functional.normalize(outputs[row], dim=0).view(1, 1, -1)
        value = loss(query, prototypes[label, None], negatives[label, None], temperature)
        (expected,) = torch.autograd.grad(value, outputs)
        torch.testing.assert_close(found[row], expected[row], rtol=1e-10, atol=1e-13)


def test_likeness_gives_the_shares_of_a_softmax():
    prototypes = unit(4, 3)
    available = torch.full((4, 4), 9).fill_diagonal_(0)
    present = torch.tensor([True, True, True, False])
    mass = similarity_mass(prototypes, present, 0.5, available)
    for c in range(4):
        others = [j for j in range(3) if j != c]
        weights = torch.stack([prototypes[c] @ prototypes[j] for j in others]).div(0.5).softmax(0)
        torch.testing.assert_close(mass[c, others].double() / mass[c].sum(), weights, rtol=1e-5, atol=1e-6)
    assert bool((mass[:, 3] == 0).all())
    assert bool((mass.diagonal() == 0).all())


def test_the_least_alike_class_still_gives_negatives():
    prototypes = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    mass = similarity_mass(prototypes, torch.ones(3, dtype=torch.bool), 0.05, torch.full((3, 3), 4).fill_diagonal_(0))
    # Its share, e^-40, is below what whole numbers resolve.
    assert mass[0].tolist() == [0, 2**24, 1]


def test_likeness_falls_back_to_what_there_is():
    # Only class 0 is in the batch; its negatives lie in the banks of the others.
    available = torch.tensor([[0, 5, 2], [3, 0, 2], [3, 5, 0]])
    mass = similarity_mass(unit(3, 4), torch.tensor([True, False, False]), 0.5, available)
    assert mass[0].tolist() == [0, 5, 2]
    assert mass[1].tolist() == [2**24, 0, 0]
