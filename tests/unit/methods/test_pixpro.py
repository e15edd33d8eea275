"""PixPro: loss and gradient against loops over cells, and what the pairs, the twin and the settings must do."""

import dataclasses
import functools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.methods.pixpro import consistency, propagate
from fewlabel.nets.unet import UNetConfig
from kit import places
from kit.pretraining import settle, toy_batch, toy_method

# Not square, so that rows and columns cannot be exchanged unseen; the last map is 4x6.
SIZE, CELLS = (8, 12), (4, 6)
TINY = {"network": UNetConfig(width=4, depth=2), "dtype": torch.float64, "hidden": 8, "dim": 6}

affine = functools.partial(places.affine, SIZE)
STILL = affine()
#: Slices 0 and 1 overlap in part, the views of slice 2 show nothing in common, slice 3 is shown twice alike.
FIRST = torch.stack([affine(0.3, 1.4, shift=(1, -1)), affine(zoom=1.3, flip=-1), affine(zoom=2, shift=(-16, 0)), STILL])
SECOND = torch.stack([affine(-0.2, 1.2, -1), affine(2.0, 1.1, shift=(2, 1)), affine(zoom=2, shift=(16, 0)), STILL])


def batch_of(first=FIRST, second=SECOND, seed=0, size=SIZE, **options):
    batch = toy_batch(len(first), seed=seed, size=size, dtype=torch.float64, **options)
    return dataclasses.replace(batch, matrices=(first, second))


def part(batch, rows):
    """Some slices of a batch."""
    return dataclasses.replace(
        batch,
        views=tuple(view[rows] for view in batch.views),
        matrices=tuple(matrices[rows] for matrices in batch.matrices),
        slices=batch.slices[rows],
    )


def method_of(size=SIZE, **settings):
    """A settled method whose twin differs from it."""
    method = settle(toy_method("pixpro", size=size, **{**TINY, **settings}), batch_of(size=size))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, tensor in method.named_parameters():
            tensor.mul_(1 + 0.3 * torch.randn_like(tensor))
            if name.endswith("bias"):
                tensor.add_(0.1 * torch.randn_like(tensor))
    return method


def value(losses):
    return losses.terms["pixels"].item()


