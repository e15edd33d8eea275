"""GradFilter's closed form against one backward pass per pair, through the real encoder (GCL D.11)."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fewlabel.methods.gcl.backprop import pixel_tail
from fewlabel.methods.gcl.gradfilter import gradient_norms
from fewlabel.methods.gcl.pixel_loss import top_pool
from fewlabel.nets.norm import affine_scale
from kit.closed_form import TAU, make_problem, pair_loss, slow_norms


@pytest.mark.parametrize("all_positives", [False, True])
@pytest.mark.parametrize("path", ["anchor", "pair", "embedding"])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_norms_equal_autograd_for_every_pair(path, slope, all_positives):
    problem = make_problem(slope=slope, patches=path == "pair")
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


@pytest.mark.parametrize("path", ["anchor", "pair"])
def test_a_bias_adds_one_to_the_patch(path):
    """The same tail by hand, with a bias in the last convolution: (W, b) together."""
    torch.manual_seed(3)
    inputs = torch.randn(2, 3, 3, 4, dtype=torch.float64)
    conv = nn.Conv2d(3, 6, 3, padding=1).double()
    scale = torch.rand(6, dtype=torch.float64) + 0.5
    first, second = nn.Linear(6, 6).double(), nn.Linear(6, 4).double()
    features = torch.relu(conv(inputs) * scale[:, None, None] + 0.1).flatten(2).transpose(1, 2)
    hidden = torch.relu(first(features))
    output = second(hidden)
    tail = pixel_tail(features, hidden, output, second.weight, inputs=inputs, scale=scale, slope=0.0, patches=True)
    v = functional.normalize(output, dim=-1)
    partners = torch.tensor([1, 0])
    logits = (v @ v[partners].transpose(1, 2) / TAU).detach()
    pool = top_pool(logits, 2)
    found = gradient_norms(path, tail, tail, partners, logits, pool, first.weight, temperature=TAU, bias=True)
    for i in range(2):
        for p in range(12):
            for k, q in enumerate(pool[i, p].tolist()):
                keys = v[partners[i]]
                positive = keys[q] if path == "pair" else keys[q].detach()
                loss = pair_loss(v[i, p], keys.detach(), positive, pool[i, p], q, all_positives=False)
                parts = torch.autograd.grad(loss, (conv.weight, conv.bias), retain_graph=True)
                expected = torch.cat([part.flatten() for part in parts]).norm()
                assert float(found[i, p, k]) == pytest.approx(float(expected), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_in_training_the_scale_is_that_of_the_batch_with_statistics_held_constant(norm):
    """δ is checked against a normalisation whose statistics are constants equal to the batch's."""
    torch.manual_seed(5)
    from fewlabel.nets.norm import normalisation

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
