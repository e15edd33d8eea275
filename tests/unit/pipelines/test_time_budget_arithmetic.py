"""How a time becomes steps, a grid and a width, with made-up costs of steps."""

from __future__ import annotations

import pytest

from fewlabel.pipelines.time_budget_arithmetic import (
    COARSER,
    ENOUGH,
    FEWEST,
    MOST,
    NARROW_BELOW,
    Cost,
    Steps,
    coarser,
    finest,
    share_out,
    too_wide,
)

PRETRAIN = Cost("pretrain", 2.0, fixed=10.0)
MODEL, CONTROL = Cost("finetune", 0.5), Cost("control", 0.5)


def shared(
    seconds: float, *, pretrain: Cost | None = PRETRAIN, arms: tuple[Cost, ...] = (MODEL, CONTROL), **given: int
) -> Steps:
    return share_out(seconds, pretrain, arms, share=0.25, given=given)


def test_an_hour_is_shared_and_filled() -> None:
    steps = shared(3600)
    # A quarter less what comes after the steps; then what is left, for two trainings.
    assert steps.pretrain == 400
    assert steps.finetune == 2750
    taken = steps.seconds(PRETRAIN, (MODEL, CONTROL))
    assert taken == 400 * 2 + 10 + 2 * 2750 * 0.5
    assert 3600 - 2 * 50 * 0.5 < taken <= 3600


@pytest.mark.parametrize("seconds", [900, 1234, 3600, 7200, 20_000])
@pytest.mark.parametrize("step", [0.05, 0.3, 1.7])
def test_the_time_is_never_overrun_unless_the_fewest_steps_do_not_fit(seconds: float, step: float) -> None:
    pretrain, arms = Cost("pretrain", 4 * step, 5.0), (Cost("finetune", step, 3.0, fits=3), Cost("control", 2 * step))
    steps = share_out(seconds, pretrain, arms, share=0.25, given={})
    assert steps.pretrain is not None
    assert steps.finetune is not None
    assert steps.pretrain % 50 == steps.finetune % 50 == 0
    if FEWEST not in (steps.pretrain, steps.finetune):
        assert steps.seconds(pretrain, arms) <= seconds
        if steps.finetune < MOST["finetune"]:
            assert Steps(steps.pretrain, steps.finetune + 50).seconds(pretrain, arms) > seconds


def test_where_nothing_fits_the_fewest_steps_are_taken() -> None:
    assert shared(60) == Steps(FEWEST, FEWEST)
    assert shared(-5) == Steps(FEWEST, FEWEST)
    # A warm-up may ask for more.
    assert shared(60, pretrain=Cost("pretrain", 2.0, lowest=301)).pretrain == 350


def test_more_than_the_most_is_not_taken() -> None:
    steps = shared(1e7)
    assert steps == Steps(MOST["pretrain"], MOST["finetune"])


def test_what_is_left_by_a_short_pretraining_goes_to_fine_tuning() -> None:
    cheap = Cost("pretrain", 0.001)
    steps = shared(3600, pretrain=cheap)
    assert steps.pretrain == MOST["pretrain"]
    assert steps.finetune == 3550


def test_without_pretraining_or_without_labels_there_is_one_to_share_with() -> None:
    assert shared(3600, pretrain=None) == Steps(None, 3600)
    assert shared(3600, arms=()) == Steps(1750, None)


def test_every_training_of_an_arm_counts() -> None:
    """Leave-one-out with three patients: four trainings of the model, four of the control."""
    many = (Cost("finetune", 0.5, fits=4), Cost("control", 0.5, fits=4))
    assert shared(3600, pretrain=None, arms=many) == Steps(None, 900)


def test_given_steps_stand_and_the_others_share_what_is_left() -> None:
    assert shared(3600, finetune=1000) == Steps(400, 1000)
    # Their cost comes first: 3000 s are gone.
    assert shared(3600, finetune=3000) == Steps(250, 3000)
    assert shared(3600, finetune=30_000) == Steps(FEWEST, 30_000)
    assert shared(3600, pretrain=PRETRAIN, **{"finetune": 7}).finetune == 7


def test_given_steps_of_pretraining_stand() -> None:
    steps = share_out(3600, PRETRAIN, (MODEL, CONTROL), share=0.25, given={"pretrain": 1000})
    assert steps == Steps(1000, 1550)


