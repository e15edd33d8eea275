import itertools
import math

import pytest
import torch

from fewlabel.gradients.mitigator_gram import mitigate, original_cosines, visiting_order


def vectors(terms, size=9, seed=0, groups=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(groups, terms, size, dtype=torch.float64, generator=generator)


def fixed_order(terms, groups=1):
    rows = [[j for j in range(terms) if j != i] for i in range(terms)]
    return torch.tensor(rows).expand(groups, terms, terms - 1)


def angled(phi, size_i=2.0, size_j=3.0):
    """Two vectors with cosine phi."""
    return torch.tensor([[size_i, 0.0], [size_j * phi, size_j * math.sqrt(1 - phi**2)]], dtype=torch.float64)


def direct(gradients, targets, order, beta):
    """The algorithm on the gradients themselves, one number at a time."""
    targets = targets.clone()
    modified = [g.clone() for g in gradients]
    for i in range(len(gradients)):
        for j in order[i].tolist():
            mine, other = modified[i], gradients[j]
            phi = float(mine @ other / (mine.norm() * other.norm()))
            goal = float(targets[i, j])
            if phi < goal:
                top = goal * math.sqrt(1 - phi**2) - phi * math.sqrt(1 - goal**2)
                modified[i] = mine + other * float(mine.norm()) * top / (float(other.norm()) * math.sqrt(1 - goal**2))
            targets[i, j] = (1 - beta) * goal + beta * phi
    return torch.stack(modified), targets


@pytest.mark.parametrize("terms", [2, 3, 5])
def test_gram_form_equals_the_direct_form_over_steps(terms):
    targets = torch.zeros(4, terms, terms, dtype=torch.float64)
    slow = targets.clone()
    for step in range(6):
        j = vectors(terms, seed=step, groups=4)
        order = visiting_order(4, terms, torch.Generator().manual_seed(step))
        result = mitigate(j @ j.transpose(1, 2), targets, order, beta=0.3)
        targets = result.targets
        for group in range(4):
            modified, slow[group] = direct(list(j[group]), slow[group], order[group], 0.3)
            torch.testing.assert_close(result.coefficients[group] @ j[group], modified, rtol=0, atol=1e-12)
        torch.testing.assert_close(targets, slow, rtol=0, atol=1e-13)


@pytest.mark.parametrize("phi", [-0.9, -0.3, 0.0, 0.4])
@pytest.mark.parametrize("goal", [-0.5, 0.0, 0.5, 0.9, 0.9999])
def test_one_modification_reaches_the_target_angle(phi, goal):
    g = angled(phi)
    targets = torch.full((1, 2, 2), goal, dtype=torch.float64)
    result = mitigate((g @ g.T)[None], targets, fixed_order(2), beta=0.1)
    weight = float(result.coefficients[0, 0, 1])
    changed = result.coefficients[0, 0] @ g
    assert (weight > 0) == (phi < goal)
    assert bool(result.below[0, 0, 1]) == (phi < goal)
    assert float(result.cosines[0, 0, 1]) == pytest.approx(phi, abs=1e-12)
    if phi < goal:
        cosine = float(changed @ g[1] / (changed.norm() * g[1].norm()))
        gain = math.sqrt((1 - phi**2) / (1 - goal**2))
        assert cosine == pytest.approx(goal, abs=1e-12)
        assert float(changed.norm() / g[0].norm()) == pytest.approx(gain, abs=1e-12)
        assert float(result.gains[0, 0, 1]) == pytest.approx(gain, abs=1e-12)
    else:
        assert torch.equal(changed, g[0])
        assert float(result.gains[0, 0, 1]) == 1


def test_target_zero_projects_the_conflict_away():
    g = angled(-0.6)
    result = mitigate((g @ g.T)[None], torch.zeros(1, 2, 2, dtype=torch.float64), fixed_order(2), beta=0.01)
    assert float(result.coefficients[0, 0, 1]) == pytest.approx(-float(g[0] @ g[1] / g[1].square().sum()), abs=1e-12)


def test_two_terms_with_target_zero_never_oppose_either_gradient():
    g = vectors(2, size=4, groups=2000)
    result = mitigate(
        g @ g.transpose(1, 2), torch.zeros(2000, 2, 2, dtype=torch.float64), fixed_order(2, 2000), beta=0.01
    )
    mean = result.coefficients.mean(dim=1, keepdim=True) @ g
    assert (mean * g).sum(dim=2).min() > -1e-12
    high = mitigate(
        g @ g.transpose(1, 2), torch.full((2000, 2, 2), 0.8, dtype=torch.float64), fixed_order(2, 2000), beta=0.01
    )
    mean = high.coefficients.mean(dim=1, keepdim=True) @ g
    assert (mean * g).sum(dim=2).min() < 0


def test_targets_are_a_moving_average_of_a_constant_cosine():
    g = angled(0.4)
    targets = torch.zeros(1, 2, 2, dtype=torch.float64)
    for step in range(1, 30):
        targets = mitigate((g @ g.T)[None], targets, fixed_order(2), beta=0.2).targets
        assert float(targets[0, 0, 1]) == pytest.approx(0.4 * (1 - 0.8**step), abs=1e-12)
        assert float(targets[0, 0, 0]) == 0


def test_persistent_conflict_lowers_the_target_below_zero():
    g = angled(-0.5)
    targets = torch.zeros(1, 2, 2, dtype=torch.float64)
    for _ in range(400):
        result = mitigate((g @ g.T)[None], targets, fixed_order(2), beta=0.1)
        targets = result.targets
    assert float(targets[0, 0, 1]) == pytest.approx(-0.5, abs=1e-6)
    milder = angled(-0.3)
    assert torch.equal(
        mitigate((milder @ milder.T)[None], targets, fixed_order(2), beta=0.1).coefficients[0],
        torch.eye(2, dtype=torch.float64),
    )


def test_vanishing_gradients_change_nothing():
    g = torch.stack([torch.zeros(3), torch.tensor([1.0, -1, 0]), torch.tensor([-1.0, 0.5, 0])]).double()
    before = torch.full((1, 3, 3), 0.25, dtype=torch.float64)
    result = mitigate((g @ g.T)[None], before, fixed_order(3), beta=0.5)
    assert torch.equal(result.targets[0, 0], before[0, 0])
    assert torch.equal(result.targets[0, :, 0], before[0, :, 0])
    assert torch.equal(result.coefficients[0, 0], torch.tensor([1.0, 0, 0]).double())
    assert not result.compared[0, 0].any()
    assert float(result.coefficients[0, 1, 2]) > 0
    assert torch.isfinite(result.coefficients).all()


@pytest.mark.parametrize("goal", [0.0, 0.7])
def test_antiparallel_gradients_annihilate_without_nan(goal):
    g = torch.tensor([[2.0, 4.0], [-1.0, -2.0], [1.0, -3.0]], dtype=torch.float64)
    targets = torch.full((1, 3, 3), goal, dtype=torch.float64)
    result = mitigate((g @ g.T)[None], targets, fixed_order(3), beta=0.1)
    assert torch.allclose(result.coefficients[0, 0] @ g, torch.zeros(2, dtype=torch.float64), atol=1e-7)
    assert float(result.coefficients[0, 0, 1]) == pytest.approx(2.0, abs=1e-6)
    # What is left has no direction: it meets no further gradient and moves no further target.
    assert float(result.targets[0, 0, 2]) == goal
    assert torch.isfinite(result.targets).all()


def test_a_short_remainder_still_has_a_direction():
    g = torch.tensor([[1.0, 1e-3], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    targets = torch.zeros(1, 3, 3, dtype=torch.float64)
    result = mitigate((g @ g.T)[None], targets, fixed_order(3), beta=0.1)
    # Of the first gradient 1e-3 is left, right across the second and against the third.
    assert bool(result.compared[0, 0, 2])
    assert float(result.targets[0, 0, 2]) == pytest.approx(-0.1, abs=1e-6)


def test_equal_gradients_are_left_alone_even_with_a_target_of_one():
    g = torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    result = mitigate((g @ g.T)[None], torch.ones(1, 2, 2, dtype=torch.float64), fixed_order(2), beta=0.1)
    assert torch.equal(result.coefficients[0], torch.eye(2, dtype=torch.float64))


def test_the_amplification_by_a_high_target_is_that_of_the_law_of_sines():
    g = angled(-0.2)
    targets = torch.full((1, 2, 2), 0.99, dtype=torch.float64)
    result = mitigate((g @ g.T)[None], targets, fixed_order(2), beta=0.1)
    assert float(result.gains[0, 0, 1]) == pytest.approx(math.sqrt(0.96 / (1 - 0.99**2)), rel=1e-12)
    changed = result.coefficients[0, 0] @ g
    assert float(changed.norm() / g[0].norm()) == pytest.approx(float(result.gains[0, 0, 1]), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-5, 1e6])
def test_a_common_scale_of_all_gradients_changes_nothing(scale):
    g = vectors(3, groups=5)
    order = visiting_order(5, 3, torch.Generator().manual_seed(0))
    targets = torch.full((5, 3, 3), 0.3, dtype=torch.float64)
    one = mitigate(g @ g.transpose(1, 2), targets, order, beta=0.1)
    two = mitigate((scale * g) @ (scale * g).transpose(1, 2), targets, order, beta=0.1)
    torch.testing.assert_close(one.coefficients, two.coefficients)
    torch.testing.assert_close(one.targets, two.targets)


def test_order_matters_and_is_fresh_for_every_group_and_term():
    order = visiting_order(300, 3, torch.Generator().manual_seed(0))
    for i in range(3):
        others = [j for j in range(3) if j != i]
        found = {tuple(row) for row in order[:, i].tolist()}
        assert found == set(itertools.permutations(others))
        share = (order[:, i, 0] == others[0]).double().mean()
        assert 0.4 < float(share) < 0.6
    pairs = {(tuple(group[0]), tuple(group[1])) for group in order.tolist()}
    assert len(pairs) == 4
    g = vectors(3, seed=8)
    zeros = torch.full((1, 3, 3), 0.5, dtype=torch.float64)
    one = mitigate(g @ g.transpose(1, 2), zeros, fixed_order(3), beta=0.1)
    two = mitigate(g @ g.transpose(1, 2), zeros, fixed_order(3).flip(-1), beta=0.1)
    assert not torch.allclose(one.coefficients, two.coefficients)
    # Targets are not symmetric: they follow the modified gradient.
    assert not torch.allclose(one.targets[0], one.targets[0].T)


def test_original_cosines_leave_out_the_diagonal_and_zero_gradients():
    g = torch.tensor([[[1.0, 0], [-1.0, 1.0], [0, 0]]], dtype=torch.float64)
    cosines, valid = original_cosines(g @ g.transpose(1, 2))
    assert float(cosines[0, 0, 1]) == pytest.approx(-math.sqrt(0.5), abs=1e-12)
    assert valid[0].long().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
