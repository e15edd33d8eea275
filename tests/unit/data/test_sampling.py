"""Samplers: positives for every label, even coverage, statelessness, and awkward stores."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.sampling import MetaSampler, SamplerConfig, SliceSampler, build_sampler


def table(subjects=50, phases=2, depth=(6, 14), parts=4, seed=0, first=0):
    """Slice rows like those of ACDC: two volumes per subject, six slices or more, four position parts."""
    generator = np.random.default_rng(seed)
    rows = []
    for subject in range(subjects):
        slices = int(generator.integers(*depth))
        for phase in range(phases):
            rows += [
                {
                    "case": f"p{subject:03d}_{phase}",
                    "subject": f"p{subject:03d}",
                    "meta_patient": subject,
                    "meta_position": min(parts - 1, parts * z // slices),
                    "meta_phase": phase,
                }
                for z in range(slices)
            ]
    frame = pd.DataFrame(rows)
    frame.index = frame.index + first
    return frame


def share_with_positives(slices, sampler, name, steps):
    """Share of anchors for which another slice of the batch has the same label."""
    found = []
    for step in range(steps):
        labels = slices.loc[sampler.batch(step), f"meta_{name}"].to_numpy()
        found.append(((labels[:, None] == labels[None]).sum(axis=1) > 1).mean())
    return float(np.mean(found))


@pytest.mark.parametrize("batch", [16, 32, 30])
@pytest.mark.parametrize("name", ["patient", "position", "phase"])
def test_every_label_has_positives_beyond_own_views(name, batch):
    slices = table()
    assert share_with_positives(slices, MetaSampler(slices, batch, seed=0), name, steps=60) >= 0.95


def test_a_plain_sampler_would_not_do():
    slices = table()
    plain = SliceSampler(slices.index.to_numpy(), 32, seed=0)
    assert share_with_positives(slices, plain, "patient", steps=60) < 0.6


def test_a_batch_is_volumes_by_one_slice_of_each_part():
    slices = table()
    sampler = MetaSampler(slices, 32, seed=1)
    for step in range(20):
        chosen = slices.loc[sampler.batch(step)]
        assert not chosen.index.duplicated().any()
        cells = chosen.groupby("case")["meta_position"].apply(sorted)
        assert len(cells) == 8
        assert all(parts == [0, 1, 2, 3] for parts in cells)


def test_half_of_the_subjects_bring_both_phases():
    slices = table()
    for paired, subjects in ((0.0, 8), (0.5, 5), (1.0, 4)):
        sampler = MetaSampler(slices, 32, seed=1, paired=paired)
        for step in range(10):
            volumes = slices.loc[sampler.batch(step)].groupby("subject")["case"].nunique()
            assert len(volumes) == subjects
            assert volumes.sum() == 8


def test_every_subject_comes_once_per_epoch_and_volumes_evenly():
    slices = table(subjects=20)
    sampler = MetaSampler(slices, 32, seed=3)
    assert sampler.steps_per_epoch == 4
    volumes = Counter()
    orders = []
    for epoch in range(60):
        seen = []
        for step in range(epoch * 4, epoch * 4 + 4):
            chosen = slices.loc[sampler.batch(step)]
            seen += sorted(chosen["subject"].unique())
            volumes.update(chosen["case"].unique())
        assert sorted(seen) == sorted(slices["subject"].unique())
        orders.append(tuple(seen))
    assert len(set(orders)) == 60
    # 60 epochs · 8 volumes · 4 steps over 40 volumes: 48 each on average.
    assert sum(volumes.values()) == 60 * 32
    assert len(volumes) == 40
    assert min(volumes.values()) >= 36
    assert max(volumes.values()) <= 60


def test_slices_within_a_part_are_random():
    slices = table(subjects=8, depth=(16, 17))
    sampler = MetaSampler(slices, 32, seed=0)
    counts = Counter(np.concatenate([sampler.batch(step) for step in range(300)]).tolist())
    assert len(counts) == len(slices)
    expected = 300 * 32 / len(slices)
    assert min(counts.values()) > 0.5 * expected
    assert max(counts.values()) < 1.5 * expected


def test_batches_depend_on_seed_and_step_alone():
    slices = table()
    first, second = MetaSampler(slices, 32, seed=5), MetaSampler(slices.sample(frac=1, random_state=0), 32, seed=5)
    forward = [first.batch(step) for step in range(25)]
    backward = [second.batch(step) for step in reversed(range(25))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert not np.array_equal(forward[0], forward[1])
    assert not np.array_equal(forward[0], MetaSampler(slices, 32, seed=6).batch(0))


def test_store_indices_are_given_not_positions():
    slices = table(first=1000)
    assert MetaSampler(slices, 32, seed=0).batch(0).min() >= 1000


def test_without_position_or_phase_subjects_still_bring_several_slices():
    slices = table(phases=1).drop(columns=["meta_position", "meta_phase"])
    sampler = MetaSampler(slices, 32, seed=0)
    assert share_with_positives(slices, sampler, "patient", steps=30) == 1.0
    chosen = slices.loc[sampler.batch(0)]
    assert chosen["subject"].nunique() == 8
    assert not chosen.index.duplicated().any()


def test_missing_positions_do_not_keep_a_slice_out():
    slices = table(subjects=10)
    slices.loc[slices["subject"].isin(["p000", "p001"]), "meta_position"] = -1
    sampler = MetaSampler(slices, 32, seed=0)
    seen = np.unique(np.concatenate([sampler.batch(step) for step in range(150)]))
    assert np.array_equal(seen, slices.index.to_numpy())


@pytest.mark.parametrize(("subjects", "phases", "depth"), [(1, 1, 3), (1, 2, 6), (2, 1, 5), (3, 2, 4)])
def test_stores_smaller_than_a_batch_are_used_whole(subjects, phases, depth):
    slices = table(subjects=subjects, phases=phases, depth=(depth, depth + 1))
    sampler = MetaSampler(slices, 64, seed=0)
    counts = Counter(sampler.batch(0).tolist())
    assert sum(counts.values()) == 64
    assert set(counts) == set(slices.index)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_single_slice_images_fill_the_batch_with_subjects():
    slices = table(subjects=60, phases=1, depth=(1, 2))
    chosen = slices.loc[MetaSampler(slices, 32, seed=0).batch(0)]
    assert chosen["subject"].nunique() == 32


def test_one_subject_with_more_volumes_does_not_crowd_out_the_others():
    slices = pd.concat([table(subjects=12, phases=1), table(subjects=1, phases=2, seed=4)], ignore_index=True)
    slices.loc[slices.index[-1] - 5 :, "subject"] = "p000"
    sampler = MetaSampler(slices, 32, seed=0)
    assert slices.loc[sampler.batch(0), "subject"].nunique() >= 7


def test_slice_sampler_shows_every_slice_once_per_epoch():
    indices = np.arange(100, 123)
    sampler = SliceSampler(indices, 5, seed=0)
    stream = np.concatenate([sampler.batch(step) for step in range(23)])
    for epoch in range(5):
        assert np.array_equal(np.sort(stream[epoch * 23 : (epoch + 1) * 23]), indices)
    assert not np.array_equal(stream[:23], stream[23:46])
    again = SliceSampler(indices[::-1], 5, seed=0)
    assert np.array_equal(again.batch(9), sampler.batch(9))
    assert not np.array_equal(SliceSampler(indices, 5, seed=1).batch(0), sampler.batch(0))


def test_slice_sampler_with_fewer_slices_than_a_batch():
    counts = Counter(SliceSampler(np.array([4, 9, 2]), 7, seed=0).batch(0).tolist())
    assert sum(counts.values()) == 7
    assert set(counts.values()) == {2, 3}


def test_nothing_to_draw_from_is_a_data_error():
    with pytest.raises(DataError, match="at least one slice"):
        SliceSampler(np.array([], dtype=np.int64), 4, seed=0)
    with pytest.raises(DataError, match="at least one slice"):
        MetaSampler(table().iloc[:0], 4, seed=0)


def test_settings_choose_the_sampler():
    slices = table()
    assert isinstance(build_sampler(SamplerConfig(kind="metadata"), slices, 8, 0), MetaSampler)
    plain = build_sampler(SamplerConfig(kind="slices"), slices, 8, 0)
    assert isinstance(plain, SliceSampler)
    assert np.array_equal(plain.indices, slices.index.to_numpy())
    alone = build_sampler(SamplerConfig(kind="metadata", paired=0.0), slices, 32, 0)
    assert slices.loc[alone.batch(0)].groupby("subject")["case"].nunique().max() == 1


def test_what_auto_means_is_settled_where_the_method_is_known():
    assert SamplerConfig().kind == "auto"
    with pytest.raises(ValueError, match="auto"):
        build_sampler(SamplerConfig(), table(), 8, 0)
    settled = SamplerConfig(paired=0.25).settled(metadata=True)
    assert (settled.kind, settled.paired) == ("metadata", 0.25)
    assert SamplerConfig().settled(metadata=False).kind == "slices"
    # What was asked for stays.
    for kind in ("metadata", "slices"):
        assert all(SamplerConfig(kind=kind).settled(metadata=uses).kind == kind for uses in (True, False))
