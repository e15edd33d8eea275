"""Correspondence of cells and points, against loops over single cells and against what views really show."""

import math

import pytest
import torch
from torch.nn import functional

from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import pretraining_augmentation
from fewlabel.objectives import correspondence as places

SIZE = (32, 48)
CELLS = (4, 3)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def affine(angle=0.0, zoom=1.0, flip=(1, 1), shift=(0.0, 0.0), shear=0.0):
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
    linear = turn @ torch.diag(torch.tensor(flip, dtype=torch.float64)) * zoom
    linear = linear @ torch.tensor([[1.0, shear], [0.0, 1.0]], dtype=torch.float64)
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[:2, :2], matrix[:2, 2] = linear, torch.tensor(shift, dtype=torch.float64)
    return matrix


def mirrored(size=SIZE):
    """A left-right flip of the whole image."""
    return affine(flip=(-1, 1), shift=(size[1] - 1, 0))


FIRST = torch.stack([affine(), affine(0.4, 1.3, (-1, 1), (40, 3)), affine(-2.0, 0.8, (1, -1), (20, 30))])
SECOND = torch.stack([mirrored(), affine(0.3, 0.9, (1, 1), (2, -4)), affine(-1.9, 1.2, (1, -1), (30, 44))])


def slow_centre(matrix, row, column, cells=CELLS, size=SIZE):
    """Mean of the source points that the pixels of a cell show."""
    height, width = size[0] // cells[0], size[1] // cells[1]
    inverse = torch.linalg.inv(matrix)
    total = torch.zeros(3, dtype=torch.float64)
    for y in range(row * height, (row + 1) * height):
        for x in range(column * width, (column + 1) * width):
            total += inverse @ torch.tensor([x, y, 1.0], dtype=torch.float64)
    return (total / (height * width))[:2]


def slow_diagonals(matrix, cells=CELLS, size=SIZE):
    height, width = size[0] / cells[0], size[1] / cells[1]
    inverse = torch.linalg.inv(matrix)[:2, :2]
    return [float((inverse @ torch.tensor([width, sign * height], dtype=torch.float64)).norm()) for sign in (1, -1)]


def test_points_go_to_the_view_and_back():
    points = torch.rand(3, 7, 2, generator=stream(), dtype=torch.float64) * 40
    seen = places.to_view(FIRST, points)
    for n in range(3):
        for p in range(7):
            expected = FIRST[n] @ torch.cat([points[n, p], points.new_ones(1)])
            torch.testing.assert_close(seen[n, p], expected[:2])
    torch.testing.assert_close(places.to_source(FIRST, seen), points)
    torch.testing.assert_close(
        places.to_view(FIRST, points[0])[2], places.to_view(FIRST, points[:1].expand(3, 7, 2))[2]
    )


def test_a_cell_is_centred_where_its_pixels_are_on_average():
    found = places.cell_centres(FIRST, CELLS, SIZE)
    assert found.shape == (3, 12, 2)
    for n, matrix in enumerate(FIRST):
        for row in range(CELLS[0]):
            for column in range(CELLS[1]):
                torch.testing.assert_close(found[n, row * CELLS[1] + column], slow_centre(matrix, row, column))


def test_diagonals_are_those_of_the_cell_on_the_source():
    found = places.cell_diagonals(FIRST, CELLS, SIZE)
    for n, matrix in enumerate(FIRST):
        expected = slow_diagonals(matrix)
        # 8 x 16 pixels: after a flip, a turn and a magnification both diagonals are still alike.
        assert expected[0] == pytest.approx(expected[1])
        assert float(found[n]) == pytest.approx(expected[0])
    assert float(found[0]) == pytest.approx(math.hypot(8, 16))
    sheared = affine(0.4, 1.1, shear=0.5)
    expected = slow_diagonals(sheared)
    assert expected[0] != pytest.approx(expected[1], rel=0.1)
    assert float(places.cell_diagonals(sheared[None], CELLS, SIZE)) == pytest.approx(
        math.sqrt((expected[0] ** 2 + expected[1] ** 2) / 2)
    )


def test_distances_and_pairs_equal_the_loop():
    found = places.cell_distances(FIRST, SECOND, CELLS, SIZE)
    pairs = places.matched_cells(FIRST, SECOND, CELLS, SIZE, 0.7)
    assert found.shape == pairs.shape == (3, 12, 12)
    some = torch.zeros(2, dtype=torch.bool)
    for n in range(3):
        unit = max(*slow_diagonals(FIRST[n]), *slow_diagonals(SECOND[n]))
        for i in range(12):
            a = slow_centre(FIRST[n], *divmod(i, 3))
            for j in range(12):
                b = slow_centre(SECOND[n], *divmod(j, 3))
                expected = float((a - b).norm()) / unit
                assert float(found[n, i, j]) == pytest.approx(expected, abs=1e-9)
                real = all(-0.5 <= x < 47.5 and -0.5 <= y < 31.5 for x, y in (a.tolist(), b.tolist()))
                assert bool(pairs[n, i, j]) == (expected < 0.7 and real)
                some |= torch.tensor([expected < 0.7 and real, expected < 0.7 and not real])
    assert bool(some.all())


def test_distances_count_in_the_larger_cell_and_do_not_depend_on_the_order():
    near, far = affine()[None], affine(zoom=2.0, shift=(3, 5))[None]
    found = places.cell_distances(near, far, CELLS, SIZE)
    gap = (slow_centre(near[0], 0, 0) - slow_centre(far[0], 1, 2)).norm()
    # The second view's cells are half as large on the source.
    assert float(found[0, 0, 5]) == pytest.approx(float(gap) / math.hypot(8, 16))
    torch.testing.assert_close(places.cell_distances(far, near, CELLS, SIZE), found.transpose(1, 2))


