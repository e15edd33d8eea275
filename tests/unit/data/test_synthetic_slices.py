"""Made-up slices: palettes against slow loops, order of brightness, noise of its own, and the range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.data.intensity_changes import apply_blur
from fewlabel.data.synthetic_slices import (
    FEATHER,
    Palette,
    SynthesisConfig,
    _k_means,
    find_palette,
    find_regions,
    synthesise,
)
from kit.masks import SIZE, disc, heart, memory_store


def volume(channels=2):
    """Three slices whose background is dark on the left and bright on the right."""
    store = memory_store([np.stack([heart(), heart(11), heart(12)])], channels=channels)
    images, masks = np.array(store.images), store.labels
    right = np.broadcast_to(np.arange(SIZE[1]) > 70, masks.shape) & (masks == 0)
    for channel in range(channels):
        images[:, channel][right] = 0.95 - 0.2 * channel
    return images, masks


def smoothed(images):
    found = torch.from_numpy(images.astype(np.float32))
    return apply_blur(found, torch.ones(len(found))).numpy()


def test_a_palette_is_what_a_slow_loop_finds():
    images, masks = volume()
    palette = find_palette(images, masks, 4, 3)
    assert palette.centres.shape == (3, 2)
    calm = smoothed(images)
    sums = {}
    for z in range(3):
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                region = int(masks[z, y, x]) + 2
                if masks[z, y, x] == 0:
                    region = int(((calm[z, :, y, x] - palette.centres.numpy()) ** 2).sum(axis=1).argmin())
                sums.setdefault(region, []).append(images[z, :, y, x].astype(np.float64))
    assert set(sums) == set(range(6))
    for region, values in sums.items():
        np.testing.assert_allclose(palette.means[region].numpy(), np.mean(values, axis=0), atol=1e-5)
        np.testing.assert_allclose(palette.deviations[region].numpy(), np.std(values, axis=0), atol=1e-5)
    # Classes look as they were painted.
    np.testing.assert_allclose(palette.means[3:, 0].numpy(), np.linspace(0.15, 0.85, 4)[1:], atol=0.01)


def test_clusters_are_those_of_the_background_and_settle():
    points = torch.cat([torch.full((50, 1), level) + 0.01 * torch.randn(50, 1) for level in (0.1, 0.5, 0.9)])
    centres = _k_means(points, 3)
    assert centres.flatten().tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.02)
    again = points.view(3, 50).mean(dim=1)
    torch.testing.assert_close(centres.flatten(), again)
    assert torch.equal(_k_means(points, 3), centres)
    assert _k_means(torch.zeros(0, 2), 4).shape == (4, 2)
    same = _k_means(torch.full((9, 1), 0.3), 4)
    assert same.flatten().tolist() == pytest.approx([0.3] * 4)


def test_regions_are_classes_and_nearest_clusters():
    images, masks = volume()
    masks = masks.copy()
    masks[0, :, :8] = 255
    centres = find_palette(images, masks, 4, 2).centres
    batch = torch.from_numpy(images.astype(np.float32))
    regions = find_regions(batch, torch.from_numpy(masks), centres).numpy()
    for label in (1, 2, 3):
        assert np.array_equal(regions == label + 1, masks == label)
    bright = int(centres[:, 0].argmax())
    assert (regions[:, 5:20, 90:] == bright).all()
    assert (regions[:, 5:20, :50] == 1 - bright).all()


def palette_of(means, deviations=None):
    means = torch.tensor(means)[:, None]
    made = torch.full_like(means, 0.0) if deviations is None else torch.tensor(deviations)[:, None]
    return Palette(means[:2], means, made)


def look(palette, contrast, seed):
    """Mean of each region of a made-up slice, in the middle of a broad stripe of it."""
    regions = torch.arange(len(palette.means)).repeat_interleave(16).expand(16, -1)
    made = synthesise(regions, palette, contrast, seed, 0)
    return made[0, 8, 8::16]


def test_ordered_looks_keep_the_order_and_free_ones_do_not():
    palette = palette_of([0.5, 0.05, 0.3, 0.9, 0.3])
    order = palette.means[:, 0].argsort()
    looks = torch.stack([look(palette, "ordered", seed) for seed in range(40)])
    assert bool((looks[:, order].diff(dim=1) >= -1e-6).all())
    # What looks alike does so still; the rest gets new steps.
    torch.testing.assert_close(looks[:, 2], looks[:, 4])
    assert float(looks[:, 1].max()) <= 0.2
    assert float(looks[:, 3].min()) >= 0.6
    ratio = (looks[:, 0] - looks[:, 2]) / (looks[:, 3] - looks[:, 0])
    assert float(ratio.max() / ratio.min()) > 4
    free = torch.stack([look(palette, "free", seed) for seed in range(40)])
    assert not bool((free[:, order].diff(dim=1) >= 0).all(dim=1).any())


def test_a_look_belongs_to_its_seed_and_noise_to_the_place_too():
    palette = palette_of([0.2, 0.8], [0.1, 0.1])
    regions = torch.zeros(64, 64, dtype=torch.long)
    regions[:, 32:] = 1
    first = synthesise(regions, palette, "ordered", 5, 3)
    assert torch.equal(synthesise(regions, palette, "ordered", 5, 3), first)
    other = synthesise(regions, palette, "ordered", 5, 4)
    assert float((first - other).abs().mean()) > 0.005
    assert float(first[0, :, :30].mean()) == pytest.approx(float(other[0, :, :30].mean()), abs=0.01)
    assert (
        abs(float(first[0, :, :30].mean()) - float(synthesise(regions, palette, "ordered", 6, 3)[0, :, :30].mean()))
        > 0.01
    )


def test_values_stay_in_range_and_borders_are_feathered():
    palette = palette_of([0.0, 1.0], [0.5, 0.5])
    regions = torch.zeros(40, 40, dtype=torch.long)
    regions[:, 20:] = 1
    for contrast in ("ordered", "free"):
        made = synthesise(regions, palette, contrast, 1, 0)
        assert float(made.min()) >= 0
        assert float(made.max()) <= 1
    still = synthesise(regions, palette_of([0.0, 1.0]), "ordered", 1, 0)[0]
    step = still[20].diff()
    assert int((step > 0.01).sum()) in {3, 4, 5}
    assert bool((step >= 0).all())
    assert FEATHER[0] > 0


def test_a_volume_that_shows_one_brightness_or_lacks_a_class_is_no_fault():
    masks = np.zeros((1, *SIZE), np.uint8)
    masks[0][disc(40, 40, 9)] = 1
    palette = find_palette(np.full((1, 1, *SIZE), 0.4, np.float16), masks, 4, 3)
    assert palette.means[4:].flatten().tolist() == [0.0, 0.0]
    regions = find_regions(torch.full((1, 1, *SIZE), 0.4), torch.from_numpy(masks), palette.centres)[0]
    for contrast in ("ordered", "free"):
        assert bool(synthesise(regions, palette, contrast, 0, 0).isfinite().all())


def test_settings_have_their_limits():
    for key, value in (("probability", -0.1), ("clusters", 0), ("contrast", "inverted")):
        with pytest.raises(SettingsError, match=key):
            SynthesisConfig.parse({key: value})
