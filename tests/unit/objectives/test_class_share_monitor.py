"""Shares of classes: moving means by hand, when a class is out or absent, state, and two processes."""

from __future__ import annotations

import pytest
import torch

from fewlabel.core.collective import rank, world_size
from fewlabel.objectives.class_share_monitor import ClassShares
from kit.ranks import run_ranks
from kit.waits import Waits


def labels(*counts):
    """A map with so many pixels of each class."""
    return torch.cat([torch.full((count,), index) for index, count in enumerate(counts)]).view(1, 1, -1)


def feed(shares, steps, *counts):
    """The same labels for some steps; the classes that are out after each."""
    found = []
    for _ in range(steps):
        shares.update(labels(*counts))
        found.append(shares.out.tolist())
    return found


def absent(shares):
    return [label for label, flag in enumerate(shares.absent.tolist()) if flag]


def test_means_are_those_of_the_formula():
    shares = ClassShares(3, 3.0, span=10, settle=4)
    source = torch.Generator().manual_seed(0)
    first, now, streak = torch.zeros(3).double(), torch.zeros(3).double(), [0, 0, 0]
    for step in range(30):
        counts = torch.randint(1, 60, (3,), generator=source).tolist()
        counts[2] *= step <= 12
        share = torch.tensor(counts).double() / sum(counts)
        if step < 4:
            first = (step * first + share) / (step + 1)
            now = first
        else:
            now = 0.9 * now + 0.1 * share
        out = [step >= 3 and bool(n < f / 3 or n > 3 * f) for n, f in zip(now, first, strict=True)]
        streak = [count + 1 if flag else 0 for count, flag in zip(streak, out, strict=True)]
        assert feed(shares, 1, *counts) == [out]
        torch.testing.assert_close(shares.now.double(), now, rtol=1e-5, atol=0)
        assert shares.streak.tolist() == streak
    torch.testing.assert_close(shares.first.double(), first, rtol=1e-5, atol=0)
    assert max(streak) > 3


def test_defaults_are_fifty_steps_after_twenty():
    shares = ClassShares(2, 3.0)
    feed(shares, 19, 50, 50)
    assert not shares.settled
    feed(shares, 1, 50, 50)
    assert shares.settled
    feed(shares, 1, 100, 0)
    assert float(shares.now[1]) == pytest.approx(0.5 * 49 / 50)
    assert float(shares.first[1]) == pytest.approx(0.5)


def test_a_constant_stream_is_never_out():
    shares = ClassShares(4, 1.01)
    assert not any(any(out) for out in feed(shares, 400, 900, 37, 41, 22))
    assert shares.streak.tolist() == [0, 0, 0, 0]
    assert absent(shares) == []


def test_nothing_is_out_before_the_first_shares_are_known():
    shares = ClassShares(2, 1.1, settle=5)
    found = [*feed(shares, 2, 10, 90), *feed(shares, 2, 90, 10)]
    assert not any(any(out) for out in found)
    assert absent(shares) == []
    assert shares.out.tolist() == [False, False]


def test_background_alone_loses_the_others():
    shares = ClassShares(3, 3.0)
    feed(shares, 20, 600, 100, 100)
    found = feed(shares, 100, 800, 0, 0)
    # (49/50)^k falls below 1/3 at k = 55.
    assert found[53] == [False, False, False]
    assert found[54] == [False, True, True]
    assert found[-1] == [False, True, True]
    assert shares.streak.tolist() == [0, 46, 46]
    feed(shares, 200, 600, 100, 100)
    assert shares.streak.tolist() == [0, 0, 0]


def test_a_class_that_floods_the_scans_is_out():
    shares = ClassShares(3, 3.0)
    feed(shares, 20, 800, 100, 100)
    found = feed(shares, 100, 0, 1000, 0)
    # 1 - 0.9 · 0.98^k passes 0.3 at k = 13.
    assert found[11] == [False, False, False]
    assert found[12] == [False, True, False]
    assert found[-1] == [True, True, True]


def test_a_class_that_is_not_predicted_stays_absent():
    shares = ClassShares(4, 3.0)
    feed(shares, 19, 900, 0, 100, 0)
    assert absent(shares) == []
    feed(shares, 1, 900, 0, 100, 0)
    assert absent(shares) == [1, 3]
    assert not bool(shares.out.any())
    # It is out as soon as it appears, and still counts as absent from the beginning.
    assert feed(shares, 1, 900, 10, 100, 0)[0] == [False, True, False, False]
    feed(shares, 100, 500, 200, 100, 200)
    assert absent(shares) == [1, 3]


