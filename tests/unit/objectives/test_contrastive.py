import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabel.objectives.contrastive import (
    anchor_mean,
    collapsed_value,
    info_nce,
    lower_bound,
    pair_costs,
    pair_lower_bound,
    similarity_logits,
)
from fewlabel.objectives.positives import apart, guided_positives, others

TAU = 0.1


def unit(rows, dim=6, seed=0):
    values = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=1)


def guided_loss(z, slices, label, **options):
    """Eq. 1 on a joined batch in one process."""
    rows = torch.arange(len(z))
    return info_nce(
        similarity_logits(z, z, TAU), guided_positives(slices, label, rows), others(rows, len(z)), **options
    )


def slow_loss(z, positives, weights=None, pair_plus_neg=False):
    """The specification: loops over anchors, positives and denominators."""
    total, anchors = 0.0, 0
    for i in range(len(z)):
        own = [j for j in range(len(z)) if positives[i, j]]
        if not own:
            continue
        anchors += 1
        part = 0.0
        for p in own:
            inside = [d for d in range(len(z)) if d != i]
            if pair_plus_neg:
                inside = [d for d in inside if d == p or not positives[i, d]]
            bottom = sum(math.exp(float(z[i] @ z[d]) / TAU) for d in inside)
            weight = 1.0 if weights is None else float(weights[i, p])
            part -= weight * math.log(math.exp(float(z[i] @ z[p]) / TAU) / bottom)
        total += part / len(own)
    return total / anchors


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 10_000))
def test_equals_the_double_loop(slices, classes, seed):
    z = unit(2 * slices, seed=seed)
    label = torch.randint(classes, (slices,), generator=torch.Generator().manual_seed(seed))
    mask = guided_positives(torch.arange(slices), label, torch.arange(2 * slices))
    assert float(guided_loss(z, torch.arange(slices), label)) == pytest.approx(slow_loss(z, mask), abs=1e-10)


