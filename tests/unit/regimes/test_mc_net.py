"""MC-Net: sharpening, mutual distance, targets without gradient, two ways up."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from fewlabel.nets.auxiliary_decoders import LinearDecoder
from fewlabel.regimes.mc_net import mutual_distance, sharpened
from kit.finetuning import TOTAL
from kit.tiny_regimes import slow_mean_square, supervised, tiny, tiny_batch

#: Consistency, without its weight, of the example below.
GOLDEN = 0.418262944871


def logits_of(seed=0, shape=(2, 4, 3, 5), scale=2.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_sharp(logits, temperature):
    chances = logits.softmax(dim=1)
    found = torch.empty_like(chances)
    for n, y, x in itertools.product(range(len(logits)), range(logits.shape[2]), range(logits.shape[3])):
        powers = [float(p) ** (1 / temperature) for p in chances[n, :, y, x]]
        found[n, :, y, x] = torch.tensor([power / sum(powers) for power in powers], dtype=torch.float64)
    return found


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 2.0])
def test_sharpening_is_the_power_brought_back_to_one(temperature):
    logits = logits_of()
    found = sharpened(logits, temperature)
    torch.testing.assert_close(found, slow_sharp(logits, temperature), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 3, 5, dtype=torch.float64))


def test_sharpening_keeps_the_arg_max_and_at_1_everything():
    logits = logits_of()
    assert torch.equal(sharpened(logits, 0.1).argmax(dim=1), logits.argmax(dim=1))
    assert bool((sharpened(logits, 0.1).amax(dim=1) >= sharpened(logits, 0.5).amax(dim=1)).all())
    torch.testing.assert_close(sharpened(logits, 1.0), logits.softmax(dim=1), rtol=1e-14, atol=0)


def test_sharpening_holds_where_powers_would_vanish():
    logits = torch.tensor([[-900.0, -905.0, -1000.0]], dtype=torch.float32).view(1, 3, 1, 1)
    assert sharpened(logits, 0.1).flatten().tolist() == pytest.approx([1, 0, 0])


def test_distance_is_the_slow_loop_and_symmetric():
    one, two = logits_of(0), logits_of(1)
    expected = slow_mean_square(one.softmax(dim=1), slow_sharp(two, 0.1))
    expected += slow_mean_square(two.softmax(dim=1), slow_sharp(one, 0.1))
    assert float(mutual_distance(one, two, 0.1)) == pytest.approx(expected, rel=1e-10)
    assert float(mutual_distance(two, one, 0.1)) == pytest.approx(expected, rel=1e-14)


def test_equal_sure_predictions_cost_nothing():
    sure = 1e4 * torch.nn.functional.one_hot(logits_of().argmax(dim=1), 4).permute(0, 3, 1, 2).double()
    assert float(mutual_distance(sure, sure, 0.1)) == 0
    # Equal and unsure is not enough: each is pulled towards its sharper self.
    assert float(mutual_distance(logits_of(), logits_of(), 0.1)) > 0.01


def test_targets_have_no_gradient():
    one, two = logits_of(0).requires_grad_(), logits_of(1).requires_grad_()
    found = torch.autograd.grad(mutual_distance(one, two, 0.1), [one, two])
    for moved, other, gradient in ((one, two, found[0]), (two, one, found[1])):
        alone = (moved.softmax(dim=1) - slow_sharp(other.detach(), 0.1)).square().mean()
        (expected,) = torch.autograd.grad(alone, moved)
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-14)


def example(**settings):
    regime = tiny("mc_net", **settings)
    with torch.no_grad():
        for part in (regime.network, regime.branch):
            part.classifier.weight.mul_(4)
    return regime


def both_logits(regime, images):
    regime = copy.deepcopy(regime)
    maps = regime.network.encoder(images)
    main = regime.network.classifier(regime.network.decoder(maps)[-1])
    return main.detach(), regime.branch.classifier(regime.branch.decoder(maps)[-1]).detach()


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_terms_are_those_of_the_formula(temperature):
    regime = example(temperature=temperature)
    batch = tiny_batch(regime)
    one, two = both_logits(regime, torch.cat([batch.images, batch.unlabelled]))
    # Labelled slices take part.
    expected = slow_mean_square(one.softmax(dim=1), slow_sharp(two, temperature))
    expected += slow_mean_square(two.softmax(dim=1), slow_sharp(one, temperature))
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "consistency"}
    assert float(terms["consistency"].detach()) == pytest.approx(regime.weight(10, TOTAL) * expected, rel=1e-10)
    assert regime.metrics()["consistency"] == pytest.approx(expected, rel=1e-10)
    for key in ("ce", "dice"):
        each = [float(supervised(logits[:2], batch.labels)[key]) for logits in (one, two)]
        assert float(terms[key].detach()) == pytest.approx(sum(each) / 2, rel=1e-11)
        assert abs(each[0] - each[1]) > 1e-3


def test_golden_value():
    regime = example()
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == pytest.approx(GOLDEN, rel=1e-6)


def test_the_decoders_go_up_in_different_ways():
    regime = tiny("mc_net")
    assert isinstance(regime.branch.decoder, LinearDecoder)
    assert not isinstance(regime.network.decoder, LinearDecoder)
    assert regime.inference_network() is regime.network
    assert regime.encoders() == (regime.network.encoder,)


def test_both_are_supervised_while_the_weight_rests_and_neither_more_with_neutral_settings():
    regime = example(rest=0.9)
    batch = tiny_batch(regime)
    each = [supervised(logits, batch.labels)["dice"] for logits in both_logits(regime, batch.images)]
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice"}
    torch.testing.assert_close(terms["dice"].detach(), sum(each) / 2, rtol=1e-11, atol=0)
    supervised_when = tiny("mc_net", unlabelled_weight=0.0, auxiliary_weight=0.0)
    supervised_when.branch.register_forward_pre_hook(lambda module, inputs: pytest.fail("the second decoder was used"))
    supervised_when.losses(tiny_batch(supervised_when))