@pytest.mark.parametrize(("cells", "size"), [((12, 12), (192, 192)), ((7, 7), (224, 224)), ((6, 6), (96, 96))])
def test_identical_views_pair_a_cell_with_itself_and_above_the_root_of_a_half_with_its_neighbours(cells, size):
    matrices = FIRST[1:2].float()
    still = torch.eye(3)[None]
    side = cells[0]
    for view in (still, matrices):
        distances = places.cell_distances(view, view, cells, size)
        neighbour = torch.arange(side * side - 1)
        neighbour = neighbour[neighbour % side < side - 1]
        torch.testing.assert_close(
            distances[0, neighbour, neighbour + 1], torch.full((len(neighbour),), 0.5**0.5), rtol=1e-4, atol=0
        )
        assert torch.equal(distances[0] < 0.7, torch.eye(side * side, dtype=torch.bool))
    assert torch.equal(
        places.matched_cells(still, still, cells, size, 0.7)[0], torch.eye(side * side, dtype=torch.bool)
    )
    wide = places.matched_cells(still, still, cells, size, 0.71)[0].sum(dim=1).double()
    assert float(wide.mean()) == pytest.approx(1 + 4 * (side - 1) / side)
    if side == 7:
        assert float(wide.mean()) == pytest.approx(4.43, abs=0.01)


def test_a_flip_of_one_view_permutes_the_pairs():
    flip, flop = mirrored(), affine(flip=(1, -1), shift=(0, SIZE[0] - 1))
    index = torch.arange(12).view(CELLS)
    plain = places.matched_cells(FIRST, SECOND, CELLS, SIZE, 0.8)
    assert bool(plain.any())
    for matrix, axis in ((flip, 1), (flop, 0)):
        found = places.matched_cells(FIRST, matrix @ SECOND, CELLS, SIZE, 0.8)
        order = index.flip(axis).flatten()
        assert torch.equal(found, plain[:, :, order])
        assert not torch.equal(found, plain)
        assert torch.equal(places.matched_cells(matrix @ FIRST, SECOND, CELLS, SIZE, 0.8), plain[:, order])


def test_a_half_turn_and_a_flip_across_pair_the_right_cells():
    # By hand on 2 x 3 cells: turned by half, cell (r, c) shows what (1 - r, 2 - c) showed.
    cells, still = (2, 3), affine()[None]
    turned = affine(math.pi, shift=(SIZE[1] - 1, SIZE[0] - 1))[None]
    pairs = places.matched_cells(still, turned, cells, SIZE, 0.4)[0].nonzero().tolist()
    assert pairs == [[i, 5 - i] for i in range(6)]
    pairs = places.matched_cells(still, mirrored()[None], cells, SIZE, 0.4)[0].nonzero().tolist()
    assert pairs == [[0, 2], [1, 1], [2, 0], [3, 5], [4, 4], [5, 3]]


def test_shown_is_what_the_source_and_the_view_hold():
    centres = places.cell_centres(FIRST, CELLS, SIZE)
    found = places.shown(SECOND, centres, SIZE)
    for n in range(3):
        for i in range(12):
            centre = slow_centre(FIRST[n], *divmod(i, 3))
            x, y = (SECOND[n] @ torch.cat([centre, centre.new_ones(1)]))[:2].tolist()
            expected = all(-0.5 <= a < 47.5 and -0.5 <= b < 31.5 for a, b in (centre.tolist(), (x, y)))
            assert bool(found[n, i]) == expected
    assert bool(found[0].all())
    assert 0 < int(found[1].sum()) < 12
    far = affine(shift=(-200.0, 0))[None]
    assert not bool(places.shown(far, centres[:1], SIZE).any())
    assert not bool(places.matched_cells(affine()[None], far, CELLS, SIZE, 0.7).any())


def test_points_on_the_rim_are_inside():
    edge = torch.tensor([[-0.5, -0.5], [47.4, 31.4], [47.5, 0.0], [0.0, 31.5], [-0.6, 3.0], [3.0, -0.6], [40.0, 10.0]])
    assert places.inside(edge, SIZE).tolist() == [True, True, False, False, False, False, True]
    matrix = affine(shift=(10.0, 0))[None]
    assert places.shown(matrix.float(), edge[None], SIZE).tolist() == [[True, False, False, False, False, False, False]]


def test_what_elastic_deformation_adds_under_the_default_augmentation():
    stride, cells, size = 16, (12, 12), (192, 192)
    transform = Augmenter(pretraining_augmentation()).sample(400, size, stream())
    shown = functional.avg_pool2d(transform.source_points(), 2, stride=1)[:, :, 7::stride, 7::stride]
    truth = shown.flatten(2).transpose(1, 2)
    centres = places.cell_centres(transform.matrices, cells, size)
    diagonals = places.cell_diagonals(transform.matrices, cells, size)
    error = (truth - centres).norm(dim=2) / (diagonals[:, None] / 2**0.5)
    assert float(error.square().mean().sqrt()) == pytest.approx(0.14, abs=0.015)
    assert float(error.flatten().quantile(0.95)) < 0.35
    assert float(error.max()) < 0.8
    first, second = transform.matrices.chunk(2)
    near = places.cell_distances(first, second, cells, size) < 0.7
    gaps = (truth[:200, :, None] - truth[200:, None]).norm(dim=-1)
    true_distance = (gaps / torch.maximum(*diagonals.chunk(2))[:, None, None])[near]
    assert float((true_distance < 0.7).float().mean()) > 0.9
    assert float((true_distance < 1).float().mean()) > 0.99
    still = transform.control.abs().amax(dim=(1, 2, 3)) == 0
    assert 0 < int(still.sum()) < 400
    assert float(error[still].max()) < 1e-3
