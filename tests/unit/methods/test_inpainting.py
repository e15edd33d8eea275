import dataclasses

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.methods.inpainting import central_block, draw_blocks, hidden_error
from fewlabel.nets.unet import UNetConfig
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


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("size", [(32, 32), (16, 40), (192, 192)])
def test_blocks_hide_exactly_the_wanted_share_of_every_slice(share, size):
    masks = draw_blocks(6, size, 8, share, generator())
    assert masks.shape == (6, *size)
    assert masks.dtype == torch.bool
    hidden = round(share * 64)
    assert (masks.flatten(1).sum(dim=1) == hidden * size[0] * size[1] // 64).all()
    # Whole blocks only.
    blocks = masks.view(6, 8, size[0] // 8, 8, size[1] // 8).permute(0, 1, 3, 2, 4).flatten(3)
    assert (blocks.all(dim=3) == blocks.any(dim=3)).all()


def test_blocks_are_random_reproducible_and_can_be_anywhere():
    masks = draw_blocks(200, (16, 16), 4, 0.25, generator(1))
    assert torch.equal(masks, draw_blocks(200, (16, 16), 4, 0.25, generator(1)))
    assert not torch.equal(masks, draw_blocks(200, (16, 16), 4, 0.25, generator(2)))
    often = masks.double().mean(dim=0)
    torch.testing.assert_close(often, torch.full((16, 16), 0.25, dtype=torch.float64), rtol=0, atol=0.12)


def test_a_share_always_leaves_something_to_hide_and_to_see():
    for share, hidden in ((0.001, 1), (0.999, 15)):
        assert draw_blocks(1, (16, 16), 4, share, generator()).sum() == hidden * 16


def test_sides_that_blocks_do_not_divide_are_covered_once():
    """One block of 5x5 at a time in 10x12 pixels: rectangles 2 high and 2 or 3 wide that tile the slice."""
    masks = torch.unique(draw_blocks(400, (10, 12), 5, 0.04, generator()), dim=0)
    assert len(masks) == 25
    assert torch.equal(masks.sum(dim=0), torch.ones(10, 12, dtype=torch.int64))
    rows, columns = masks.any(dim=2).sum(dim=1), masks.any(dim=1).sum(dim=1)
    assert set(rows.tolist()) == {2}
    assert set(columns.tolist()) == {2, 3}
    assert torch.equal(rows * columns, masks.sum(dim=(1, 2)))


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


def test_the_error_is_the_mean_square_over_hidden_pixels_and_0_for_a_perfect_copy():
    torch.manual_seed(0)
    images, drawn = torch.randn(2, 3, 2, 8, 8, dtype=torch.float64).unbind(0)
    masks = draw_blocks(3, (8, 8), 4, 0.25, generator())
    total = sum(
        (images[n, c, y, x] - drawn[n, c, y, x]) ** 2
        for n in range(3)
        for c in range(2)
        for y in range(8)
        for x in range(8)
        if masks[n, y, x]
    )
    count = 2 * int(masks.sum())
    torch.testing.assert_close(hidden_error(drawn, images, masks), total / count, rtol=0, atol=1e-12)
    assert hidden_error(images, images, masks) == 0
    copied = torch.where(masks[:, None], images, drawn)
    assert hidden_error(copied, images, masks) == 0
    assert hidden_error(drawn.bfloat16(), images.bfloat16(), masks).dtype == torch.float32


def test_the_gradient_is_0_outside_of_the_mask_and_nowhere_else():
    torch.manual_seed(0)
    images = torch.randn(3, 1, 8, 8)
    drawn = torch.randn(3, 1, 8, 8, requires_grad=True)
    masks = draw_blocks(3, (8, 8), 4, 0.25, generator())
    (gradient,) = torch.autograd.grad(hidden_error(drawn, images, masks), drawn)
    assert torch.equal(gradient[:, 0] != 0, masks)


def test_the_picture_depends_on_what_is_shown_alone():
    """What is hidden can change the target, but neither the encoder nor the decoder sees it."""
    method = settle(toy_method("inpainting"), toy_batch())
    batch = toy_batch()
    images, masks = torch.cat(batch.views), hidden_of(method, batch)
    other = torch.where(masks[:, None], images + torch.randn_like(images), images)
    drawn = [method.decoder(method.encoder(method.hide(part, masks))[-1]) for part in (images, other)]
    assert torch.equal(*drawn)
    assert method.losses(batch).terms["inpainting"] != hidden_error(drawn[0], other, masks)


def test_the_decoder_has_no_skips_so_nothing_finer_than_the_bottleneck_can_be_copied():
    method = settle(toy_method("inpainting"), toy_batch())
    batch = toy_batch()
    seen = []
    method.decoder.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output)))
    found = method.losses(batch).terms["inpainting"]
    ((inputs, drawn),) = seen
    assert [tuple(part.shape) for part in inputs] == [(16, 16, 8, 8)]
    assert drawn.shape == (16, 1, 32, 32)
    # Slices whose bottlenecks are equal get the same picture, whatever their finer maps are.
    same = torch.zeros_like(inputs[0])
    assert (method.decoder(same) == method.decoder(same)[:1]).all()
    torch.testing.assert_close(found, hidden_error(drawn, torch.cat(batch.views), hidden_of(method, toy_batch())))
    assert method.pretrained_decoder() is None


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_decoder_restores_the_size_whatever_the_depth_and_shape(depth):
    network = UNetConfig(width=4, depth=depth, in_channels=2, norm="instance", slope=0.1)
    method = toy_method("inpainting", network=network, size=(32, 64))
    images = torch.randn(2, 2, 32, 64)
    assert method.decoder(method.encoder(images)[-1]).shape == images.shape


def test_the_loss_of_a_step_by_hand():
    method = settle(toy_method("inpainting", **TINY), tiny_batch())
    batch = tiny_batch()
    masks = hidden_of(method, batch)
    found = method.losses(batch)
    images = torch.cat(batch.views)
    total = 0.0
    for image, mask in zip(images, masks, strict=True):
        shown = image * (~mask)
        drawn = method.decoder(method.encoder(shown[None])[-1])[0]
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


@pytest.mark.parametrize(("region", "expected"), [("blocks", 0.4545304429923464), ("centre", 0.5021016987696919)])
def test_golden_values(region, expected):
    method = toy_method("inpainting", region=region, **TINY).train()
    batch = plant(method, tiny_batch())
    assert method.losses(batch).terms["inpainting"].item() == pytest.approx(expected, abs=1e-8)
