import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.core.settings.value_syntax import nest
from fewlabel.nets.unet import UNetConfig
from kit.golden import plant
from kit.pretraining import settle, toy_batch, toy_method

TINY = {"size": (8, 8), "network": UNetConfig(width=4, depth=2), "dtype": torch.float64}
HEIGHTS = [0.05, 0.3, 0.42, 0.9]


def tiny_batch(heights=HEIGHTS, **options):
    batch = toy_batch(len(heights), size=(8, 8), dtype=torch.float64, **options)
    return dataclasses.replace(batch, positions=torch.tensor(heights))


def method_of(**settings):
    return settle(toy_method("posicl", **settings, **TINY), tiny_batch())


def value(method, batch):
    return method.losses(batch).terms["position"].item()


def embeddings(method, batch):
    """Unit vectors of the pooled map behind a two-layer head, from the formula."""
    pooled = method.encoder(torch.cat(batch.views))[-1].mean((2, 3))
    head = method.image_head
    hidden = functional.linear(pooled, head.first.weight, head.first.bias).relu()
    return functional.normalize(functional.linear(hidden, head.second.weight, head.second.bias), dim=1)


def slow_loss(z, slices, heights, threshold, temperature):
    """The formula by loops over anchors, positives and denominators."""
    views, count, total = len(z), len(slices), 0.0
    for i in range(views):
        positives = [
            j
            for j in range(views)
            if j != i
            and (abs(heights[i % count] - heights[j % count]) < threshold or slices[i % count] == slices[j % count])
        ]
        bottom = sum((z[i] @ z[a] / temperature).exp() for a in range(views) if a != i)
        costs = [-((z[i] @ z[j] / temperature).exp() / bottom).log() for j in positives]
        total = total + sum(costs) / len(costs) / views
    return total


@pytest.mark.parametrize(("threshold", "temperature"), [(0.35, 0.1), (0.2, 0.5), (0.6, 0.1)])
def test_loss_and_gradient_equal_the_loops(threshold, temperature):
    method = method_of(threshold=threshold, temperature=temperature)
    batch = tiny_batch()
    z = embeddings(method, batch)
    expected = slow_loss(z, batch.slices.tolist(), HEIGHTS, threshold, temperature)
    losses = method.losses(batch)
    torch.testing.assert_close(losses.embeddings, z.detach())
    torch.testing.assert_close(losses.terms["position"], expected, rtol=0, atol=1e-10)
    parameters = list(method.parameters())
    found = torch.autograd.grad(losses.terms["position"], parameters)
    for a, b in zip(found, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_golden_values():
    method = toy_method("posicl", dim=8, **TINY).train()
    batch = plant(method, tiny_batch(), power=1.1, amplitude=1.0)
    assert value(method, batch) == pytest.approx(1.9728441467313722, abs=1e-8)


def test_a_small_threshold_gives_simclr_and_one_above_the_whole_height_makes_all_views_positives():
    batch = tiny_batch()
    small, large = method_of(threshold=1e-9), method_of(threshold=1.01)
    z = embeddings(small, batch).detach()
    logits = (z @ z.T / 0.1).fill_diagonal_(-torch.inf)
    expected = functional.cross_entropy(logits, (torch.arange(8) + 4) % 8)
    assert value(small, batch) == pytest.approx(expected.item(), abs=1e-10)
    assert small.losses(batch).lower_bound == 0
    # Every view attracts every other: nothing is lower than collapse.
    found = large.losses(batch)
    assert found.lower_bound == found.collapsed == pytest.approx(math.log(7), abs=1e-12)
    assert found.terms["position"].item() >= math.log(7)


def test_it_is_the_code_path_of_simclr_but_for_head_and_rule():
    batch = tiny_batch()
    posicl = method_of(threshold=1e-9, dim=16)
    simclr = toy_method("simclr", temperature=0.1, dim=16, **TINY).eval()
    simclr.load_state_dict(posicl.state_dict(), strict=True)
    simclr.image_head = posicl.image_head
    assert simclr.losses(batch).terms["views"].item() == value(posicl, batch)


def test_with_heights_in_the_middle_of_parts_it_is_guided_by_the_part():
    batch = toy_batch(8, size=(8, 8), dtype=torch.float64)
    method = method_of(threshold=0.2, temperature=0.5)
    guided = toy_method("gcl", labels=["position"], pixel=False, **TINY).eval()
    guided.encoder.load_state_dict(method.encoder.state_dict())
    guided.image_head = method.image_head
    assert batch.positions.unique().tolist() == [0.125, 0.375, 0.625, 0.875]
    assert guided.losses(batch).terms["position"].item() == value(method, batch)


def test_more_positives_the_larger_the_threshold():
    batch, method = toy_batch(8, size=(8, 8), dtype=torch.float64), method_of()
    bounds = []
    for threshold in (0.01, 0.26, 0.51, 0.76, 1.0):
        method.threshold = threshold
        bounds.append(method.losses(batch).lower_bound)
    assert bounds == sorted(bounds)
    # Two slices at each of four heights: 4 views at a height, less the anchor, and 4 more per height in reach.
    assert bounds[0] == pytest.approx(math.log(3), abs=1e-12)
    assert bounds[1] == pytest.approx((math.log(7) + math.log(11)) / 2, abs=1e-12)
    assert bounds[-1] == pytest.approx(math.log(15), abs=1e-12)


def test_heights_count_and_the_ids_of_parts_do_not():
    method, plain = method_of(), tiny_batch()
    batch = tiny_batch()
    batch.metadata["position"] = torch.tensor([9, 9, 9, 9])
    assert value(method, batch) == value(method, plain)
    # Strictly less than 0.35; 0.3 and 0.65 are as far apart, but for rounding.
    moved = tiny_batch(heights=[0.05, 0.3, 0.65, 0.9])
    mask = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], dtype=torch.bool)
    assert value(method, moved) != pytest.approx(value(method, plain), abs=1e-6)
    z = embeddings(method, moved).detach()
    logits = (z @ z.T / 0.1).fill_diagonal_(-torch.inf)
    positives = (mask | torch.eye(4, dtype=torch.bool)).repeat(2, 2).fill_diagonal_(False)
    costs = logits.logsumexp(1, keepdim=True) - logits
    expected = (costs.masked_fill(~positives, 0).sum(1) / positives.sum(1)).mean()
    assert value(method, moved) == pytest.approx(expected.item(), abs=1e-10)


