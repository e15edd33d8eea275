import math

import pytest
import torch
from torch.nn import functional

from fewlabel.methods.gcl import gradfilter as grad_filter
from fewlabel.methods.gcl.gradfilter import gradient_norms, pair_gradients, smallest
from fewlabel.methods.gcl.last_convolution_gradients import _box_sum, flat_rows, pick_pixels
from fewlabel.methods.gcl.pixel_loss import pair_losses, top_pool
from kit.closed_form import TAU, make_problem


def unit(*shape, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(values, dim=-1)


@pytest.mark.parametrize("all_positives", [False, True])
def test_gradient_at_the_embeddings_equals_autograd_and_finite_differences(all_positives):
    v, keys = unit(1, 3, 4).requires_grad_(), unit(1, 9, 4, seed=1).requires_grad_()
    pool = torch.tensor([[[0, 4], [1, 2], [8, 3]]])
    mode = "all" if all_positives else "one_positive"

    def losses(a, b):
        return pair_losses(a @ b.transpose(1, 2) / TAU, pool, mode)

    assert torch.autograd.gradcheck(losses, (v, keys))
    attention, factor = pair_gradients(
        (v @ keys.transpose(1, 2) / TAU).detach(), pool, TAU, all_positives=all_positives
    )
    centre = attention @ keys
    for p in range(3):
        for k in range(2):
            q = int(pool[0, p, k])
            (at_anchor,) = torch.autograd.grad(losses(v, keys)[0, p, k], v)
            expected = -factor[0, p, k] * (keys[0, q] - centre[0, p])
            torch.testing.assert_close(at_anchor[0, p], expected, rtol=0, atol=1e-12)


def test_norm_at_the_anchor_is_bounded():
    v, keys = unit(2, 6, 4), unit(2, 20, 4, seed=1)
    logits = v @ keys.transpose(1, 2) / TAU
    pool = top_pool(logits, 5)
    attention, factor = pair_gradients(logits, pool, TAU)
    centre = attention @ keys
    norms = factor * (flat_rows(keys, torch.arange(2), pool) - centre.unsqueeze(-2)).norm(dim=-1)
    # The factor is (1 - p_q)/τ with p_q = e^s / (e^s + S).
    assert (norms <= 2 * factor).all()
    inside = logits.gather(-1, pool)
    total = logits.masked_fill(attention == 0, -torch.inf).logsumexp(-1, keepdim=True).exp()
    torch.testing.assert_close(factor, (1 - inside.exp() / (inside.exp() + total)) / TAU)


def test_harder_positives_have_larger_embedding_norms_but_not_anchor_norms_near_the_antipode():
    # The tangential part of v_q - m_p vanishes as v_q approaches -v_p.
    anchor = torch.tensor([1.0, 0.0], dtype=torch.float64)
    angles = torch.tensor([0.5, 1.5, 2.5, math.pi], dtype=torch.float64)
    positives = torch.stack([angles.cos(), angles.sin()], dim=1)
    centre = torch.tensor([0.6, 0.0], dtype=torch.float64)
    full = (positives - centre).norm(dim=1)
    tangential = (positives - centre) - ((positives - centre) @ anchor)[:, None] * anchor
    assert torch.equal(full, full.sort().values)
    assert tangential.norm(dim=1).argmax() == 1


def test_selection_is_that_of_a_brute_force_sort_and_ties_go_to_the_nearer_pixel():
    norms = torch.rand(3, 4, 7, generator=torch.Generator().manual_seed(0))
    norms[0, 0] = 0.5
    for count in range(1, 8):
        mask = smallest(norms, count)
        for i in range(3):
            for p in range(4):
                best = sorted(range(7), key=lambda k, i=i, p=p: float(norms[i, p, k]))[:count]
                assert mask[i, p].nonzero().flatten().tolist() == sorted(best)
    assert smallest(norms, 7).all()


@pytest.mark.parametrize("path", ["anchor", "embedding"])
def test_blocks_change_nothing(path, monkeypatch):
    problem = make_problem()
    logits = problem.logits()
    pool = top_pool(logits, 3)

    def norms():
        return gradient_norms(
            path, problem.tail, problem.tail, problem.partners, logits, pool, problem.head.first.weight, temperature=TAU
        )

    whole = norms()
    monkeypatch.setattr(grad_filter, "_CPU_BLOCK", 1)
    torch.testing.assert_close(norms(), whole, rtol=1e-12, atol=0)


def test_picked_anchors_have_the_norms_of_the_full_map():
    problem = make_problem()
    logits = problem.logits()
    pool = top_pool(logits, 3)
    pixels = torch.tensor([[3, 1], [0, 15], [7, 7], [9, 2]])
    rows = torch.arange(4)[:, None]
    for path in ("anchor", "embedding"):
        common = {"temperature": TAU}
        weight = problem.head.first.weight
        full = gradient_norms(path, problem.tail, problem.tail, problem.partners, logits, pool, weight, **common)
        few = gradient_norms(
            path,
            problem.tail.map(lambda part: pick_pixels(part, pixels)),
            problem.tail,
            problem.partners,
            logits[rows, pixels],
            pool[rows, pixels],
            weight,
            **common,
        )
        torch.testing.assert_close(few, full[rows, pixels], rtol=1e-12, atol=0)


def test_a_lower_product_precision_moves_norms_by_less_than_a_percent():
    problem = make_problem()
    logits = problem.logits()
    pool = top_pool(logits, 5)
    arguments = ("anchor", problem.tail, problem.tail, problem.partners, logits, pool, problem.head.first.weight)
    exact = gradient_norms(*arguments, temperature=TAU)
    rounded = gradient_norms(*arguments, temperature=TAU, matmul_dtype=torch.bfloat16)
    torch.testing.assert_close(rounded, exact, rtol=0.01, atol=float(exact.max()) * 1e-3)


def test_nothing_of_the_filter_carries_a_gradient():
    problem = make_problem()
    logits = problem.logits().requires_grad_()
    pool = top_pool(logits, 3)
    norms = gradient_norms(
        "anchor", problem.tail, problem.tail, problem.partners, logits, pool, problem.head.first.weight, temperature=TAU
    )
    assert not norms.requires_grad
    assert not smallest(norms, 2).requires_grad


@pytest.mark.parametrize("space", [(3, 4), (2, 3, 4)])
def test_the_square_of_a_patch_is_that_of_what_a_convolution_multiplies(space):
    axes = len(space)
    inputs = torch.randn(2, 3, *space, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # One output channel for every number of a patch.
    weight = torch.eye(3 * 3**axes, dtype=torch.float64).view(-1, 3, *[3] * axes)
    convolve = functional.conv2d if axes == 2 else functional.conv3d
    patches = convolve(inputs, weight, padding=1)
    torch.testing.assert_close(_box_sum(inputs.square().sum(1, keepdim=True))[:, 0], patches.square().sum(1))