def test_equals_the_double_loop_with_weights_and_the_other_denominator():
    z = unit(8)
    mask = guided_positives(torch.arange(4), torch.tensor([0, 0, 1, 1]), torch.arange(8))
    weights = torch.rand(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ids = (torch.arange(4), torch.tensor([0, 0, 1, 1]))
    assert float(guided_loss(z, *ids, weights=weights)) == pytest.approx(slow_loss(z, mask, weights), abs=1e-10)
    other = guided_loss(z, *ids, denominator="pair_plus_neg")
    assert float(other) == pytest.approx(slow_loss(z, mask, pair_plus_neg=True), abs=1e-10)
    assert other < guided_loss(z, *ids)


def test_unique_labels_give_nt_xent():
    z = unit(10)
    logits = (z @ z.T / TAU).fill_diagonal_(-torch.inf)
    partner = (torch.arange(10) + 5) % 10
    expected = torch.nn.functional.cross_entropy(logits, partner)
    found = guided_loss(z, torch.arange(5), torch.arange(5))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("label", [[0, 1, 2, 3], [0, 0, 1, 1], [0, 0, 0, 0]])
def test_collapse_gives_log_2n_minus_1_for_any_labels(label):
    z = unit(1).expand(8, -1)
    slices, label = torch.arange(4), torch.tensor(label)
    mask = guided_positives(slices, label, torch.arange(8))
    assert float(guided_loss(z, slices, label)) == pytest.approx(math.log(7), abs=1e-12)
    assert collapsed_value(mask, others(torch.arange(8), 8)) == pytest.approx(math.log(7), abs=1e-12)


def test_collapse_value_of_pair_plus_neg():
    z = unit(1).expand(8, -1)
    slices, label = torch.arange(4), torch.tensor([0, 0, 1, 1])
    mask = guided_positives(slices, label, torch.arange(8))
    found = float(guided_loss(z, slices, label, denominator="pair_plus_neg"))
    assert found == pytest.approx(math.log(5), abs=1e-12)
    assert collapsed_value(mask, others(torch.arange(8), 8), "pair_plus_neg") == pytest.approx(found, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_never_below_the_lower_bound(seed, classes):
    slices = 6
    label = torch.arange(slices) % classes
    mask = guided_positives(torch.arange(slices), label, torch.arange(12))
    # Embeddings gathered by class, the best case.
    centres = unit(classes, dim=16, seed=seed)
    z = torch.nn.functional.normalize(centres[label].repeat(2, 1) + 0.01 * unit(12, 16, seed), dim=1)
    loss = float(guided_loss(z, torch.arange(slices), label))
    assert loss >= lower_bound(mask) - 1e-12


def test_lower_bound_is_reached_by_separated_classes():
    label = torch.tensor([0, 0, 1, 1])
    z = torch.eye(2, dtype=torch.float64)[label].repeat(2, 1) * 1.0
    z = torch.where(label.repeat(2)[:, None] == 1, -z.flip(1), z)
    mask = guided_positives(torch.arange(4), label, torch.arange(8))
    rows = torch.arange(8)
    cold = info_nce(similarity_logits(z, z, 1e-3), mask, others(rows, 8))
    assert lower_bound(mask) == pytest.approx(math.log(3), abs=1e-12)
    assert float(cold) == pytest.approx(math.log(3), abs=1e-9)


def test_invariant_to_order_names_of_classes_and_rotation():
    slices, label = torch.arange(5), torch.tensor([0, 1, 1, 2, 0])
    z = unit(10)
    value = guided_loss(z, slices, label)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(3))
    both = torch.cat([order, order + 5])
    torch.testing.assert_close(guided_loss(z[both], slices[order], label[order]), value)
    torch.testing.assert_close(guided_loss(z, slices * 7 - 3, torch.tensor([9, 4, 4, -1, 9])), value)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4)))[0]
    torch.testing.assert_close(guided_loss(z @ turn, slices, label), value)
    swapped = torch.cat([z[5:], z[:5]])
    torch.testing.assert_close(guided_loss(swapped, slices, label), value)


def test_a_change_of_labels_changes_the_loss():
    z = unit(10)
    first = guided_loss(z, torch.arange(5), torch.tensor([0, 0, 1, 1, 2]))
    assert not torch.isclose(first, guided_loss(z, torch.arange(5), torch.tensor([0, 1, 0, 1, 2])))


def test_gradient_is_that_of_finite_differences():
    slices, label = torch.arange(3), torch.tensor([0, 0, 1])
    z = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for mode in ("all", "pair_plus_neg"):

        def loss(x, mode=mode):
            return guided_loss(torch.nn.functional.normalize(x, dim=1), slices, label, denominator=mode)

        assert torch.autograd.gradcheck(loss, (z,))


def test_anchors_without_positives_are_left_out_and_none_gives_zero():
    z = unit(4).requires_grad_()
    logits = similarity_logits(z, z, TAU)
    candidates = others(torch.arange(4), 4)
    positives = torch.zeros(4, 4, dtype=torch.bool)
    nothing = info_nce(logits, positives, candidates)
    assert nothing.item() == 0
    nothing.backward()
    assert torch.equal(z.grad, torch.zeros_like(z))
    positives[0, 2] = True
    expected = torch.logsumexp(logits[0, 1:], 0) - logits[0, 2]
    torch.testing.assert_close(info_nce(logits, positives, candidates), expected)


def test_no_negative_at_all_is_finite_with_finite_gradient():
    z = unit(4).requires_grad_()
    mask = others(torch.arange(4), 4)
    loss = info_nce(similarity_logits(z, z, TAU), mask, mask, denominator="pair_plus_neg")
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(z.grad).all()


