"""GradMitigator on gradients of two numbers, worked out by hand, and over several steps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fewlabel.gradients.aggregators import Aggregator, build_combiner
from fewlabel.gradients.gramian import FlatGradients, gram_matrices
from fewlabel.gradients.mitigator import GradMitigator
from fewlabel.gradients.mitigator_gram import mitigate, visiting_order

NAME = "encoder.blocks.0.conv1.weight"
#: Inner product -2, squared lengths 4 and 2, cosine -1/√2.
CONFLICT = ((2.0, 0.0), (-1.0, 1.0))
ORTHOGONAL = ((2.0, 0.0), (0.0, 3.0))
#: Cosine 1/√2.
AGREEING = ((2.0, 0.0), (1.0, 1.0))


def combine(combiner: GradMitigator | Aggregator, rows: tuple[tuple[float, ...], ...]) -> Tensor:
    gradients = [[torch.tensor(row, dtype=torch.float64)] for row in rows]
    (found,) = combiner.combine([NAME], gradients, torch.Generator().manual_seed(0))
    return found


def test_with_targets_of_0_each_gradient_loses_its_part_against_the_other() -> None:
    """(2, 0) becomes (2, 0) + (-1, 1), and (-1, 1) becomes (-1, 1) + (2, 0) / 2: (1, 1) and (0, 1), of mean (.5, 1)."""
    found = combine(GradMitigator(("a", "b")), CONFLICT)
    torch.testing.assert_close(found, torch.tensor([0.5, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("seed", range(5))
def test_the_result_is_the_mean_of_the_modified_gradients(seed: int) -> None:
    rows = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows *= torch.tensor([[0.5], [1.0], [3.0]])
    mitigator = GradMitigator(("a", "b", "c"), initial_target=0.4)
    found = mitigator.combine([NAME], [[row] for row in rows], torch.Generator().manual_seed(seed))[0]
    gram = gram_matrices([FlatGradients.of(list(rows))])
    order = visiting_order(1, 3, torch.Generator().manual_seed(seed))
    modified = mitigate(gram, torch.full_like(gram, 0.4), order, beta=0.01).coefficients[0] @ rows
    torch.testing.assert_close(found, modified.mean(dim=0))


def test_targets_begin_at_0_and_move_by_a_hundredth_of_the_cosine() -> None:
    for mitigator in (GradMitigator(("a", "b")), build_combiner("mitigator", ("a", "b"))):
        combine(mitigator, CONFLICT)
        targets = mitigator.state()["targets"][0]
        assert float(targets[0, 1]) == float(targets[1, 0]) == pytest.approx(-0.01 / math.sqrt(2))


def test_details_are_over_all_steps() -> None:
    mitigator = GradMitigator(("a", "b"), beta=0.0)
    for rows in (CONFLICT, CONFLICT, CONFLICT, ORTHOGONAL):
        combine(mitigator, rows)
    cosine = -1 / math.sqrt(2)
    figures = {"conflict": 0.75, "below_target": 0.75, "cosine": 0.75 * cosine, "target": 0.0}
    pairs = {f"{key}/{pair}": pytest.approx(value) for key, value in figures.items() for pair in ("a|b", "b|a")}
    assert mitigator.details() == {"granularity": "tensor", "terms": ["a", "b"], "tensors": {NAME: pairs}}


def test_gradients_at_a_right_angle_do_not_conflict() -> None:
    mitigator, aggregator = GradMitigator(("a", "b")), Aggregator("pcgrad", ("a", "b"))
    for combiner in (mitigator, aggregator):
        found = combine(combiner, ORTHOGONAL)
        torch.testing.assert_close(found, torch.tensor([1.0, 1.5], dtype=torch.float64))
        assert combiner.scalars()["cosine/a|b"] == combiner.scalars()["conflict/a|b"] == 0.0
    assert mitigator.details()["tensors"][NAME]["conflict/a|b"] == 0.0


def test_gradients_that_agree_do_not_conflict() -> None:
    for combiner in (GradMitigator(("a", "b")), Aggregator("pcgrad", ("a", "b"))):
        combine(combiner, AGREEING)
        assert combiner.scalars()["cosine/a|b"] == pytest.approx(1 / math.sqrt(2))
        assert combiner.scalars()["conflict/a|b"] == 0.0


def test_opposite_gradients_stay_finite_whatever_rounding_makes_of_their_cosine() -> None:
    """Of opposite vectors the quotient is now and then a little below -1."""
    first = torch.randn(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.stack([first, -first * torch.rand(400, 1, generator=torch.Generator().manual_seed(1))], dim=1)
    gram = rows @ rows.transpose(1, 2)
    lengths = gram.diagonal(dim1=1, dim2=2).sqrt()
    assert (gram[:, 0, 1] / (lengths[:, 0] * lengths[:, 1]) < -1).any()
    order = visiting_order(400, 2, torch.Generator().manual_seed(0))
    for target in (-1.0, 0.0, 0.5, 1.0):
        found = mitigate(gram, torch.full_like(gram, target), order, beta=0.5)
        for table in (found.coefficients, found.targets, found.cosines, found.gains):
            assert torch.isfinite(table).all()
        assert found.cosines.min() >= -1
