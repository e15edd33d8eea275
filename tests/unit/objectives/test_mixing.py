"""Slices mixed with each other: partners, shares, boxes; the same on one process and on two."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from fewlabel.core.collective import rank, world_size
from fewlabel.objectives.mixing import beta_shares, boxes, matches, mix, partners, position_partners, random_boxes
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


def places(*values):
    return torch.tensor(values, dtype=torch.float32)


class TestPositionPartners:
    @pytest.mark.parametrize("count", [2, 3, 5, 8, 9])
    def test_nobody_is_its_own_partner_and_pairs_are_mutual_but_for_the_ends(self, count):
        for seed in range(20):
            source = generator(seed)
            positions = torch.rand(count, generator=source)
            found = position_partners(positions, source).tolist()
            assert all(row != other for row, other in enumerate(found))
            alone = {row for row, other in enumerate(found) if found[other] != row}
            assert alone <= {int(positions.argmin()), int(positions.argmax())}
            assert len(alone) == 1 if count % 2 else len(alone) in (0, 2)

    @pytest.mark.parametrize(
        ("positions", "first", "second"),
        [
            # In order of height: rows 2, 0, 3, 1.
            ((0.3, 0.9, 0.1, 0.7), (2, 3, 0, 1), (3, 3, 0, 0)),
            # 2, 0, 4, 3, 1.
            ((0.3, 0.9, 0.1, 0.7, 0.5), (2, 3, 0, 4, 3), (4, 3, 0, 1, 0)),
        ],
    )
    def test_they_pair_off_from_either_end(self, positions, first, second):
        seen = [tuple(position_partners(places(*positions), generator(seed)).tolist()) for seed in range(40)]
        assert set(seen) == {first, second}
        assert 8 <= seen.count(first) <= 32

    @pytest.mark.parametrize("count", [2, 6, 7, 24])
    def test_partners_are_neighbours_in_height(self, count):
        positions = torch.rand(count, generator=generator(count))
        ranks = positions.argsort().argsort()
        for seed in range(10):
            away = ranks - ranks[position_partners(positions, generator(seed))]
            assert bool((away.abs() == 1).all())

    def test_equal_positions_are_no_trouble(self):
        found = position_partners(torch.full((6,), 0.5), generator()).tolist()
        assert sorted(found) == list(range(6))
        assert all(row != other for row, other in enumerate(found))

    def test_a_row_alone_is_its_own_partner(self):
        assert position_partners(places(0.4), generator()).tolist() == [0]
        assert position_partners(places(), generator()).tolist() == []


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


SHARE, RATIO = (0.02, 0.4), 1 / 0.3


def sizes(box):
    """Sides of a box in pixels; all of it must be inside."""
    corners = box.nonzero()
    found = (corners.amax(0) - corners.amin(0) + 1).tolist()
    assert int(box.sum()) == torch.tensor(found).prod()
    return found


class TestRandomBoxes:
    @pytest.mark.parametrize("space", [(64, 64), (128, 40), (32, 40, 24)])
    def test_area_and_ratio_are_within_their_limits_up_to_a_pixel_a_side(self, space):
        found = random_boxes(400, space, SHARE, RATIO, generator())
        assert found.shape == (400, *space)
        assert found.dtype == torch.bool
        areas = []
        for box in found:
            sides = sizes(box)
            low, high = (
                torch.tensor([(side + d) / length for side, length in zip(sides, space, strict=True)]).clamp(1e-9, 1)
                for d in (-0.5, 0.5)
            )
            assert float(high.prod()) >= SHARE[0] - 1e-6
            assert float(low.prod()) <= SHARE[1] + 1e-6
            assert float(low.max() / high.min()) <= RATIO + 1e-6
            areas.append(float(box.double().mean()))
        # Uniform between the limits.
        areas = torch.tensor(areas).sort().values
        assert float((areas - torch.linspace(*SHARE, 400)).abs().max()) < 0.045

    @pytest.mark.parametrize("space", [(160, 160), (50, 50, 50)])
    def test_logarithms_of_the_sides_are_uniform_before_they_are_brought_to_their_area(self, space):
        found = random_boxes(800 if len(space) == 2 else 200, space, (0.2, 0.2), 3.0, generator())
        sides = torch.tensor([sizes(box) for box in found]) / torch.tensor(space)
        torch.testing.assert_close(sides.prod(dim=1), torch.full((len(found),), 0.2), rtol=0.08, atol=0)
        logs = (sides[:, 0] / sides[:, 1]).log() / math.log(3.0)
        # The difference of two uniform numbers: mean 0, variance 1/6, and both ways round.
        assert float(logs.mean()) == pytest.approx(0, abs=4 * math.sqrt(1 / 6 / len(found)))
        assert float(logs.square().mean()) == pytest.approx(1 / 6, rel=0.35 if len(space) == 3 else 0.1)
        assert float(logs.max()) > 0.7
        assert float(logs.min()) < -0.7

    @pytest.mark.parametrize("space", [(40, 40), (40, 48, 32)])
    def test_a_side_that_would_be_longer_than_the_image_is_as_long_and_others_make_up_for_it(self, space):
        found = random_boxes(200, space, (0.6, 0.6), 40.0, generator())
        whole = 0
        for box in found:
            sides = sizes(box)
            whole += any(side == length for side, length in zip(sides, space, strict=True))
            low, high = (
                float(torch.tensor([min((s + d) / n, 1) for s, n in zip(sides, space, strict=True)]).prod())
                for d in (-0.5, 0.5)
            )
            assert low - 1e-6 <= 0.6 <= high + 1e-6
        assert whole > 100

    def test_a_box_may_fill_the_image(self):
        assert bool(random_boxes(20, (8, 10), (1.0, 1.0), 4.0, generator()).all())

    def test_there_is_a_box_in_thin_volumes_too(self):
        found = random_boxes(300, (2, 8, 8), SHARE, RATIO, generator())
        assert bool(found.flatten(1).any(dim=1).all())

    def test_every_place_is_as_likely(self):
        found = random_boxes(3000, (6, 4), (0.25, 0.25), 1.0, generator())
        counts = torch.zeros(4, 3)
        for box in found:
            assert sizes(box) == [3, 2]
            y, x = box.nonzero().amin(0).tolist()
            counts[y, x] += 1
        # 250 expected, deviation 15.
        assert float((counts - 250).abs().max()) < 70

    def test_size_shape_and_place_are_drawn_apart(self):
        found = random_boxes(800, (60, 60), SHARE, RATIO, generator())
        sides = torch.tensor([sizes(box) for box in found]).double()
        starts = torch.stack([box.nonzero().amin(0) for box in found]).double()
        free = (60 - sides).clamp(min=1)
        table = torch.corrcoef(
            torch.cat([sides.prod(1)[:, None], (sides[:, :1] / sides[:, 1:]).log(), starts / free], dim=1).t()
        )
        assert float(table.fill_diagonal_(0).abs().max()) < 0.15

    def test_they_come_from_the_generator_alone(self):
        source = generator()
        first, second = (random_boxes(4, (30, 30), SHARE, RATIO, source) for _ in range(2))
        assert torch.equal(random_boxes(4, (30, 30), SHARE, RATIO, generator()), first)
        assert not torch.equal(first, second)
        assert random_boxes(0, (30, 30), SHARE, RATIO, generator()).shape == (0, 30, 30)


def drawn():
    source = generator(5)
    count, pool = 4 // world_size(), 6 // world_size()
    return {
        "partners": partners(count, source),
        "matches": matches(count, pool, source),
        "shares": beta_shares(count, 0.4, source),
        "boxes": boxes(count, (9, 12), 0.5, source),
        "random boxes": random_boxes(count, (30, 40), SHARE, RATIO, source),
        "position partners": position_partners(
            torch.tensor([0.1, 0.8, 0.7, 0.3])[rank() * count : (rank() + 1) * count], source
        ),
        "next": torch.rand(2, generator=source),
    }


def test_two_ranks_draw_what_one_process_draws(tmp_path):
    one, ranks = drawn(), run_ranks(tmp_path, drawn)
    for key in ("partners", "matches", "shares", "boxes", "random boxes", "position partners"):
        assert torch.equal(torch.cat([found[key] for found in ranks]), one[key])
    assert all(torch.equal(found["next"], one["next"]) for found in ranks)
    assert len({tuple(box.flatten().tolist()) for box in one["boxes"]}) > 1
    assert len(list(itertools.chain(one["partners"]))) == 4
