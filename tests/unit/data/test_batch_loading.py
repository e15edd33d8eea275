"""Loaders: what a batch holds, its rows over ranks, resident and streamed, and faults."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data import batch_loading, batch_source
from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.batch_loading import FinetuneLoader, PretrainLoader, labelled_pixel, shown_at
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.sampling import SamplerConfig
from fewlabel.data.store import PreparedStore
from kit.stores import make_store

SIZE = (32, 40)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = make_store(
        tmp_path_factory.mktemp("store") / "prepared",
        subjects=8,
        size=SIZE,
        channels=2,
        unlabelled=("patient002",),
        without_phase=("patient001", "patient003"),
    )
    return PreparedStore(folder)


def pretrain_loader(store, **over):
    values = {
        "sampler": SamplerConfig(kind="metadata"),
        "augment": AugmentConfig(noise_probability=0.5),
        "batch": 16,
        "total_steps": 9,
        "seed": 3,
    }
    return PretrainLoader(store, store.slices_of(store.split["parts"]["pretrain"]), **{**values, **over})


def labelled_loader(store, **over):
    """A loader of a draw of two patients."""
    return pretrain_loader(store, labelled=store.slices_of(["patient003", "patient001"], labelled=True), **over)


def finetune_loader(store, **over):
    values = {"augment": AugmentConfig(), "batch": 6, "total_steps": 9, "seed": 3}
    indices = over.pop("indices", store.slices_of(["patient001", "patient003"], labelled=True))
    return FinetuneLoader(store, indices, **{**values, **over})


def tensors(batch):
    """All tensors of a batch by name, the generator as its first draw."""
    found = {}
    for item in fields(batch):
        value = getattr(batch, item.name)
        if isinstance(value, torch.Tensor):
            found[item.name] = value
        elif isinstance(value, tuple):
            found |= {f"{item.name}{number}": part for number, part in enumerate(value)}
        elif isinstance(value, dict):
            found |= value
    return found


def test_a_pretraining_batch_holds_what_the_contract_says(store):
    loader = pretrain_loader(store)
    batch = loader.batch(4)
    for view in batch.views:
        assert view.shape == (16, 2, *SIZE)
        assert view.dtype == torch.float32
        assert view.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(view.mean(dim=(2, 3)), torch.zeros(16, 2), rtol=0, atol=1e-5)
    assert not torch.equal(*batch.views)
    assert all(matrix.shape == (16, 3, 3) for matrix in batch.matrices)
    assert not torch.equal(*batch.matrices)
    assert set(batch.metadata) == {"patient", "position", "phase"}
    assert all(labels.dtype == torch.int64 and labels.shape == (16,) for labels in batch.metadata.values())
    assert (batch.step, batch.total_steps) == (4, 9)
    chosen = batch.slices.numpy()
    rows = store.slices.iloc[chosen]
    assert set(rows["subject"]) <= set(store.split["parts"]["pretrain"])
    np.testing.assert_allclose(batch.positions.numpy(), rows["height_fraction"], rtol=1e-6)
    assert batch.positions.dtype == torch.float32
    assert np.array_equal(batch.metadata["position"].numpy(), rows["meta_position"])
    assert batch.masks is None


def test_views_are_the_stored_slices_augmented_then_standardised(store):
    loader = pretrain_loader(store)
    batch = loader.batch(2)
    images = torch.from_numpy(store.images[batch.slices.numpy()].astype(np.float32))
    transform = Augmenter(AugmentConfig(noise_probability=0.5)).sample(
        32, SIZE, batch_loading.torch_stream(3, "augment", 2)
    )
    for number, rows in enumerate((slice(0, 16), slice(16, 32))):
        expected, _ = loader.augmenter.apply(images, transform[rows])
        assert torch.equal(batch.views[number], standardise(expected))
        assert torch.equal(batch.matrices[number], transform.matrices[rows])


def test_a_missing_label_is_a_class_of_its_own(store):
    for step in range(6):
        batch = pretrain_loader(store).batch(step)
        known = store.slices.iloc[batch.slices.numpy()]["meta_phase"].to_numpy()
        labels = batch.metadata["phase"].numpy()
        assert np.array_equal(labels[known >= 0], known[known >= 0])
        alone = labels[known < 0]
        assert len(np.unique(alone)) == len(np.unique(batch.slices.numpy()[known < 0]))
        assert (alone >= 2).all()


def test_labelled_batches_hold_slices_of_the_draw_with_masks_warped_like_the_views(store):
    loader = labelled_loader(store)
    for step in range(3):
        batch = loader.batch(step, labelled=True)
        rows = store.slices.iloc[batch.slices.numpy()]
        assert set(rows["subject"]) <= {"patient001", "patient003"}
        np.testing.assert_allclose(batch.positions.numpy(), rows["height_fraction"], rtol=1e-6)
        images = torch.from_numpy(store.images[batch.slices.numpy()].astype(np.float32))
        masks = torch.from_numpy(store.labels[batch.slices.numpy()])
        drawn = loader.augmenter.sample(32, SIZE, batch_loading.torch_stream(3, "augment", step))
        for number in range(2):
            view, mask = loader.augmenter.apply(images, drawn[16 * number : 16 * (number + 1)], masks)
            assert torch.equal(batch.views[number], standardise(view))
            assert torch.equal(batch.masks[number], mask)
            assert batch.masks[number].dtype == torch.int64
            assert int(batch.masks[number].max()) < 4


def test_labelled_slices_take_turns_apart_from_the_others(store):
    loader = labelled_loader(store)
    count = len(loader.labelled)
    drawn = np.concatenate([loader.batch(step, labelled=True, slices=1).slices.numpy() for step in range(count)])
    assert np.array_equal(np.sort(drawn), loader.labelled)
    assert np.array_equal(loader.labelled, store.slices_of(["patient001", "patient003"], labelled=True))
    # The batches of all slices are those of a loader without labels.
    plain = pretrain_loader(store)
    for step in (0, 5):
        assert torch.equal(loader.batch(step).slices, plain.batch(step).slices)
        assert torch.equal(loader.batch(step).views[1], plain.batch(step).views[1])
        assert loader.batch(step).masks is None


@pytest.mark.parametrize("labelled", [False, True])
def test_views_of_one_geometry_differ_in_intensities_alone(store, labelled):
    loader = labelled_loader(store, augment=AugmentConfig(noise_probability=0.0, elastic=0.1, elastic_probability=1.0))
    apart, one = (loader.batch(4, labelled=labelled, same_geometry=same) for same in (False, True))
    assert torch.equal(one.slices, apart.slices)
    assert torch.equal(one.views[0], apart.views[0])
    assert torch.equal(one.matrices[0], apart.matrices[0])
    assert torch.equal(*one.matrices)
    assert not torch.equal(*apart.matrices)
    assert not torch.equal(*one.views)
    # Intensities keep the order of pixels closely, another place does not.
    alike, other = (
        [torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(*batch.views, strict=True)]
        for batch in (one, apart)
    )
    assert min(alike) > 0.9
    assert sum(other) / 16 < 0.8
    if labelled:
        assert torch.equal(*one.masks)
        assert not torch.equal(*apart.masks)
        assert torch.equal(one.masks[0], apart.masks[0])


def test_a_step_may_take_fewer_slices(store):
    loader = labelled_loader(store)
    whole, part = loader.batch(3), loader.batch(3, slices=5)
    assert torch.equal(part.slices, whole.slices[:5])
    assert part.views[0].shape == (5, 2, *SIZE)
    assert len(loader.batch(3, labelled=True, slices=5).slices) == 5
    # Labelled slices come again in the same batch if there are no more; all slices of a run are drawn by its sampler.
    many = len(loader.labelled) + 2
    assert len(loader.batch(0, labelled=True, slices=many).slices.unique()) == many - 2
    with pytest.raises(ValueError, match="at most 16, not 17"):
        loader.batch(3, slices=17)


def test_labels_that_were_not_given_cannot_be_drawn(store):
    with pytest.raises(RuntimeError, match="without labelled slices"):
        pretrain_loader(store).batch(0, labelled=True)


class Guarded:
    """Masks that may be read at some indices only."""

    def __init__(self, labels, allowed):
        self.labels, self.allowed, self.read = labels, set(allowed.tolist()), set()

    def __getitem__(self, indices):
        self.read |= set(np.asarray(indices).tolist())
        assert self.read <= self.allowed
        return self.labels[indices]


@pytest.mark.parametrize("limit", [0.0, 2.0])
def test_no_mask_outside_of_the_draw_is_read(store, monkeypatch, limit):
    allowed = store.slices_of(["patient001", "patient003"], labelled=True)
    guarded = Guarded(store.labels, allowed)
    monkeypatch.setitem(store.__dict__, "labels", guarded)
    loader = labelled_loader(store, sampler=SamplerConfig(kind="metadata", resident_limit=limit))
    assert loader.annotated.resident == (limit > 0)
    for step in range(4):
        loader.batch(step)
        loader.batch(step, labelled=True, same_geometry=True)
    assert guarded.read == guarded.allowed
    guarded.read = set()
    pretrain_loader(store).batch(0)
    assert guarded.read == set()


@pytest.mark.parametrize("kind", ["pretrain", "labelled", "finetune"])
def test_rows_of_two_ranks_are_the_batch_of_one(store, monkeypatch, kind):
    everyone = store.slices_of(list(store.split["parts"]["train"]))

    def batch(rank, size, step):
        monkeypatch.setattr(batch_source, "rank", lambda: rank)
        monkeypatch.setattr(batch_source, "world_size", lambda: size)
        if kind == "pretrain":
            return pretrain_loader(store).batch(step)
        if kind == "labelled":
            return labelled_loader(store).batch(step, labelled=True, same_geometry=step > 0, slices=6)
        return finetune_loader(store, unlabelled=everyone, unlabelled_batch=4).batch(step)

    for step in (0, 7):
        whole, first, second = batch(0, 1, step), batch(0, 2, step), batch(1, 2, step)
        for name, expected in tensors(whole).items():
            found = torch.cat([tensors(first)[name], tensors(second)[name]])
            assert torch.equal(found, expected), name
        assert len({float(torch.rand(1, generator=b.generator)) for b in (whole, first, second)}) == 1


@pytest.mark.parametrize("kind", ["pretrain", "labelled", "finetune"])
def test_streamed_equals_resident_and_order_of_steps_is_free(store, kind):
    if kind == "finetune":
        resident, streamed = finetune_loader(store), finetune_loader(store, resident_limit=0)
    else:
        resident, streamed = (
            labelled_loader(store),
            labelled_loader(store, sampler=SamplerConfig(kind="metadata", resident_limit=0.0)),
        )
    wanted = {"labelled": True} if kind == "labelled" else {}
    sources = [(loader.labelled if kind == "finetune" else loader).source for loader in (resident, streamed)]
    assert [source.resident for source in sources] == [True, False]
    forward = [tensors(resident.batch(step, **wanted)) for step in range(3)]
    for step in (2, 0, 1):
        for name, value in tensors(streamed.batch(step, **wanted)).items():
            assert torch.equal(value, forward[step][name]), name


def test_a_finetuning_batch_holds_slices_and_masks_warped_together(store):
    still = {"brightness": 0.0, "contrast_low": 1.0, "contrast_high": 1.0, "gamma_probability": 0.0}
    loader = finetune_loader(store, augment=AugmentConfig(noise_probability=0.0, blur_probability=0.0, **still))
    batch = loader.batch(1)
    assert batch.images.shape == (6, 2, *SIZE)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.shape == (6, *SIZE)
    assert batch.labels.dtype == torch.int64
    assert int(batch.labels.max()) <= 3
    assert batch.unlabelled is None
    assert set(store.slices.iloc[batch.slices.numpy()]["subject"]) <= {"patient001", "patient003"}
    # The cavity is bright and the muscle around it dark, in every warped slice too.
    bright, dark = batch.images[:, 0][batch.labels == 3].mean(), batch.images[:, 0][batch.labels == 2].mean()
    assert float(bright - dark) > 1.5


class TestViews:
    STILL = AugmentConfig(
        flip_horizontal=0.0, flip_vertical=0.0, rotation=0.0, scale_low=1.0, scale_high=1.0, crop=1.0,
        elastic_probability=0.0, noise_probability=0.0, blur_probability=0.0,
    )  # fmt: skip
    VIEW = (16, 16)

    def loader(self, store, **over):
        return finetune_loader(store, size=self.VIEW, augment=self.STILL, **over)

    def middles(self, store, foreground):
        """Whether the pixel in the middle of each labelled view of 9 steps, or one that touches it, is foreground."""
        made = self.loader(store, foreground=foreground)
        for step in range(9):
            batch = made.batch(step)
            assert batch.images.shape == (6, 2, *self.VIEW)
            for row, index in enumerate(batch.slices.tolist()):
                if (store.labels[index] > 0).any():
                    yield bool((batch.labels[row, 7:9, 7:9] > 0).any())

    def test_a_share_of_them_is_about_a_labelled_pixel(self, store):
        assert all(self.middles(store, 1.0))
        assert not all(self.middles(store, 0.0))

    def test_unlabelled_rows_have_the_same_size_and_ranks_share_the_batch(self, store, monkeypatch):
        everyone = store.slices_of(list(store.split["parts"]["train"]))

        def batch(rank, ranks):
            monkeypatch.setattr(batch_source, "rank", lambda: rank)
            monkeypatch.setattr(batch_source, "world_size", lambda: ranks)
            return self.loader(store, unlabelled=everyone, unlabelled_batch=4, foreground=0.5).batch(3)

        whole, first, second = batch(0, 1), batch(0, 2), batch(1, 2)
        assert whole.unlabelled.shape == (4, 2, *self.VIEW)
        for name, expected in tensors(whole).items():
            assert torch.equal(torch.cat([tensors(first)[name], tensors(second)[name]]), expected), name

    def test_every_class_is_as_likely(self):
        mask = np.zeros((8, 8), np.uint8)
        mask[0, 0], mask[4:, 4:], mask[2, 2] = 1, 2, 255
        found = [labelled_pixel(mask, 3, 0, 0, row) for row in range(400)]
        assert 150 < sum(pixel == (0, 0) for pixel in found) < 250
        assert {pixel for pixel in found if pixel != (0, 0)} == {(y, x) for y in range(4, 8) for x in range(4, 8)}
        assert labelled_pixel(np.zeros((8, 8), np.uint8), 3, 0, 0, 0) is None


class TestShownAt:
    POINTS = torch.tensor([[10.0, 5.0], [39.0, 31.0], [torch.nan, torch.nan]], dtype=torch.float64)

    def test_where_nothing_moves_a_point_stays_and_none_is_none(self):
        found = shown_at(torch.zeros(3, 2, *SIZE), self.POINTS)
        assert found.dtype == torch.float64
        assert torch.equal(found.nan_to_num(-1), self.POINTS.nan_to_num(-1))

    def test_a_point_is_shown_against_the_displacement(self):
        moved = torch.zeros(3, 2, *SIZE)
        # What a pixel shows lies 3 to the right of it and 2 above, so what is there is seen 3 to the left and 2 below.
        moved[:, 0], moved[:, 1] = 3.0, -2.0
        found = shown_at(moved, self.POINTS)
        assert found[0].tolist() == [7.0, 7.0]
        # What leaves the slice is nearest at its edge.
        assert found[1].tolist() == [36.0, 31.0]
        assert bool(found[2].isnan().all())
        # Each row by its own displacement.
        moved[1] = 0
        assert shown_at(moved, self.POINTS)[:2].tolist() == [[7.0, 7.0], [39.0, 31.0]]

    def test_it_finds_the_pixel_that_shows_a_point_in_a_movement_that_varies(self):
        source = torch.Generator().manual_seed(0)
        coarse = torch.rand(4, 2, 4, 5, generator=source) * 8 - 4
        moved = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic", align_corners=True)
        points = torch.randint(8, 24, (4, 2), generator=source).double()
        for row, (x, y) in enumerate(shown_at(moved, points).long().tolist()):
            seen = torch.tensor([x, y]) + moved[row, :, y, x].double()
            everywhere = torch.stack(torch.meshgrid(torch.arange(40), torch.arange(32), indexing="xy")) + moved[row]
            nearest = (everywhere - points[row, :, None, None]).norm(dim=0).min()
            assert float((seen - points[row]).norm()) == pytest.approx(float(nearest), abs=1e-5)
            assert float(nearest) < 1


def test_without_augmentation_slices_come_as_stored(store):
    batch = finetune_loader(store, augment=None).batch(0)
    images = torch.from_numpy(store.images[batch.slices.numpy()].astype(np.float32))
    assert torch.equal(batch.images, standardise(images))
    assert torch.equal(batch.labels, torch.from_numpy(store.labels[batch.slices.numpy()].astype(np.int64)))


def test_unlabelled_slices_come_beside(store):
    everyone = store.slices_of(list(store.split["parts"]["train"]))
    batch = finetune_loader(store, unlabelled=everyone).batch(0)
    assert batch.unlabelled is not None
    assert batch.unlabelled.shape == (6, 2, *SIZE)
    plain = finetune_loader(store).batch(0)
    assert torch.equal(plain.images, batch.images)
    # The streams do not walk in step even over the same slices.
    same = finetune_loader(store, indices=everyone_labelled(store), unlabelled=everyone_labelled(store))
    assert same.unlabelled is not None
    assert not np.array_equal(same.unlabelled.sampler.batch(0), same.labelled.sampler.batch(0))


def everyone_labelled(store):
    return store.slices_of(list(store.split["parts"]["train"]), labelled=True)


def test_seeds_give_other_batches(store):
    first, second = pretrain_loader(store, seed=0).batch(0), pretrain_loader(store, seed=1).batch(0)
    assert not torch.equal(first.slices, second.slices)
    assert not torch.equal(first.matrices[0], second.matrices[0])


def test_a_batch_that_does_not_divide_is_refused(store, monkeypatch):
    monkeypatch.setattr(batch_source, "world_size", lambda: 4)
    with pytest.raises(SettingsError, match=r"batch: .*processes, 4, not .*batch=12"):
        pretrain_loader(store, batch=14)
    with pytest.raises(SettingsError, match="batch=4"):
        finetune_loader(store, batch=2)
    with pytest.raises(SettingsError, match="unlabelled_batch=4"):
        finetune_loader(store, batch=4, unlabelled=everyone_labelled(store), unlabelled_batch=6)


def test_labelled_slices_without_a_mask_are_named(store):
    with pytest.raises(DataError, match="patient002_phase0, patient002_phase1"):
        finetune_loader(store, indices=store.slices_of(["patient001", "patient002"]))
    with pytest.raises(DataError, match="patient002_phase0, patient002_phase1"):
        pretrain_loader(store, labelled=store.slices_of(["patient001", "patient002"]))


def test_no_slices_at_all_are_refused(store):
    with pytest.raises(DataError, match="at least one slice"):
        finetune_loader(store, indices=np.array([], dtype=np.int64))


def met(loader):
    """What each slice of the run came with, by store index: (height, codes of patient, position), once and for all."""
    found = {}
    for step in range(60):
        batch = loader.batch(step)
        codes = (batch.positions.tolist(), batch.metadata["patient"].tolist(), batch.metadata["position"].tolist())
        for index, facts in zip(batch.slices.tolist(), zip(*codes, strict=True), strict=True):
            assert found.setdefault(index, facts) == facts
    return found


def test_shuffled_slices_have_all_metadata_of_another_one_for_the_whole_run(store):
    plain, mixed = pretrain_loader(store), pretrain_loader(store, shuffled=True)
    before, after = met(plain), met(mixed)
    own = set(plain.sampler.indices.tolist())
    assert before.keys() == after.keys() == own
    assert sorted(before.values()) == sorted(after.values())
    assert np.mean([before[index] == after[index] for index in own]) < 0.2
    # Whose slices are declared one patient's are those of several.
    truth = store.slices["subject"]
    for patient in {facts[1] for facts in after.values()}:
        assert len({truth[index] for index in own if after[index][1] == patient}) > 1


def test_a_batch_of_shuffled_slices_has_the_positives_of_any_other(store):
    plain, mixed = pretrain_loader(store).batch(2), pretrain_loader(store, shuffled=True).batch(2)
    for name, codes in plain.metadata.items():
        torch.testing.assert_close(codes, mixed.metadata[name], rtol=0, atol=0)
    assert not torch.equal(plain.slices, mixed.slices)
    assert not torch.equal(plain.views[0], mixed.views[0])


def test_labelled_slices_stay_what_they_are_in_a_shuffled_run(store):
    plain, mixed = (labelled_loader(store, shuffled=value).batch(1, labelled=True) for value in (False, True))
    one, other = tensors(plain), tensors(mixed)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_seed_shuffles_otherwise(store):
    shown = [pretrain_loader(store, shuffled=True, seed=seed) for seed in (3, 3, 4)]
    assert met(shown[0]) == met(shown[1]) != met(shown[2])