def test_only_differences_of_heights_count():
    method = method_of()
    plain = value(method, tiny_batch())
    assert value(method, tiny_batch(heights=[height + 0.5 for height in HEIGHTS])) == plain
    assert value(method, tiny_batch(heights=[1 - height for height in HEIGHTS])) == plain


def test_neither_the_order_of_slices_nor_of_views_matters():
    method, batch, order = method_of(), tiny_batch(), torch.tensor([2, 0, 3, 1])
    mixed = dataclasses.replace(
        batch,
        views=tuple(view[order] for view in batch.views),
        slices=batch.slices[order],
        positions=batch.positions[order],
    )
    swapped = dataclasses.replace(batch, views=batch.views[::-1])
    assert value(method, mixed) == pytest.approx(value(method, batch), abs=1e-10)
    assert value(method, swapped) == pytest.approx(value(method, batch), abs=1e-10)


def test_a_slice_drawn_twice_attracts_itself():
    batch = dataclasses.replace(tiny_batch(heights=[0.05, 0.9, 0.05, 0.5]), slices=torch.tensor([7, 1, 7, 2]))
    method = method_of(threshold=1e-9)
    expected = slow_loss(embeddings(method, batch), [7, 1, 7, 2], [0, 1, 2, 3], 0.5, 0.1)
    assert value(method, batch) == pytest.approx(expected.item(), abs=1e-10)


def test_losses_know_what_they_are_at_collapse_and_at_best():
    losses = method_of().losses(tiny_batch())
    assert losses.collapsed == pytest.approx(math.log(7), abs=1e-12)
    # The other view, and two views of each slice in reach: of 0.05 one (0.42 is 0.37 away), of 0.3 two, of 0.42 one.
    expected = (math.log(3) + math.log(5) + math.log(3) + math.log(1)) / 4
    assert losses.lower_bound == pytest.approx(expected, abs=1e-12)
    assert losses.scalars == {"image/position": losses.terms["position"].item()}


def test_slices_are_embedded_as_in_training():
    method, batch = method_of(), tiny_batch()
    torch.testing.assert_close(method.embed(torch.cat(batch.views)), embeddings(method, batch))


def test_data_without_positions_are_refused_with_a_way_out():
    with pytest.raises(SettingsError, match="method=simclr") as caught:
        toy_method("posicl", meta={"patient": 4})
    assert "the data set has patient" in str(caught.value)
    # One part is enough: heights are what counts.
    assert toy_method("posicl", meta={"position": 1}).uses_metadata == ("position",)


@pytest.mark.parametrize("setting", ["threshold=0", "threshold=-0.1", "temperature=0", "dim=1"])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(SettingsError, match=setting.split("=", maxsplit=1)[0]):
        resolve_plugin("fewlabel.methods", nest(["method=posicl", f"method.{setting}"])["method"])


def test_defaults_are_those_of_the_specification():
    config = resolve_plugin("fewlabel.methods", "posicl")
    assert (config.threshold, config.temperature, config.dim) == (0.35, 0.1, 512)
    method = toy_method("posicl")
    assert method.image_head.first.weight.shape == (16, 16)
    assert method.image_head.second.weight.shape == (512, 16)
    assert method.pretrained_decoder() is None
