"""Slices that stand for many: how they are shared among subjects and heights, and how they are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewlabel.data.evenly_spread_slices import Spread, _equal_shares, spread_slices
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.store import PreparedStore
from kit.stores import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return PreparedStore(make_store(tmp_path_factory.mktemp("spread") / "p", subjects=6, depth=8, size=(16, 24)))


def every(store):
    return np.arange(len(store.slices))


def test_subjects_take_equal_parts(store):
    chosen = spread_slices(store, every(store), 25, 0)
    counts = store.slices.iloc[chosen]["subject"].value_counts()
    assert len(set(chosen.tolist())) == 25
    assert sorted(counts) == [4, 4, 4, 4, 4, 5]


def test_what_small_subjects_lack_others_give():
    assert _equal_shares([2, 10, 10], 12) == [2, 5, 5]
    assert _equal_shares([2, 10, 10], 13) == [2, 6, 5]
    assert _equal_shares([2, 3], 64) == [2, 3]
    assert _equal_shares([5, 5, 5], 2) == [1, 1, 0]
    assert _equal_shares([], 3) == []


def test_all_are_taken_where_there_are_few(store):
    assert sorted(spread_slices(store, every(store), 1000, 0)) == every(store).tolist()
    assert spread_slices(store, every(store)[:0], 10, 0).tolist() == []
    # Repeated ones count once.
    assert sorted(spread_slices(store, np.repeat(every(store)[:4], 3), 1000, 0)) == [0, 1, 2, 3]


def test_each_subject_is_taken_from_end_to_end_in_both_phases(store):
    chosen = store.slices.iloc[spread_slices(store, every(store), 48, 3)]
    for _, rows in chosen.groupby("subject"):
        heights = np.sort(rows["height_fraction"])
        assert heights[0] < 0.2
        assert heights[-1] > 0.8
        assert np.diff(heights).max() < 0.3
        assert rows["meta_phase"].value_counts().tolist() == [4, 4]


def test_one_slice_of_each_subject_falls_at_all_heights(store):
    chosen = store.slices.iloc[spread_slices(store, every(store), 6, 1)]
    assert np.sort(np.floor(chosen["height_fraction"] * 3)).tolist() == [0, 0, 1, 1, 2, 2]
    assert set(chosen["meta_phase"]) == {0, 1}


def test_the_seed_decides_and_any_run_of_them_is_mixed(store):
    one, same, other = (spread_slices(store, every(store), 12, seed) for seed in (0, 0, 1))
    assert one.tolist() == same.tolist()
    assert one.tolist() != other.tolist()
    whole = store.slices.iloc[spread_slices(store, every(store), 48, 0)]
    assert whole["subject"].iloc[:12].nunique() >= 4


def test_slices_are_standardised_and_nothing_else(store):
    chosen = spread_slices(store, every(store), 10, 0)
    spread = Spread(store, chosen, None, 0)
    batches = list(spread.batches(4))
    assert [len(batch) for batch in batches] == [4, 3, 3]
    expected = standardise(torch.from_numpy(store.images[chosen].astype(np.float32)))
    assert torch.equal(torch.cat(batches), expected)
    assert all(batch.is_contiguous(memory_format=torch.channels_last) for batch in batches)
    assert spread.subjects == sorted(set(store.slices["subject"].iloc[chosen]))
    assert list(Spread(store, chosen[:0], None, 0).batches(4)) == []


def test_a_patch_is_cut_about_its_slice_from_standardised_slices(store):
    chosen = spread_slices(store, every(store), 9, 0)
    patches = torch.cat(list(Spread(store, chosen, (4, 8, 12), 0).batches(4)))
    assert patches.shape == (9, 1, 4, 8, 12)
    places = set()
    for index, patch in zip(chosen, patches, strict=True):
        row = store.slices.iloc[index]
        first = min(max(row["z"] - 2, 0), row["depth"] - 4)
        start = index - row["z"] + first
        assert start <= index < start + 4
        full = standardise(torch.from_numpy(store.images[start : start + 4].astype(np.float32)))[:, 0]
        assert set(store.slices["case"].iloc[start : start + 4]) == {row["case"]}
        found = [
            (top, left)
            for top in range(9)
            for left in range(13)
            if torch.equal(full[:, top : top + 8, left : left + 12], patch[0])
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 4
    again = torch.cat(list(Spread(store, chosen, (4, 8, 12), 0).batches(2)))
    assert torch.equal(patches, again)


def test_a_volume_smaller_than_a_patch_is_continued_by_its_edge(store):
    chosen = np.array([3])
    (patch,) = Spread(store, chosen, (16, 20, 28), 0).batches(4)
    depth = int(store.slices["depth"].iloc[0])
    full = standardise(torch.from_numpy(store.images[:depth].astype(np.float32)))[:, 0]
    assert patch.shape == (1, 1, 16, 20, 28)
    assert torch.equal(patch[0, 0, :depth, :16, :24], full)
    assert torch.equal(patch[0, 0, depth:, :16, :24], full[-1:].expand(16 - depth, -1, -1))
    assert torch.equal(patch[0, 0, :depth, 16:, :24], full[:, -1:].expand(-1, 4, -1))
