"""Jigsaw: both forms against loops over slices and tiles, and what is known of them."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.methods.jigsaw_tiles import TILES, permutation_set, random_orders, shuffled
from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.memory import SlotMemory
from kit.golden import plant
from kit.pretraining import settle, toy_batch, toy_method

# Cells of 6 pixels, gaps of 1, tiles of 4.
SIZE = (18, 18)
TINY = {"size": SIZE, "network": UNetConfig(width=4, depth=2), "dtype": torch.float64, "dim": 6}
PUZZLE = {"form": "permutation", "permutations": 5, "hidden": 7, **TINY}


def tiny_batch(seed=0, slices=3, first=None, **options):
    batch = toy_batch(slices, seed=seed, size=SIZE, dtype=torch.float64, **options)
    return batch if first is None else dataclasses.replace(batch, slices=torch.arange(first, first + slices))


def value(losses):
    (term,) = losses.terms.values()
    return term


def with_views(batch, first=None, second=None):
    views = batch.views
    return dataclasses.replace(
        batch, views=(views[0] if first is None else first, views[1] if second is None else second)
    )


def stream(batch):
    """The generator of a batch as it came, without using it up."""
    copied = torch.Generator()
    copied.set_state(batch.generator.get_state())
    return copied


def tile(method, image, corner):
    """Feature (channels,) of one tile of an image, by slicing."""
    top, left = corner.tolist()
    part = image[:, top : top + method.grid.cut[0], left : left + method.grid.cut[1]]
    part = (part - part.mean()) / (part.var(unbiased=False) + 1e-4).sqrt()
    return method.encoder(part[None])[-1][0].mean((1, 2))


def joined_tiles(method, image, corners, order):
    """Outputs of the tiles' layer, one after the other in a new order."""
    features = [tile(method, image, corners[place]) for place in order]
    return torch.cat([functional.linear(f, method.tile_head.weight, method.tile_head.bias) for f in features])


