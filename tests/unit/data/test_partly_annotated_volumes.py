"""Patches of scans of which some slices are annotated: real neighbours without labels, one volume a scan."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.patch_positions import counted, draw_window, volumes_of
from fewlabel.data.patches import PatchLoader

DEPTHS = {"a": 9, "b": 4, "c": 12}
SIZE = (20, 24)
#: Slices of the store that somebody annotated: three of the first scan, one of the second, all of the third.
ANNOTATED = np.array([1, 4, 5, 10, *range(13, 25)])
CASES = {"a": range(9), "b": range(9, 13), "c": range(13, 25)}


class UnreadLabels(np.ndarray):
    """Masks that remember which slices were read."""

    def __array_finalize__(self, made):
        self.read = getattr(made, "read", None)

    def __getitem__(self, key):
        if self.read is not None and self.shape[0] == sum(DEPTHS.values()) and self.ndim == 3:
            self.read.update(np.atleast_1d(np.arange(len(self))[key]).tolist())
        return super().__getitem__(key)


@pytest.fixture
def store():
    """Slices of noise; masks lie where nobody may look for them, too."""
    generator = np.random.default_rng(1)
    total = sum(DEPTHS.values())
    images = generator.random((total, 1, *SIZE)).astype(np.float16)
    labels = np.zeros((total, *SIZE), np.uint8)
    labels[:, 6:14, 5:18] = 1
    labels[:, 8:11, 8:11] = 2
    labels = labels.view(UnreadLabels)
    labels.read = set()
    labelled = np.zeros(total, bool)
    labelled[ANNOTATED] = True
    names = np.repeat(list(DEPTHS), list(DEPTHS.values()))
    table = pd.DataFrame({"case": names, "labelled": labelled, "height_fraction": np.linspace(0, 1, total)})
    return SimpleNamespace(
        images=images, labels=labels, slices=table, label_names={0: "background", 1: "big", 2: "small"}
    )


def loader(store, chosen=ANNOTATED, **over):
    values = {"patch": (4, *SIZE), "augment": None, "batch": 6, "total_steps": 50, "seed": 3}
    return PatchLoader(store, chosen, **{**values, **over})


def shown(store, patch, mask=None):
    """Which slices of the store a patch of whole slices shows, None for zeros; and which of them with a mask."""
    found, masked = [], []
    for level, plane in enumerate(patch[0]):
        fits = [
            index
            for index, image in enumerate(store.images[:, 0].astype(np.float32))
            if np.allclose((image - image.mean()) / image.std(), plane, atol=1e-2)
        ]
        found.append(fits[0] if fits else None)
        if mask is not None and bool((mask[level] != 255).any()):
            masked.append(found[-1])
    return found, masked


def test_a_volume_is_the_whole_scan_however_many_of_its_slices_are_annotated(store):
    found = volumes_of(store, ANNOTATED)
    assert [(run.start, run.stop) for run in found] == [(0, 9), (9, 13), (13, 25)]
    assert [None if run.drawn is None else np.flatnonzero(run.drawn).tolist() for run in found] == [
        [1, 4, 5],
        [1],
        None,
    ]
    assert [run.indices.tolist() for run in found[:2]] == [[1, 4, 5], [10]]
    assert volumes_of(store, np.array([], dtype=np.int64)) == []
    assert [(run.start, run.stop) for run in volumes_of(store, np.array([10]))] == [(9, 13)]


@pytest.mark.parametrize("foreground", [0.0, 1 / 3, 1.0])
@pytest.mark.parametrize("resident_limit", [0, 1 << 30])
def test_neighbours_of_an_annotated_slice_are_real_and_without_label(store, foreground, resident_limit):
    made = loader(store, foreground=foreground, resident_limit=resident_limit)
    drawn = set()
    for step in range(8):
        batch = made.batch(step)
        for patch, mask in zip(batch.images, batch.labels, strict=True):
            slices, masked = shown(store, patch, mask)
            case = next(name for name, own in CASES.items() if slices[0] in own)
            assert slices == list(range(slices[0], slices[0] + 4))
            assert set(slices) <= set(CASES[case])
            assert masked == [index for index in slices if index in ANNOTATED]
            assert masked
            drawn.update(slices)
    # Not about the annotated slices alone, nor always in the same place.
    assert len(drawn) > len(ANNOTATED)


@pytest.mark.parametrize("resident_limit", [0, 1 << 30])
@pytest.mark.parametrize("augment", [None, AugmentConfig(anatomy={"probability": 0.7}, synthesis={"probability": 0.5})])
def test_masks_that_are_not_to_be_learnt_from_stay_unread(store, resident_limit, augment):
    store.labels.read.clear()
    made = loader(
        store,
        augment=augment,
        foreground=0.5,
        resident_limit=resident_limit,
        unlabelled=np.setdiff1d(np.arange(25), ANNOTATED),
    )
    for step in range(4):
        made.batch(step)
    assert store.labels.read == set(ANNOTATED.tolist())


def test_a_scan_with_gaps_is_drawn_as_often_as_any_other(store):
    made = loader(store, batch=3)
    counts = Counter(
        store.slices["case"].iloc[int(first)] for step in range(30) for first in made.batch(step).slices.tolist()
    )
    assert counts == {"a": 30, "b": 30, "c": 30}


def test_a_scan_shorter_than_the_patch_is_shown_whole(store):
    made = loader(store, np.array([10]), patch=(8, *SIZE), batch=2)
    batch = made.batch(0)
    for patch, mask in zip(batch.images, batch.labels, strict=True):
        assert shown(store, patch, mask) == ([None, None, 9, 10, 11, 12, None, None], [10])


def test_every_window_that_holds_an_annotated_slice_is_as_likely_and_no_other_is_drawn(store):
    run = volumes_of(store, np.array([13, 22]))[0]
    counts = Counter(
        int(draw_window(store, run, 3, np.random.default_rng(seed), foreground=False).slices[0]) for seed in range(600)
    )
    assert sorted(counts) == [13, 20, 21, 22]
    assert min(counts.values()) > 110


def test_voxels_are_counted_in_annotated_slices_alone(store):
    run = counted(store, volumes_of(store, ANNOTATED)[0])
    assert np.flatnonzero(run.voxels.any(axis=1)).tolist() == [1, 4, 5]
    for seed in range(20):
        window = draw_window(store, run, 2, np.random.default_rng(seed), foreground=True)
        assert int(window.slices[window.level]) in {1, 4, 5}


def test_unlabelled_slices_of_a_partly_annotated_scan_come_with_their_neighbours(store):
    """Nothing of their scan is cut out, and each patch shows one of them at least."""
    bare = np.array([0, 8, 11])
    made = loader(store, unlabelled=bare, unlabelled_batch=2)
    firsts = []
    for step in range(10):
        batch = made.batch(step)
        for patch in batch.unlabelled:
            slices, _ = shown(store, patch)
            assert slices == list(range(slices[0], slices[0] + 4))
            assert set(slices) & set(bare.tolist())
            firsts.append(slices[0])
    # Two volumes take turns.
    assert sum(first < 9 for first in firsts) == 10
    assert set(firsts) == {0, 5, 9}


def test_slices_without_annotation_move_and_look_as_the_annotated_ones_of_their_patch(store):
    """All slices show the same picture: what the annotated one becomes, its neighbours become."""
    store.images[:9] = store.images[0]
    still = {
        "flip_horizontal": 0.0, "flip_vertical": 0.0, "rotation": 0.0, "scale_low": 1.0, "scale_high": 1.0,
        "crop": 1.0, "translation": 0.0, "elastic_probability": 0.0, "brightness": 0.0, "contrast_low": 1.0,
        "contrast_high": 1.0, "gamma_probability": 0.0, "noise_probability": 0.0, "blur_probability": 0.0,
    }  # fmt: skip
    plain = loader(store, np.array([4]), batch=1, augment=AugmentConfig(**still)).batch(0)
    moving = AugmentConfig(anatomy={"probability": 1.0}, **still)
    moved = loader(store, np.array([4]), batch=1, augment=moving).batch(0)
    planes = moved.images[0, 0]
    assert torch.equal(planes, planes[:1].expand(4, -1, -1))
    assert not torch.allclose(planes, plain.images[0, 0], atol=1e-3)
    made_up = AugmentConfig(synthesis={"probability": 1.0}, **still)
    planes = loader(store, np.array([4]), batch=1, augment=made_up).batch(0).images[0, 0]
    for plane in planes:
        assert not torch.allclose(plane, plain.images[0, 0, 0], atol=1e-1)


def test_what_augmentation_brings_in_from_outside_of_a_slice_without_annotation_has_no_label(store):
    turning = AugmentConfig(rotation=60.0, elastic_probability=0.0)
    made = loader(store, np.array([4]), augment=turning, batch=4)
    for step in range(3):
        batch = made.batch(step)
        for first, mask in zip(batch.slices.tolist(), batch.labels, strict=True):
            assert (mask != 255).flatten(1).any(dim=1).tolist() == [first + level == 4 for level in range(4)]