def slow_head(head, vector):
    """Two layers with batch normalisation by running statistics and a ReLU between them, on one vector."""
    first, norm, _, second = head
    hidden = first.weight[:, :, 0, 0] @ vector
    hidden = (hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    return second.weight[:, :, 0, 0] @ hidden.clamp_min(0) + second.bias


def slow_centre(matrix, row, column, size, cells):
    """Mean of the source points of a cell's pixels, and whether it lies on the source."""
    height, width = size[0] // cells[0], size[1] // cells[1]
    inverse, total = torch.linalg.inv(matrix), torch.zeros(3, dtype=torch.float64)
    for y in range(row * height, (row + 1) * height):
        for x in range(column * width, (column + 1) * width):
            total += inverse @ torch.tensor([x, y, 1.0], dtype=torch.float64)
    x, y = (total / (height * width))[:2].tolist()
    return x, y, places.on_image(x, y, size)


def slow_diagonal(matrix, size, cells):
    corner = torch.tensor([size[1] / cells[1], size[0] / cells[0]], dtype=torch.float64)
    return float((torch.linalg.inv(matrix)[:2, :2] @ corner).norm())


def slow_pairs(first, second, threshold, size=SIZE, cells=CELLS):
    """The set A as a list of (i, j)."""
    unit, found = max(slow_diagonal(matrix, size, cells) for matrix in (first, second)), []
    for i in range(cells[0] * cells[1]):
        ax, ay, on_first = slow_centre(first, *divmod(i, cells[1]), size, cells)
        for j in range(cells[0] * cells[1]):
            bx, by, on_second = slow_centre(second, *divmod(j, cells[1]), size, cells)
            if on_first and on_second and math.hypot(ax - bx, ay - by) / unit < threshold:
                found.append((i, j))
    return found


def slow_loss(method, batch, gamma=2.0, threshold=0.7):
    """The pixel loss by loops over slices, directions and cells."""
    cells = range(CELLS[0] * CELLS[1])
    propagated, keys = [], []
    for view in batch.views:
        maps, key_maps = method.encoder(view)[-1], method.key_encoder.network(view)[-1].detach()
        smooth, key_rows = [], []
        for n in range(len(view)):
            x = [slow_head(method.projector, maps[n, :, c // CELLS[1], c % CELLS[1]]) for c in cells]
            g = [method.transform.weight @ vector + method.transform.bias for vector in x]
            unit = [vector / vector.norm() for vector in x]
            y = [sum((unit[i] @ unit[j]).clamp_min(0) ** gamma * g[j] for j in cells) for i in cells]
            smooth.append([vector / vector.norm() for vector in y])
            rows = [key_maps[n, :, c // CELLS[1], c % CELLS[1]] for c in cells]
            key = [slow_head(method.key_projector.network, row).detach() for row in rows]
            key_rows.append([vector / vector.norm() for vector in key])
        propagated.append(smooth)
        keys.append(key_rows)
    costs = []
    for n, matrices in enumerate(zip(*batch.matrices, strict=True)):
        pairs = slow_pairs(*matrices, threshold)
        if pairs:
            there = [propagated[0][n][i] @ keys[1][n][j] for i, j in pairs]
            back = [propagated[1][n][j] @ keys[0][n][i] for i, j in pairs]
            costs.append(-torch.stack(there + back).mean())
    return torch.stack(costs).mean()


def slow_instance(method, batch):
    """The loss of whole slices by a loop over them."""
    pooled = [method.encoder(view)[-1].mean((2, 3)) for view in batch.views]
    key_pooled = [method.key_encoder.network(view)[-1].mean((2, 3)) for view in batch.views]
    costs = []
    for n in range(len(batch.slices)):
        for own, other in ((0, 1), (1, 0)):
            query = slow_head(method.predictor, slow_head(method.instance_projector, pooled[own][n]))
            key = slow_head(method.key_instance_projector.network, key_pooled[other][n]).detach()
            costs.append(-functional.cosine_similarity(query, key, dim=0))
    return torch.stack(costs).mean()


@pytest.mark.parametrize(("gamma", "threshold", "weight"), [(2.0, 0.7, 0.0), (1.0, 1.2, 0.0), (3.0, 0.55, 0.4)])
def test_loss_and_gradient_equal_slow_loops(gamma, threshold, weight):
    method = method_of(gamma=gamma, threshold=threshold, instance_weight=weight)
    batch = part(batch_of(), [0, 1, 2])
    trained = {name: tensor for name, tensor in method.named_parameters() if tensor.requires_grad}
    assert not any("key" in name for name in trained)
    losses = method.losses(batch)
    pixels = slow_loss(method, batch, gamma, threshold)
    expected = pixels + weight * slow_instance(method, batch) if weight else pixels
    assert value(losses) == pytest.approx(expected.item(), abs=1e-12)
    found, slow = (torch.autograd.grad(term, list(trained.values())) for term in (losses.terms["pixels"], expected))
    for name, own, reference in zip(trained, found, slow, strict=True):
        assert reference.abs().max() > 1e-9, name
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-12)
    counts = [len(slow_pairs(*matrices, threshold)) for matrices in zip(*batch.matrices, strict=True)]
    assert counts[2] == 0 < min(counts[:2])
    assert counts[0] != counts[1]
    assert losses.scalars["pairs"] == pytest.approx(sum(counts) / 3 / 24)
    assert losses.scalars["paired"] == pytest.approx(2 / 3)
    assert losses.lower_bound == -1 - weight
    assert losses.collapsed is None
    if weight:
        assert losses.scalars["pixels"] == pytest.approx(pixels.item(), abs=1e-6)
        assert losses.scalars["instance"] == pytest.approx(slow_instance(method, batch).item(), abs=1e-6)


def test_golden_value():
    rows = torch.tensor([[[1.0, 0.0], [1.2, 1.6], [-1.0, 0.0]]], dtype=torch.float64)
    found = propagate(rows, nn.Identity(), 2.0)[0]
    # Cosines to the first are 1, 0.6 and -1, to the second 0.6, 1 and -0.6; values keep their length.
    first, second = (1 + 0.36 * 1.2, 0.36 * 1.6), (0.36 + 1.2, 1.6)
    directions = [[value / math.hypot(*y) for value in y] for y in (first, second, (-1.0, 0.0))]
    torch.testing.assert_close(found, torch.tensor(directions, dtype=torch.float64))
    # Two cells in each view; the first of the one shows what both of the other show.
    queries = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [0.8, -0.6]]], dtype=torch.float64)
    keys = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.6, 0.8], [-1.0, 0.0]]], dtype=torch.float64)
    pairs = torch.tensor([[[True, True], [False, False]]])
    # (0.6 - 1) / 2 from the first view, (0.8 - 0.6) / 2 from the second.
    assert consistency(queries, keys, pairs).item() == pytest.approx(-(-0.2 + 0.1) / 2, abs=1e-15)


