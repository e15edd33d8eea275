"""Spread, effective rank and the collapse watch on cases with known answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewlabel.core.errors import DivergedError
from fewlabel.engine.collapse_monitor import CollapseWatch, effective_rank, not_finite, spread


def test_spread_of_equal_opposite_and_orthogonal_rows():
    assert spread(torch.tensor([[1.0, 0.0]] * 4)) == pytest.approx(0.0)
    assert spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(1.0)
    assert spread(torch.eye(4)) == pytest.approx(1 - 4 * (1 / 4) ** 2)


def test_effective_rank_counts_equal_directions():
    rows = torch.cat([torch.eye(5), -torch.eye(5)])
    assert effective_rank(rows) == pytest.approx(5.0, rel=1e-5)
    assert effective_rank(torch.ones(6, 3)) == 1.0
    line = torch.arange(6.0)[:, None] * torch.tensor([[1.0, 2.0]])
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-4)


def test_watch_needs_a_full_streak():
    watch = CollapseWatch(patience=3, limit=1e-3)
    for value in (0.0, 0.0, 0.5, 0.0, 0.0):
        watch.update(value, 1, 4.0, 4.0)
    with pytest.raises(DivergedError, match=r"step 9.*augment"):
        watch.update(0.0, 9, 4.1589, 4.1589)


@pytest.mark.parametrize(
    ("loss", "collapsed", "told"),
    [(5.7271, 8.035, "loss 5.7271, 8.0350 if all embeddings were equal"), (5.7271, None, "loss 5.7271)")],
)
def test_what_stopped_a_run_does_not_call_another_loss_the_collapse_value(loss, collapsed, told):
    with pytest.raises(DivergedError) as stopped:
        CollapseWatch(patience=1).update(0.0, 1, loss, collapsed)
    assert told in str(stopped.value)
    assert "image embeddings were equal" in str(stopped.value)


def test_watch_with_zero_patience_never_stops():
    watch = CollapseWatch(patience=0)
    for step in range(50):
        watch.update(0.0, step, 1.0, None)


def test_not_finite_names_everything():
    text = str(not_finite(float("nan"), 1.0, 7, [3, 5], (4, Path("folder/checkpoint.safetensors"))))
    for part in ("nan", "step 7", "[3, 5]", "before step 4 stays in folder/checkpoint.safetensors"):
        assert part in text
    assert "stays in" not in str(not_finite(float("nan"), 1.0, 7, [3, 5], None))
