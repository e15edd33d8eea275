import copy
import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.methods.densecl import best_matches, matched_share
from fewlabel.nets.unet import UNetConfig
from kit.pretraining import settle, toy_batch, toy_method

# The last map is 4x4.
TINY = {"size": (8, 8), "network": UNetConfig(width=4, depth=2), "dtype": torch.float64}


def tiny_batch(seed=0, first=None, **options):
    batch = toy_batch(4, seed=seed, size=(8, 8), dtype=torch.float64, **options)
    return batch if first is None else dataclasses.replace(batch, slices=torch.arange(first, first + 4))


def value(losses):
    return losses.terms["views"].item()


def head_output(head, rows):
    hidden = functional.linear(rows, head.first.weight, head.first.bias).relu()
    return functional.linear(hidden, head.second.weight, head.second.bias)


def dense_reference(method, batch, past, temperature=0.2, grid=None):
    """The dense loss by loops over slices and cells, its matches, and the keys its queue must take."""
    maps = [method.encoder(batch.views[0])[-1], method.key_encoder.network(batch.views[1])[-1].detach()]
    if grid is not None:
        maps = [functional.adaptive_avg_pool2d(features, grid) for features in maps]
    cells = maps[0][0, 0].numel()
    queries = [
        [features[:, c // features.shape[2], c % features.shape[2]] for c in range(cells)] for features in maps[0]
    ]
    keys = [[features[:, c // features.shape[2], c % features.shape[2]] for c in range(cells)] for features in maps[1]]
    dense_keys = [[head_output(method.key_dense_head.network, cell) for cell in image] for image in keys]
    means = [functional.normalize(torch.stack(image).mean(0), dim=0) for image in dense_keys]
    owners = batch.slices.tolist()
    total, matches = 0.0, []
    for i, owner in enumerate(owners):
        negatives = [key for slice_, key in past if slice_ != owner]
        if not negatives:
            negatives = [means[j] for j, other in enumerate(owners) if other != owner]
        for cell in queries[i]:
            # Encoder features decide the match, the heads' outputs are contrasted.
            match = max(
                range(cells), key=lambda b, i=i, cell=cell: functional.cosine_similarity(cell, keys[i][b], dim=0)
            )
            matches.append(match)
            query = functional.normalize(head_output(method.dense_head, cell), dim=0)
            positive = functional.normalize(dense_keys[i][match], dim=0)
            logits = torch.stack([query @ positive, *[query @ key for key in negatives]]) / temperature
            total = total + (logits.logsumexp(0) - logits[0]) / (len(owners) * cells)
    return total, torch.tensor(matches).view(len(owners), cells), list(zip(owners, means, strict=True))


@pytest.mark.parametrize("grid", [None, 3])
def test_dense_loss_is_that_of_slow_loops_with_its_own_queue(grid):
    method = settle(toy_method("densecl", queue=6, grid=grid, temperature=0.3, **TINY), tiny_batch())
    past = []
    for number in range(4):
        batch = tiny_batch(seed=number, first=2 * number)
        expected, matches, keys = dense_reference(method, batch, past, 0.3, grid)
        found, chosen = method.dense_term(method.maps(batch))
        assert found.item() == pytest.approx(expected.item(), abs=1e-12)
        assert torch.equal(chosen, matches)
        assert method.losses(batch).scalars["dense"] == pytest.approx(expected.item(), abs=1e-12)
        method.after_step(number, 20)
        past = [*past, *keys][-6:]
        memory = method.dense_contrast.memory
        oldest = int(memory.pointer) if len(past) == 6 else 0
        for age, (slice_, key) in enumerate(past):
            assert int(memory.owners[(oldest + age) % 6]) == slice_
            torch.testing.assert_close(memory.keys[(oldest + age) % 6], key)


@pytest.mark.parametrize("weight", [0.5, 0.2, 1.0])
def test_the_loss_is_the_weighted_sum_of_image_and_dense(weight):
    method = settle(toy_method("densecl", dense_weight=weight, **TINY), tiny_batch())
    plain = settle(toy_method("moco", **TINY), tiny_batch())
    losses = method.losses(tiny_batch())
    image = value(plain.losses(tiny_batch()))
    dense = dense_reference(method, tiny_batch(), [])[0].item()
    assert value(losses) == pytest.approx((1 - weight) * image + weight * dense, abs=1e-12)
    assert losses.scalars["image"] == pytest.approx(image, abs=1e-12)
    assert losses.scalars["dense"] == pytest.approx(dense, abs=1e-12)
    assert losses.collapsed == pytest.approx(math.log(4), abs=1e-12)


def run(method, steps=3):
    """Losses, gradients and final state of a short run with wrap-around of the queue."""
    found = []
    trained = [tensor for name, tensor in method.named_parameters() if tensor.requires_grad and "dense" not in name]
    for number in range(steps):
        batch = tiny_batch(seed=number, first=3 * number, step=number)
        losses = method.losses(batch)
        gradients = torch.autograd.grad(losses.terms["views"], trained)
        with torch.no_grad():
            for tensor, gradient in zip(trained, gradients, strict=True):
                tensor.sub_(0.1 * gradient)
        method.after_step(number, 20)
        found += [losses.terms["views"].detach(), losses.embeddings, *gradients, batch.generator.get_state()]
        found.append(torch.tensor([losses.collapsed, losses.lower_bound], dtype=torch.float64))
    return found


def test_without_the_dense_part_it_is_moco_exactly():
    moco, dense = (
        toy_method("moco", queue=6, **TINY).train(),
        toy_method("densecl", queue=6, dense_weight=0.0, **TINY).train(),
    )
    assert moco.state_dict().keys() == dense.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(run(moco), run(dense), strict=True))
    for name, tensor in moco.state_dict().items():
        assert torch.equal(tensor, dense.state_dict()[name]), name


def test_while_warming_up_it_is_moco_exactly_and_fills_both_queues():
    moco = toy_method("moco", queue=6, **TINY).train()
    dense = toy_method("densecl", queue=6, warmup=0.15, **TINY).train()
    # 0.15 of 20 steps are steps 0, 1 and 2.
    assert all(torch.equal(a, b) for a, b in zip(run(moco), run(dense), strict=True))
    assert int(dense.dense_contrast.memory.filled) == 6
    losses = dense.losses(tiny_batch(step=3))
    assert value(losses) == pytest.approx(0.5 * (losses.scalars["image"] + losses.scalars["dense"]), abs=1e-12)


def test_cells_of_identical_views_match_themselves():
    method = settle(toy_method("densecl", **TINY), tiny_batch())
    # The twin's own statistics are those of single groups of second views; the same maps need the same statistics.
    method.key_encoder.network.load_state_dict(method.encoder.state_dict())
    batch = tiny_batch()
    maps = method.maps(dataclasses.replace(batch, views=(batch.views[0], batch.views[0])))
    torch.testing.assert_close(maps.keys, maps.queries)
    unit = functional.normalize(maps.queries.flatten(2).transpose(1, 2), dim=-1)
    others = (unit @ unit.transpose(1, 2)).diagonal_scatter(unit.new_full((4, 16), -1), dim1=1, dim2=2)
    # No two cells of a map have one direction: else the first of them would be everyone's match.
    assert others.max() < 0.99
    matches = method.dense_term(maps)[1]
    assert torch.equal(matches, torch.arange(16).expand(4, 16))
    assert matched_share(matches) == 1


def test_matches_follow_the_cells_and_ignore_their_length():
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(3, 7, 5, generator=generator)
    order = torch.stack([torch.randperm(7, generator=generator) for _ in range(3)])
    queries = keys.gather(1, order[..., None].expand(-1, -1, 5)) * (torch.rand(3, 7, 1, generator=generator) + 0.1)
    assert torch.equal(best_matches(queries, keys * 3), order)
    # A long vector is not nearer than one of the same direction.
    near = torch.tensor([[[1.0, 0.1], [5.0, 5.0]]])
    assert best_matches(torch.tensor([[[1.0, 0.0]]]), near).tolist() == [[0]]
    assert not best_matches(queries.requires_grad_(), keys).requires_grad


def test_matching_goes_by_encoder_features_not_by_the_heads():
    method = settle(toy_method("densecl", **TINY), tiny_batch())
    before = method.dense_term(method.maps(tiny_batch()))
    with torch.no_grad():
        for head in (method.dense_head, method.key_dense_head.network):
            head.second.weight.normal_()
    after = method.dense_term(method.maps(tiny_batch()))
    assert torch.equal(before[1], after[1])
    assert before[0].item() != after[0].item()


def test_gradient_passes_through_the_query_cells_only():
    method = toy_method("densecl", **TINY).train()
    batch = tiny_batch()
    views = tuple(view.clone().requires_grad_() for view in batch.views)
    term = method.losses(dataclasses.replace(batch, views=views)).terms["views"]
    queries, keys = torch.autograd.grad(term, views, allow_unused=True)
    assert queries.abs().sum() > 0
    assert keys is None
    assert not any(tensor.requires_grad for tensor in method.key_dense_head.parameters())


def test_dense_loss_is_a_mean_over_all_cells():
    method = settle(toy_method("densecl", **TINY), tiny_batch())
    flat = method.maps(tiny_batch())
    # Maps that are constant in space give every cell the same loss, that of a map of one cell.
    single = dataclasses.replace(flat, queries=flat.queries[..., :1, :1], keys=flat.keys[..., :1, :1])
    wide = dataclasses.replace(
        flat, queries=single.queries.expand_as(flat.queries), keys=single.keys.expand_as(flat.keys)
    )
    loss, matches = method.dense_term(wide)
    assert loss.item() == pytest.approx(method.dense_term(single)[0].item(), abs=1e-12)
    # All cells are equal, so all take the first: what the logged share is there to show.
    assert matched_share(matches) == 1 / 16


@pytest.mark.parametrize("size", [6, 16])
def test_equal_embeddings_cost_the_logarithm_of_the_queue_and_one(size):
    method = toy_method("densecl", queue=size, dense_weight=0.3, **TINY).train()
    for encoder in (method.encoder, method.key_encoder.network):
        torch.nn.init.zeros_(encoder.blocks[-1].norm2.weight)
        torch.nn.init.ones_(encoder.blocks[-1].norm2.bias)
    for number in range(4):
        method.losses(tiny_batch(first=4 * number))
        method.after_step(number, 20)
    losses = method.losses(tiny_batch(first=16))
    for found in (value(losses), losses.scalars["dense"], losses.collapsed):
        assert found == pytest.approx(math.log(size + 1), abs=1e-9)


def test_after_a_step_the_dense_twin_is_the_average_exactly():
    method = toy_method("densecl", momentum=0.9, **TINY).train()
    before = [tensor.clone() for tensor in method.key_dense_head.parameters()]
    with torch.no_grad():
        for tensor in method.dense_head.parameters():
            tensor.add_(torch.randn_like(tensor))
    method.after_step(0, 20)
    pairs = zip(method.dense_head.parameters(), method.key_dense_head.parameters(), before, strict=True)
    for theta, key, old in pairs:
        torch.testing.assert_close(key, 0.9 * old + 0.1 * theta, rtol=1e-15, atol=1e-15)


def test_a_saved_run_resumes_bit_by_bit():
    first, second = (toy_method("densecl", seed=seed, queue=6, **TINY).train() for seed in (0, 1))
    run(first, 2)
    second.load_state_dict(copy.deepcopy(first.state_dict()), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(run(first), run(second), strict=True))
    assert all(torch.equal(second.state_dict()[name], tensor) for name, tensor in first.state_dict().items())


def test_a_grid_finer_than_the_map_is_an_error():
    assert toy_method("densecl", grid=4, **TINY).grid == 4
    with pytest.raises(SettingsError) as caught:
        toy_method("densecl", grid=5, **TINY)
    assert "at most 4" in str(caught.value)


def test_a_grid_of_the_maps_size_changes_nothing():
    methods = [settle(toy_method("densecl", grid=grid, **TINY), tiny_batch()) for grid in (None, 4)]
    assert value(methods[0].losses(tiny_batch())) == pytest.approx(value(methods[1].losses(tiny_batch())), abs=1e-12)


def reached(method, batch):
    named = [(name, tensor) for name, tensor in method.named_parameters() if tensor.requires_grad]
    loss = method.losses(batch).terms["views"]
    found = torch.autograd.grad(loss, [tensor for _, tensor in named], allow_unused=True)
    return {name.split(".")[0] for (name, _), part in zip(named, found, strict=True) if part is not None}


def test_a_part_of_weight_0_has_no_gradient_so_that_its_head_does_not_decay():
    warming = settle(toy_method("densecl", warmup=0.5, **TINY), tiny_batch())
    assert reached(warming, tiny_batch(step=0)) == {"encoder", "image_head"}
    assert reached(warming, tiny_batch(step=10)) == {"encoder", "image_head", "dense_head"}
    alone = settle(toy_method("densecl", dense_weight=1.0, **TINY), tiny_batch())
    assert reached(alone, tiny_batch()) == {"encoder", "dense_head"}