@pytest.mark.parametrize(("size", "cells"), [((8, 12), (4, 6)), ((14, 14), (7, 7))])
def test_identical_crops_pair_a_cell_with_itself_and_above_the_root_of_a_half_with_its_neighbours(size, cells):
    matrices = torch.eye(3).expand(4, 3, 3)
    rows, columns = cells
    neighbours = 2 * (rows * (columns - 1) + columns * (rows - 1)) / (rows * columns)
    near, wide = (
        method_of(size, threshold=threshold).losses(batch_of(matrices, matrices, size=size)).scalars["pairs"]
        for threshold in (0.7, 0.71)
    )
    assert near == 1
    assert wide == pytest.approx(1 + neighbours)
    if cells == (7, 7):
        assert wide == pytest.approx(4.43, abs=0.01)


def test_slices_without_overlap_neither_count_nor_pull():
    method, batch = method_of(), batch_of()
    apart = part(batch, [2])
    losses = method.losses(apart)
    assert value(losses) == 0
    assert losses.scalars["pairs"] == losses.scalars["paired"] == 0
    trained = [tensor for tensor in method.parameters() if tensor.requires_grad]
    gradients = torch.autograd.grad(losses.terms["pixels"], trained)
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)
    # Not the mean over four with a nought in it.
    assert value(method.losses(batch)) == pytest.approx(value(method.losses(part(batch, [0, 1, 3]))), abs=1e-12)


def test_a_slice_counts_the_same_whatever_the_number_of_its_pairs():
    method, batch = method_of(), batch_of()
    single = [value(method.losses(part(batch, [n]))) for n in (0, 1, 3)]
    assert value(method.losses(batch)) == pytest.approx(sum(single) / 3, abs=1e-12)


def test_cells_that_show_padding_are_in_no_pair():
    method = method_of()
    # Magnified by a half: both views show the slice in their middle and nothing around it.
    small = torch.stack([affine(zoom=0.5)])
    assert slow_pairs(small[0], small[0], 0.7) != []
    found = method.losses(batch_of(small, small)).scalars["pairs"] * 24
    assert found == pytest.approx(len(slow_pairs(small[0], small[0], 0.7)))
    # Cells of the view are twice as large on the slice: 2 x 3 of them lie on it.
    assert found == 6


def test_flipping_a_view_with_its_matrix_changes_nothing_for_an_encoder_that_takes_flips():
    method = method_of(threshold=0.9)
    with torch.no_grad():
        for module in method.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.add_(module.weight.flip(-1).clone())
    batch = batch_of()
    mirror = affine(flip=-1)
    views = (batch.views[0], batch.views[1].flip(-1).contiguous(memory_format=torch.channels_last))
    flipped = dataclasses.replace(batch, views=views, matrices=(FIRST, mirror @ SECOND))
    expected = value(method.losses(batch))
    assert value(method.losses(flipped)) == pytest.approx(expected, abs=1e-12)
    assert value(method.losses(dataclasses.replace(batch, views=views))) != pytest.approx(expected, abs=1e-6)
    assert value(method.losses(dataclasses.replace(batch, matrices=flipped.matrices))) != pytest.approx(
        expected, abs=1e-6
    )


def test_views_can_be_exchanged():
    method, batch = method_of(instance_weight=0.5), batch_of()
    swapped = dataclasses.replace(batch, views=batch.views[::-1], matrices=batch.matrices[::-1])
    assert value(method.losses(swapped)) == pytest.approx(value(method.losses(batch)), abs=1e-12)


def test_the_loss_lies_between_minus_one_and_one():
    rows = functional.normalize(torch.randn(2, 5, 3, dtype=torch.float64), dim=-1)
    pairs = torch.eye(5, dtype=torch.bool)[None]
    keys = torch.cat([rows[1:], rows[:1]])
    assert consistency(rows, keys, pairs).item() == pytest.approx(-1, abs=1e-12)
    assert consistency(rows, -keys, pairs).item() == pytest.approx(1, abs=1e-12)
    # A wrong pairing costs more.
    assert consistency(rows, keys, pairs.roll(1, dims=2)).item() > -1 + 1e-3


def test_a_map_that_is_the_same_everywhere_shows_in_the_spread_and_may_cost_nothing():
    method = method_of()
    healthy = method.losses(batch_of())
    assert healthy.scalars["pixel_spread"] > 0.01
    with torch.no_grad():
        for head in (method.projector, method.key_projector.network):
            head[3].weight.zero_()
            head[3].bias.copy_(torch.arange(1.0, 7.0))
        method.transform.weight.copy_(torch.eye(6))
        method.transform.bias.zero_()
    losses = method.losses(batch_of())
    assert value(losses) == pytest.approx(losses.lower_bound, abs=1e-12)
    assert losses.scalars["pixel_spread"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.0])
