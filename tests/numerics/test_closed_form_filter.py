"""GradFilter's closed form against one backward pass per pair, through the real encoder (GCL D.11)."""

import pytest
import torch

from fewlabel.methods.gcl.gradfilter import gradient_norms
from fewlabel.methods.gcl.pixel_loss import top_pool
from fewlabel.nets.synchronised_batch_norm import affine_scale
from kit.closed_form import TAU, make_problem, slow_norms


@pytest.mark.parametrize("all_positives", [False, True])
@pytest.mark.parametrize("path", ["anchor", "embedding"])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_norms_equal_autograd_for_every_pair(path, slope, all_positives):
    problem = make_problem(slope=slope)
    logits = problem.logits()
    pool = top_pool(logits, 3)
    found = gradient_norms(
        path,
        problem.tail,
        problem.tail,
        problem.partners,
        logits,
        pool,
        problem.head.first.weight,
        temperature=TAU,
        all_positives=all_positives,
    )
    expected = slow_norms(problem, pool, path, all_positives=all_positives)
    assert expected.min() > 0
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_in_training_the_scale_is_that_of_the_batch_with_statistics_held_constant(norm):
    """δ is checked against a normalisation whose statistics are constants equal to the batch's."""
    torch.manual_seed(5)
    from fewlabel.nets.synchronised_batch_norm import normalisation

    layer = normalisation(norm, 8, 2).double()
    layer.weight.data.uniform_(0.5, 1.5)
    before = torch.randn(3, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    scale = affine_scale(layer, before).double()
    if norm == "batch":
        mean = before.detach().mean((0, 2, 3))[None, :, None, None]
        table = scale[None, :, None, None]
    elif norm == "instance":
        mean = before.detach().mean((2, 3), keepdim=True)
        table = scale[..., None, None]
    else:
        mean = before.detach().view(3, 8, 1, 4, 4).mean((2, 3, 4))[..., None, None]
        table = scale[..., None, None]
    held = (before - mean) * table + layer.bias[:, None, None]
    torch.testing.assert_close(held, layer(before), rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(held.sum(), before)
    torch.testing.assert_close(gradient, table.expand_as(before))
