"""Spoilt maps: what is changed, by how much, for each row anew."""

from __future__ import annotations

import pytest
import torch

from fewlabel.objectives import batch_noise_and_turns, feature_perturbation
from fewlabel.objectives.batch_noise_and_turns import row_seeds
from fewlabel.objectives.feature_perturbation import active_dropped, channel_factors, channels_dropped, noisy


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def maps(rows=4, channels=6, space=(8, 8), dtype=torch.float64):
    return torch.rand(rows, channels, *space, generator=generator(9), dtype=dtype) + 0.1


@pytest.mark.parametrize("space", [(8, 8), (4, 6, 8)])
def test_noise_is_relative_and_bounded_and_its_own_for_each_row(space):
    features = maps(space=space)
    change = noisy(features, (4,), 0.3, generator()) / features - 1
    assert float(change.abs().max()) <= 0.3
    assert float(change.abs().max()) > 0.28
    assert float(change.mean()) == pytest.approx(0, abs=0.02)
    assert float(change.std()) == pytest.approx(0.3 / 3**0.5, rel=0.05)
    assert not torch.equal(change[0], change[1])
    seeds = row_seeds(4, generator())
    expected = torch.empty_like(features[2]).uniform_(-0.3, 0.3, generator=generator(seeds[2]))
    torch.testing.assert_close(change[2], expected, rtol=1e-9, atol=1e-12)


def test_dropped_channels_are_whole_and_the_rest_makes_up_for_them():
    features = maps(rows=50, channels=40)
    factors = (channels_dropped(features, (50,), 0.25, generator()) / features).flatten(2)
    torch.testing.assert_close(factors, factors[:, :, :1].expand_as(factors), rtol=1e-12, atol=0)
    values = factors[:, :, 0]
    assert set(values.round(decimals=6).unique().tolist()) == {0.0, round(1 / 0.75, 6)}
    assert float((values == 0).double().mean()) == pytest.approx(0.25, abs=0.03)
    assert not torch.equal(values[0], values[1])


def test_factors_of_dropout():
    found = channel_factors((300, 100), 50, 0.4, generator())
    assert found.shape == (400, 50)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.02)
    assert bool((channel_factors((3,), 5, 0.0, generator()) == 1).all())


def test_pixels_of_high_activity_are_dropped_and_others_stay():
    features = maps()
    gammas = 0.7 + 0.2 * torch.rand(4, 1, generator=generator())
    found = active_dropped(features, (4,), 0.7, 0.9, generator())
    for row in range(4):
        attention = features[row].mean(dim=0)
        for y in range(8):
            for x in range(8):
                dropped = bool(attention[y, x] >= float(gammas[row]) * attention.max())
                expected = torch.zeros(6).double() if dropped else features[row, :, y, x]
                assert torch.equal(found[row, :, y, x], expected)
        assert not found[row].flatten(1)[:, attention.flatten().argmax()].any()
    assert found.any()


def test_at_a_share_of_one_the_largest_pixel_alone_is_hidden():
    features = maps()
    hidden = active_dropped(features, (4,), 1.0, 1.0, generator()) == 0
    for row in range(4):
        place = features[row].mean(dim=0).flatten().argmax()
        expected = torch.zeros(64, dtype=torch.bool).index_fill(0, place, value=True)
        assert torch.equal(hidden[row].flatten(1), expected.expand(6, 64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nothing_is_changed_by_settings_that_change_nothing(dtype):
    features = maps(dtype=dtype)
    for found in (
        noisy(features, (4,), 0.0, generator()),
        channels_dropped(features, (4,), 0.0, generator()),
        active_dropped(features, (4,), 2.0, 2.0, generator()),
    ):
        assert torch.equal(found, features)
        assert found.dtype == dtype


@pytest.mark.parametrize(
    "spoil",
    [
        lambda features, parts, source: noisy(features, parts, 0.3, source),
        lambda features, parts, source: channels_dropped(features, parts, 0.5, source),
        lambda features, parts, source: active_dropped(features, parts, 0.5, 1.0, source),
    ],
)
def test_the_random_numbers_are_those_of_the_streams_one_after_the_other(spoil):
    features = maps()
    source = generator()
    apart = torch.cat([spoil(features[:1], (1,), source), spoil(features[1:], (3,), source)])
    assert torch.equal(spoil(features, (1, 3), generator()), apart)
    assert not torch.equal(spoil(features, (1, 3), generator(1)), apart)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda features, parts, source: noisy(features, parts, 0.3, source),
        lambda features, parts, source: channels_dropped(features, parts, 0.5, source),
        lambda features, parts, source: active_dropped(features, parts, 0.5, 1.0, source),
    ],
)
def test_two_ranks_draw_what_one_would_for_all_rows(spoil, monkeypatch):
    # Joined: 2 labelled rows, then 4 unlabelled ones; a rank has 1 and 2 of them.
    features = maps(rows=6)
    joined = spoil(features, (2, 4), generator())
    monkeypatch.setattr(batch_noise_and_turns, "world_size", lambda: 2)
    monkeypatch.setattr(feature_perturbation, "world_size", lambda: 2)
    for rank, own in enumerate(([0, 2, 3], [1, 4, 5])):
        monkeypatch.setattr(batch_noise_and_turns, "rank", lambda rank=rank: rank)
        assert torch.equal(spoil(features[own], (1, 2), generator()), joined[own])


def test_gradients_pass_where_features_do():
    features = maps().requires_grad_()
    for found in (
        noisy(features, (4,), 0.3, generator()),
        channels_dropped(features, (4,), 0.5, generator()),
        active_dropped(features, (4,), 0.7, 0.9, generator()),
    ):
        (gradient,) = torch.autograd.grad(found.sum(), features)
        torch.testing.assert_close(gradient * features, found)


def test_an_empty_stream_is_no_trouble():
    features = maps()
    for spoil in (noisy, channels_dropped):
        assert spoil(features, (0, 4), 0.2, generator()).shape == features.shape
    assert active_dropped(features[:0], (0,), 0.7, 0.9, generator()).shape == (0, 6, 8, 8)
