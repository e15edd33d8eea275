"""The supervised regime: its terms are the two losses with their weights."""

from __future__ import annotations

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.objectives.segmentation import cross_entropy, soft_dice_loss
from fewlabel.regimes.supervised import Supervised


def batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (3, 16, 16), generator=generator)
    labels[0, :4] = 255
    return SegmentationBatch(
        images=torch.randn(3, 1, 16, 16, generator=generator),
        labels=labels,
        slices=torch.arange(3),
        step=0,
        total_steps=10,
        generator=generator,
    )


def regime(**over):
    torch.manual_seed(0)
    return Supervised(Supervised.Config(**over), UNet(UNetConfig(width=4, depth=3), classes=3))


def test_terms_are_the_weighted_losses():
    one = regime(ce_weight=0.5, dice_weight=2.0).eval()
    terms = one.losses(batch())
    logits = one.network(batch().images)
    assert set(terms) == {"ce", "dice"}
    torch.testing.assert_close(terms["ce"], 0.5 * cross_entropy(logits, batch().labels))
    torch.testing.assert_close(terms["dice"], 2 * soft_dice_loss(logits, batch().labels))


def test_every_dice_setting_reaches_the_loss():
    one = regime(dice_per_batch=False, dice_background=True, dice_smooth=5.0).eval()
    terms = one.losses(batch())
    logits = one.network(batch().images)
    expected = soft_dice_loss(logits, batch().labels, batch=False, background=True, smooth=5.0)
    torch.testing.assert_close(terms["dice"], expected)
    torch.testing.assert_close(terms["ce"], cross_entropy(logits, batch().labels))


def test_a_weight_of_zero_drops_its_term():
    assert set(regime(ce_weight=0.0).losses(batch())) == {"dice"}
    assert set(regime(dice_weight=0.0).losses(batch())) == {"ce"}


def test_two_zero_weights_are_refused():
    with pytest.raises(SettingsError, match="must not both be 0"):
        resolve_plugin("fewlabel.regimes", {"name": "supervised", "ce_weight": 0.0, "dice_weight": 0.0})


def test_it_predicts_with_the_network_it_trains():
    one = regime()
    assert one.inference_network() is one.network
    assert not one.uses_unlabelled
