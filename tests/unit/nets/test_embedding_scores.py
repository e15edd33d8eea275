"""Attention for each class: networks of their own."""

from __future__ import annotations

import math

import torch

from fewlabel.nets.embedding_scores import ClassAttention


def build():
    torch.manual_seed(0)
    net = ClassAttention(3, 5).double()
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.add_(0.3 * torch.randn_like(tensor))
    return net


def rows():
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_scores_are_those_of_the_class_in_question():
    net, given = build(), rows()
    net.requires_grad_(requires_grad=False)
    found = net(given)
    assert found.shape == (3, 4)
    for c in range(3):
        for k in range(4):
            hidden = []
            for j in range(5):
                value = float(net.first_bias[c, j]) + sum(float(given[c, k, i] * net.first[c, i, j]) for i in range(5))
                hidden.append(value if value > 0 else 0.2 * value)
            total = float(net.second_bias[c]) + sum(h * float(w) for h, w in zip(hidden, net.second[c], strict=True))
            assert math.isclose(float(found[c, k]), 1 / (1 + math.exp(-total)), rel_tol=1e-12)


def test_classes_do_not_meet():
    net, given = build(), rows()
    gradients = torch.autograd.grad(net(given)[1].sum(), list(net.parameters()))
    for gradient in gradients:
        assert gradient[1].abs().sum() > 0
        assert not gradient[[0, 2]].any()


def test_no_rows_no_scores():
    assert build()(torch.zeros(3, 0, 5, dtype=torch.float64)).shape == (3, 0)
