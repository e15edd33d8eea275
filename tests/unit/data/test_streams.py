"""Views of unlabelled rows: weak and strong ones of one geometry, of slices and of patches, on one rank and on two."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from fewlabel.core.rng import torch_stream
from fewlabel.data import batch_source
from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.batch_loading import FinetuneLoader
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.patches import PatchLoader

SIZE = (24, 28)
SEED = 3
#: Wide geometry and every change of intensity.
STRONG = AugmentConfig(
    rotation=180.0, gamma=2.0, gamma_probability=0.5, noise_probability=0.5, blur_probability=0.5, low_resolution=2.0,
    low_resolution_probability=0.3, inverted_gamma=1.7, inverted_gamma_probability=0.2, bias=0.15, gain=1.5, shift=0.3,
    random_convolutions_probability=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def store():
    """Three volumes of noise of nine slices each, two channels, the last without a mask."""
    generator = np.random.default_rng(0)
    cases = np.repeat(["a", "b", "c"], 9)
    labels = generator.integers(0, 3, (27, *SIZE)).astype(np.uint8)
    labels[18:] = 255
    heights = np.tile((np.arange(9) + 0.5) / 9, 3)
    return SimpleNamespace(
        images=generator.random((27, 2, *SIZE)).astype(np.float16),
        labels=labels,
        slices=pd.DataFrame({"case": cases, "labelled": cases != "c", "height_fraction": heights}),
        label_names={0: "background", 1: "one", 2: "two"},
    )


def loader(store, kind="slices", **over):
    values = {
        "augment": STRONG, "batch": 4, "total_steps": 9, "seed": SEED, "unlabelled": np.arange(9, 27),
        "unlabelled_batch": 6, "unlabelled_views": 3, "weak_view": True,
    }  # fmt: skip
    if kind == "slices":
        return FinetuneLoader(store, np.arange(9), **{**values, **over})
    return PatchLoader(store, np.arange(9), patch=(5, 16, 20), **{**values, **over})


def tensors(batch):
    found = {item.name: getattr(batch, item.name) for item in fields(batch)}
    again = {f"again{number}": view for number, view in enumerate(found.pop("unlabelled_again"))}
    return {name: value for name, value in (found | again).items() if isinstance(value, torch.Tensor)}


def drawn(step, *view):
    """What the loader draws for the six unlabelled rows of a step."""
    return Augmenter(STRONG).sample(6, SIZE, torch_stream(SEED, "augment unlabelled", step, *view))


@pytest.mark.parametrize("step", [0, 5])
def test_the_first_view_is_the_slice_in_the_geometry_of_the_strong_ones(store, step):
    batch = loader(store).batch(step)
    images = torch.from_numpy(store.images[batch.unlabelled_slices.numpy()].astype(np.float32))
    transform = drawn(step)
    augmenter = Augmenter(STRONG)
    weak, _ = augmenter.apply(images.clone(), transform.geometry())
    assert torch.equal(batch.unlabelled, standardise(weak))
    assert len(batch.unlabelled_again) == 2
    for number, view in enumerate(batch.unlabelled_again, 1):
        own = drawn(step, number)
        assert not torch.equal(own.matrices, transform.matrices)
        own = replace(own, matrices=transform.matrices, control=transform.control)
        applied, _ = augmenter.apply(images.clone(), own)
        assert torch.equal(view, augmenter.finish(applied, own))


@pytest.mark.parametrize("kind", ["slices", "patches"])
def test_views_differ_from_each_other_in_intensities_alone(store, kind):
    batch = loader(store, kind).batch(2)
    views = [batch.unlabelled, *batch.unlabelled_again]
    assert len(views) == 3
    assert all(view.shape == batch.unlabelled.shape for view in views)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert all(not torch.equal(a, b) for a, b in zip(views[first], views[second], strict=True))
    # With intensities off, geometry alone is left, and it is one.
    still = AugmentConfig(
        rotation=180.0, brightness=0.0, contrast_low=1.0, contrast_high=1.0, gamma_probability=0.0,
        noise_probability=0.0, blur_probability=0.0,
    )  # fmt: skip
    batch = loader(store, kind, augment=still).batch(2)
    assert len(batch.unlabelled_again) == 2
    assert all(torch.equal(view, batch.unlabelled) for view in batch.unlabelled_again)


@pytest.mark.parametrize("kind", ["slices", "patches"])
def test_a_weak_view_does_not_depend_on_the_intensities(store, kind):
    plain = STRONG.model_copy(update={"gain": 1.0, "shift": 0.0, "gamma_probability": 0.0, "contrast_low": 1.0})
    strong, mild = (loader(store, kind, augment=config).batch(4) for config in (STRONG, plain))
    assert torch.equal(strong.unlabelled, mild.unlabelled)
    assert not torch.equal(strong.unlabelled_again[0], mild.unlabelled_again[0])
    # Labelled rows are strong all the same.
    assert not torch.equal(strong.images, mild.images)
    assert torch.equal(strong.labels, mild.labels)


@pytest.mark.parametrize("kind", ["slices", "patches"])
def test_a_gain_and_a_shift_come_behind_the_standardisation(store, kind):
    config = AugmentConfig(
        rotation=90.0, brightness=0.0, contrast_low=1.0, contrast_high=1.0, gamma_probability=0.0,
        noise_probability=0.0, blur_probability=0.0, gain=2.0, shift=0.5,
    )  # fmt: skip
    batch = loader(store, kind, augment=config).batch(2)
    assert len(batch.unlabelled_again) == 2
    for view in batch.unlabelled_again:
        for weak, strong in zip(batch.unlabelled.flatten(1), view.flatten(1), strict=True):
            table = torch.stack([weak, torch.ones_like(weak)], dim=1)
            gain, shift = torch.linalg.lstsq(table, strong[:, None]).solution[:, 0].tolist()
            torch.testing.assert_close(gain * weak + shift, strong, rtol=0, atol=1e-4)
            assert abs(gain - 1) > 1e-3
            assert abs(shift) > 1e-3


@pytest.mark.parametrize("kind", ["slices", "patches"])
def test_where_no_view_is_weak_the_first_is_what_it_is_without_others(store, kind):
    alone = loader(store, kind, unlabelled_views=1, weak_view=False).batch(3)
    among = loader(store, kind, weak_view=False).batch(3)
    assert torch.equal(alone.unlabelled, among.unlabelled)
    assert alone.unlabelled_again == ()
    weak = loader(store, kind).batch(3)
    assert not torch.equal(weak.unlabelled, among.unlabelled)
    # All else is the same beside a weak view.
    for name, value in tensors(among).items():
        if name != "unlabelled":
            assert torch.equal(tensors(weak)[name], value), name


@pytest.mark.parametrize("kind", ["slices", "patches"])
def test_the_labelled_stream_does_not_notice(store, kind):
    plain = loader(store, kind, unlabelled=None).batch(3)
    weak = loader(store, kind).batch(3)
    assert torch.equal(plain.images, weak.images)
    assert torch.equal(plain.labels, weak.labels)
    assert plain.unlabelled_positions is None
    assert plain.unlabelled_slices is None


@pytest.mark.parametrize("kind", ["slices", "patches"])
def test_positions_are_those_of_the_store(store, kind):
    made = loader(store, kind)
    for step in range(3):
        batch = made.batch(step)
        assert batch.unlabelled_positions.dtype == torch.float32
        expected = store.slices["height_fraction"].to_numpy()[batch.unlabelled_slices.numpy()]
        np.testing.assert_allclose(batch.unlabelled_positions.numpy(), expected, rtol=1e-6)
        assert len(batch.unlabelled_positions.unique()) > 1


@pytest.mark.parametrize("kind", ["slices", "patches"])
def test_metadata_are_brought_where_they_are_asked_for(store, kind):
    assert loader(store, kind).batch(0).unlabelled_metadata is None
    codes = np.arange(27) % 4 - 1
    described = SimpleNamespace(
        **vars(store) | {"slices": store.slices.assign(meta_phase=codes), "meta_labels": {"phase": 3}}
    )
    batch = loader(described, kind, metadata=("phase",)).batch(1)
    assert batch.unlabelled_metadata.keys() == {"phase"}
    # A slice whose label is missing is of a class of its own.
    expected = [codes[row] if codes[row] >= 0 else 3 + row for row in batch.unlabelled_slices.tolist()]
    assert batch.unlabelled_metadata["phase"].tolist() == expected


@pytest.mark.parametrize("kind", ["slices", "patches"])
def test_without_augmentation_all_views_are_the_slice(store, kind):
    batch = loader(store, kind, augment=None).batch(1)
    assert len(batch.unlabelled_again) == 2
    assert all(torch.equal(view, batch.unlabelled) for view in batch.unlabelled_again)
    if kind == "slices":
        images = torch.from_numpy(store.images[batch.unlabelled_slices.numpy()].astype(np.float32))
        assert torch.equal(batch.unlabelled, standardise(images))


@pytest.mark.parametrize("kind", ["slices", "patches"])
def test_rows_of_two_ranks_are_the_batch_of_one(store, monkeypatch, kind):
    def batch(rank, size, step):
        monkeypatch.setattr(batch_source, "rank", lambda: rank)
        monkeypatch.setattr(batch_source, "world_size", lambda: size)
        return loader(store, kind).batch(step)

    for step in (0, 7):
        whole, first, second = batch(0, 1, step), batch(0, 2, step), batch(1, 2, step)
        assert {"unlabelled", "again0", "again1", "unlabelled_positions"} <= set(tensors(whole))
        for name, expected in tensors(whole).items():
            found = torch.cat([tensors(first)[name], tensors(second)[name]])
            assert torch.equal(found, expected), name
