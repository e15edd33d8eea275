"""Points: drawn in regions of a grid, and maps read where they are, against ``grid_sample`` and what views show."""

import torch
from torch.nn import functional

from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.objectives import point_sampling
from fewlabel.objectives.correspondence import cell_centres, inside, to_view

SIZE = (32, 48)
CELLS = (4, 3)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_map_is_read_like_grid_sample_reads_it():
    features = torch.randn(2, 5, 4, 3, generator=stream(), dtype=torch.float64, requires_grad=True)
    points = torch.rand(2, 40, 2, generator=stream(1), dtype=torch.float64) * torch.tensor([60.0, 44.0]) - 6
    found = point_sampling.sample_map(features, points, SIZE)
    grid = (2 * (points + 0.5) / torch.tensor([48.0, 32.0]) - 1)[:, None]
    expected = functional.grid_sample(features, grid, padding_mode="border", align_corners=False)[:, :, 0]
    torch.testing.assert_close(found, expected.transpose(1, 2))
    weight = torch.randn(found.shape, generator=stream(2), dtype=torch.float64)
    own, theirs = (torch.autograd.grad((out * weight).sum(), features)[0] for out in (found, expected.transpose(1, 2)))
    torch.testing.assert_close(own, theirs)


def test_a_map_read_at_its_cells_is_the_map():
    features = torch.randn(3, 5, 4, 3, generator=stream())
    views = Augmenter(AugmentConfig()).sample(3, SIZE, stream(4)).matrices
    points = to_view(views, cell_centres(views, CELLS, SIZE))
    plain = point_sampling.sample_map(features, points, SIZE)
    torch.testing.assert_close(plain, features.flatten(2).transpose(1, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(point_sampling.sample_map(features, points, SIZE), plain)
    read = point_sampling.sample_map(features.bfloat16(), points, SIZE)
    assert read.dtype == torch.float32


def test_maps_of_two_views_agree_where_they_show_the_same_place():
    # The ramps of source coordinates, seen by the views, averaged per cell: every reading tells where it was taken.
    size, config = (64, 96), AugmentConfig(elastic_probability=0.0, gamma_probability=0.0)
    transform = Augmenter(config).sample(4, size, stream(2))
    maps = functional.avg_pool2d(transform.source_points(), 8)
    points = torch.rand(4, 200, 2, generator=stream(3)) * torch.tensor([96.0, 64.0])
    seen = to_view(transform.matrices, points)
    away = ((seen >= 3.5) & (seen <= torch.tensor([91.5, 59.5]))).all(dim=-1)
    assert 0.3 < float(away.float().mean()) < 1
    torch.testing.assert_close(point_sampling.sample_map(maps, seen, size)[away], points[away], rtol=0, atol=1e-2)


def test_grid_points_fill_their_regions():
    uniform = torch.rand(2, 9, 50, 2, generator=stream())
    points = point_sampling.grid_points(uniform, 3, (30, 60))
    for region in range(9):
        row, column = divmod(region, 3)
        x, y = points[:, region, :, 0], points[:, region, :, 1]
        assert 20 * column - 0.5 <= float(x.min()) < 20 * column + 2
        assert 20 * column + 17 < float(x.max()) < 20 * column + 19.5
        assert 10 * row - 0.5 <= float(y.min()) < 10 * row + 2
        assert 10 * row + 7 < float(y.max()) < 10 * row + 9.5
    assert bool(inside(points, (30, 60)).all())
    corner = point_sampling.grid_points(torch.zeros(1, 4, 1, 2), 2, (30, 60))
    assert corner[0, :, 0].tolist() == [[-0.5, -0.5], [29.5, -0.5], [-0.5, 14.5], [29.5, 14.5]]


def test_the_first_allowed_points_are_kept():
    points = torch.arange(10.0).view(1, 5, 2).repeat(3, 1, 1)
    allowed = torch.tensor([[0, 1, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]], dtype=torch.bool)
    kept, real = point_sampling.keep_first(points, allowed, 3)
    assert kept[:2, :, 0].tolist() == [[2.0, 6.0, 8.0], [0.0, 2.0, 4.0]]
    assert kept[2, 0].tolist() == [4.0, 5.0]
    assert real.tolist() == [[True] * 3, [True] * 3, [True, False, False]]
