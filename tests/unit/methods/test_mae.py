import dataclasses

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.objectives.hidden import block_deviation, hidden_error
from kit.golden import plant
from kit.pretraining import settle, toy_batch, toy_method

TINY = {"size": (8, 8), "network": UNetConfig(width=4, depth=2), "dtype": torch.float64, "blocks": 4}


def tiny_batch(**options):
    return toy_batch(4, size=(8, 8), dtype=torch.float64, **options)


def hidden_of(method, batch):
    """The masks that the method draws for a batch in one process, without using its generator up."""
    copy = torch.Generator()
    copy.set_state(batch.generator.get_state())
    return method.draw_hidden(2 * len(batch.slices), tuple(batch.views[0].shape[2:]), copy)


def with_views(batch, *views):
    return dataclasses.replace(batch, views=views)


@pytest.mark.parametrize("weighting", ["deviation", "none"])
def test_the_loss_of_a_step_by_hand(weighting):
    method = settle(toy_method("mae", weighting=weighting, **TINY), tiny_batch())
    batch = tiny_batch()
    masks = hidden_of(method, batch)
    found = method.losses(batch)
    images = torch.cat(batch.views)
    total = weight = 0.0
    for image, mask in zip(images, masks, strict=True):
        maps = method.encoder((image * ~mask)[None])
        drawn = method.last(method.decoder(maps)[-1])[0]
        for top in range(0, 8, 2):
            for left in range(0, 8, 2):
                block = (..., slice(top, top + 2), slice(left, left + 2))
                share = image[block].std(correction=0) if weighting == "deviation" else 1.0
                total = total + share * ((drawn - image)[block].square() * mask[block]).sum()
                weight = weight + share * mask[block].sum()
    expected = total / weight
    torch.testing.assert_close(found.terms["mae"], expected, rtol=0, atol=1e-11)
    parameters = list(method.parameters())
    pairs = zip(
        torch.autograd.grad(found.terms["mae"], parameters), torch.autograd.grad(expected, parameters), strict=True
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    assert found.lower_bound == 0
    assert found.scalars["hidden"] == 0.75


def test_what_is_hidden_reaches_neither_encoder_nor_decoder():
    method = settle(toy_method("mae"), toy_batch())
    batch = toy_batch()
    images, masks = torch.cat(batch.views), hidden_of(method, batch)
    other = torch.where(masks[:, None], images + torch.randn_like(images), images)
    assert torch.equal(*(method(method.hide(part, masks)) for part in (images, other)))


def test_skips_are_open_and_the_whole_network_but_its_classifier_is_left():
    method = toy_method("mae").train()
    method.losses(toy_batch()).terms["mae"].backward()
    for block in method.decoder.blocks:
        assert block.conv1.weight.grad.abs().amax(dim=(0, 2, 3)).min() > 0
    network = UNet(method.encoder.config, classes=3)
    network.encoder.load_state_dict(method.encoder.state_dict(), strict=True)
    network.decoder.load_state_dict(method.pretrained_decoder().state_dict(), strict=True)


def test_drawing_nothing_costs_1_on_standardised_slices():
    noise = torch.randn(32, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    standard = (noise - noise.mean(dim=(2, 3), keepdim=True)) / noise.std(dim=(2, 3), keepdim=True, correction=0)
    batch = with_views(toy_batch(32), standard, standard)
    blank = toy_method("mae", weighting="none").train().losses(batch).scalars["blank"]
    # Up to which blocks are hidden.
    assert blank == pytest.approx(1, abs=0.03)


def test_air_does_not_count():
    """A slice of which three quarters are flat: how they are drawn changes nothing, and how the rest is drawn all."""
    image = torch.full((1, 1, 32, 32), -0.5)
    image[..., :16, :16] = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    weights = toy_method("mae").weights(image)
    assert torch.equal(weights, block_deviation(image, 8))
    everything = torch.ones(1, 32, 32, dtype=torch.bool)
    wrong = image.clone()
    wrong[..., 16:, :] += 7
    assert hidden_error(wrong, image, everything, weights) == pytest.approx(0, abs=1e-9)
    wrong[..., :16, :16] += 2
    assert hidden_error(wrong, image, everything, weights) == pytest.approx(4, rel=1e-4)
    assert toy_method("mae", weighting="none").weights(image) is None


def test_it_learns_to_draw_better_than_the_blank_answer():
    method = toy_method("mae", share=0.5).train()
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    for _ in range(40):
        losses = method.losses(toy_batch())
        optimiser.zero_grad()
        losses.terms["mae"].backward()
        optimiser.step()
    assert losses.terms["mae"].item() < 0.7 * losses.scalars["blank"]


def test_blocks_smaller_than_a_pixel_are_refused():
    with pytest.raises(SettingsError, match=r"method\.blocks: 9 blocks.* Set it to at most 8"):
        toy_method("mae", size=(8, 16), blocks=9)


@pytest.mark.parametrize(("weighting", "expected"), [("deviation", 0.5323255372436688), ("none", 0.5560594861819047)])
def test_golden_values(weighting, expected):
    method = toy_method("mae", weighting=weighting, **TINY).train()
    batch = plant(method, tiny_batch())
    assert method.losses(batch).terms["mae"].item() == pytest.approx(expected, abs=1e-8)