def assert_equal_with_gradients(found, expected, method):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    parameters = list(method.parameters())
    pairs = zip(torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


# Permutation form.


def test_the_puzzle_is_the_cross_entropy_of_the_permutation_by_loops():
    method, batch = settle(toy_method("jigsaw", **PUZZLE), tiny_batch()), tiny_batch()
    draws = stream(batch)
    corners = method.grid.corners(6, draws)
    classes = torch.randint(5, (6,), generator=draws)
    norm, total, right = method.puzzle_head.norm, 0.0, 0
    for image, places, drawn in zip(torch.cat(batch.views), corners, classes.tolist(), strict=True):
        row = joined_tiles(method, image, places, permutation_set(5)[drawn])
        hidden = method.puzzle_head.first.weight @ row
        hidden = ((hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt()).relu()
        scores = method.puzzle_head.last.weight @ hidden
        total = total + scores.logsumexp(0) - scores[drawn]
        right += int(scores.argmax()) == drawn
    losses = method.losses(batch)
    assert losses.scalars == {"accuracy": pytest.approx(right / 6)}
    assert_equal_with_gradients(losses.terms["permutation"], total / 6, method)


def test_equal_features_are_at_chance_with_any_head():
    method = toy_method("jigsaw", **PUZZLE).train()
    torch.nn.init.zeros_(method.encoder.blocks[-1].norm2.weight)
    torch.nn.init.ones_(method.encoder.blocks[-1].norm2.bias)
    losses = method.losses(tiny_batch())
    assert value(losses).item() == pytest.approx(math.log(5), abs=1e-12)
    assert losses.collapsed == math.log(5)
    assert losses.lower_bound == 0


def test_the_permutations_are_those_of_the_set_and_are_saved():
    method = toy_method("jigsaw", form="permutation", permutations=50)
    assert torch.equal(method.state_dict()["orders"], torch.from_numpy(permutation_set(50).copy()))
    assert method.puzzle_head.last.out_features == 50
    assert not hasattr(method, "slots")


def test_permutations_are_learnt():
    network = UNetConfig(width=4, depth=2)
    method = toy_method("jigsaw", form="permutation", permutations=4, hidden=32, size=(24, 24), network=network).train()
    optimiser = torch.optim.Adam(method.parameters(), lr=5e-3)
    for step in range(60):
        batch = toy_batch(8, size=(24, 24))
        batch.generator.manual_seed(step)
        losses = method.losses(batch)
        optimiser.zero_grad()
        value(losses).backward()
        optimiser.step()
    assert value(losses).item() < 0.6 * math.log(4)
    assert losses.scalars["accuracy"] > 0.7


def test_both_views_are_puzzles_and_the_first_tiles_are_watched():
    method, batch = settle(toy_method("jigsaw", **PUZZLE), tiny_batch()), tiny_batch()
    draws = stream(batch)
    corners = method.grid.corners(6, draws)
    firsts = method.orders[torch.randint(5, (6,), generator=draws)][:, 0]
    images = torch.cat(batch.views)
    features = [tile(method, images[n], corners[n, first]) for n, first in enumerate(firsts.tolist())]
    found = method.losses(batch).embeddings
    torch.testing.assert_close(found, functional.normalize(torch.stack(features), dim=1).detach())
    assert not found.requires_grad


def test_the_puzzle_has_no_memory():
    method = toy_method("jigsaw", **PUZZLE).train()
    method.losses(tiny_batch())
    before = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    method.after_step(0, 20)
    assert all(torch.equal(before[key], tensor) for key, tensor in method.state_dict().items())


@pytest.mark.parametrize("settings", [{"form": "permutation"}, {"contrast": "info_nce"}])
def test_losses_are_float32_under_autocast(settings):
    method = toy_method("jigsaw", **settings).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = method.losses(toy_batch())
    assert value(losses).dtype == losses.embeddings.dtype == torch.float32
    value(losses).backward()
    assert all(torch.isfinite(tensor.grad).all() for tensor in method.parameters())


# PIRL.


def whole_rows(method, batch):
    """f of each slice, detached."""
    rows = [method.encoder(image[None])[-1][0].mean((1, 2)) for image in batch.views[0]]
    rows = [functional.linear(row, method.image_head.weight, method.image_head.bias).detach() for row in rows]
    return [row / row.norm() for row in rows]


def reference(method, batch, known, weight, form, temperature):
    """The two parts of PIRL's loss, by a loop over slices; ``known`` slices were drawn before."""
    draws, slices = stream(batch), batch.slices.tolist()
    memory = method.slots.memory.rows.clone()
    for slice_, row in zip(slices, whole_rows(method, batch), strict=True):
        if slice_ not in known:
            memory[slice_] = row
    corners = method.grid.corners(len(slices), draws)
    orders = random_orders(len(slices), draws)
    parts = []
    for n, slice_ in enumerate(slices):
        whole = method.encoder(batch.views[0][n][None])[-1][0].mean((1, 2))
        whole = functional.linear(whole, method.image_head.weight, method.image_head.bias)
        mixed = joined_tiles(method, batch.views[1][n], corners[n], orders[n].tolist())
        mixed = functional.linear(mixed, method.joint_head.weight, method.joint_head.bias)
        negatives = sorted((known | set(slices)) - {slice_})
        for row, share in ((whole, 1 - weight), (mixed, weight)):
            logits = memory[[slice_, *negatives]] @ (row / row.norm()) / temperature
            chance = logits.softmax(0)
            cost = -chance[0].log()
            if form == "nce":
                cost = cost - (1 - chance[1:]).log().sum()
            parts.append(share * cost / len(slices))
    return torch.stack(parts).sum()


@pytest.mark.parametrize("form", ["nce", "info_nce"])
def test_pirl_is_the_contrast_with_the_slots_by_loops(form):
    method = settle(toy_method("jigsaw", contrast=form, tiles_weight=0.3, temperature=0.4, **TINY), tiny_batch())
    known: set[int] = set()
    for number in range(3):
        batch = tiny_batch(seed=number, first=2 * number)
        expected = reference(method, batch, known, 0.3, form, 0.4)
        known |= set(batch.slices.tolist())
        losses = method.losses(batch)
        assert losses.scalars["negatives"] == len(known) - 1
        assert_equal_with_gradients(losses.terms["pirl"], expected, method)
        assert losses.lower_bound < losses.terms["pirl"].item()
        both = 0.7 * losses.scalars["image"] + 0.3 * losses.scalars["tiles"]
        assert both == pytest.approx(expected.item(), abs=1e-6)
        method.after_step(number, 20)


def test_a_slot_is_the_moving_average_of_its_slices_first_views():
    method = settle(toy_method("jigsaw", momentum=0.7, **TINY), tiny_batch())
    slots = method.slots.memory.rows
    expected = slots.clone()
    for number in range(3):
        batch = tiny_batch(seed=number, first=2 * number)
        for row, slice_ in zip(whole_rows(method, batch), batch.slices.tolist(), strict=True):
            # On its first visit a slot holds nothing worth mixing in.
            mixed = 0.7 * expected[slice_] + 0.3 * row if method.slots.drawn[slice_] else row
            expected[slice_] = mixed / mixed.norm()
        method.losses(batch)
        method.after_step(number, 20)
        torch.testing.assert_close(slots, expected, rtol=0, atol=1e-13)
        torch.testing.assert_close(slots.norm(dim=1), torch.ones(120, dtype=torch.float64))
    assert method.slots.drawn.nonzero().flatten().tolist() == list(range(7))
    # Once per step.
    before = slots.clone()
    method.after_step(3, 20)
    assert torch.equal(slots, before)


@pytest.mark.parametrize("form", ["nce", "info_nce"])
def test_what_slots_start_with_does_not_matter(form):
    """Slots of slices 2 and 3 come from the first step; of a slice drawn twice at first, its last view's counts."""
    found = []
    for seed in (0, 1):
        method = settle(toy_method("jigsaw", contrast=form, **TINY), tiny_batch())
        rows = method.slots.memory.rows
        rows.copy_(SlotMemory(*rows.shape, 0.5, seed=seed).rows)
        for number, slices in enumerate(([2, 3, 2], [1, 3, 2])):
            batch = dataclasses.replace(tiny_batch(seed=number), slices=torch.tensor(slices))
            term = value(method.losses(batch))
            found.append([term.detach(), *torch.autograd.grad(term, list(method.parameters()))])
            method.after_step(number, 20)
        found[-1].append(rows[[1, 2, 3]])
    for one, other in zip(found[:2], found[2:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert any(gradient.abs().sum() > 0 for gradient in found[0][1:])


def test_slots_are_moved_after_the_step_alone():
    method = toy_method("jigsaw", **TINY).train()
    before = method.slots.memory.rows.clone()
    losses = method.losses(tiny_batch())
    assert torch.equal(method.slots.memory.rows, before)
    method.after_step(0, 20)
    assert not torch.equal(method.slots.memory.rows, before)
    assert value(losses).requires_grad


def test_at_weight_0_tiles_take_no_part_and_at_1_the_slices_do_not():
    none = settle(toy_method("jigsaw", tiles_weight=0.0, **TINY), tiny_batch())
    batch = tiny_batch()
    plain = none.losses(batch)
    assert torch.equal(batch.generator.get_state(), tiny_batch().generator.get_state())
    assert value(plain).item() == value(none.losses(with_views(tiny_batch(), second=batch.views[1] + 5))).item()
    assert "tiles" not in plain.scalars
    found = torch.autograd.grad(value(plain), list(none.parameters()), allow_unused=True)
    reached = {name for (name, _), part in zip(none.named_parameters(), found, strict=True) if part is not None}
    assert not {name for name in reached if name.startswith(("tile_head", "joint_head"))}
    assert {"image_head.weight", "encoder.blocks.0.conv1.weight"} <= reached
    alone = settle(toy_method("jigsaw", tiles_weight=1.0, **TINY), tiny_batch())
    # Save that they are their own slots at first.
    alone.slots.drawn[tiny_batch().slices] = True
    plain, other = alone.losses(tiny_batch()), with_views(tiny_batch(), first=tiny_batch().views[0].flip(3))
    assert value(plain).item() == value(alone.losses(other)).item() == pytest.approx(plain.scalars["tiles"])
    # No gradient at all, or the head would decay without being trained.
    assert torch.autograd.grad(value(plain), alone.image_head.weight, allow_unused=True) == (None,)


def test_tile_order_changes_their_embedding_through_the_second_layer_alone():
    method, batch = settle(toy_method("jigsaw", **TINY), tiny_batch()), tiny_batch()
    tiles = method.grid.cut_tiles(batch.views[1], method.grid.corners(3, stream(batch)))
    orders = random_orders(3, torch.Generator().manual_seed(3))
    mixed = shuffled(tiles, orders)
    features, moved = method.tile_features(tiles), method.tile_features(mixed)
    torch.testing.assert_close(moved, shuffled(features, orders), rtol=0, atol=1e-13)
    rows = method.tile_rows(features).view(3, TILES, -1)
    torch.testing.assert_close(method.tile_rows(moved).view(3, TILES, -1), shuffled(rows, orders), rtol=0, atol=1e-13)
    assert not torch.allclose(method.embed_tiles(mixed), method.embed_tiles(tiles))
    # A second layer that is the same for every place cannot tell.
    with torch.no_grad():
        part = method.joint_head.weight[:, :6].clone()
        method.joint_head.weight.copy_(part.repeat(1, TILES))
    torch.testing.assert_close(method.embed_tiles(mixed), method.embed_tiles(tiles), rtol=0, atol=1e-13)


def test_there_are_no_more_negatives_than_other_slices():
    """100 slices take part, of a store of 120."""
    method = settle(toy_method("jigsaw", **TINY), tiny_batch())
    method.slots.drawn[:100] = True
    assert method.losses(tiny_batch(first=0)).scalars["negatives"] == 99
    few = settle(toy_method("jigsaw", negatives=4, **TINY), tiny_batch())
    few.slots.drawn[:100] = True
    batch = tiny_batch(first=0)
    draws = stream(batch)
    assert few.losses(batch).scalars["negatives"] == 4
    # Drawn from the batch's generator, before the tiles.
    torch.rand(3, 120, generator=draws)
    few.grid.corners(3, draws)
    random_orders(3, draws)
    assert torch.equal(batch.generator.get_state(), draws.get_state())
    assert few.losses(tiny_batch(first=0)).lower_bound < method.losses(tiny_batch(first=0)).lower_bound


def test_watched_are_the_pooled_features_of_first_views():
    method, batch = settle(toy_method("jigsaw", **TINY), tiny_batch()), tiny_batch()
    losses = method.losses(batch)
    expected = functional.normalize(method.encoder(batch.views[0])[-1].mean((2, 3)), dim=1)
    torch.testing.assert_close(losses.embeddings, expected.detach())
    assert losses.collapsed is None
    torch.testing.assert_close(method.embed(batch.views[0]).double(), expected, rtol=1e-5, atol=1e-6)


def test_embeddings_can_be_permuted_with_their_slices():
    """Without tiles, whose places are drawn row by row."""
    method = settle(toy_method("jigsaw", tiles_weight=0.0, **TINY), tiny_batch())
    batch, order = tiny_batch(), torch.tensor([2, 0, 1])
    mixed = dataclasses.replace(
        tiny_batch(), views=tuple(view[order] for view in batch.views), slices=batch.slices[order]
    )
    assert value(method.losses(mixed)).item() == pytest.approx(value(method.losses(batch)).item(), abs=1e-12)


def test_a_run_that_is_saved_and_resumed_is_the_same_bit_by_bit():
    def train(method, numbers):
        found = []
        trained = list(method.parameters())
        for number in numbers:
            term = value(method.losses(tiny_batch(seed=number, first=2 * number, step=number)))
            gradients = torch.autograd.grad(term, trained)
            with torch.no_grad():
                for tensor, gradient in zip(trained, gradients, strict=True):
                    tensor.sub_(0.01 * gradient)
            method.after_step(number, 20)
            found.append(term.item())
        return found

    whole = toy_method("jigsaw", negatives=4, **TINY).train()
    expected = train(whole, range(5))
    first, second = (toy_method("jigsaw", negatives=4, seed=seed, **TINY).train() for seed in (0, 1))
    found = train(first, range(2))
    second.load_state_dict(copy.deepcopy(first.state_dict()), strict=True)
    assert found + train(second, range(2, 5)) == expected
    assert all(torch.equal(second.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("form", ["pirl", "permutation"])
def test_images_too_small_for_nine_tiles_are_refused(form):
    network = UNetConfig(width=4, depth=6)
    with pytest.raises(SettingsError, match=r"network\.depth: 32x64 images are.*network\.depth=6.*larger images"):
        toy_method("jigsaw", form=form, size=(32, 64), network=network)


def test_defaults_are_those_of_the_specification():
    config = resolve_plugin("fewlabel.methods", "jigsaw")
    assert (config.form, config.contrast, config.permutations) == ("pirl", "nce", 100)
    assert (config.tiles_weight, config.temperature, config.momentum, config.dim) == (0.5, 0.07, 0.5, 128)


GOLDEN = {"permutation": 1.8027765288622806, "nce": 2.2994905228877185, "info_nce": 1.3371997458712601}


@pytest.mark.parametrize("kind", sorted(GOLDEN))
def test_golden_values(kind):
    settings = PUZZLE if kind == "permutation" else {"contrast": kind, "temperature": 0.3, **TINY}
    method = toy_method("jigsaw", **settings).train()
    if kind != "permutation":
        slots = method.slots.memory.rows
        wave = torch.cos(0.9 * torch.arange(slots.numel(), dtype=torch.float64)).view(slots.shape)
        slots.copy_(functional.normalize(wave, dim=1))
    batch = plant(method, tiny_batch())
    if kind != "permutation":
        # Not their first visit.
        method.slots.drawn[batch.slices] = True
    assert value(method.losses(batch)).item() == pytest.approx(GOLDEN[kind], abs=1e-8)


def test_tiles_of_one_cell_need_another_normalisation():
    network = UNetConfig(width=4, depth=4, norm="instance")
    with pytest.raises(SettingsError, match=r"network\.norm.*tiles larger than one cell.*8x8 pixels"):
        toy_method("jigsaw", size=(32, 32), network=network)
    toy_method("jigsaw", size=(64, 64), network=network)
