"""Tiles of a puzzle: where they lie, what they show, and the set of permutations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from fewlabel.methods.jigsaw_tiles import TILES, TileGrid, permutation_set, random_orders, shuffled


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def every():
    """(9!, 9) all permutations in lexicographic order."""
    return np.array(list(itertools.permutations(range(TILES))), dtype=np.int8)


def test_permutations_are_those_of_the_greedy_rule(every):
    """By whole distance tables: largest sum, then farthest nearest, then first."""
    chosen, table = [0], []
    while len(chosen) < 12:
        table.append((every != every[chosen[-1]]).sum(axis=1))
        distances = np.stack(table)
        distances[:, chosen] = -1
        total, nearest = distances.sum(axis=0), distances.min(axis=0)
        best = total == total.max()
        chosen.append(int(np.flatnonzero(best & (nearest == nearest[best].max()))[0]))
    assert np.array_equal(permutation_set(12), every[chosen])


@pytest.mark.parametrize("count", [1, 2, 100])
def test_permutations_are_distinct_reproducible_and_far_apart(count):
    found = permutation_set(count)
    assert found.shape == (count, TILES)
    assert found.dtype == np.int64
    assert np.array_equal(np.sort(found, axis=1), np.tile(np.arange(TILES), (count, 1)))
    assert len({tuple(row) for row in found}) == count
    assert np.array_equal(found[0], np.arange(TILES))
    permutation_set.cache_clear()
    assert np.array_equal(permutation_set(count), found)
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 5


def test_nine_permutations_share_no_place_and_a_hundred_are_farther_than_chance():
    first = permutation_set(9)
    assert all((a != b).all() for a, b in itertools.combinations(first, 2))
    hundred = permutation_set(100)
    # Two random permutations agree in one place on average.
    apart = [(a != b).sum() for a, b in itertools.combinations(hundred, 2)]
    assert np.mean(apart) >= 8
    assert np.array_equal(hundred[:9], first)


GOLDEN = [[0, 1, 2, 3, 4, 5, 6, 7, 8], [1, 0, 3, 2, 5, 4, 7, 8, 6], [2, 3, 0, 1, 6, 7, 8, 4, 5]]


def test_golden_permutations():
    assert permutation_set(3).tolist() == GOLDEN


@pytest.mark.parametrize("count", [0, -1, math.factorial(TILES) + 1])
def test_there_are_as_many_permutations_as_there_are(count):
    with pytest.raises(ValueError, match=f"1 to 362880 permutations of 9 tiles, not {count}"):
        permutation_set(count)


@pytest.mark.parametrize(
    ("size", "stride", "share", "cell", "gap", "cut", "out", "origin"),
    [
        # 192/3 = 64 fits; 256/3 does not, so a pixel is left over.
        ((192, 192), 16, 0.1, (64, 64), (7, 7), (48, 48), (48, 48), (0, 0)),
        ((256, 224), 16, 0.1, (85, 74), (9, 8), (64, 64), (64, 64), (0, 1)),
        ((50, 51), 8, 0.0, (16, 17), (0, 0), (16, 16), (16, 16), (1, 0)),
        # A share that floats cannot say exactly is not rounded up by a pixel.
        ((300, 300), 2, 0.07, (100, 100), (7, 7), (92, 92), (92, 92), (0, 0)),
        # Cells smaller than one stride: all that fits is enlarged to it.
        ((32, 32), 16, 0.1, (10, 10), (1, 1), (9, 9), (16, 16), (1, 1)),
    ],
)
def test_tiles_are_as_large_as_the_stride_allows(size, stride, share, cell, gap, cut, out, origin):
    assert TileGrid.fit(size, stride, share) == TileGrid(origin, cell, gap, cut, out)


def test_tiles_that_would_be_more_than_doubled_are_refused():
    assert TileGrid.fit((30, 30), 16, 0.2).cut == (8, 8)
    with pytest.raises(ValueError, match="tiles of 9x7 pixels are less than half of the encoder's stride 16"):
        TileGrid.fit((30, 24), 16, 0.1)
    with pytest.raises(ValueError, match="tiles of 0x0"):
        TileGrid.fit((2, 2), 2, 0.0)


@pytest.mark.parametrize("size", [(32, 32), (50, 41), (96, 64)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.25])
def test_tiles_lie_in_their_cells_with_the_gap_between_them(size, share):
    grid = TileGrid.fit(size, 4, share)
    corners = grid.corners(300, generator())
    assert corners.shape == (300, TILES, 2)
    assert corners.dtype == torch.int64
    assert torch.equal(corners, grid.corners(300, generator()))
    for axis in range(2):
        lines = corners[..., axis].view(300, 3, 3)
        lines = lines if axis else lines.transpose(1, 2)
        first, last = lines[..., :-1], lines[..., 1:]
        assert (last - first - grid.cut[axis] >= grid.gap[axis]).all()
        assert (lines >= 0).all()
        assert (lines + grid.cut[axis] <= size[axis]).all()
        # Each place of the cell that leaves the gap is drawn.
        for cell in range(3):
            begin = grid.origin[axis] + cell * grid.cell[axis] + grid.gap[axis] // 2
            slack = grid.cell[axis] - grid.gap[axis] - grid.cut[axis]
            assert lines[..., cell].unique().tolist() == list(range(begin, begin + slack + 1))
    # Images and tiles move apart from each other.
    assert len(torch.unique(corners - corners[:1], dim=0)) > 100 or grid.cell == grid.cut


@pytest.mark.parametrize("size", [(30, 27), (48, 24)])
def test_a_tile_is_its_part_of_the_image_with_zero_mean_and_unit_variance(size):
    images = torch.randn(2, 3, *size, dtype=torch.float64, generator=generator(1)) * 4 + 7
    grid = TileGrid.fit(size, 4, 0.1)
    assert grid.cut == grid.out
    corners = grid.corners(2, generator(2))
    tiles = grid.cut_tiles(images, corners)
    assert tiles.shape == (2, TILES, 3, *grid.out)
    for n, place, channel in itertools.product(range(2), range(TILES), range(3)):
        top, left = corners[n, place].tolist()
        part = images[n, channel, top : top + grid.cut[0], left : left + grid.cut[1]]
        expected = (part - part.mean()) / (part.var(unbiased=False) + 1e-4).sqrt()
        torch.testing.assert_close(tiles[n, place, channel], expected, rtol=0, atol=1e-12)


def test_small_tiles_are_enlarged():
    images = torch.randn(1, 1, 32, 32, dtype=torch.float64, generator=generator(1))
    grid = TileGrid.fit((32, 32), 16, 0.1)
    corners = grid.corners(1, generator(2))
    tiles = grid.cut_tiles(images, corners)
    top, left = corners[0, 4].tolist()
    part = images[..., top : top + 9, left : left + 9]
    large = torch.nn.functional.interpolate(part, size=(16, 16), mode="bilinear", align_corners=False)[0, 0]
    expected = (large - large.mean()) / (large.var(unbiased=False) + 1e-4).sqrt()
    torch.testing.assert_close(tiles[0, 4, 0], expected, rtol=0, atol=1e-12)


def test_brightness_and_contrast_of_a_place_do_not_show():
    """What differs between the corners of a slice by a gain and a shift makes equal tiles."""
    grid = TileGrid.fit((24, 24), 8, 0.0)
    pattern = torch.randn(8, 8, dtype=torch.float64, generator=generator(1))
    cells = [[(1 + row + column) * pattern + 3 * row for column in range(3)] for row in range(3)]
    image = torch.cat([torch.cat(line, dim=1) for line in cells])[None, None]
    tiles = grid.cut_tiles(image, grid.corners(1, generator()))
    torch.testing.assert_close(tiles, tiles[:, :1].expand_as(tiles), rtol=0, atol=1e-3)


def test_flat_tiles_stay_flat():
    grid = TileGrid.fit((24, 24), 8, 0.0)
    corners = grid.corners(1, generator())
    assert (grid.cut_tiles(torch.full((1, 1, 24, 24), -0.8), corners).abs() < 1e-3).all()
    faint = -0.8 + 1e-3 * torch.randn(1, 1, 24, 24, generator=generator(1))
    assert grid.cut_tiles(faint, corners).std() < 0.15


def test_putting_tiles_back_in_order_restores_the_slice():
    images = torch.arange(2 * 24 * 24, dtype=torch.float64).view(2, 1, 24, 24)
    grid = TileGrid.fit((24, 24), 8, 0.0)
    tiles = grid.cut_tiles(images, grid.corners(2, generator()))
    orders = random_orders(2, generator(3))
    mixed = shuffled(tiles, orders)
    assert not torch.equal(mixed, tiles)
    # Place j holds tile orders[j].
    for n, place in itertools.product(range(2), range(TILES)):
        assert torch.equal(mixed[n, place], tiles[n, orders[n, place]])
    back = shuffled(mixed, orders.argsort(dim=1))
    assert torch.equal(back, tiles)
    whole = back.view(2, 3, 3, 8, 8).permute(0, 1, 3, 2, 4).reshape(2, 24, 24)
    parts = images.view(2, 3, 8, 3, 8)
    even = (parts - parts.mean((2, 4), keepdim=True)) / (parts.var((2, 4), unbiased=False, keepdim=True) + 1e-4).sqrt()
    torch.testing.assert_close(whole, even.view(2, 24, 24), rtol=0, atol=1e-10)


def test_random_orders_put_every_tile_everywhere_equally_often():
    orders = random_orders(9000, generator())
    assert orders.dtype == torch.int64
    assert torch.equal(orders.sort(dim=1).values, torch.arange(TILES).expand(9000, -1))
    often = torch.stack([torch.bincount(orders[:, place], minlength=TILES) for place in range(TILES)]).double()
    spread = math.sqrt(9000 / 9 * 8 / 9)
    assert ((often - 1000).abs() < 4.5 * spread).all()
    assert torch.equal(random_orders(5, generator(1)), random_orders(5, generator(1)))
    assert not torch.equal(random_orders(5, generator(1)), random_orders(5, generator(2)))
