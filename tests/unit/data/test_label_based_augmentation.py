"""Variants in the loaders: off nothing changes; on, batches hang on seed and step alone, for slices and for patches."""

from __future__ import annotations

import itertools
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fewlabel.data import batch_source, label_based_augmentation
from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig, finetuning_augmentation
from fewlabel.data.batch_loading import FinetuneLoader, PretrainLoader, labelled_pixel
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.label_based_augmentation import Variants, variants_of
from fewlabel.data.patch_positions import counted, draw_window, runs_of
from fewlabel.data.patches import PatchLoader, _shown_at
from fewlabel.data.sampling import SamplerConfig
from fewlabel.data.store import PreparedStore
from kit.masks import SIZE, heart, memory_store
from kit.stores import make_store

CPU = torch.device("cpu")
STILL = {
    "flip_horizontal": 0.0, "flip_vertical": 0.0, "rotation": 0.0, "scale_low": 1.0, "scale_high": 1.0, "crop": 1.0,
    "translation": 0.0, "elastic_probability": 0.0, "brightness": 0.0, "contrast_low": 1.0, "contrast_high": 1.0,
    "gamma_probability": 0.0, "noise_probability": 0.0, "blur_probability": 0.0,
}  # fmt: skip
BOTH = AugmentConfig(anatomy={"probability": 0.7}, synthesis={"probability": 0.4})


def config(anatomy=0.0, synthesis=0.0, **over):
    return AugmentConfig(anatomy={"probability": anatomy}, synthesis={"probability": synthesis}, **{**STILL, **over})


@pytest.fixture(scope="module")
def store():
    volumes = [np.stack([heart(r - 6, r, 10) for r in radii]) for radii in ((16, 15, 14, 12), (18, 17, 15))]
    made = memory_store([*volumes, np.stack([heart(9, 14)] * 3)], channels=2)
    made.labels[7:] = 255
    made.slices.loc[7:, "labelled"] = False
    return made


def finetune(store, augment, **over):
    values = {"batch": 6, "total_steps": 9, "seed": 3, "unlabelled": np.arange(7, 10), "unlabelled_batch": 2}
    return FinetuneLoader(store, np.arange(7), augment=augment, **{**values, **over})


def patches(store, augment, **over):
    values = {"batch": 2, "total_steps": 9, "seed": 3, "patch": (3, 64, 80), "unlabelled": np.arange(7, 10)}
    return PatchLoader(store, np.arange(7), augment=augment, **{**values, **over})