def test_a_single_pixel_at_the_beginning_is_enough_not_to_be_absent():
    shares = ClassShares(2, 3.0)
    feed(shares, 1, 999, 1)
    feed(shares, 19, 1000, 0)
    assert absent(shares) == []


def without_the_last(classes=3):
    """Shares of which the last class is not expected."""
    shares = ClassShares(classes, 3.0)
    shares.expect(torch.arange(classes) < classes - 1)
    return shares


def test_a_class_that_is_not_expected_is_not_absent():
    shares = without_the_last(4)
    feed(shares, 20, 900, 100, 0, 0)
    assert absent(shares) == [2]
    shares.restart()
    feed(shares, 20, 900, 100, 0, 0)
    assert absent(shares) == [2]


@pytest.mark.parametrize(("before", "after"), [((900, 100, 0), (800, 100, 100)), ((890, 100, 10), (900, 100, 0))])
def test_a_class_that_is_not_expected_is_out_where_it_changes_and_never_for_long(before, after):
    shares = without_the_last()
    feed(shares, 20, *before)
    assert feed(shares, 200, *after)[-1] == [False, False, True]
    assert shares.streak.tolist() == [0, 0, 0]


def test_what_is_expected_comes_from_the_labels_and_not_from_a_checkpoint():
    shares, all_of_them = without_the_last(), ClassShares(3, 3.0)
    assert shares.state_dict().keys() == all_of_them.state_dict().keys()
    shares.load_state_dict(all_of_them.state_dict(), strict=True)
    assert shares.known.tolist() == [True, True, False]
    assert all_of_them.known.tolist() == [True, True, True]


def test_it_begins_anew():
    shares, fresh = ClassShares(3, 3.0), ClassShares(3, 3.0)
    feed(shares, 20, 800, 100, 100)
    feed(shares, 80, 1000, 0, 0)
    shares.restart()
    assert all(torch.equal(a, b) for a, b in zip(shares.buffers(), fresh.buffers(), strict=True))
    assert feed(shares, 30, 10, 20, 70) == feed(fresh, 30, 10, 20, 70)


@pytest.mark.parametrize("before", [7, 20, 90])
def test_all_state_is_in_buffers(before):
    first, second = ClassShares(3, 3.0), ClassShares(3, 3.0)
    feed(first, min(before, 20), 800, 100, 100)
    feed(first, max(before - 20, 0), 1000, 0, 0)
    second.load_state_dict(first.state_dict(), strict=True)
    assert feed(second, 30, 1000, 0, 0) == feed(first, 30, 1000, 0, 0)
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_maps_of_any_shape_count_and_none_does_no_harm():
    shares = ClassShares(2, 3.0, settle=1)
    shares.update(torch.tensor([[[[0, 1], [1, 1]]]]))
    assert shares.now.tolist() == [0.25, 0.75]
    shares = ClassShares(2, 3.0, settle=1)
    shares.update(torch.zeros(0, 4, 4, dtype=torch.int64))
    assert shares.now.tolist() == [0.0, 0.0]


def test_buffers_fit_every_device():
    # Apple's have no float64.
    assert all(buffer.dtype in (torch.float32, torch.int64, torch.bool) for buffer in ClassShares(3, 3.0).buffers())


@pytest.mark.parametrize("before", [0, 40])
def test_nothing_waits_for_the_device(before):
    shares = ClassShares(3, 2.0)
    feed(shares, before, 800, 100, 100)
    with Waits() as waits:
        shares.update(labels(800, 100, 100))
        found = shares.out, shares.absent, shares.settled
    assert waits.seen == []
    assert [tuple(tensor.shape) for tensor in found] == [(3,), (3,), ()]


def watched():
    source = torch.Generator().manual_seed(2)
    shares, found = ClassShares(3, 2.0, settle=5), []
    for _ in range(60):
        joined = torch.randint(0, 3, (4, 6, 6), generator=source) * torch.randint(0, 2, (4, 1, 1), generator=source)
        count = 4 // world_size()
        shares.update(joined[rank() * count : (rank() + 1) * count])
        found.append(shares.out)
    return {"out": torch.stack(found), **shares.state_dict()}


def test_two_ranks_equal_one(tmp_path):
    one, ranks = watched(), run_ranks(tmp_path, watched)
    for found in ranks:
        assert all(torch.equal(found[key], one[key]) for key in one)
