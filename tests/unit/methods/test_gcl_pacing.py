import math

import pytest

from fewlabel.methods.gcl.pacing import pace_share, pool_size

SHAPES = ["linear", "root", "log", "exp", "constant"]


@pytest.mark.parametrize("pace", SHAPES)
@pytest.mark.parametrize("start", [0.01, 0.25, 1.0])
@pytest.mark.parametrize("pool", [1, 5, 16])
def test_rises_from_at_least_one_to_the_whole_pool(pace, start, pool):
    sizes = [pool_size(pace, pool, step, 50, start) for step in range(51)]
    assert sizes == sorted(sizes)
    assert sizes[0] == max(1, math.ceil(pool * start - 1e-9))
    assert sizes[-1] == (pool if pace != "constant" else sizes[0])


@pytest.mark.parametrize(
    ("pace", "half"),
    [
        ("linear", 0.625),
        ("root", math.sqrt(0.0625 + 0.9375 * 0.5)),
        ("log", 0.25 + 0.75 * math.log(1 + (math.e - 1) / 2)),
        ("exp", 0.25 + 0.75 * (math.sqrt(math.e) - 1) / (math.e - 1)),
        ("constant", 0.25),
    ],
)
def test_curves_at_half_time(pace, half):
    assert pace_share(pace, 0.5, 0.25) == pytest.approx(half, abs=1e-12)


def test_linear_by_hand():
    assert [pool_size("linear", 16, step, 12, 0.25) for step in range(13)] == list(range(4, 17))
    # Beyond the end, and on a run of no length, the pool stays within its limits.
    assert pool_size("linear", 16, 99, 12, 0.25) == 16
    assert pool_size("linear", 16, 0, 0, 0.25) == 4


def test_rounding_of_a_share_adds_no_pixel():
    # 100 * 0.07 is a little above 7 in binary.
    assert pool_size("linear", 100, 0, 10, 0.07) == 7
    assert pool_size("linear", 100, 0, 10, 0.0701) == 8
