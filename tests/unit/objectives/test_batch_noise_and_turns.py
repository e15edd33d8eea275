"""Random changes of a batch: seeds of rows, clipped noise, turns, the same on one process and on two."""

from __future__ import annotations

import math

import pytest
import torch

from fewlabel.core.collective import rank, world_size
from fewlabel.objectives.batch_noise_and_turns import gaussian_noise, own_part, quarter_turns, row_seeds
from kit.ranks import run_ranks


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_row_has_a_seed_of_its_own_and_every_step_others():
    source = generator()
    first, second = row_seeds(5, source), row_seeds(5, source)
    assert len({*first, *second}) == 10
    assert all(0 <= seed < 2**53 for seed in first)
    assert row_seeds(5, generator()) == first


@pytest.mark.parametrize("shape", [(3, 2, 64, 64), (3, 1, 16, 16, 32)])
def test_noise_has_the_deviation_and_the_limit_asked_for(shape):
    noise = gaussian_noise(torch.zeros(shape, dtype=torch.float64), 0.1, 0.2, generator())
    assert noise.shape == shape
    assert noise.dtype == torch.float64
    assert float(noise.abs().max()) == 0.2
    count = noise.numel()
    # A normal cut at two deviations: its share beyond, its mean and its variance.
    beyond = math.erfc(2 / math.sqrt(2))
    inside = 1 - beyond - 2 * 2 * math.exp(-2) / math.sqrt(2 * math.pi)
    assert float((noise.abs() == 0.2).double().mean()) == pytest.approx(beyond, abs=5 * math.sqrt(beyond / count))
    assert float(noise.mean()) == pytest.approx(0, abs=0.5 / math.sqrt(count))
    assert float(noise.square().mean()) == pytest.approx(0.01 * (inside + 4 * beyond), rel=0.05)


def test_a_wide_limit_cuts_nothing_and_no_deviation_is_no_noise():
    images = torch.zeros(2, 1, 64, 64, dtype=torch.float64)
    noise = gaussian_noise(images, 2.0, 100.0, generator())
    assert float(noise.std()) == pytest.approx(2.0, rel=0.05)
    assert not gaussian_noise(images, 0.0, 0.2, generator()).any()
    assert not gaussian_noise(images, 0.1, 0.0, generator()).any()


def test_rows_and_draws_differ_and_the_images_stay_as_they_are():
    images = torch.ones(3, 1, 8, 8)
    source = generator()
    first, second = gaussian_noise(images, 1.0, 9.0, source), gaussian_noise(images, 1.0, 9.0, source)
    rows = [*first, *second]
    assert all(not torch.equal(rows[i], rows[j]) for i in range(6) for j in range(i))
    assert bool((images == 1).all())
    # A row's noise depends on its seed alone, not on its neighbours or the layout of the batch.
    assert torch.equal(gaussian_noise(images[:1], 1.0, 9.0, generator())[0], first[0])
    apart = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(gaussian_noise(apart, 1.0, 9.0, generator()), first)


def test_golden_noise():
    noise = gaussian_noise(torch.zeros(2, 1, 1, 2, dtype=torch.float64), 0.1, 0.2, generator())
    assert noise.flatten().tolist() == pytest.approx(GOLDEN, abs=1e-7)


class TestQuarterTurns:
    def test_each_row_by_its_own_number(self):
        maps = torch.arange(2 * 4 * 3 * 3).view(2, 4, 3, 3)
        found = quarter_turns(maps, [1, 3])
        for y in range(3):
            for x in range(3):
                assert torch.equal(found[0, :, y, x], maps[0, :, x, 2 - y])
                assert torch.equal(found[1, :, y, x], maps[1, :, 2 - x, y])

    def test_turns_add_up_and_four_are_none(self):
        maps = torch.randn(3, 2, 4, 6, 6, generator=generator())
        assert torch.equal(quarter_turns(maps, [0, 4, -4]), maps)
        twice = quarter_turns(quarter_turns(maps, [1, 2, 3]), [3, 2, 1])
        assert torch.equal(twice, maps)
        assert torch.equal(quarter_turns(maps, [2, 2, 2]), maps.flip(-1, -2))

    def test_they_commute_with_the_prediction_of_a_pixel(self):
        x = torch.randn(3, 4, 5, 5, generator=generator(), dtype=torch.float64)
        first, second = quarter_turns(x, [1, 2, 3]).softmax(dim=1), quarter_turns(x.softmax(dim=1), [1, 2, 3])
        torch.testing.assert_close(first, second, rtol=1e-14, atol=0)

    def test_a_turn_is_needed_for_every_row(self):
        with pytest.raises(ValueError, match="zip"):
            quarter_turns(torch.zeros(2, 1, 2, 2), [1])


def drawn():
    source = generator(3)
    images = torch.zeros(4 // world_size(), 1, 5, 5)
    return {
        "seeds": torch.tensor(row_seeds(len(images), source)),
        "noise": gaussian_noise(images, 0.1, 0.2, source),
        "part": own_part(torch.arange(8)),
        "next": torch.rand(2, generator=source),
        "rank": torch.tensor(rank()),
    }


def test_two_ranks_draw_what_one_process_draws(tmp_path):
    one, ranks = drawn(), run_ranks(tmp_path, drawn)
    for key in ("seeds", "noise", "part"):
        assert torch.equal(torch.cat([found[key] for found in ranks]), one[key])
    assert all(torch.equal(found["next"], one["next"]) for found in ranks)
    assert [int(found["rank"]) for found in ranks] == [0, 1]


#: Two rows of two pixels from generator seed 0.
GOLDEN = [-0.0098199236, 0.2, 0.0521967692, 0.0651132991]
