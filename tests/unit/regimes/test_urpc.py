"""URPC: scales from decoder blocks, their maps spoilt, supervised together, rectified consistency."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.feature_perturbation import active_dropped, channels_dropped, noisy
from fewlabel.objectives.uncertainty_rectified_consistency import rectified_consistency
from kit.finetuning import TOTAL, build, toy_batch
from kit.tiny_regimes import supervised

#: Consistency, without its weight, of the example below.
GOLDEN = 0.460763281570
WHOLE = {"feature_noise": 0.0, "feature_drop": 0.0, "active_low": 2.0, "active_high": 2.0}
DEEP = UNetConfig(width=4, depth=5)


def regime_of(network=DEEP, **settings):
    found = build("urpc", network=network, dtype=torch.float64, **{"joint": True} | settings).train()
    with torch.no_grad():
        for classifier in (found.network.classifier, *found.classifiers):
            classifier.weight.mul_(4)
    return found


def batch_of(regime):
    return toy_batch(regime, labelled=2, unlabelled=3, dtype=torch.float64, seed=3)


def slow_predictions(regime, batch):
    """Finest first."""
    regime = copy.deepcopy(regime)
    chosen, source = regime.settings, batch.generator
    images = torch.cat([batch.images, batch.unlabelled])
    parts = (len(batch.images), len(batch.unlabelled))
    eight, four, two, one = regime.network.decoder(regime.network.encoder(images))
    spoilt = (
        noisy(two, parts, chosen.feature_noise, source),
        active_dropped(four, parts, chosen.active_low, chosen.active_high, source),
        channels_dropped(eight, parts, chosen.feature_drop, source),
    )
    found = [regime.network.classifier(one)]
    for classifier, features in zip(regime.classifiers, spoilt, strict=True):
        logits = classifier(features)
        found.append(functional.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False))
    return [logits.detach() for logits in found]


def test_terms_are_those_of_the_formula():
    regime = regime_of()
    scales = slow_predictions(regime, batch_of(regime))
    expected = float(rectified_consistency([logits[2:].log_softmax(dim=1) for logits in scales]))
    terms = regime.losses(batch_of(regime))
    assert set(terms) == {"ce", "dice", "consistency"}
    assert float(terms["consistency"].detach()) == pytest.approx(regime.weight(10, TOTAL) * expected, rel=1e-10)
    assert regime.metrics()["consistency"] == pytest.approx(expected, rel=1e-10)
    for key in ("ce", "dice"):
        each = [float(supervised(logits[:2], batch_of(regime).labels)[key]) for logits in scales]
        assert float(terms[key].detach()) == pytest.approx(sum(each) / 4, rel=1e-11)


def test_golden_value():
    regime = regime_of()
    regime.losses(batch_of(regime))
    assert regime.metrics()["consistency"] == pytest.approx(GOLDEN, rel=1e-6)


@pytest.mark.parametrize(
    ("depth", "scales", "channels"), [(5, 4, [8, 16, 32]), (5, 2, [8]), (4, 4, [8, 16]), (3, 4, [8])]
)
def test_classifiers_sit_on_decoder_blocks_finest_first(depth, scales, channels):
    regime = regime_of(UNetConfig(width=4, depth=depth), scales=scales)
    assert [classifier.in_channels for classifier in regime.classifiers] == channels
    batch = batch_of(regime)
    main, others = regime.predictions(batch.images, (2,), batch.generator)
    assert len(others) == len(channels)
    assert all(logits.shape == main.shape == (2, 4, 32, 32) for logits in others)


def test_volumes_have_scales_too():
    regime = regime_of(UNetConfig(width=4, depth=3, ndim=3))
    images = torch.randn(1, 1, 4, 8, 8, dtype=torch.float64)
    main, (other,) = regime.predictions(images, (1,), torch.Generator())
    assert main.shape == other.shape == (1, 4, 4, 8, 8)


def test_equal_scales_cost_nothing():
    regime = regime_of(**WHOLE)
    with torch.no_grad():
        for classifier in (regime.network.classifier, *regime.classifiers):
            classifier.weight.zero_()
            classifier.bias.copy_(torch.tensor([0.3, -1.0, 2.0, 0.1]))
    regime.losses(batch_of(regime))
    assert regime.metrics()["consistency"] == pytest.approx(0, abs=1e-14)


def test_predictions_that_are_sure_of_different_classes_stay_finite():
    regime = regime_of(**WHOLE)
    with torch.no_grad():
        for index, classifier in enumerate((regime.network.classifier, *regime.classifiers)):
            classifier.weight.zero_()
            classifier.bias.zero_()
            classifier.bias[index] = 1e6
    terms = regime.losses(batch_of(regime))
    gradients = torch.autograd.grad(terms["consistency"], list(regime.parameters()), allow_unused=True)
    assert bool(terms["consistency"].isfinite())
    assert all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("key", ["feature_noise", "active_low", "feature_drop"])
def test_each_change_is_of_one_scale(key):
    settings = {name: value for name, value in WHOLE.items() if name != key}
    if key == "active_low":
        settings["active_high"] = 0.9
    spoilt, whole = regime_of(**settings), regime_of(**WHOLE)
    batch = batch_of(spoilt)
    found = spoilt.predictions(batch.images, (2,), batch.generator)
    plain = whole.predictions(batch.images, (2,), batch.generator)
    assert torch.equal(found[0], plain[0])
    same = [bool(torch.equal(a, b)) for a, b in zip(found[1], plain[1], strict=True)]
    assert same == [key != "feature_noise", key != "active_low", key != "feature_drop"]


def test_all_scales_move():
    regime = regime_of()
    term = regime.losses(batch_of(regime))["consistency"]
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(term, list(regime.parameters())))


def test_each_scale_teaches_the_decoder_block_it_sits_on():
    regime = regime_of(**WHOLE)
    batch = batch_of(regime)
    _, others = regime.predictions(batch.images, (2,), batch.generator)
    for index, logits in enumerate(others):
        block = regime.network.decoder.blocks[-2 - index]
        gradients = torch.autograd.grad(logits.square().sum(), list(block.parameters()), retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_only_the_full_size_prediction_is_kept():
    regime = regime_of().eval()
    images = batch_of(regime).images
    before = regime.inference_network()(images)
    with torch.no_grad():
        for tensor in regime.classifiers.parameters():
            tensor.fill_(torch.nan)
    assert torch.equal(regime.inference_network()(images), before)


def test_neutral_settings_leave_the_classifiers_alone():
    regime = regime_of(unlabelled_weight=0.0, auxiliary_weight=0.0)
    for classifier in regime.classifiers:
        classifier.register_forward_pre_hook(lambda module, inputs: pytest.fail("a coarse classifier was used"))
    regime.losses(batch_of(regime))


def test_a_network_of_two_levels_is_refused():
    with pytest.raises(SettingsError, match=r"network\.depth: must be at least 3 for the pyramid"):
        regime_of(UNetConfig(width=4, depth=2))
