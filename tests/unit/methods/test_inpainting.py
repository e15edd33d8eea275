import dataclasses

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.objectives.hidden import central_block, draw_blocks, hidden_error
from kit.golden import plant
from kit.pretraining import settle, toy_batch, toy_method

TINY = {"size": (8, 8), "network": UNetConfig(width=4, depth=2), "dtype": torch.float64, "blocks": 4}


def tiny_batch(**options):
    return toy_batch(4, size=(8, 8), dtype=torch.float64, **options)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_views(batch, *views):
    return dataclasses.replace(batch, views=views)


def hidden_of(method, batch):
    """The masks that the method draws for a batch in one process, without using its generator up."""
    copy = torch.Generator()
    copy.set_state(batch.generator.get_state())
    return method.draw_hidden(2 * len(batch.slices), tuple(batch.views[0].shape[2:]), copy)


def test_the_central_region_is_a_rectangle_of_the_wanted_share():
    mask = central_block((32, 48), 0.25)
    expected = torch.zeros(32, 48, dtype=torch.bool)
    expected[8:24, 12:36] = True
    assert torch.equal(mask, expected)
    method = toy_method("inpainting", region="centre", share=0.25)
    masks = method.draw_hidden(3, (32, 32), generator())
    assert torch.equal(masks, central_block((32, 32), 0.25).expand(3, 32, 32))


def test_the_share_is_logged_and_both_views_have_masks_of_their_own():
    method = toy_method("inpainting", share=0.375).train()
    batch = toy_batch()
    masks = hidden_of(method, batch)
    assert method.losses(batch).scalars["hidden"] == 0.375
    assert masks.shape == (16, 32, 32)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 16


@pytest.mark.parametrize("fill", [0.0, -1.5])
def test_hidden_pixels_have_the_fill_value_and_all_others_their_own(fill):
    method = toy_method("inpainting", fill=fill)
    images = torch.randn(4, 2, 32, 32)
    masks = draw_blocks(4, (32, 32), 8, 0.25, generator())
    shown = method.hide(images, masks)
    hidden = masks[:, None].expand_as(images)
    assert (shown[hidden] == fill).all()
    assert torch.equal(shown[~hidden], images[~hidden])


def test_the_picture_depends_on_what_is_shown_alone():
    """What is hidden can change the target, but neither the encoder nor the decoder sees it."""
    method = settle(toy_method("inpainting"), toy_batch())
    batch = toy_batch()
    images, masks = torch.cat(batch.views), hidden_of(method, batch)
    other = torch.where(masks[:, None], images + torch.randn_like(images), images)
    drawn = [method(method.hide(part, masks)) for part in (images, other)]
    assert torch.equal(*drawn)
    assert method.losses(batch).terms["inpainting"] != hidden_error(drawn[0], other, masks)


def test_the_skips_are_shut_so_nothing_finer_than_the_bottleneck_can_be_copied():
    method = settle(toy_method("inpainting"), toy_batch())
    images = torch.cat(toy_batch().views)
    maps = method.encoder(images)
    shut = [torch.zeros_like(finer) for finer in maps[:-1]]
    expected = method.last(method.decoder([*shut, maps[-1]])[-1])
    assert torch.equal(method(images), expected)
    # So the weights of the skips are not trained, and all others of the decoder are.
    method.train().losses(toy_batch()).terms["inpainting"].backward()
    for block in method.decoder.blocks:
        skipped, coming_up = block.conv1.weight.grad.chunk(2, dim=1)
        assert not skipped.any()
        assert coming_up.abs().amax(dim=(0, 2, 3)).min() > 0


def test_the_whole_decoder_is_left_for_fine_tuning():
    method = toy_method("inpainting")
    network = UNet(method.encoder.config, classes=3)
    network.decoder.load_state_dict(method.pretrained_decoder().state_dict(), strict=True)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_picture_has_the_size_of_the_slice_whatever_the_depth_and_shape(depth):
    network = UNetConfig(width=4, depth=depth, in_channels=2, norm="instance", slope=0.1)
    method = toy_method("inpainting", network=network, size=(32, 64))
    images = torch.randn(2, 2, 32, 64)
    assert method(images).shape == images.shape


def test_the_loss_of_a_step_by_hand():
    method = settle(toy_method("inpainting", **TINY), tiny_batch())
    batch = tiny_batch()
    masks = hidden_of(method, batch)
    found = method.losses(batch)
    images = torch.cat(batch.views)
    total = 0.0
    for image, mask in zip(images, masks, strict=True):
        shown = image * (~mask)
        drawn = method(shown[None])[0]
        total = total + (drawn - image)[:, mask].square().sum()
    expected = total / masks.sum()
    torch.testing.assert_close(found.terms["inpainting"], expected, rtol=0, atol=1e-12)
    parameters = list(method.parameters())
    pairs = zip(
        torch.autograd.grad(found.terms["inpainting"], parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
    assert found.lower_bound == 0
    assert found.collapsed is None


def test_embeddings_are_pooled_bottlenecks_of_what_is_shown():
    method = settle(toy_method("inpainting", dtype=torch.float64), toy_batch(dtype=torch.float64))
    batch = toy_batch(dtype=torch.float64)
    masks = hidden_of(method, batch)
    rows = method.encoder(method.hide(torch.cat(batch.views), masks))[-1].mean((2, 3))
    torch.testing.assert_close(method.losses(batch).embeddings, functional.normalize(rows, dim=1))


def test_black_areas_are_not_free():
    """On a standardised slice background is below 0, so a blank answer costs its square."""
    method = toy_method("inpainting").train()
    batch = toy_batch()
    black = torch.full_like(batch.views[0], -0.8)
    losses = method.losses(with_views(batch, black, black))
    assert losses.scalars["blank"] == pytest.approx(0.64, abs=1e-6)
    # A fill that is the background's value would make them so.
    free = toy_method("inpainting", fill=-0.8).train().losses(with_views(toy_batch(), black, black))
    assert free.scalars["blank"] == 0


def test_it_learns_to_draw_better_than_the_blank_answer():
    method = toy_method("inpainting", share=0.1).train()
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    for _ in range(60):
        losses = method.losses(toy_batch())
        optimiser.zero_grad()
        losses.terms["inpainting"].backward()
        optimiser.step()
    assert losses.terms["inpainting"].item() < 0.7 * losses.scalars["blank"]


def test_blocks_smaller_than_a_pixel_are_refused():
    with pytest.raises(SettingsError, match=r"method\.blocks: 9 blocks.* Set it to at most 8"):
        toy_method("inpainting", size=(8, 16), blocks=9)
    toy_method("inpainting", size=(8, 16), blocks=9, region="centre")


@pytest.mark.parametrize(("region", "expected"), [("blocks", 0.4808058493155617), ("centre", 0.5705266393136117)])
def test_golden_values(region, expected):
    method = toy_method("inpainting", region=region, **TINY).train()
    batch = plant(method, tiny_batch())
    assert method.losses(batch).terms["inpainting"].item() == pytest.approx(expected, abs=1e-8)
