"""Cross pseudo supervision: who learns from whom, and what the two networks have in common."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from fewlabel.nets.unet import UNet
from kit.finetuning import TOTAL, train
from kit.tiny_regimes import stir, supervised, tiny, tiny_batch

#: Hard-label terms, without their weight, of the example below.
GOLDEN = (1.906618125164, 3.445271626040)


def images_of(batch):
    return torch.cat([batch.images, batch.unlabelled])


def example(**settings):
    """Networks that are sure of some pixels and disagree on many."""
    regime = tiny("cps", **settings)
    stir(regime.second)
    with torch.no_grad():
        for network in (regime.network, regime.second):
            network.classifier.weight.mul_(4)
    return regime


def slow_cost(logits, other):
    """Mean of -log p at the other's arg-max."""
    found = []
    for n, y, x in itertools.product(range(len(logits)), range(logits.shape[2]), range(logits.shape[3])):
        label = max(range(logits.shape[1]), key=lambda c: float(other[n, c, y, x]))
        found.append(-float(logits[n, :, y, x].log_softmax(dim=0)[label]))
    return sum(found) / len(found)


def test_terms_are_those_of_the_formula():
    regime = example()
    batch = tiny_batch(regime)
    one = copy.deepcopy(regime.network)(images_of(batch)).detach()
    two = copy.deepcopy(regime.second)(images_of(batch)).detach()
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "ce_second", "dice_second", "cross", "cross_second"}
    weight = regime.weight(10, TOTAL)
    assert float(terms["cross"].detach()) == pytest.approx(weight * slow_cost(one[2:], two[2:]), rel=1e-10)
    assert float(terms["cross_second"].detach()) == pytest.approx(weight * slow_cost(two[2:], one[2:]), rel=1e-10)
    for ending, logits in (("", one), ("_second", two)):
        for key, value in supervised(logits[:2], batch.labels).items():
            torch.testing.assert_close(terms[f"{key}{ending}"].detach(), value, rtol=1e-12, atol=0)
    agreement = (one[2:].argmax(dim=1) == two[2:].argmax(dim=1)).double().mean()
    assert 0.02 < float(agreement) < 0.98
    assert regime.metrics()["agreement"] == pytest.approx(float(agreement))


def test_golden_values():
    regime = example(ramp=0.0, unlabelled_weight=1.0)
    terms = regime.losses(tiny_batch(regime))
    found = [float(terms[key].detach()) for key in ("cross", "cross_second")]
    assert found == pytest.approx(GOLDEN, rel=1e-6)


def test_hard_labels_have_no_gradient():
    regime = example()
    terms = regime.losses(tiny_batch(regime))
    mine, other = list(regime.network.parameters()), list(regime.second.parameters())
    for key, moved, still in (("cross", mine, other), ("cross_second", other, mine)):
        gradients = torch.autograd.grad(terms[key], [*moved, *still], retain_graph=True, allow_unused=True)
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients[: len(moved)])
        assert all(gradient is None for gradient in gradients[len(moved) :])


def test_identical_networks_have_identical_losses():
    regime = tiny("cps")
    regime.second.load_state_dict(regime.network.state_dict())
    terms = regime.losses(tiny_batch(regime))
    for key in ("ce", "dice", "cross"):
        assert torch.equal(terms[key], terms[f"{key}_second"])
    assert regime.metrics()["agreement"] == 1


def test_swapping_the_networks_swaps_the_losses():
    regime = example()
    swapped = example()
    swapped.network.load_state_dict(regime.second.state_dict())
    swapped.second.load_state_dict(regime.network.state_dict())
    one, two = regime.losses(tiny_batch(regime)), swapped.losses(tiny_batch(swapped))
    for key in ("ce", "dice", "cross"):
        assert not torch.equal(one[key], one[f"{key}_second"])
        assert torch.equal(one[key], two[f"{key}_second"])
        assert torch.equal(one[f"{key}_second"], two[key])


def kernels(module):
    return {name: tensor for name, tensor in module.named_parameters() if tensor.dim() > 1}


def test_from_scratch_no_kernel_is_shared():
    regime = tiny("cps")
    other = kernels(regime.second)
    assert all(not torch.equal(tensor, other[name]) for name, tensor in kernels(regime.network).items())


def test_from_a_pretrained_encoder_both_start_alike_and_decoders_differ():
    regime = tiny("cps", pretrained=True)
    ours, theirs = regime.network.encoder.state_dict(), regime.second.encoder.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    for part in ("decoder", "classifier"):
        other = kernels(getattr(regime.second, part))
        assert all(
            not torch.equal(tensor, other[name]) for name, tensor in kernels(getattr(regime.network, part)).items()
        )
    # Two tensors of the same value, not one tensor.
    assert not {id(t) for t in regime.network.parameters()} & {id(t) for t in regime.second.parameters()}


@pytest.mark.parametrize("pretrained", [True, False])
def test_both_encoders_are_named_and_network_1_predicts(pretrained):
    regime = tiny("cps", pretrained=pretrained)
    assert regime.encoders() == (regime.network.encoder, regime.second.encoder)
    assert regime.inference_network() is regime.network
    assert isinstance(regime.second, UNet)


def test_the_second_network_is_seeded_by_the_global_generator():
    same, other = [tiny("cps", seed=seed).second.classifier.weight for seed in (0, 1)]
    assert torch.equal(tiny("cps").second.classifier.weight, same)
    assert not torch.equal(same, other)


def test_both_are_supervised_while_the_weight_rests():
    regime = tiny("cps", rest=0.9)
    batch = tiny_batch(regime)
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "ce_second", "dice_second"}
    expected = supervised(copy.deepcopy(regime.second)(batch.images), batch.labels)
    torch.testing.assert_close(terms["dice_second"], expected["dice"], rtol=1e-12, atol=0)


def test_without_weight_the_second_network_is_not_touched():
    regime = tiny("cps", unlabelled_weight=0.0)
    regime.second.register_forward_pre_hook(lambda module, inputs: pytest.fail("the second network was used"))
    assert set(regime.losses(tiny_batch(regime))) == {"ce", "dice"}


def test_disagreement_shrinks_on_slices_without_labels():
    regime = tiny("cps", unlabelled_weight=2.0, ramp=0.0)
    train(regime.float(), 1)
    before = regime.metrics()["agreement"]
    train(regime, 30, first=1, rate=0.1)
    assert regime.metrics()["agreement"] > max(before, 0.8)