def test_cells_at_right_angles_and_opposite_cells_have_a_finite_gradient_and_no_weight(gamma):
    rows = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    found = propagate(rows, nn.Identity(), gamma)
    torch.testing.assert_close(found, functional.normalize(rows, dim=-1))
    (gradient,) = torch.autograd.grad((found * torch.rand_like(found)).sum(), rows)
    assert torch.isfinite(gradient).all()


def test_propagation_runs_in_full_precision_under_autocast():
    rows = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0))
    expected = propagate(rows, nn.Identity(), 2.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(propagate(rows, nn.Identity(), 2.0), expected)


@pytest.mark.parametrize("step", [0, 5, 12, 20])
def test_twins_follow_with_a_momentum_that_rises_to_one_and_at_first_as_a_plain_mean(step):
    method = toy_method("pixpro", size=SIZE, momentum=0.9, instance_weight=1.0, **TINY).train()
    cosine = 1 - (1 - 0.9) * (math.cos(math.pi * step / 40) + 1) / 2
    momentum = min(step / (step + 1), cosine)
    assert (momentum == cosine) == (step >= 12)
    pairs = [
        (method.encoder, method.key_encoder.network),
        (method.projector, method.key_projector.network),
        (method.instance_projector, method.key_instance_projector.network),
    ]
    before = [[tensor.clone() for tensor in twin.parameters()] for _, twin in pairs]
    with torch.no_grad():
        for source, _ in pairs:
            for tensor in source.parameters():
                tensor.add_(torch.randn_like(tensor))
    method.after_step(step, 40)
    for (source, twin), old in zip(pairs, before, strict=True):
        for theta, key, start in zip(source.parameters(), twin.parameters(), old, strict=True):
            torch.testing.assert_close(key, momentum * start + (1 - momentum) * theta, rtol=1e-14, atol=1e-15)
            assert torch.equal(key, theta) == (step == 0)
    assert not any(tensor.requires_grad for _, twin in pairs for tensor in twin.parameters())


def test_the_random_start_does_not_stay_in_the_twins():
    """However short the run: what a twin holds is made of what the source was after each step."""
    found = []
    for start in (0.0, 100.0):
        method = toy_method("pixpro", size=SIZE, **TINY)
        torch.manual_seed(0)
        with torch.no_grad():
            for tensor in (*method.key_encoder.parameters(), *method.key_projector.parameters()):
                tensor.fill_(start)
            for step in range(3):
                for tensor in (*method.encoder.parameters(), *method.projector.parameters()):
                    tensor.copy_(torch.randn_like(tensor))
                method.after_step(step, 3)
        found.append([*method.key_encoder.parameters(), *method.key_projector.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_embeddings_are_mean_projections_of_both_views():
    method, batch = method_of(), batch_of()
    expected = []
    for view in batch.views:
        for features in method.encoder(view)[-1]:
            vectors = [slow_head(method.projector, vector) for vector in features.flatten(1).T]
            expected.append(functional.normalize(torch.stack(vectors).mean(0), dim=0))
    found = method.losses(batch).embeddings
    torch.testing.assert_close(found, torch.stack(expected).detach())
    torch.testing.assert_close(method.embed(batch.views[1]), torch.stack(expected[4:]))


def test_without_the_branch_of_whole_slices_nothing_of_it_is_built():
    names = toy_method("pixpro", **TINY).state_dict()
    assert not any("instance" in name or "predictor" in name for name in names)
    assert any("instance" in name for name in toy_method("pixpro", instance_weight=0.1, **TINY).state_dict())


def test_default_settings_are_the_published_ones():
    config = toy_method("pixpro").settings
    assert (config.threshold, config.gamma, config.momentum, config.dim) == (0.7, 2.0, 0.99, 256)
    assert config.instance_weight == 0


@pytest.mark.parametrize(
    ("key", "bad"),
    [("gamma", 0.5), ("threshold", 0.0), ("momentum", 1.1), ("instance_weight", -0.1), ("hidden", 1), ("dim", 1)],
)
def test_settings_out_of_range_are_refused(key, bad):
    with pytest.raises(SettingsError) as caught:
        toy_method("pixpro", **{**TINY, key: bad})
    assert key in str(caught.value)
