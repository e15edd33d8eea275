"""What every regime must do, run over all that are discovered."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fewlabel.core.config import resolve_plugin
from fewlabel.core.describe import describe
from fewlabel.core.discovery import load_plugin, plugin_names
from fewlabel.core.errors import SettingsError
from fewlabel.core.rng import numpy_stream
from fewlabel.data.batch import SegmentationBatch
from fewlabel.data.intensity import standardise
from fewlabel.nets.unet import UNet, UNetConfig
from kit.stores import heart_slice

FAMILY = "fewlabel.regimes"
REGIMES = plugin_names(FAMILY)
SIZE = (32, 32)


def build(name):
    torch.manual_seed(0)
    config = resolve_plugin(FAMILY, name)
    return load_plugin(FAMILY, name)(config, UNet(UNetConfig(width=4, depth=3), classes=4))


def toy_batch(uses_unlabelled, step=0):
    """Eight slices of synthetic hearts, half of them labelled."""
    shape = {"x": 0.0, "y": 0.0, "radius": 0.45, "round": 1.0, "angle": 0.2, "gain": 1.0, "bias": 0.1}
    generator = numpy_stream(0, "toy")
    pairs = [heart_slice(generator, shape, height, phase, SIZE) for phase in (0, 1) for height in (0.0, 0.2, 0.5, 0.7)]
    images = standardise(torch.stack([torch.from_numpy(image) for image, _ in pairs])[:, None])
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.stack([torch.from_numpy(mask) for _, mask in pairs]).long()
    return SegmentationBatch(
        images=images[::2],
        labels=labels[::2],
        slices=torch.arange(0, 8, 2),
        step=step,
        total_steps=20,
        generator=torch.Generator().manual_seed(step),
        unlabelled=images[1::2] if uses_unlabelled else None,
    )


def trainable(regime):
    return {name: tensor for name, tensor in regime.named_parameters() if tensor.requires_grad}


def test_there_are_regimes():
    assert "supervised" in REGIMES


@pytest.mark.parametrize("name", REGIMES)
class TestEveryRegime:
    def test_default_settings_build_and_are_documented(self, name):
        regime = build(name)
        assert regime.config.name == name
        assert all(row["doc"] for row in describe(type(regime.config)) if row["key"] != "name")

    def test_an_unknown_key_is_refused_with_the_near_match(self, name):
        keys = [key for key in load_plugin(FAMILY, name).Config.model_fields if key != "name"]
        for key in keys:
            with pytest.raises(SettingsError, match=f"did you mean {key}"):
                resolve_plugin(FAMILY, {"name": name, f"{key}x": 1})

    def test_docstring_and_paper_name_the_source(self, name):
        plugin = load_plugin(FAMILY, name)
        assert any(character.isdigit() for character in plugin.__doc__), "the docstring names a year"
        assert any(character.isdigit() for character in plugin.paper)

    @pytest.mark.parametrize("autocast", [False, True])
    def test_losses_are_finite_float32_scalars(self, name, autocast):
        regime = build(name)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            terms = regime.losses(toy_batch(regime.uses_unlabelled))
        assert terms
        for term in terms.values():
            assert term.shape == ()
            assert term.dtype == torch.float32
            assert bool(torch.isfinite(term))

    def test_gradient_reaches_every_trainable_tensor(self, name):
        regime = build(name)
        sum(regime.losses(toy_batch(regime.uses_unlabelled)).values()).backward()
        for key, tensor in regime.named_parameters():
            if tensor.requires_grad:
                assert tensor.grad is not None, key
                assert bool(tensor.grad.abs().sum() > 0), key
            else:
                assert tensor.grad is None, key

    def test_a_frozen_encoder_gets_no_gradient_and_the_rest_does(self, name):
        regime = build(name)
        regime.network.encoder.requires_grad_(requires_grad=False)
        sum(regime.losses(toy_batch(regime.uses_unlabelled)).values()).backward()
        assert all(tensor.grad is None for tensor in regime.network.encoder.parameters())
        assert all(tensor.grad is not None for tensor in trainable(regime).values())

    def test_twenty_steps_lower_the_loss(self, name):
        regime = build(name)
        optimiser = torch.optim.Adam(trainable(regime).values(), lr=3e-3)
        values = []
        for step in range(20):
            loss = sum(regime.losses(toy_batch(regime.uses_unlabelled, step)).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            regime.after_step(step, 20)
            values.append(float(loss.detach()))
        assert values[-1] < 0.9 * values[0]

    def test_the_same_batch_gives_the_same_losses(self, name):
        first, second = build(name), build(name)
        a, b = (r.losses(toy_batch(r.uses_unlabelled)) for r in (first, second))
        assert all(torch.equal(a[key], b[key]) for key in a)

    def test_slices_without_any_label_do_no_harm(self, name):
        regime = build(name)
        batch = toy_batch(regime.uses_unlabelled)
        terms = regime.losses(replace(batch, labels=torch.full_like(batch.labels, 255)))
        total = sum(terms.values())
        assert bool(torch.isfinite(total))
        total.backward()
        assert all(bool(torch.isfinite(t.grad).all()) for t in trainable(regime).values() if t.grad is not None)
        if not regime.uses_unlabelled:
            assert float(total.detach()) == 0

    def test_the_state_can_be_carried_over(self, name):
        first, second = build(name), build(name)
        batch = toy_batch(first.uses_unlabelled)
        sum(first.losses(batch).values()).backward()
        torch.optim.SGD(trainable(first).values(), lr=0.1).step()
        first.after_step(0, 20)
        second.load_state_dict(first.state_dict(), strict=True)
        a, b = (r.losses(toy_batch(r.uses_unlabelled, 1)) for r in (first, second))
        assert all(torch.equal(a[key], b[key]) for key in a)

    def test_it_gives_a_network_that_predicts(self, name):
        network = build(name).inference_network()
        assert isinstance(network, UNet)
        assert network.eval()(torch.zeros(1, 1, *SIZE)).shape == (1, 4, *SIZE)
