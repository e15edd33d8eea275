"""Slices mixed with each other: partners, shares, boxes; the same on one process and on two."""

from __future__ import annotations

import itertools

import pytest
import torch

from fewlabel.core.collective import world_size
from fewlabel.objectives.mixing import beta_shares, boxes, matches, mix, partners
from kit.ranks import run_ranks


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestPartners:
    @pytest.mark.parametrize("count", [2, 3, 8])
    def test_everybody_is_a_partner_once_and_nobody_its_own(self, count):
        for seed in range(20):
            found = partners(count, generator(seed)).tolist()
            assert sorted(found) == list(range(count))
            assert all(row != other for row, other in enumerate(found))

    def test_every_other_row_is_as_likely(self):
        source, counts = generator(), torch.zeros(4, 4)
        for _ in range(1500):
            for row, other in enumerate(partners(4, source).tolist()):
                counts[row, other] += 1
        assert not counts.diagonal().any()
        # 500 expected, deviation 18.
        assert float((counts[~torch.eye(4, dtype=torch.bool)] - 500).abs().max()) < 90

    def test_a_row_alone_is_its_own_partner(self):
        assert partners(1, generator()).tolist() == [0]
        assert partners(0, generator()).tolist() == []


class TestMatches:
    @pytest.mark.parametrize(("count", "pool"), [(4, 4), (6, 4), (8, 3), (2, 5), (0, 3), (5, 1)])
    def test_rows_of_the_pool_are_used_equally_often_up_to_one(self, count, pool):
        for seed in range(10):
            uses = torch.bincount(matches(count, pool, generator(seed)), minlength=pool)
            assert int(uses.sum()) == count
            assert len(uses) == pool
            assert int(uses.max() - uses.min()) <= 1

    def test_every_pair_is_as_likely(self):
        source, counts = generator(), torch.zeros(4, 3)
        for _ in range(1500):
            for row, other in enumerate(matches(4, 3, source).tolist()):
                counts[row, other] += 1
        assert float((counts - 500).abs().max()) < 90


class TestShares:
    @pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
    def test_mean_and_variance_are_those_of_beta(self, alpha):
        shares = beta_shares(20000, alpha, generator())
        assert shares.dtype == torch.float64
        assert bool(((shares >= 0) & (shares <= 1)).all())
        assert float(shares.mean()) == pytest.approx(0.5, abs=0.015)
        assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.04)

    def test_one_is_uniform(self):
        shares = beta_shares(20000, 1.0, generator()).sort().values
        assert float((shares - torch.linspace(0, 1, 20000)).abs().max()) < 0.015

    def test_they_come_from_the_generator_alone(self):
        source = generator()
        first, second = beta_shares(4, 0.2, source), beta_shares(4, 0.2, source)
        assert torch.equal(beta_shares(4, 0.2, generator()), first)
        assert not torch.equal(first, second)


class TestMix:
    def test_rows_are_weighed_by_their_share(self):
        a, b = torch.randn(3, 2, 4, 4, generator=generator()), torch.randn(3, 2, 4, 4, generator=generator(1))
        found = mix(a, b, torch.tensor([0.25, 1.0, 0.0]))
        torch.testing.assert_close(found[0], 0.25 * a[0] + 0.75 * b[0])
        assert torch.equal(found[1], a[1])
        assert torch.equal(found[2], b[2])

    @pytest.mark.parametrize("shape", [(3, 5), (3, 2, 4), (3, 1, 2, 3, 4)])
    def test_swapping_the_two_and_the_shares_changes_nothing(self, shape):
        a = torch.randn(shape, generator=generator(), dtype=torch.float64)
        b, shares = a.flip(0), torch.tensor([0.3, 0.9, 0.5], dtype=torch.float64)
        torch.testing.assert_close(mix(a, b, shares), mix(b, a, 1 - shares), rtol=1e-14, atol=1e-15)


class TestBoxes:
    @pytest.mark.parametrize(
        ("space", "side", "sizes"),
        [
            ((12, 12), 2 / 3, (8, 8)),
            ((9, 30), 2 / 3, (6, 20)),
            ((6, 12, 9), 2 / 3, (4, 8, 6)),
            ((100, 7), 0.29, (29, 2)),
            ((5, 6), 0.0, (0, 0)),
            ((5, 6, 4), 1.0, (5, 6, 4)),
        ],
    )
    def test_they_are_solid_and_relative_to_the_image(self, space, side, sizes):
        for box in boxes(20, space, side, generator()):
            assert box.shape == space
            assert int(box.sum()) == torch.tensor(sizes).prod()
            if box.any():
                corners = box.nonzero()
                assert tuple((corners.amax(0) - corners.amin(0) + 1).tolist()) == sizes

    def test_rows_differ_and_every_place_is_as_likely(self):
        found = boxes(6000, (6, 4), 0.5, generator())
        starts = torch.stack([torch.stack([box.nonzero().amin(0) for box in found])]).view(-1, 2)
        counts = torch.zeros(4, 3)
        for y, x in starts.tolist():
            counts[y, x] += 1
        # 500 expected, deviation 21.
        assert float((counts - 500).abs().max()) < 100


def drawn():
    source = generator(5)
    count, pool = 4 // world_size(), 6 // world_size()
    return {
        "partners": partners(count, source),
        "matches": matches(count, pool, source),
        "shares": beta_shares(count, 0.4, source),
        "boxes": boxes(count, (9, 12), 0.5, source),
        "next": torch.rand(2, generator=source),
    }


def test_two_ranks_draw_what_one_process_draws(tmp_path):
    one, ranks = drawn(), run_ranks(tmp_path, drawn)
    for key in ("partners", "matches", "shares", "boxes"):
        assert torch.equal(torch.cat([found[key] for found in ranks]), one[key])
    assert all(torch.equal(found["next"], one["next"]) for found in ranks)
    assert len({tuple(box.flatten().tolist()) for box in one["boxes"]}) > 1
    assert len(list(itertools.chain(one["partners"]))) == 4
