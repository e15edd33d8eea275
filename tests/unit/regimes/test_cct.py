"""Cross-consistency training: which maps each decoder sees, who is the target, and what is kept."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fewlabel.core.errors import SettingsError
from fewlabel.objectives.feature_perturbation import active_dropped, channels_dropped, noisy
from kit.finetuning import TOTAL
from kit.tiny_regimes import slow_mean_square, supervised, tiny, tiny_batch

#: Consistency, without its weight, of the example below.
GOLDEN = 0.097283619172
#: Settings that spoil nothing.
WHOLE = {"feature_noise": 0.0, "feature_drop": 0.0, "active_low": 2.0, "active_high": 2.0}


def example(**settings):
    """A regime that is sure of some pixels."""
    regime = tiny("cct", **settings)
    with torch.no_grad():
        for part in (regime.network, *regime.branches):
            part.classifier.weight.mul_(4)
    return regime


def slow_predictions(regime, batch):
    """All logits, the changes drawn as documented: labelled slices first, way by way, level by level."""
    regime = copy.deepcopy(regime)
    maps = regime.network.encoder(torch.cat([batch.images, batch.unlabelled]))
    parts, source, chosen = (len(batch.images), len(batch.unlabelled)), batch.generator, regime.settings
    spoilt = (
        [noisy(features, parts, chosen.feature_noise, source) for features in maps],
        [active_dropped(features, parts, chosen.active_low, chosen.active_high, source) for features in maps],
        [channels_dropped(features, parts, chosen.feature_drop, source) for features in maps],
    )
    main = regime.network.classifier(regime.network.decoder(maps)[-1])
    others = [
        branch.classifier(branch.decoder(given)[-1]) for branch, given in zip(regime.branches, spoilt, strict=True)
    ]
    return main.detach(), [logits.detach() for logits in others]


def test_terms_are_those_of_the_formula():
    regime = example()
    main, others = slow_predictions(regime, tiny_batch(regime))
    expected = sum(slow_mean_square(main[2:].softmax(dim=1), logits[2:].softmax(dim=1)) for logits in others) / 3
    terms = regime.losses(tiny_batch(regime))
    assert set(terms) == {"ce", "dice", "consistency"}
    assert float(terms["consistency"].detach()) == pytest.approx(regime.weight(10, TOTAL) * expected, rel=1e-10)
    assert regime.metrics()["consistency"] == pytest.approx(expected, rel=1e-10)
    for key in ("ce", "dice"):
        labels = tiny_batch(regime).labels
        each = [float(supervised(logits[:2], labels)[key]) for logits in (main, *others)]
        assert float(terms[key].detach()) == pytest.approx(sum(each) / 4, rel=1e-11)
        assert max(each) - min(each) > 1e-3


def test_golden_value():
    regime = example()
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == pytest.approx(GOLDEN, rel=1e-6)


def test_equal_decoders_that_see_whole_maps_agree():
    regime = example(**WHOLE)
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] > 1e-3
    for branch in regime.branches:
        branch.decoder.load_state_dict(regime.network.decoder.state_dict())
        branch.classifier.load_state_dict(regime.network.classifier.state_dict())
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == 0


@pytest.mark.parametrize("key", ["feature_noise", "feature_drop", "active_low"])
def test_each_change_is_seen_by_one_decoder(key):
    settings = {name: value for name, value in WHOLE.items() if name != key}
    if key == "active_low":
        settings["active_high"] = 0.9
    regime = example(**settings)
    for branch in regime.branches:
        branch.decoder.load_state_dict(regime.network.decoder.state_dict())
        branch.classifier.load_state_dict(regime.network.classifier.state_dict())
    batch = tiny_batch(regime)
    main, others = regime.predictions(batch.images, (2,), batch.generator)
    same = [bool(torch.equal(main, logits)) for logits in others]
    assert same == [key != "feature_noise", key != "active_low", key != "feature_drop"]


def test_the_main_prediction_is_a_target_without_gradient():
    regime = example()
    term = regime.losses(tiny_batch(regime))["consistency"]
    main = [*regime.network.decoder.parameters(), *regime.network.classifier.parameters()]
    assert all(g is None for g in torch.autograd.grad(term, main, retain_graph=True, allow_unused=True))
    others = [*regime.network.encoder.parameters(), *regime.branches.parameters()]
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(term, others))


def test_gradient_is_that_of_the_formula_with_the_target_held():
    regime = example(**WHOLE)
    batch = tiny_batch(regime)
    again = copy.deepcopy(regime)
    maps = again.network.encoder(torch.cat([batch.images, batch.unlabelled]))
    target = again.network.classifier(again.network.decoder(maps)[-1])[2:].softmax(dim=1).detach()
    expected = sum((branch(maps)[2:].softmax(dim=1) - target).square().mean() for branch in again.branches)
    expected = expected * regime.weight(10, TOTAL) / 3
    term = regime.losses(batch)["consistency"]
    ours = torch.autograd.grad(term, list(regime.network.encoder.parameters()))
    for a, b in zip(ours, torch.autograd.grad(expected, list(again.network.encoder.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_auxiliary_weight_sets_the_supervised_mean(share):
    regime = example(auxiliary_weight=share)
    main, others = slow_predictions(regime, tiny_batch(regime))
    labels = tiny_batch(regime).labels
    first, *rest = [float(supervised(logits[:2], labels)["ce"]) for logits in (main, *others)]
    found = float(regime.losses(tiny_batch(regime))["ce"].detach())
    assert found == pytest.approx((first + share * sum(rest)) / (1 + 3 * share), rel=1e-11)


def test_auxiliary_decoders_are_supervised_while_the_weight_rests():
    regime = example(rest=0.9, **WHOLE)
    batch = tiny_batch(regime)
    maps = copy.deepcopy(regime.network.encoder)(batch.images)
    heads = [lambda given: regime.network.classifier(regime.network.decoder(given)[-1]), *regime.branches]
    expected = sum(supervised(head(maps), batch.labels)["ce"] for head in heads) / 4
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice"}
    torch.testing.assert_close(terms["ce"], expected, rtol=1e-11, atol=0)


def test_only_the_main_prediction_is_kept():
    regime = example().eval()
    images = tiny_batch(regime).images
    before = regime.inference_network()(images)
    assert not any(isinstance(module, nn.ModuleList) and len(module) == 3 for module in regime.network.children())
    with torch.no_grad():
        for tensor in regime.branches.parameters():
            tensor.fill_(torch.nan)
    assert torch.equal(regime.inference_network()(images), before)


def test_neutral_settings_leave_the_branches_alone():
    regime = tiny("cct", unlabelled_weight=0.0, auxiliary_weight=0.0)
    for branch in regime.branches:
        branch.register_forward_pre_hook(lambda module, inputs: pytest.fail("a branch was used"))
    regime.losses(tiny_batch(regime))


def test_decoders_have_weights_of_their_own():
    regime = tiny("cct")
    parts = [regime.network, *regime.branches]
    weights = [part.classifier.weight for part in parts]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(SettingsError, match="active_high must not be below active_low"):
        tiny("cct", active_low=0.9, active_high=0.7)
