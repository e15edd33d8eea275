"""What semi-supervised regimes share: when the unlabelled part counts, how much, and what is computed then."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.nets.unet import UNet
from fewlabel.regimes.semi_supervised import SemiSettings, SemiSupervised, concat_streams
from kit.tiny_regimes import TINY, supervised, tiny_batch


class Toy(SemiSupervised):
    """The mean logit of unlabelled slices, weighted."""

    calls = 0

    def joint_terms(self, batch, unlabelled, weight):
        self.calls += 1
        logits = self.network(concat_streams(batch, unlabelled))
        mean = logits[len(batch.images) :].mean()
        self.log(mean=mean, number=3)
        return {**self.supervision(logits[: len(batch.images)], batch.labels), "extra": weight * mean}


def toy(**settings):
    torch.manual_seed(0)
    return Toy(SemiSettings(**settings), UNet(TINY, classes=4)).double().train()


def batch(regime, step=10, **over):
    return dataclasses.replace(tiny_batch(regime, step=step), **over)


class TestWeight:
    def test_golden_values_of_the_default_ramp(self):
        regime = toy()
        found = [regime.weight(step, 100) for step in (0, 25, 50, 75, 100)]
        expected = [0.0006737947, 0.0060054667, 0.0286504797, 0.0731615629, 0.1]
        assert found == pytest.approx(expected, abs=1e-10)

    @pytest.mark.parametrize(("largest", "ramp", "rest"), [(0.1, 1.0, 0.0), (2.0, 0.4, 0.1), (0.5, 0.2, 0.6)])
    def test_it_follows_the_formula(self, largest, ramp, rest):
        regime = toy(unlabelled_weight=largest, ramp=ramp, rest=rest)
        for step in range(50):
            expected = largest * math.exp(-5 * (1 - min(step / (ramp * 50), 1)) ** 2) if step >= rest * 50 else 0.0
            assert regime.weight(step, 50) == pytest.approx(expected, rel=1e-12)

    def test_without_a_ramp_it_is_constant_after_the_rest(self):
        regime = toy(unlabelled_weight=0.7, ramp=0.0, rest=0.3)
        assert [regime.weight(step, 10) for step in range(10)] == [0.0] * 3 + [0.7] * 7
        # 0.55 times 100 is a little more than 55.
        regime = toy(unlabelled_weight=0.7, ramp=0.0, rest=0.55)
        assert [regime.weight(step, 100) for step in (54, 55)] == [0.0, 0.7]

    def test_it_depends_on_the_share_of_the_run_alone(self):
        regime = toy(rest=0.2, ramp=0.7)
        assert [regime.weight(5 * step, 100) for step in range(20)] == [regime.weight(step, 20) for step in range(20)]

    @pytest.mark.parametrize("bad", [{"unlabelled_weight": -0.1}, {"ramp": 1.5}, {"rest": 1.0}, {"rest": -0.1}])
    def test_shares_and_weights_out_of_range_are_refused(self, bad):
        with pytest.raises(SettingsError, match=next(iter(bad))):
            resolve_plugin("fewlabel.regimes", {"name": "mean_teacher", **bad})


class TestStreams:
    @pytest.mark.parametrize("silent", ["weight", "rest", "none", "empty"])
    def test_where_the_unlabelled_part_does_not_count_nothing_of_it_is_computed(self, silent):
        regime = toy(unlabelled_weight=0.0 if silent == "weight" else 0.1, rest=0.6 if silent == "rest" else 0.0)
        given = batch(regime)
        if silent == "none":
            given = dataclasses.replace(given, unlabelled=None)
        if silent == "empty":
            given = dataclasses.replace(given, unlabelled=given.unlabelled[:0])
        plain = copy.deepcopy(regime.network)
        terms = regime.losses(given)
        expected = supervised(plain(given.images), given.labels)
        assert regime.calls == 0
        assert terms.keys() == expected.keys()
        assert all(torch.equal(terms[key], expected[key]) for key in terms)
        # Statistics too are those of labelled slices, and nothing was drawn.
        states = plain.state_dict()
        assert all(torch.equal(value, states[key]) for key, value in regime.network.state_dict().items())
        assert torch.equal(given.generator.get_state(), torch.Generator().manual_seed(10).get_state())

    def test_where_it_counts_both_streams_share_one_pass(self):
        regime = toy()
        plain = copy.deepcopy(regime.network)
        given = batch(regime)
        terms = regime.losses(given)
        logits = plain(torch.cat([given.images, given.unlabelled]))
        expected = {
            **supervised(logits[:2], given.labels),
            "extra": 0.1 * math.exp(-5 / 4) * logits[2:].mean(),
        }
        assert terms.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(terms[key], value, rtol=1e-12, atol=1e-14)
        assert int(regime.network.encoder.blocks[0].norm1.num_batches_tracked) == 1
        states = plain.state_dict()
        for key, value in regime.network.state_dict().items():
            torch.testing.assert_close(value, states[key], rtol=1e-12, atol=1e-14)

    def test_labelled_rows_come_first(self):
        given = batch(toy())
        joined = concat_streams(given, given.unlabelled)
        assert torch.equal(joined[:2], given.images)
        assert torch.equal(joined[2:], given.unlabelled)

    def test_supervision_obeys_its_settings(self):
        regime = toy(ce_weight=0.5, dice_weight=0.0)
        given = batch(regime)
        assert set(regime.losses(given)) == {"ce", "extra"}


class TestFigures:
    def test_the_weight_is_told_and_notes_are_those_of_the_last_step(self):
        regime = toy()
        terms = regime.losses(batch(regime))
        figures = regime.metrics()
        assert set(figures) == {"unlabelled_weight", "mean", "number"}
        assert all(type(value) is float for value in figures.values())
        assert figures["unlabelled_weight"] == pytest.approx(0.1 * math.exp(-5 / 4))
        assert figures["mean"] * figures["unlabelled_weight"] == pytest.approx(float(terms["extra"].detach()))
        regime.losses(batch(regime, unlabelled=None))
        assert set(regime.metrics()) == {"unlabelled_weight"}

    def test_notes_hold_no_graph(self):
        regime = toy()
        regime.losses(batch(regime))
        assert not any(isinstance(v, torch.Tensor) and v.requires_grad for v in regime._metrics.values())

    def test_they_are_no_state(self):
        regime = toy()
        before = set(regime.state_dict())
        regime.losses(batch(regime))
        assert set(regime.state_dict()) == before
