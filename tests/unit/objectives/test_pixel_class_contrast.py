"""Supervised contrast between pixels: both forms against loops, and what is known of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from fewlabel.objectives.pixel_class_contrast import class_contrast, collapsed_value, lower_bound, pixel_set

TAU = 0.1
FORMS = ("code", "paper")
LABELS = torch.tensor([0, 1, 1, 2, 0, 2, 2, 1, 0, 0, 3])


def unit(count=11, dim=6, seed=0):
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(rows, dim=1)


def value(rows, labels=LABELS, form="code", temperature=TAU):
    own = torch.ones(len(labels), dtype=torch.bool)
    return class_contrast(rows, pixel_set(labels, form), own, temperature, form)


def slow(rows, labels, form, temperature=TAU):
    """By the formulas, one anchor at a time, without any trick for large numbers."""
    found = []
    for u in range(len(labels)):
        same = [a for a in range(len(labels)) if a != u and labels[a] == labels[u]]
        rest = [a for a in range(len(labels)) if labels[a] != labels[u]]
        if labels[u] == 0 or not same or (form == "paper" and not rest):
            continue
        weight = [math.exp(float(rows[u] @ rows[a]) / temperature) for a in range(len(labels))]
        if form == "code":
            below = sum(weight[a] for a in range(len(labels)) if a != u)
            found.append(-sum(math.log(weight[p] / below) for p in same) / len(same))
        else:
            found.append(-math.log(sum(weight[p] for p in same) / sum(weight[n] for n in rest)) / len(same))
    return sum(found) / len(found)


@pytest.mark.parametrize("form", FORMS)
def test_equals_the_loop(form):
    for seed in range(3):
        rows = unit(seed=seed)
        assert value(rows, form=form).item() == pytest.approx(slow(rows, LABELS, form), abs=1e-12)


GOLDEN = {"code": 5.027388007850395, "paper": 1.10133181594336}


@pytest.mark.parametrize("form", FORMS)
def test_golden_values(form):
    angle = torch.arange(len(LABELS), dtype=torch.float64) * 0.7
    rows = torch.stack([angle.cos(), angle.sin()], dim=1)
    assert value(rows, form=form, temperature=0.2).item() == pytest.approx(GOLDEN[form], abs=1e-12)


def test_the_forms_are_far_apart_on_random_features():
    """256 pixels, 3 classes, as in the specification's check: the 1/|P| of the paper's form shrinks it."""
    labels = torch.arange(256) % 3
    rows = unit(256, 64)
    assert value(rows, labels, "code").item() > 5
    assert abs(value(rows, labels, "paper").item()) < 0.05


@pytest.mark.parametrize("form", FORMS)
def test_equal_features_give_the_collapse_value(form):
    rows = unit(1).expand(len(LABELS), -1)
    pixels = pixel_set(LABELS, form)
    assert value(rows, form=form).item() == pytest.approx(collapsed_value(pixels, form), abs=1e-12)
    if form == "code":
        assert collapsed_value(pixels) == pytest.approx(math.log(len(LABELS) - 1), abs=1e-12)
    else:
        # Three pixels each of classes 1 and 2: two positives and eight negatives each.
        assert collapsed_value(pixels, form) == pytest.approx(-math.log(2 / 8) / 2, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_never_below_the_lower_bound(form):
    pixels = pixel_set(LABELS, form)
    for temperature in (0.05, 0.5):
        bound = lower_bound(pixels, temperature, form)
        for seed in range(20):
            assert value(unit(seed=seed), form=form, temperature=temperature) >= bound
        assert bound < collapsed_value(pixels, form)


def test_separated_orthogonal_classes_reach_the_bound_as_the_temperature_falls():
    rows = torch.eye(4, dtype=torch.float64)[LABELS]
    pixels = pixel_set(LABELS)
    assert lower_bound(pixels, 0.01) == pytest.approx(math.log(2), abs=1e-12)
    assert value(rows, temperature=0.01).item() == pytest.approx(math.log(2), abs=1e-12)
    assert value(rows, temperature=0.5).item() > math.log(2) + 0.1


def test_opposite_classes_reach_the_bound_of_the_paper_form():
    labels = torch.tensor([1, 1, 1, 0, 0])
    rows = torch.tensor([[1.0], [1.0], [1.0], [-1.0], [-1.0]], dtype=torch.float64)
    bound = lower_bound(pixel_set(labels, "paper"), TAU, "paper")
    assert value(rows, labels, "paper").item() == pytest.approx(bound, abs=1e-12)
    assert bound == pytest.approx((math.log(2 / 2) - 2 / TAU) / 2, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_anchors_are_foreground_yet_background_is_pushed(form):
    rows = unit().requires_grad_()
    assert not pixel_set(LABELS, form).anchors[LABELS == 0].any()
    (gradient,) = torch.autograd.grad(value(rows, form=form), rows)
    assert (gradient[LABELS == 0].norm(dim=1) > 1e-9).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [1, 0, 0, 0]])
def test_without_an_anchor_it_is_zero_with_a_usable_graph(form, labels):
    labels, rows = torch.tensor(labels), unit(4).requires_grad_()
    loss = value(rows, labels, form)
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, rows)
    assert torch.count_nonzero(gradient) == 0
    assert collapsed_value(pixel_set(labels, form), form) == 0
    assert lower_bound(pixel_set(labels, form), TAU, form) == 0


@pytest.mark.parametrize("form", FORMS)
def test_a_pixel_without_a_positive_is_left_out_but_stays_a_negative(form):
    """The single pixel of class 3 is the last one."""
    rows = unit()
    assert not pixel_set(LABELS, form).anchors[-1]
    assert torch.isfinite(value(rows, form=form))
    moved = rows.clone()
    moved[-1] = -moved[-1]
    assert value(moved, form=form).item() != pytest.approx(value(rows, form=form).item(), abs=1e-9)


def test_without_a_negative_the_paper_form_has_no_anchor():
    labels = torch.tensor([1, 1, 1])
    assert not pixel_set(labels, "paper").anchors.any()
    assert value(unit(3), labels, "paper").item() == 0
    assert pixel_set(labels, "code").anchors.all()


@pytest.mark.parametrize("form", FORMS)
def test_order_of_pixels_names_of_classes_and_rotations_do_not_matter(form):
    rows, expected = unit(), value(unit(), form=form).item()
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1))
    assert value(rows[order], LABELS[order], form).item() == pytest.approx(expected, abs=1e-12)
    names = torch.tensor([0, 3, 1, 2])
    assert value(rows, names[LABELS], form).item() == pytest.approx(expected, abs=1e-12)
    basis, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    assert value(rows @ basis, form=form).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_that_of_finite_differences(form):
    rows = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    labels = torch.tensor([1, 0, 2, 1, 2, 0, 1])
    assert torch.autograd.gradcheck(lambda x: value(functional.normalize(x, dim=1), labels, form, 0.5), (rows,))


def test_a_class_in_pairs_is_instance_contrast():
    """One positive each: cross-entropy to the partner."""
    labels = torch.tensor([1, 2, 3, 1, 2, 3])
    rows = unit(6)
    logits = (rows @ rows.T / TAU).fill_diagonal_(-torch.inf)
    expected = functional.cross_entropy(logits, torch.tensor([3, 4, 5, 0, 1, 2]))
    torch.testing.assert_close(value(rows, labels), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_sharp_temperatures_stay_finite_in_single_precision(form):
    rows = unit().float().requires_grad_()
    loss = value(rows, form=form, temperature=1e-3)
    (gradient,) = torch.autograd.grad(loss, rows)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_pixels_of_another_rank_are_keys_only():
    """Anchors of two halves, averaged with the weights the ranks' means get, are the whole."""
    rows, pixels = unit(), pixel_set(LABELS)
    halves = [torch.arange(len(LABELS)) < 5, torch.arange(len(LABELS)) >= 5]
    parts = [class_contrast(rows, pixels, own, TAU) for own in halves]
    weights = [(pixels.anchors & own).sum() for own in halves]
    mixed = sum(part * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)
    torch.testing.assert_close(mixed, value(rows), rtol=0, atol=1e-12)
