"""Patches of volumes: what a batch holds against a slow loop, its rows over ranks, windows, and memory."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data import batch_source, patches
from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.batch_source import SliceSource
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.patch_positions import Run, counted, draw_window, first_voxel, runs_of
from fewlabel.data.patches import PatchLoader

SIZE = (20, 24)
DEPTHS = {"a": 9, "b": 4, "c": 12, "d": 10}
PATCH = (6, 12, 16)
#: Nothing changes but what a test switches on.
STILL = {
    "flip_horizontal": 0.0, "flip_vertical": 0.0, "rotation": 0.0, "scale_low": 1.0, "scale_high": 1.0, "crop": 1.0,
    "translation": 0.0, "elastic_probability": 0.0, "brightness": 0.0, "contrast_low": 1.0, "contrast_high": 1.0,
    "gamma_probability": 0.0, "noise_probability": 0.0, "blur_probability": 0.0,
}  # fmt: skip


def make_store(channels=2, size=SIZE, depths=None, alike=False):
    """Volumes of noise with a big box of class 1 and a small one of class 2; ``d`` has no mask."""
    depths = depths or DEPTHS
    generator = np.random.default_rng(0)
    total = sum(depths.values())
    images = generator.random((total, channels, *size)).astype(np.float16)
    labels = np.zeros((total, *size), np.uint8)
    labels[:, 6:14, 5:18] = 1
    start = 0
    for case, depth in depths.items():
        labels[start + depth // 2, 8:10, 8:11] = 2
        if alike:
            images[start : start + depth] = images[start]
            labels[start : start + depth] = labels[start]
        if case == "d":
            labels[start : start + depth] = 255
        start += depth
    names = np.repeat(list(depths), list(depths.values()))
    return SimpleNamespace(
        images=images,
        labels=labels,
        slices=pd.DataFrame({"case": names, "labelled": names != "d", "height_fraction": np.linspace(0, 1, total)}),
        label_names={0: "background", 1: "big", 2: "small"},
    )


@pytest.fixture(scope="module")
def store():
    return make_store()


def indices(store, *cases):
    return np.flatnonzero(store.slices["case"].isin(cases).to_numpy())


def loader(store, cases=("a", "b", "c"), **over):
    values = {"patch": PATCH, "augment": AugmentConfig(noise_probability=0.5), "batch": 4, "total_steps": 9, "seed": 3}
    return PatchLoader(store, indices(store, *cases), **{**values, **over})


def both(store, **over):
    return loader(store, unlabelled=indices(store, "c", "d"), unlabelled_batch=2, unlabelled_views=2, **over)


def tensors(batch):
    values = {item.name: getattr(batch, item.name) for item in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def slow(store, case, first, top, left, patch):
    """A patch voxel by voxel in float64; zeros and 255 outside of the volume."""
    own = set(indices(store, case).tolist())
    image, label = np.zeros((store.images.shape[1], *patch)), np.full(patch, 255)
    for k in range(patch[0]):
        if first + k not in own:
            continue
        plane = store.images[first + k].astype(np.float64)
        plane = (plane - plane.mean((1, 2), keepdims=True)) / np.sqrt(plane.var((1, 2), keepdims=True) + 1e-6)
        for i in range(patch[1]):
            for j in range(patch[2]):
                if 0 <= top + i < plane.shape[1] and 0 <= left + j < plane.shape[2]:
                    image[:, k, i, j] = plane[:, top + i, left + j]
                    label[k, i, j] = store.labels[first + k, top + i, left + j]
    return image, label


def test_a_batch_holds_what_the_contract_says(store):
    batch = both(store).batch(5)
    assert batch.images.shape == (4, 2, *PATCH)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last_3d)
    assert batch.labels.shape == (4, *PATCH)
    assert batch.labels.dtype == torch.int64
    assert set(batch.labels.unique().tolist()) <= {0, 1, 2, 255}
    for view in (batch.unlabelled, *batch.unlabelled_again):
        assert view.shape == (2, 2, *PATCH)
        assert view.is_contiguous(memory_format=torch.channels_last_3d)
    assert set(store.slices["case"].iloc[batch.slices.numpy()]) <= {"a", "b", "c"}
    assert set(store.slices["case"].iloc[batch.unlabelled_slices.numpy()]) <= {"c", "d"}
    assert (batch.step, batch.total_steps) == (5, 9)
    assert loader(store).batch(5).unlabelled is None


@pytest.mark.parametrize("patch", [PATCH, (9, 20, 24), (14, 26, 12)])
def test_without_augmentation_patches_are_the_store_standardised_by_slice(store, patch, monkeypatch):
    seen = []
    original = patches._crop
    monkeypatch.setattr(patches, "_crop", lambda *args: seen.append(args[1:3]) or original(*args))
    made = loader(store, patch=patch, augment=None, foreground=0.5)
    for step in range(3):
        seen.clear()
        batch = made.batch(step)
        for row in range(4):
            first = int(batch.slices[row])
            case = store.slices["case"].iloc[first]
            first -= max(0, (patch[0] - DEPTHS[case]) // 2)
            image, label = slow(store, case, first, *seen[2 * row], patch)
            np.testing.assert_allclose(batch.images[row].numpy(), image, atol=1e-5)
            np.testing.assert_array_equal(batch.labels[row].numpy(), label)


def test_patches_see_what_prediction_sees(store):
    """The whole volume as one patch has the voxels that the 3D network gets in prediction."""
    batch = loader(store, ("c",), patch=(12, *SIZE), augment=None, batch=1).batch(0)
    array = torch.from_numpy(store.images[indices(store, "c")].astype(np.float32).swapaxes(0, 1))
    torch.testing.assert_close(batch.images[0], standardise(array.movedim(0, 1)).movedim(0, 1))


def test_small_volumes_lie_in_the_middle_of_zeros(store):
    batch = loader(store, ("b",), patch=(8, 24, 24), augment=AugmentConfig(), batch=1).batch(0)
    outside = torch.ones(8, 24, 24, dtype=torch.bool)
    outside[2:6, 2:22] = False
    assert bool((batch.images[0][:, outside] == 0).all())
    assert bool((batch.labels[0][outside] == 255).all())
    assert bool((batch.labels[0][~outside] < 3).all())
    assert int(batch.slices[0]) == DEPTHS["a"]


def test_rows_of_two_ranks_are_the_batch_of_one(store, monkeypatch):
    def batch(rank, size, step):
        monkeypatch.setattr(batch_source, "rank", lambda: rank)
        monkeypatch.setattr(batch_source, "world_size", lambda: size)
        return both(store).batch(step)

    for step in (0, 7):
        whole, first, second = batch(0, 1, step), batch(0, 2, step), batch(1, 2, step)
        for name, expected in tensors(whole).items():
            found = torch.cat([tensors(first)[name], tensors(second)[name]])
            assert torch.equal(found, expected), name
        assert len({float(torch.rand(1, generator=b.generator)) for b in (whole, first, second)}) == 1


def test_streamed_equals_resident_and_order_of_steps_is_free(store):
    resident, streamed = both(store), both(store, resident_limit=0)
    assert resident.labelled.source.resident
    assert not streamed.labelled.source.resident
    forward = [tensors(resident.batch(step)) for step in range(3)]
    assert not torch.equal(forward[0]["images"], forward[1]["images"])
    for step in (2, 0, 1):
        for name, value in tensors(streamed.batch(step)).items():
            assert torch.equal(value, forward[step][name]), name
    assert not torch.equal(both(store, seed=4).batch(0).images, forward[0]["images"])


def test_no_more_than_one_patch_is_read_at_a_time(store, monkeypatch):
    read = []
    original = SliceSource.read
    monkeypatch.setattr(SliceSource, "read", lambda self, chosen: read.append(len(chosen)) or original(self, chosen))
    both(store, resident_limit=0).batch(0)
    assert read == [PATCH[0]] * 6


def test_unlabelled_patches_leave_the_labelled_ones_alone(store):
    plain, joined = loader(store), loader(store, unlabelled=indices(store, "a", "b", "c"))
    for step in range(2):
        first, second = plain.batch(step), joined.batch(step)
        assert torch.equal(first.images, second.images)
        assert not torch.equal(second.slices, second.unlabelled_slices)
        assert second.unlabelled.shape == first.images.shape


def test_patches_of_one_volume_lie_apart(store):
    made = loader(store, ("c",), augment=None, batch=8, patch=(2, 4, 4))
    images = made.batch(0).images.flatten(1)
    apart = (images[:, None] - images[None]).abs().amax(dim=2)
    assert bool((apart[~torch.eye(8, dtype=torch.bool)] > 0).all())
    assert not torch.equal(made.batch(1).images, made.batch(0).images)


def test_every_epoch_takes_a_patch_of_each_volume(store):
    made = loader(store, batch=3)
    for step in range(4):
        cases = store.slices["case"].iloc[made.batch(step).slices.numpy()]
        assert sorted(cases) == ["a", "b", "c"]


@pytest.mark.parametrize(("share", "expected"), [(1 / 3, 4), (0.0, 0), (1.0, 12), (0.25, 3)])
def test_the_share_of_centred_patches_is_exact(store, share, expected, monkeypatch):
    asked = []
    original = patches.draw_window

    def draw(*args, foreground):
        asked.append(foreground)
        return original(*args, foreground=foreground)

    monkeypatch.setattr(patches, "draw_window", draw)
    made = loader(store, foreground=share, unlabelled=indices(store, "d"))
    for step in range(3):
        made.batch(step)
    assert len(asked) == 24
    labelled = [flag for start in range(0, 24, 8) for flag in asked[start : start + 4]]
    assert sum(labelled) == sum(asked) == expected


FLIPPED = AugmentConfig(**{**STILL, "flip_horizontal": 0.5, "flip_vertical": 0.5, "translation": 0.2})


@pytest.mark.parametrize("augment", [None, FLIPPED])
def test_a_centred_patch_has_a_labelled_voxel_in_its_middle(augment):
    # Boxes far enough from the border for any window about them to fit.
    store = make_store(size=(48, 52), depths={"a": 24})
    store.labels[:] = 0
    store.labels[11:13, 22:25, 25:27] = 1
    store.labels[12, 23, 26] = 2
    made = loader(store, ("a",), patch=(6, 8, 10), augment=augment, foreground=1.0)
    seen = set()
    for step in range(6):
        middle = made.batch(step).labels[:, 3, 4, 5]
        assert bool((middle > 0).all())
        seen |= set(middle.tolist())
    assert seen == {1, 2}


def test_a_centred_patch_follows_its_voxel_through_any_augmentation():
    augmenter = Augmenter(AugmentConfig(elastic_probability=1.0))
    drawn = augmenter.sample(24, SIZE, torch.Generator().manual_seed(1))
    near = 0
    for row in range(24):
        transform = drawn[row : row + 1]
        y, x = patches._shown_at(transform, (9, 11))
        points = transform.source_points()[0]
        distance = torch.stack([points[0] - 11, points[1] - 9]).norm(dim=0)
        assert float(distance[y, x]) == pytest.approx(float(distance.min()))
        near += float(distance[y, x]) < 1.2
    # Some crops leave the voxel out of view; then the nearest border is as good as it gets.
    assert near >= 18


def test_all_slices_of_a_patch_share_geometry_and_contrast_but_not_noise():
    store = make_store(channels=1, alike=True)
    moved = {"rotation": 30.0, "elastic_probability": 1.0, "contrast_low": 0.5, "gamma_probability": 1.0, "crop": 0.8}
    quiet = loader(store, ("a", "c"), augment=AugmentConfig(**{**STILL, **moved}))
    batch = quiet.batch(0)
    for row in range(4):
        assert torch.equal(batch.images[row], batch.images[row][:, :1].expand(-1, PATCH[0], -1, -1))
        assert torch.equal(batch.labels[row], batch.labels[row][:1].expand(PATCH[0], -1, -1))
    assert not torch.equal(batch.images[0], batch.images[1])
    noisy = {**STILL, "noise_probability": 1.0, "noise": 0.2}
    patch = loader(store, ("c",), augment=AugmentConfig(**noisy), batch=1).batch(0).images[0, 0]
    apart = (patch[:, None] - patch[None]).abs().mean(dim=(2, 3))
    assert float(apart[~torch.eye(PATCH[0], dtype=torch.bool)].min()) > 0.05


def test_a_second_view_has_the_same_geometry_and_other_intensities(store):
    moved = {**STILL, "rotation": 40.0, "elastic_probability": 1.0}
    same = both(store, augment=AugmentConfig(**moved)).batch(1)
    assert torch.equal(same.unlabelled, same.unlabelled_again[0])
    other = both(store, augment=AugmentConfig(**{**moved, "noise_probability": 1.0, "noise": 0.05})).batch(1)
    assert not torch.equal(other.unlabelled, other.unlabelled_again[0])
    assert float((other.unlabelled - other.unlabelled_again[0]).abs().mean()) < 0.5
    single = loader(store, unlabelled=indices(store, "c", "d"), unlabelled_batch=2).batch(1)
    assert torch.equal(single.unlabelled, both(store).batch(1).unlabelled)


def test_faults(store, monkeypatch):
    with pytest.raises(DataError, match="there is none for d"):
        loader(store, ("a", "d"))
    with pytest.raises(DataError, match="at least one slice"):
        loader(store, ())
    monkeypatch.setattr(batch_source, "world_size", lambda: 4)
    with pytest.raises(SettingsError, match="batch=4"):
        loader(store, batch=3)
    with pytest.raises(SettingsError, match="unlabelled_batch=4"):
        loader(store, unlabelled=indices(store, "d"), unlabelled_batch=3)


def test_volumes_are_runs_of_one_case(store):
    found = runs_of(store, np.concatenate([indices(store, "a", "b"), indices(store, "c")[:3], indices(store, "c")[5:]]))
    assert [(run.start, run.stop) for run in found] == [(0, 9), (9, 13), (13, 16), (18, 25)]
    assert [run.depth for run in found] == [9, 4, 3, 7]
    assert runs_of(store, np.array([], dtype=np.int64)) == []


def test_voxels_are_counted_by_slice_and_class(store):
    run = counted(store, Run(9, 13))
    expected = [[int((store.labels[z] == index).sum()) for index in (1, 2)] for z in range(9, 13)]
    assert run.voxels.tolist() == expected
    assert counted(store, Run(25, 35)).voxels.sum() == 0


def test_classes_are_as_likely_and_so_are_the_voxels_of_each():
    store = make_store(channels=1)
    run = counted(store, runs_of(store, indices(store, "c"))[0])
    generator = np.random.default_rng(5)
    hits = {1: [], 2: []}
    for _ in range(1200):
        window = draw_window(store, run, 1, generator, foreground=True)
        y, x = window.centre
        hits[int(store.labels[window.slices[0], y, x])].append((int(window.slices[0]), y, x))
    assert abs(len(hits[2]) / 1200 - 0.5) < 0.05
    counts = pd.Series(hits[2]).value_counts()
    assert len(counts) == 6
    assert counts.min() > 60
    slices = pd.Series([z for z, _, _ in hits[1]]).value_counts()
    assert len(slices) == 12
    assert slices.min() > 25


def test_a_volume_without_classes_is_drawn_anywhere(store):
    run = counted(store, runs_of(store, indices(store, "d"))[0])
    places = {int(draw_window(store, run, 6, np.random.default_rng(k), foreground=True).slices[0]) for k in range(60)}
    assert places == set(range(25, 30))


@pytest.mark.parametrize(
    ("side", "wanted", "u", "centre", "first"),
    [
        (10, 4, 0.0, None, 0), (10, 4, 0.999, None, 6), (10, 4, 0.5, 5, 3), (10, 4, 0.5, 0, 0), (10, 4, 0.5, 9, 6),
        (4, 4, 0.9, 3, 0), (3, 8, 0.9, None, -2), (3, 8, 0.0, 1, -2),
    ],
)  # fmt: skip
def test_where_a_window_begins(side, wanted, u, centre, first):
    assert first_voxel(side, wanted, u, centre) == first