def test_float32_under_autocast_and_no_overflow_at_low_temperature():
    z = unit(16, 32).float()
    rows = torch.arange(16)
    mask = guided_positives(torch.arange(8), None, rows)
    with torch.autocast("cpu", torch.bfloat16):
        logits = similarity_logits(z.bfloat16(), z.bfloat16(), 0.01)
        loss = info_nce(logits, mask, others(rows, 16))
    assert logits.dtype == loss.dtype == torch.float32
    rounded = z.bfloat16().double()
    exact = info_nce(rounded @ rounded.T / 0.01, mask, others(rows, 16))
    assert float(loss) == pytest.approx(float(exact), rel=1e-5)


def parts_of(label, *, attract):
    """Positives and candidates of the two variants of Chaitanya et al. for two views of each slice."""
    slices, rows = torch.arange(len(label)), torch.arange(2 * len(label))
    positives = guided_positives(slices, label if attract else None, rows)
    return positives, positives | apart(label, rows)


@pytest.mark.parametrize("denominator", ["all", "pair_plus_neg"])
@pytest.mark.parametrize("attract", [True, False])
def test_costs_and_gradients_of_pairs_equal_the_loop(denominator, attract):
    z = unit(10).requires_grad_()
    positives, candidates = parts_of(torch.tensor([0, 1, 0, 2, 1]), attract=attract)
    weights = torch.rand(10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits = similarity_logits(z, z, TAU)
    costs = pair_costs(logits, positives, candidates, denominator)
    total = 0.0
    for i in range(10):
        own = positives[i].nonzero().flatten().tolist()
        for p in own:
            inside = candidates[i].clone()
            if denominator == "pair_plus_neg":
                inside[own] = False
                inside[p] = True
            bottom = sum((z[i] @ z[d] / TAU).exp() for d in inside.nonzero().flatten().tolist())
            cost = -((z[i] @ z[p] / TAU).exp() / bottom).log()
            torch.testing.assert_close(costs[i, p], cost, rtol=0, atol=1e-10)
            assert costs[i, p] >= 0
            total = total + weights[i, p] * cost / len(own) / 10
    found = info_nce(logits, positives, candidates, weights=weights, denominator=denominator)
    torch.testing.assert_close(found, total, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in (found, total)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_pairs_cost_full_precision_under_autocast():
    logits = (20 * unit(4) @ unit(4).T).bfloat16()
    positives, candidates = parts_of(torch.tensor([0, 1]), attract=True)
    for denominator in ("all", "pair_plus_neg"):
        with torch.autocast("cpu", torch.bfloat16):
            found = pair_costs(logits, positives, candidates, denominator)
        assert found.dtype == torch.float32
        exact = pair_costs(logits.double(), positives, candidates, denominator)
        torch.testing.assert_close(found.double()[positives], exact[positives], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attract", [True, False])
def test_keys_of_the_same_part_other_than_the_positive_have_no_gradient(attract):
    label = torch.tensor([0, 1, 0, 2, 1])
    positives, candidates = parts_of(label, attract=attract)
    logits = similarity_logits(unit(10), unit(10), TAU).requires_grad_()
    costs = pair_costs(logits, positives, candidates, "pair_plus_neg")
    ids = label.repeat(2)
    for i in range(10):
        for p in positives[i].nonzero().flatten().tolist():
            (gradient,) = torch.autograd.grad(costs[i, p], logits, retain_graph=True)
            expected = torch.zeros(10, dtype=torch.bool)
            expected[p] = True
            expected |= ids != ids[i]
            assert torch.equal(gradient[i] != 0, expected)
            assert not gradient[[j for j in range(10) if j != i]].any()


def test_parts_can_be_renamed_and_a_single_one_leaves_nothing_to_learn():
    z, label = unit(10), torch.tensor([0, 1, 0, 2, 1])
    for attract in (True, False):

        def loss(ids, attract=attract):
            masks = parts_of(ids, attract=attract)
            return info_nce(similarity_logits(z, z, TAU), *masks, denominator="pair_plus_neg")

        torch.testing.assert_close(loss(torch.tensor([7, -2, 5])[label]), loss(label))
        assert loss(torch.zeros(5, dtype=torch.int64)).item() == 0
        assert loss(label).item() > 0


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 10_000))
def test_leaving_out_keys_of_the_same_part_never_raises_the_loss(slices, parts, seed):
    z = unit(2 * slices, seed=seed)
    label = torch.randint(parts, (slices,), generator=torch.Generator().manual_seed(seed))
    ignored = info_nce(similarity_logits(z, z, TAU), *parts_of(label, attract=False), denominator="pair_plus_neg")
    assert ignored <= guided_loss(z, torch.arange(slices), None) + 1e-12


def test_all_views_being_positives_cost_the_logarithm_of_their_number_at_least():
    label = torch.zeros(4, dtype=torch.int64)
    for seed in range(10):
        assert guided_loss(unit(8, seed=seed), torch.arange(4), label) >= math.log(7)
    equal = unit(1).expand(8, -1)
    assert float(guided_loss(equal, torch.arange(4), label)) == pytest.approx(math.log(7), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.booleans())
def test_pairs_never_cost_less_than_their_lower_bound(seed, parts, attract):
    masks = parts_of(torch.arange(6) % parts, attract=attract)
    z = unit(12, dim=2, seed=seed)
    loss = info_nce(similarity_logits(z, z, 0.5), *masks, denominator="pair_plus_neg")
    assert float(loss) >= pair_lower_bound(*masks, 0.5) - 1e-12


def test_the_lower_bound_of_pairs_is_reached_by_opposite_parts():
    masks = parts_of(torch.tensor([0, 1, 1]), attract=True)
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64).repeat(2, 1)
    loss = info_nce(similarity_logits(z, z, 0.5), *masks, denominator="pair_plus_neg")
    # Two anchors have 4 negatives, four have 2.
    expected = (math.log(1 + 4 * math.exp(-4)) + 2 * math.log(1 + 2 * math.exp(-4))) / 3
    assert pair_lower_bound(*masks, 0.5) == pytest.approx(expected, abs=1e-12)
    assert float(loss) == pytest.approx(expected, abs=1e-12)


