"""Several networks as one: means of probabilities, and what they do not agree on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fewlabel.engine import ensemble
from fewlabel.engine.ensemble import predict_ensemble_slabs, whole_prediction
from fewlabel.engine.inference import joined, predict_volume
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.scoring.disagreement import pairwise_disagreement
from fewlabel.scoring.voxel_uncertainty import entropy


def networks(count, ndim=2):
    made = []
    for seed in range(count):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made.append(UNet(UNetConfig(width=4, depth=3, ndim=ndim), 3).eval())
            torch.nn.init.normal_(made[-1].classifier.weight, std=30.0)
    return made


VOLUME = np.random.default_rng(0).random((1, 4, 16, 24), dtype=np.float32)


def predicted(nets, array, **options):
    return whole_prediction(predict_ensemble_slabs(nets, array, **options), array.shape[1])


def uncertainty(nets, array, **options):
    slabs = predict_ensemble_slabs(nets, array, uncertainty=True, **options)
    return joined([slab.uncertainty for slab in slabs], array.shape[1])


def test_one_network_is_what_it_was_bit_for_bit():
    (net,) = networks(1)
    found = predicted([net], VOLUME, precision="32", flip=True)
    np.testing.assert_array_equal(found.probabilities, predict_volume(net, VOLUME, precision="32", flip=True))
    assert found.by_class is None
    assert found.disagreement is None
    found = predicted([net], VOLUME, precision="32")
    np.testing.assert_array_equal(uncertainty([net], VOLUME, precision="32"), entropy(found.probabilities))


@pytest.mark.parametrize("options", [{}, {"flip": True, "batch": 3}])
def test_several_are_the_mean_of_their_probabilities(options):
    nets = networks(3)
    alone = [predict_volume(net, VOLUME, precision="32", **options) for net in nets]
    found = predicted(nets, VOLUME, precision="32", **options)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities, np.mean(alone, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.probabilities.sum(0), 1, atol=1e-6)
    # Of probabilities, not of logits or masks: here the two are not alike.
    logs = np.exp(np.mean(np.log(alone), axis=0))
    assert np.abs(found.probabilities - logs / logs.sum(0)).max() > 0.02
    np.testing.assert_array_equal(found.by_class, pairwise_disagreement([p.argmax(0) for p in alone], 3))
    assert found.disagreement == pytest.approx(float(np.mean(found.by_class)))
    assert 0 < found.disagreement < 1
    total = entropy(np.mean(alone, axis=0)) - np.mean([entropy(p) for p in alone], axis=0)
    unsure = uncertainty(nets, VOLUME, precision="32", **options)
    np.testing.assert_allclose(unsure, total, atol=2e-6)
    assert unsure.shape == VOLUME.shape[1:]
    assert 0.01 < unsure.max() <= math.log(3)


def test_equal_members_do_not_disagree():
    (net,) = networks(1)
    found = predicted([net, net], VOLUME, precision="32")
    np.testing.assert_array_equal(found.probabilities, predict_volume(net, VOLUME, precision="32"))
    assert found.disagreement == 0
    np.testing.assert_allclose(uncertainty([net, net], VOLUME, precision="32"), 0, atol=1e-6)


def test_the_map_costs_nothing_where_it_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(ensemble, "entropy", lambda values: pytest.fail("made all the same"))
    slabs = predict_ensemble_slabs(networks(2), VOLUME, precision="32")
    assert [slab.uncertainty for slab in slabs] == [None]


def test_every_member_sees_the_volume_as_it_is_told(monkeypatch):
    seen = []

    def watched(network, array, **options):
        seen.append((network, array, options))
        yield np.full((2, VOLUME.shape[1], 1, 1), 0.5, np.float32)

    monkeypatch.setattr(ensemble, "predict_slabs", watched)
    options = {"batch": 3, "flip": True, "device": "cpu", "precision": "bf16", "window": (8, 16, 16)}
    predicted(["a", "b", "c"], VOLUME, **options)
    assert [network for network, _, _ in seen] == ["a", "b", "c"]
    assert all(array is VOLUME and given == options for _, array, given in seen)


def test_nobody_is_no_ensemble():
    with pytest.raises(ValueError, match="at least one network"):
        predicted([], VOLUME)


def test_volumes_are_ensembled_through_their_windows():
    nets = networks(2, ndim=3)
    array = VOLUME.repeat(2, axis=1)
    alone = [predict_volume(net, array, precision="32", window=(8, 16, 16)) for net in nets]
    found = predicted(nets, array, precision="32", window=(8, 16, 16))
    np.testing.assert_allclose(found.probabilities, np.mean(alone, axis=0), atol=1e-6)
