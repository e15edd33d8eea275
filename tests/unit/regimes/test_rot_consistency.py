"""Rotation consistency: the loss by a slow loop, equivariant networks, its symmetric gradient, shapes."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from fewlabel.core.errors import SettingsError
from kit.finetuning import toy_batch
from kit.tiny_regimes import EachPixel, slow_mean_square, supervised, tiny, tiny_batch, use

#: Consistency, without its weight, of the example below.
GOLDEN = 0.006188888610


def turned(rows, turns):
    """Each row turned by hand: (y, x) of the result is (x, last - y) of the source, once per turn."""
    result = rows.clone()
    for row, count in enumerate(turns):
        for _ in range(count):
            source, last = result[row].clone(), rows.shape[-1] - 1
            for y in range(rows.shape[-2]):
                for x in range(rows.shape[-1]):
                    result[row][..., y, x] = source[..., x, last - y]
    return result


def fixed(regime, turns):
    regime.draw_turns = lambda count, generator: list(turns)
    return regime


def both_sides(network, batch, turns):
    """R p(u) and p(R u) of one pass over labelled, upright and turned slices, with their logits."""
    logits = network(torch.cat([batch.images, batch.unlabelled, turned(batch.unlabelled, turns)]))
    count = len(batch.unlabelled)
    upright, other = logits[2 : 2 + count].softmax(dim=1), logits[2 + count :].softmax(dim=1)
    return logits, torch.stack([torch.rot90(p, k, (1, 2)) for p, k in zip(upright, turns, strict=True)]), other


@pytest.mark.parametrize("turns", [(1, 2, 3), (3, 3, 1)])
def test_terms_are_those_of_the_formula(turns):
    regime = fixed(tiny("rot_consistency"), turns)
    batch = tiny_batch(regime)
    logits, first, second = both_sides(copy.deepcopy(regime.network), batch, turns)
    expected = slow_mean_square(first, second)
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "consistency"}
    assert expected > 1e-4
    assert float(terms["consistency"].detach()) == pytest.approx(regime.weight(10, 20) * expected, rel=1e-9)
    assert regime.metrics()["consistency"] == pytest.approx(expected, rel=1e-9)
    for key, value in supervised(logits[:2], batch.labels).items():
        torch.testing.assert_close(terms[key], value, rtol=1e-11, atol=0)


def test_golden_value():
    regime = tiny("rot_consistency")
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == pytest.approx(GOLDEN, rel=1e-6)


def test_both_sides_move_half_way():
    """The value is ‖a - b‖², the gradient that of half of it with nothing held."""
    turns = (1, 2, 3)
    regime = fixed(tiny("rot_consistency", unlabelled_weight=1.0, ramp=0.0), turns)
    plain = copy.deepcopy(regime.network)
    batch = tiny_batch(regime)
    found = torch.autograd.grad(regime.losses(batch)["consistency"], list(regime.network.parameters()))
    _, first, second = both_sides(plain, batch, turns)
    halves = [(first.detach() - second).square().mean() / 2, (first - second.detach()).square().mean() / 2]
    parts = [torch.autograd.grad(half, list(plain.parameters()), retain_graph=True) for half in halves]
    whole = torch.autograd.grad((first - second).square().mean() / 2, list(plain.parameters()))
    for a, b, c, d in zip(found, *parts, whole, strict=True):
        torch.testing.assert_close(a, b + c, rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(a, d, rtol=1e-9, atol=1e-13)
    # Neither side alone would do.
    assert any(bool(part.abs().max() > 1e-6) for part in parts[0])
    assert any(bool(part.abs().max() > 1e-6) for part in parts[1])


def test_an_equivariant_network_costs_nothing():
    regime = use(tiny("rot_consistency"), EachPixel())
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == pytest.approx(0.0, abs=1e-28)


@pytest.mark.parametrize("training", [True, False])
def test_no_turn_costs_nothing(training):
    regime = fixed(tiny("rot_consistency"), (0, 0, 4)).train(training)
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == pytest.approx(0.0, abs=1e-28)


def test_turns_are_drawn_for_every_slice_and_none_is_no_turn():
    regime = tiny("rot_consistency")
    source = torch.Generator().manual_seed(0)
    drawn = torch.tensor([regime.draw_turns(50, source) for _ in range(60)])
    counts = torch.bincount(drawn.flatten(), minlength=5)
    assert counts[0] == counts[4] == 0
    # 1000 expected, deviation 26.
    assert int((counts[1:4] - 1000).abs().max()) < 130
    assert len(set(drawn[0].tolist())) == 3


def test_half_turns_alone():
    regime = tiny("rot_consistency", turns="half")
    source = torch.Generator().manual_seed(0)
    assert regime.draw_turns(4, source) == [2, 2, 2, 2]
    batch = tiny_batch(regime)
    _, first, second = both_sides(copy.deepcopy(regime.network), batch, (2, 2, 2))
    regime.losses(batch)
    assert regime.metrics()["consistency"] == pytest.approx(slow_mean_square(first, second), rel=1e-9)


def test_slices_whose_sides_differ_need_half_turns_and_the_error_says_so():
    regime = tiny("rot_consistency", turns="quarter")
    batch = toy_batch(regime, dtype=torch.float64, size=(16, 24))
    with pytest.raises(
        SettingsError,
        match=r"regime\.turns: quarter needs slices with equal sides, not 16x24.*size=\[24, 24\].*turns=half",
    ):
        regime.losses(batch)
    half, either = tiny("rot_consistency", turns="half"), tiny("rot_consistency")
    terms = half.losses(batch)
    assert half.metrics()["consistency"] > 0
    assert all(bool(torch.isfinite(term)) for term in terms.values())
    # By default the slices decide.
    found = either.losses(batch)
    assert {key: float(term.detach()) for key, term in found.items()} == {
        key: float(term.detach()) for key, term in terms.items()
    }
    # Without an unlabelled part nothing is turned.
    regime.losses(dataclasses.replace(batch, unlabelled=None))


def test_one_pass_serves_all_slices():
    regime = tiny("rot_consistency")
    seen = []
    regime.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    batch = tiny_batch(regime)
    turns = regime.draw_turns(3, tiny_batch(regime).generator)
    regime.losses(batch)
    assert len(seen) == 1
    assert torch.equal(seen[0], torch.cat([batch.images, batch.unlabelled, turned(batch.unlabelled, turns)]))
