"""Mixup: mixed slices and targets by slow loops, shares of 0 and 1, unknown pixels, no unlabelled slice."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.objectives.mixing import beta_shares, partners
from fewlabel.objectives.segmentation import soft_target_cross_entropy, soft_target_dice
from fewlabel.regimes import mixup
from fewlabel.regimes.mixup import mixed_targets
from kit.tiny_regimes import supervised, tiny, tiny_batch

#: Cross-entropy and Dice of the example below.
GOLDEN = (1.379280505, 0.8945525324)


def batch_of(regime, seed=1):
    """Four labelled slices with pixels whose label is unknown."""
    batch = tiny_batch(regime, labelled=4, unlabelled=0)
    unknown = torch.rand(batch.labels.shape, generator=torch.Generator().manual_seed(seed)) < 0.2
    return dataclasses.replace(batch, labels=batch.labels.masked_fill(unknown, 255))


def slow_targets(first, second, shares, classes=4):
    target = torch.zeros(len(first), classes, 16, 16, dtype=torch.float64)
    known = torch.zeros(len(first), 16, 16, dtype=torch.bool)
    for n, y, x in itertools.product(range(len(first)), range(16), range(16)):
        parts = [(int(first[n, y, x]), float(shares[n])), (int(second[n, y, x]), 1 - float(shares[n]))]
        parts = [(label, share) for label, share in parts if share > 0]
        known[n, y, x] = all(label != 255 for label, _ in parts)
        if known[n, y, x]:
            for label, share in parts:
                target[n, label, y, x] += share
    return target, known


class TestTargets:
    def labels(self, seed):
        return torch.randint(0, 4, (5, 16, 16), generator=torch.Generator().manual_seed(seed))

    @pytest.mark.parametrize("unknown", [0.0, 0.3])
    def test_equal_a_slow_loop(self, unknown):
        source = torch.Generator().manual_seed(5)
        first, second = (
            self.labels(seed).masked_fill(torch.rand(5, 16, 16, generator=source) < unknown, 255) for seed in (0, 1)
        )
        shares = torch.tensor([0.3, 1.0, 0.0, 0.9, 0.5], dtype=torch.float64)
        target, known = mixed_targets(first, second, shares, 4)
        expected, where = slow_targets(first, second, shares)
        assert torch.equal(known, where)
        torch.testing.assert_close(target, expected, rtol=1e-14, atol=1e-15)
        # Where known they are probabilities.
        torch.testing.assert_close(target.sum(dim=1), known.double(), rtol=1e-14, atol=1e-15)

    def test_swapping_the_slices_and_the_shares_changes_nothing(self):
        first, second = self.labels(0), self.labels(1)
        shares = torch.rand(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        one, known = mixed_targets(first, second, shares, 4)
        two, other = mixed_targets(second, first, 1 - shares, 4)
        torch.testing.assert_close(one, two, rtol=1e-13, atol=1e-15)
        assert torch.equal(known, other)

    def test_volumes_too(self):
        first, second = (torch.randint(0, 3, (2, 3, 4, 5)) for _ in range(2))
        target, known = mixed_targets(first, second, torch.tensor([0.25, 0.5]), 3)
        assert target.shape == (2, 3, 3, 4, 5)
        assert bool(known.all())
        torch.testing.assert_close(target.sum(dim=1), torch.ones(2, 3, 4, 5))


def test_terms_are_those_of_the_formula():
    regime = tiny("mixup", ce_weight=0.7, dice_weight=1.5, dice_smooth=2.0)
    batch, source = batch_of(regime), batch_of(regime).generator
    others, shares = partners(4, source).tolist(), beta_shares(4, 0.2, source)
    mixed = torch.stack(
        [
            share * batch.images[n] + (1 - share) * batch.images[other]
            for n, (other, share) in enumerate(zip(others, shares, strict=True))
        ]
    )
    target, known = slow_targets(batch.labels, batch.labels[others], shares)
    logits = copy.deepcopy(regime.network)(mixed)
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice"}
    entropy = soft_target_cross_entropy(logits, target, known)
    torch.testing.assert_close(terms["ce"], 0.7 * entropy, rtol=1e-11, atol=0)
    dice = soft_target_dice(logits, target, known, smooth=2.0)
    torch.testing.assert_close(terms["dice"], 1.5 * dice, rtol=1e-11, atol=0)


def test_golden_values():
    regime = tiny("mixup")
    terms = regime.losses(batch_of(regime))
    assert [float(terms[name].detach()) for name in ("ce", "dice")] == pytest.approx(GOLDEN, rel=1e-6)


@pytest.mark.parametrize("settings", [{}, {"dice_per_batch": False, "dice_background": True}])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_shares_of_0_and_1_are_supervised_training_on_whole_slices(monkeypatch, share, settings):
    monkeypatch.setattr(
        mixup, "beta_shares", lambda rows, alpha, generator: torch.full((rows,), share, dtype=torch.float64)
    )
    regime = tiny("mixup", **settings)
    plain = tiny("supervised", **settings)
    # With 0 every slice is its partner, and each is a partner once.
    found, expected = regime.losses(batch_of(regime)), plain.losses(batch_of(plain))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-13)


def test_a_slice_alone_is_itself():
    regime = tiny("mixup")
    batch = tiny_batch(regime, labelled=1, unlabelled=0)
    expected = supervised(copy.deepcopy(regime.network)(batch.images), batch.labels)
    for key, value in regime.losses(batch).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-10, atol=1e-13)


def test_without_alpha_nothing_is_drawn_or_mixed():
    regime = tiny("mixup", alpha=0.0)
    batch = batch_of(regime)
    expected = supervised(copy.deepcopy(regime.network)(batch.images), batch.labels)
    terms = regime.losses(batch)
    assert all(torch.equal(terms[key], value) for key, value in expected.items())
    assert torch.equal(batch.generator.get_state(), batch_of(regime).generator.get_state())


def test_only_mixed_slices_are_seen_and_no_unlabelled_one():
    regime = tiny("mixup", alpha=5.0)
    assert not regime.uses_unlabelled
    seen = []
    regime.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    batch = batch_of(regime)
    terms = regime.losses(batch)
    assert [len(images) for images in seen] == [4]
    assert all(not torch.allclose(mixed, row) for mixed in seen[0] for row in batch.images)
    extra = dataclasses.replace(batch_of(regime), unlabelled=batch.images + 1)
    again = tiny("mixup", alpha=5.0).losses(extra)
    assert all(torch.equal(terms[key], value) for key, value in again.items())


@pytest.mark.parametrize(("off", "left"), [("ce_weight", "dice"), ("dice_weight", "ce")])
def test_a_weight_of_zero_drops_its_term(off, left):
    regime = tiny("mixup", **{off: 0.0})
    assert set(regime.losses(batch_of(regime))) == {left}


def test_an_alpha_below_0_is_refused():
    with pytest.raises(SettingsError, match="alpha"):
        resolve_plugin("fewlabel.regimes", {"name": "mixup", "alpha": -1.0})