def test_anchors_without_positives_have_no_part_in_values_and_bounds():
    positives = torch.tensor([[0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    candidates = torch.tensor([[0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    assert pair_lower_bound(positives, candidates, 0.5) == pytest.approx(math.log1p(math.exp(-4)), abs=1e-12)
    assert collapsed_value(positives, candidates) == pytest.approx(math.log(2), abs=1e-12)
    assert collapsed_value(positives, candidates, "pair_plus_neg") == pytest.approx(math.log(2), abs=1e-12)
    assert lower_bound(positives) == 0
    nothing = torch.zeros_like(positives)
    assert pair_lower_bound(nothing, candidates, 0.5) == collapsed_value(nothing, candidates) == 0
    assert lower_bound(nothing) == 0


def test_the_mean_is_over_valid_anchors_and_ranks_share_it(monkeypatch):
    losses, valid = torch.tensor([3.0, 0.0, 5.0, 0.0]), torch.tensor([True, False, True, True])
    assert anchor_mean(losses, valid).item() == pytest.approx(8 / 3)
    assert anchor_mean(torch.zeros(2), torch.zeros(2, dtype=torch.bool)).item() == 0
    # The other of two ranks holds one valid anchor.
    monkeypatch.setattr("fewlabel.objectives.contrastive.world_size", lambda: 2)
    monkeypatch.setattr("fewlabel.objectives.contrastive.sum_across", lambda count: count + 1)
    shares = [anchor_mean(losses, valid).item()]
    monkeypatch.setattr("fewlabel.objectives.contrastive.sum_across", lambda count: count + 3)
    shares.append(anchor_mean(torch.tensor([2.0, 0.0]), torch.tensor([True, False])).item())
    assert sum(shares) / 2 == pytest.approx((3 + 0 + 5 + 2) / 4)