@pytest.mark.parametrize(
    ("spacing", "median", "thinnest", "largest"),
    [
        ((1.5, 1.5), (1.5, 1.5), None, 2.0),
        ((1.5, 1.5), (1.5, 1.5), 100.0, 2.0),
        ((1.5, 1.5), (1.5, 1.5), 9.4, 1.25),
        ((1.5, 1.5), (1.5, 1.5), 3.0, 1.0),
        ((1.0, 1.0), (1.0, 1.0), 7.5, 1.5),
        # Coarser than the median already, for the labels' sake.
        ((3.0, 3.0), (2.0, 2.0), None, 1.25),
        ((4.0, 4.0), (2.0, 2.0), None, 1.0),
        ((5.0, 5.0), (2.0, 2.0), 1.0, 1.0),
        # Pixels that are no squares: either axis may be the one that says stop.
        ((1.0, 3.0), (1.0, 3.0), None, 2.0),
        ((1.0, 3.0), (1.0, 3.0), 10.0, 1.0),
        ((1.0, 3.0), (1.0, 3.0), 23.0, 1.5),
        ((1.0, 3.0), (1.0, 2.0), None, 1.25),
        ((1.2, 2.0), (1.0, 2.0), 20.0, 1.5),
    ],
)
def test_a_grid_is_no_coarser_than_its_structures_allow_along_either_axis(
    spacing: tuple[float, float], median: tuple[float, float], thinnest: float | None, largest: float
) -> None:
    factors = coarser(spacing, median, thinnest)
    assert factors == coarser(spacing[::-1], median[::-1], thinnest)
    assert factors[0] == 1.0
    assert factors[-1] == largest
    assert set(factors) <= set(COARSER)
    if thinnest is not None and largest > 1:
        assert thinnest / (max(spacing) * largest) >= 5


PIXELS = [256 * 256, 192 * 192, 128 * 128]


@pytest.mark.parametrize(("seconds", "place"), [(20_000, 0), (4000, 1), (2000, 2), (60, 2)])
def test_the_grid_is_the_finest_with_enough_steps(seconds: float, place: int) -> None:
    """Measured on the coarsest grid; the finest has four times its pixels."""
    pretrain, arms = Cost("pretrain", 1.0), (Cost("finetune", 0.25), Cost("control", 0.25))
    found = finest(PIXELS, PIXELS[-1], seconds, pretrain, arms, share=0.25, given={})
    assert found == place
    steps = share_out(
        seconds,
        pretrain.on(PIXELS[place], PIXELS[-1]),
        [arm.on(PIXELS[place], PIXELS[-1]) for arm in arms],
        share=0.25,
        given={},
    )
    if seconds > 2000:
        assert steps.pretrain is not None
        assert steps.finetune is not None
        assert steps.pretrain >= ENOUGH["pretrain"]
        assert steps.finetune >= ENOUGH["finetune"]


def test_steps_that_are_given_ask_for_no_coarser_grid() -> None:
    arms = (Cost("finetune", 0.25),)
    assert finest(PIXELS, PIXELS[-1], 900, None, arms, share=0.25, given={}) == 1
    assert finest(PIXELS, PIXELS[-1], 900, None, arms, share=0.25, given={"finetune": 10}) == 0


def test_patches_cost_the_same_on_any_grid() -> None:
    """Nothing is won by a coarser one, however little time there is."""
    arms = (Cost("finetune", 0.25, most_pixels=0),)
    assert finest(PIXELS, PIXELS[-1], 900, None, arms, share=0.25, given={}) == 0
    assert finest(PIXELS, PIXELS[-1], 300, None, arms, share=0.25, given={}) == 0
    assert finest(PIXELS, PIXELS[-1], 900, Cost("pretrain", 0.3), arms, share=0.25, given={}) == 1


def test_views_cost_the_same_on_grids_that_are_larger() -> None:
    """Views of 192x192: on the coarsest grid whole slices are seen, on the others as much as fits."""
    arms = (Cost("finetune", 0.25, most_pixels=192 * 192),)
    assert arms[0].on(256 * 256, 128 * 128).step == arms[0].on(192 * 192, 128 * 128).step == 0.25 * 2.25
    assert arms[0].on(96 * 96, 128 * 128).step == 0.25 * 0.5625
    assert finest(PIXELS, PIXELS[-1], 900, None, arms, share=0.25, given={}) == 0
    assert finest(PIXELS, PIXELS[-1], 400, None, arms, share=0.25, given={}) == 2
    # Where two grids would take as long, the finer one.
    assert finest(PIXELS[:2], PIXELS[-1], 400, None, arms, share=0.25, given={}) == 0


def test_a_narrow_network_is_for_the_smallest_budgets() -> None:
    assert too_wide(Steps(200, NARROW_BELOW - 50), {})
    assert not too_wide(Steps(200, NARROW_BELOW), {})
    assert not too_wide(Steps(200, None), {})
    assert not too_wide(Steps(200, 50), {"finetune": 50})