def tensors(batch):
    values = {item.name: getattr(batch, item.name) for item in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


MADE = pytest.mark.parametrize("make", [finetune, patches])


def test_pretraining_has_neither_and_finetuning_other_anatomies():
    assert AugmentConfig().anatomy.probability == AugmentConfig().synthesis.probability == 0
    mild = finetuning_augmentation()
    assert (mild.anatomy.probability, mild.synthesis.probability) == (0.67, 0)
    # One key of a group leaves its others, and the other groups, as they were.
    changed = AugmentConfig.parse({"anatomy": {"wall": 0.2}}, base=mild)
    assert changed.anatomy == mild.anatomy.model_copy(update={"wall": 0.2})
    assert changed.model_copy(update={"anatomy": mild.anatomy}) == mild


def test_off_there_is_nothing_to_make(store):
    assert variants_of(store, np.arange(7), AugmentConfig(), seed=0, device=CPU) is None
    assert finetune(store, None).variants is None
    assert finetune(store, BOTH).variants is not None


@MADE
def test_slices_that_draw_neither_and_unlabelled_ones_are_as_if_it_were_off(store, make):
    never, off = (make(store, augment) for augment in (AugmentConfig(anatomy={"probability": 1e-12}), AugmentConfig()))
    on = make(store, BOTH)
    for step in range(2):
        plain = tensors(off.batch(step))
        for name, value in tensors(never.batch(step)).items():
            assert torch.equal(value, plain[name]), name
        changed = tensors(on.batch(step))
        assert torch.equal(changed["unlabelled"], plain["unlabelled"])
        assert not torch.equal(changed["images"], plain["images"])
        assert not torch.equal(changed["labels"], plain["labels"])


def test_a_row_is_its_slice_displaced_and_then_augmented_as_always(store):
    augment = AugmentConfig(anatomy={"probability": 0.6})
    made, plain = finetune(store, augment), finetune(store, AugmentConfig())
    batch, untouched = made.batch(4), plain.batch(4)
    draws = made.variants.draw(4, 6)
    applied = draws.anatomies.applied
    assert 0 < int(applied.sum()) < 6
    rows = batch.slices.numpy()
    images = torch.from_numpy(store.images[rows].astype(np.float32))
    masks = torch.from_numpy(store.labels[rows])
    _, moved = made.variants.make(images, masks, rows, draws)
    transform = Augmenter(augment).sample(6, SIZE, label_based_augmentation.torch_stream(3, "augment", 4))
    views, warped = Augmenter(augment).apply(images, transform, masks, moved)
    assert torch.equal(standardise(views), batch.images)
    assert torch.equal(warped, batch.labels)
    for row in range(6):
        same = torch.equal(batch.images[row], untouched.images[row])
        assert same == (not bool(applied[row]))
        assert torch.equal(batch.labels[row], untouched.labels[row]) == same


def test_image_and_mask_move_together(store):
    """The brightness of a class says where it is, so the mask fits a displaced picture as it fitted the stored one."""
    made = finetune(store, config(anatomy=1.0))
    images = torch.from_numpy(store.images[:7].astype(np.float32))
    masks = torch.from_numpy(store.labels[:7])
    draws = made.variants.draw(0, 7)
    same, moved = made.variants.make(images, masks, np.arange(7), draws)
    assert same is images
    transform = made.augmenter.sample(7, SIZE, torch.Generator().manual_seed(0))
    views, warped = made.augmenter.apply(images, transform, masks, moved)
    assert not torch.equal(warped, masks.long())
    for label, level in enumerate(np.linspace(0.15, 0.85, 4)):
        assert float(views[:, 0][warped == label].median()) == pytest.approx(level, abs=0.02)


def test_made_up_rows_keep_their_masks_exactly(store):
    made = finetune(store, config(synthesis=0.5))
    plain = finetune(store, config())
    for step in range(2):
        batch, real = made.batch(step), plain.batch(step)
        assert torch.equal(batch.labels, real.labels)
        drawn = made.variants.draw(step, 6).looks >= 0
        assert 0 < int(drawn.sum()) < 6
        for row in range(6):
            assert torch.equal(batch.images[row], real.images[row]) == (not bool(drawn[row]))
    images = torch.from_numpy(store.images[:2].astype(np.float32))
    masks = torch.from_numpy(store.labels[:2])
    copy = images.clone()
    every = finetune(store, config(synthesis=1.0)).variants
    found, moved = every.make(images, masks, np.arange(2), every.draw(0, 2))
    assert moved is None
    assert torch.equal(images, copy)
    assert 0 <= float(found.min()) < float(found.max()) <= 1
    # Blood stays brighter than muscle by default.
    for row in range(2):
        means = [float(found[row, 0][masks[row] == label].mean()) for label in range(1, 4)]
        assert means == sorted(means)
    empty, _ = every.make(images, torch.full_like(masks, 255), np.arange(2), every.draw(0, 2))
    assert torch.equal(empty, images)


@MADE
def test_rows_of_two_ranks_are_the_batch_of_one(store, monkeypatch, make):
    def batch(rank, size, step):
        monkeypatch.setattr(batch_source, "rank", lambda: rank)
        monkeypatch.setattr(batch_source, "world_size", lambda: size)
        return make(store, BOTH, unlabelled=None).batch(step)

    whole, first, second = batch(0, 1, 5), batch(0, 2, 5), batch(1, 2, 5)
    for name, expected in tensors(whole).items():
        assert torch.equal(torch.cat([tensors(first)[name], tensors(second)[name]]), expected), name


@MADE
def test_a_batch_is_one_of_its_seed_and_step_whatever_came_before(store, make, monkeypatch):
    long = make(store, BOTH)
    forward = [tensors(long.batch(step)) for step in range(3)]
    # As resumed, streamed from disk, and with no surface kept.
    monkeypatch.setattr(label_based_augmentation.AnatomyIndex.__init__, "__defaults__", (1,))
    late = make(store, BOTH, resident_limit=0)
    for step in (2, 1):
        for name, value in tensors(late.batch(step)).items():
            assert torch.equal(value, forward[step][name]), name
    assert len(late.variants._index._measured) == 1
    assert not torch.equal(make(store, BOTH, seed=4).batch(2).images, forward[2]["images"])


def test_slices_of_a_patch_share_their_anatomy_and_look(store):
    alike = memory_store([np.stack([heart(12, 18, 10)] * 5)], channels=1)
    alike.images[:] = alike.images[0]
    made = PatchLoader(
        alike, np.arange(5), augment=config(anatomy=1.0), batch=3, total_steps=9, seed=1, patch=(5, *SIZE)
    ).batch(0)
    for row in range(3):
        assert torch.equal(made.labels[row], made.labels[row][:1].expand(5, -1, -1))
        assert torch.equal(made.images[row], made.images[row][:, :1].expand(-1, 5, -1, -1))
    assert not torch.equal(made.labels[0], made.labels[1])
    made = PatchLoader(
        alike, np.arange(5), augment=config(synthesis=1.0), batch=2, total_steps=9, seed=1, patch=(5, *SIZE)
    ).batch(0)
    looks = torch.stack(
        [
            torch.stack([patch[0][:, mask[0] == label].mean(dim=1) for label in (1, 2, 3)])
            for patch, mask in zip(made.images, made.labels, strict=True)
        ]
    )
    assert float((looks.amax(dim=2) - looks.amin(dim=2)).max()) < 0.1
    assert float((looks[0] - looks[1]).abs().max()) > 0.2
    assert not torch.equal(made.images[0, 0, 0], made.images[0, 0, 1])


def test_slices_of_a_patch_are_displaced_each_by_its_own_distances(store):
    """A patch of the whole volume without other augmentation is what its slices are one by one."""
    made = patches(store, config(anatomy=1.0), patch=(4, *SIZE), batch=2, unlabelled=None)
    batch = made.batch(0)
    draws = made.variants.draw(0, 2)
    row = batch.slices.tolist().index(0)
    transform = made.augmenter.sample(1, SIZE, torch.Generator().manual_seed(0))
    for z in range(4):
        image = torch.from_numpy(store.images[z : z + 1].astype(np.float32))
        mask = torch.from_numpy(store.labels[z : z + 1])
        image, moved = made.variants.make(image, mask, np.array([z]), draws[row : row + 1])
        view, warped = made.augmenter.apply(image, transform, mask, moved)
        torch.testing.assert_close(batch.images[row, :, z], standardise(view)[0], rtol=0, atol=1e-5)
        assert torch.equal(batch.labels[row, z], warped[0])
    assert len({int((batch.labels[row, z] > 0).sum()) for z in range(4)}) == 4


def test_a_centred_patch_follows_its_voxel_through_another_anatomy(store):
    made = patches(store, config(anatomy=1.0, rotation=60.0), patch=(1, 8, 8), batch=4, foreground=1.0)
    for step in range(4):
        middle = made.batch(step).labels[:, 0, 3:6, 3:6]
        assert bool((middle > 0).flatten(1).any(dim=1).all())
    transform = made.augmenter.sample(1, SIZE, torch.Generator().manual_seed(2))
    moved = torch.zeros(1, 2, *SIZE)
    moved[:, 0] = 5.0
    y, x = _shown_at(transform, (40, 60))
    assert _shown_at(transform, (40, 65), moved) == (y, x)
    assert _shown_at(transform, (40, 60), torch.zeros_like(moved)) == (y, x)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_view_about_a_pixel_follows_it_through_another_anatomy(store, monkeypatch, ranks):
    """Channels that say where they are tell which source pixels a view shows."""
    placed = SimpleNamespace(**{**vars(store), "images": store.images.copy()})
    rows, columns = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]), indexing="ij")
    placed.images[:, 0], placed.images[:, 1] = columns / 128, rows / 128
    far = []
    for step, rank in itertools.product(range(4), range(ranks)):
        monkeypatch.setattr(batch_source, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(batch_source, "world_size", lambda: ranks)
        made = finetune(
            placed, config(anatomy=1.0, rotation=60.0), size=(16, 16), foreground=1.0, batch=4, unlabelled=None
        )
        monkeypatch.setattr(made.augmenter, "finish", lambda views, transform: views)
        batch = made.batch(step)
        first = rank * len(batch.images)
        for row, index in enumerate(batch.slices.tolist()):
            y, x = labelled_pixel(store.labels[index], 4, 3, step, first + row)
            away = (128 * batch.images[row] - torch.tensor([x, y])[:, None, None]).norm(dim=0)
            assert float(away.min()) < 1.5
            # It is in the middle, and what is in the middle is of its class or beside it.
            assert float(away[7:9, 7:9].mean()) < 1.5
            assert bool((batch.labels[row, 6:10, 6:10] == int(store.labels[index, y, x])).any())
            draws = made.variants.draw(step, 4)[first + row : first + row + 1]
            images, masks = (torch.from_numpy(of[[index]]).float() for of in (placed.images, placed.labels))
            _, moved = made.variants.make(images, masks, np.array([index]), draws)
            far.append(float(moved[0, :, y, x].norm()))
    # Where it was, it would not be found that often.
    assert sum(distance > 3 for distance in far) > 4


def test_a_window_knows_the_slice_of_its_voxel():
    masks = np.zeros((6, *SIZE), np.uint8)
    masks[4, 40, 50] = masks[1, 10, 20] = 1
    made = memory_store([masks])
    run = counted(made, runs_of(made, np.arange(6))[0])
    levels = set()
    for seed in range(12):
        window = draw_window(made, run, 3, np.random.default_rng(seed), foreground=True)
        levels.add(int(window.slices[window.level]))
        assert made.labels[window.slices[window.level]][window.centre] == 1
    assert levels == {1, 4}


def test_both_views_of_a_labelled_slice_in_pretraining_show_one_anatomy(tmp_path):
    store = PreparedStore(make_store(tmp_path / "prepared", subjects=4, size=(48, 56), channels=1))
    subjects = list(store.split["parts"]["train"])
    values = {"batch": 4, "total_steps": 9, "seed": 3, "sampler": SamplerConfig(kind="slices")}
    indices, labelled = store.slices_of(subjects), store.slices_of(subjects[:1], labelled=True)

    def views(augment, **over):
        return PretrainLoader(store, indices, augment=augment, labelled=labelled, **values).batch(2, **over)

    changed, plain = (views(a, labelled=True) for a in (config(anatomy=1.0), config()))
    assert torch.equal(*changed.masks)
    assert torch.equal(*changed.views)
    assert not torch.equal(changed.masks[0], plain.masks[0])
    # Slices without their masks stay as they are.
    assert torch.equal(views(config(anatomy=1.0)).views[0], views(config()).views[0])


def test_draws_are_streams_of_their_own(store):
    made = Variants(store, np.arange(7), BOTH, seed=3, device=CPU)
    first, again, later = made.draw(2, 5), made.draw(2, 5), made.draw(3, 5)
    assert torch.equal(first.anatomies.size, again.anatomies.size)
    assert torch.equal(first.looks, again.looks)
    assert not torch.equal(first.anatomies.size, later.anatomies.size)
    only = Variants(store, np.arange(7), AugmentConfig(synthesis={"probability": 0.4}), seed=3, device=CPU)
    assert only.draw(2, 5).anatomies is None
    assert torch.equal(only.draw(2, 5).looks, first.looks)
