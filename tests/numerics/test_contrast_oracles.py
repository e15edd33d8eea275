"""Losses and gradient surgery against independent implementations: pytorch-metric-learning, MONAI, torchjd."""

import itertools

import pytest
import torch
from monai.losses import ContrastiveLoss
from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss, SupConLoss
from torchjd.aggregation import GradVac, PCGrad

from fewlabel.gradients.mitigator import GradMitigator
from fewlabel.gradients.mitigator_gram import mitigate
from fewlabel.objectives.contrastive import info_nce, similarity_logits
from fewlabel.objectives.positives import guided_positives, others

TAU = 0.2


def embeddings(rows=12, dim=8, seed=0):
    values = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=1)


def ours(z, label, **options):
    rows = torch.arange(len(z))
    positives = guided_positives(torch.arange(len(z) // 2), label, rows)
    return info_nce(similarity_logits(z, z, TAU), positives, others(rows, len(z)), **options)


@pytest.mark.parametrize("label", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 2]])
def test_image_loss_equals_supervised_contrast(label):
    z, label = embeddings(), torch.tensor(label)
    torch.testing.assert_close(ours(z, label), SupConLoss(temperature=TAU)(z, label.repeat(2)), rtol=1e-10, atol=0)


def test_views_only_equals_nt_xent_of_two_libraries():
    z = embeddings()
    value = ours(z, None)
    other = SelfSupervisedLoss(NTXentLoss(temperature=TAU))(z[:6], z[6:])
    torch.testing.assert_close(value, other, rtol=1e-10, atol=0)
    single = ContrastiveLoss(temperature=TAU)(z[:6].float(), z[6:].float())
    torch.testing.assert_close(value.float(), single, rtol=1e-5, atol=0)


def test_pair_plus_neg_is_the_multi_positive_nt_xent_over_pairs():
    z, label = embeddings(), torch.tensor([0, 0, 1, 1, 2, 2])
    # With equally many positives everywhere the mean over anchors is the mean over pairs.
    value = ours(z, label, denominator="pair_plus_neg")
    torch.testing.assert_close(value, NTXentLoss(temperature=TAU)(z, label.repeat(2)), rtol=1e-10, atol=0)


def stream(terms, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(terms, 5, generator=generator, dtype=torch.float64) for _ in range(steps)]


@pytest.mark.parametrize("beta", [0.01, 0.5])
def test_two_labels_equal_gradvac_over_a_run_but_for_the_mean(beta):
    oracle = GradVac(beta=beta, eps=0.0)
    mitigator = GradMitigator(("a", "b"), beta=beta)
    for jacobian in stream(2, 60):
        (found,) = mitigator.combine(["encoder.w"], [[row] for row in jacobian], torch.Generator())
        torch.testing.assert_close(found, oracle(jacobian) / 2, rtol=1e-9, atol=1e-12)
    assert float(mitigator.state()["targets"].abs().max()) > 1e-3


def orders(terms):
    """Every joint visiting order of all terms."""
    rows = [list(itertools.permutations([j for j in range(terms) if j != i])) for i in range(terms)]
    return [torch.tensor(choice)[None] for choice in itertools.product(*rows)]


def test_three_labels_equal_gradvac_for_the_order_it_drew(monkeypatch):
    drawn = []
    plain = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *a, **k: drawn.append(plain(*a, **k)) or drawn[-1])
    torch.manual_seed(0)
    oracle = GradVac(beta=0.3, eps=0.0)
    targets = torch.zeros(1, 3, 3, dtype=torch.float64)
    for jacobian in stream(3, 40, seed=1):
        drawn.clear()
        expected = oracle(jacobian) / 3
        rows = [[[j for j in range(3) if j != i][k] for k in drawn[i].tolist()] for i in range(3)]
        result = mitigate((jacobian @ jacobian.T)[None], targets, torch.tensor(rows)[None], beta=0.3)
        targets = result.targets
        torch.testing.assert_close(result.coefficients[0].mean(dim=0) @ jacobian, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("terms", [2, 3])
def test_target_zero_equals_pcgrad_for_some_order(terms):
    torch.manual_seed(0)
    for jacobian in stream(terms, 12, seed=2):
        expected = PCGrad()(jacobian) / terms
        zeros = torch.zeros(1, terms, terms, dtype=torch.float64)
        results = [
            mitigate((jacobian @ jacobian.T)[None], zeros, order, beta=0.01).coefficients[0].mean(dim=0) @ jacobian
            for order in orders(terms)
        ]
        assert min(float((found - expected).abs().max()) for found in results) < 1e-12
