import pytest
import torch

from fewlabel.objectives.hidden import block_deviation, draw_blocks, hidden_error


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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


def test_the_deviation_of_a_block_is_that_of_its_pixels_whatever_the_sides():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 10, 13, dtype=torch.float64)
    found = block_deviation(images, 4)
    rows, columns = torch.arange(10) * 4 // 10, torch.arange(13) * 4 // 13
    for y in range(10):
        for x in range(13):
            block = images[:, :, rows == rows[y]][:, :, :, columns == columns[x]]
            expected = block.var(dim=(2, 3), correction=0).mean(dim=1).sqrt()
            torch.testing.assert_close(found[:, y, x], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(block_deviation(5 - 3 * images, 4), 3 * found)


def test_weights_share_the_error_out_and_their_size_does_not_matter():
    torch.manual_seed(0)
    images, drawn = torch.randn(2, 3, 2, 8, 8, dtype=torch.float64).unbind(0)
    masks = draw_blocks(3, (8, 8), 4, 0.5, generator())
    weights = torch.rand(3, 8, 8, dtype=torch.float64)
    squared = (images - drawn).square().mean(dim=1)
    expected = (weights * squared)[masks].sum() / weights[masks].sum()
    for factor in (1, 100):
        torch.testing.assert_close(hidden_error(drawn, images, masks, factor * weights), expected)
    torch.testing.assert_close(
        hidden_error(drawn, images, masks, torch.ones_like(weights)), hidden_error(drawn, images, masks)
    )
    # Nothing counts, so nothing is wrong.
    nothing = hidden_error(drawn.requires_grad_(), images, masks, torch.zeros_like(weights))
    assert nothing == 0
    assert torch.equal(torch.autograd.grad(nothing, drawn)[0], torch.zeros_like(drawn))
