import math

import pytest
import torch

from fewlabel.methods.gcl import pixel_loss as pixel

TAU = 0.1


def unit(*shape, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1)


def slow_losses(v, keys, pool, denominator):
    """ℓ(p, q) by the formula, one pixel at a time."""
    found = torch.zeros(pool.shape, dtype=torch.float64)
    for p in range(len(v)):
        inside = set(pool[p].tolist())
        negatives = sum(math.exp(float(v[p] @ keys[n]) / TAU) for n in range(len(keys)) if n not in inside)
        for k, q in enumerate(pool[p].tolist()):
            top = math.exp(float(v[p] @ keys[q]) / TAU)
            bottom = top + negatives
            if denominator == "all":
                bottom = negatives + sum(math.exp(float(v[p] @ keys[o]) / TAU) for o in inside)
            found[p, k] = -math.log(top / bottom)
    return found


@pytest.mark.parametrize("denominator", ["one_positive", "all"])
def test_pair_losses_equal_the_loop(denominator):
    v, keys = unit(5, 7), unit(12, 7, seed=1)
    pool = pixel.top_pool(unit(5, 3, seed=2) @ unit(12, 3, seed=3).T, 4)
    found = pixel.pair_losses(v @ keys.T / TAU, pool, denominator)
    torch.testing.assert_close(found, slow_losses(v, keys, pool, denominator), rtol=0, atol=1e-12)


@pytest.mark.parametrize("denominator", ["one_positive", "all"])
def test_identical_pixels_give_the_collapse_value(denominator):
    logits = torch.full((3, 12), 1 / TAU, dtype=torch.float64)
    pool = torch.arange(4).expand(3, 4)
    expected = math.log(9) if denominator == "one_positive" else math.log(12)
    losses = pixel.pair_losses(logits, pool, denominator)
    torch.testing.assert_close(losses, torch.full_like(losses, expected), rtol=0, atol=1e-12)
    assert pixel.collapsed_value(12, 4, denominator) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("denominator", ["one_positive", "all"])
def test_never_below_the_lower_bound(denominator):
    logits = torch.full((1, 12), -1 / TAU, dtype=torch.float64)
    logits[0, :4] = 1 / TAU
    pool = torch.arange(4).expand(1, 4)
    keep = torch.tensor([[True, True, False, False]])
    best = float(pixel.anchor_losses(logits, pool, keep, denominator))
    bound = pixel.lower_bound(12, 4, 2, TAU, denominator)
    assert best >= bound - 1e-15
    if denominator == "one_positive":
        assert best == pytest.approx(bound, rel=1e-9)
        assert best == pytest.approx(8 * math.exp(-20), rel=1e-6)


def test_kept_pairs_alone_are_averaged():
    v, keys = unit(2, 7), unit(12, 7, seed=1)
    logits = v @ keys.T / TAU
    pool = pixel.top_pool(logits, 4)
    losses = pixel.pair_losses(logits, pool)
    keep = torch.tensor([[True, False, True, False], [False, True, True, False]])
    found = pixel.anchor_losses(logits, pool, keep)
    expected = torch.stack([losses[0, [0, 2]].mean(), losses[1, [1, 2]].mean()])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(pixel.anchor_losses(logits, pool, torch.ones_like(keep)), losses.mean(dim=1))
    torch.testing.assert_close(pixel.anchor_losses(logits, pool), losses.mean(dim=1))


def test_dropped_positives_are_no_negatives():
    v, keys = unit(1, 7), unit(12, 7, seed=1).requires_grad_()
    pool = torch.tensor([[0, 1, 2]])
    keep = torch.tensor([[True, False, False]])
    pixel.anchor_losses(v @ keys.T / TAU, pool, keep).sum().backward()
    touched = keys.grad.norm(dim=1) > 0
    assert touched.tolist() == [True, False, False] + [True] * 9


def test_pool_and_negatives_part_the_pixels():
    affinity = unit(6, 10)
    pool = pixel.top_pool(affinity, 3)
    found = pixel.negative_logsumexp(affinity, pool)
    for row in range(6):
        order = sorted(range(10), key=lambda q, row=row: -float(affinity[row, q]))
        assert pool[row].tolist() == order[:3]
        torch.testing.assert_close(found[row], affinity[row, order[3:]].logsumexp(0, keepdim=True))


@pytest.mark.parametrize("size", [0, 10])
def test_a_pool_must_leave_negatives(size):
    with pytest.raises(ValueError, match="pool"):
        pixel.top_pool(unit(6, 10), size)


def test_gradient_is_that_of_finite_differences():
    v, keys = unit(2, 4).requires_grad_(), unit(6, 4, seed=1).requires_grad_()
    pool = torch.tensor([[0, 1], [3, 4]])
    for mode in ("one_positive", "all"):
        assert torch.autograd.gradcheck(lambda a, b, m=mode: pixel.pair_losses(a @ b.T / TAU, pool, m), (v, keys))


def test_anchor_pixels_are_drawn_without_replacement():
    drawn = pixel.draw_pixels(50, 9, 4, torch.Generator().manual_seed(0))
    assert drawn.shape == (50, 4)
    assert all(len(set(row)) == 4 for row in drawn.tolist())
    counts = torch.bincount(drawn.flatten(), minlength=9)
    assert counts.min() > 10
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert pixel.draw_pixels(3, 9, 64, generator).tolist() == [list(range(9))] * 3
    assert torch.equal(generator.get_state(), before)


def test_partners_are_positives_of_other_slices_where_there_are_any():
    positives = torch.tensor([[0, 1, 1, 1, 0], [0, 0, 1, 0, 0]], dtype=torch.bool)
    same = torch.tensor([[0, 0, 1, 0, 0], [0, 0, 1, 0, 0]], dtype=torch.bool)
    seen = set()
    for seed in range(40):
        scores = torch.rand(2, 5, generator=torch.Generator().manual_seed(seed))
        partners, real = pixel.draw_partners(positives, same, scores, 1)
        assert real.all()
        seen.add(int(partners[0, 0]))
        assert partners[1].tolist() == [2]
    assert seen == {1, 3}
    partners, real = pixel.draw_partners(positives, same, scores, 2)
    assert sorted(partners[0].tolist()) == [1, 3]
    assert real.tolist() == [[True, True], [True, False]]
