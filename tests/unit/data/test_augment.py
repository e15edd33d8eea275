"""Augmentation: geometry against matrices, intensities against closed forms, rows independent of their batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.ndimage import correlate1d

from fewlabel.core.errors import SettingsError
from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig, finetuning_augmentation, pretraining_augmentation
from fewlabel.data.elastic import FOLD_LIMIT, source_points, spline_basis
from fewlabel.data.intensity_changes import apply_blur, apply_contrast, apply_gamma, apply_noise, standardise

SIZE = (40, 56)
STILL = {
    "flip_horizontal": 0.0,
    "flip_vertical": 0.0,
    "rotation": 0.0,
    "scale_low": 1.0,
    "scale_high": 1.0,
    "crop": 1.0,
    "elastic_probability": 0.0,
    "brightness": 0.0,
    "contrast_low": 1.0,
    "contrast_high": 1.0,
    "gamma_probability": 0.0,
    "noise_probability": 0.0,
    "blur_probability": 0.0,
}


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(**over):
    """A config in which nothing happens but what is named."""
    return AugmentConfig(**{**STILL, **over})


def pixels(size=SIZE):
    """(2, height, width): x and y of every pixel."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return torch.stack([x, y]).float()


def test_with_everything_off_nothing_changes():
    images, masks = torch.rand(3, 2, *SIZE, generator=stream()), torch.randint(0, 4, (3, *SIZE), generator=stream())
    augmenter = Augmenter(only())
    transform = augmenter.sample(3, SIZE, stream())
    views, warped = augmenter.apply(images, transform, masks)
    torch.testing.assert_close(views, images, rtol=0, atol=1e-5)
    assert torch.equal(warped, masks)
    assert torch.equal(transform.matrices, torch.eye(3).expand(3, 3, 3))


@pytest.mark.parametrize(("name", "axis"), [("flip_horizontal", -1), ("flip_vertical", -2)])
def test_flips_are_exact(name, axis):
    images, masks = torch.rand(2, 1, *SIZE, generator=stream()), torch.randint(0, 4, (2, *SIZE), generator=stream())
    augmenter = Augmenter(only(**{name: 1.0}))
    transform = augmenter.sample(2, SIZE, stream())
    views, warped = augmenter.apply(images, transform, masks)
    torch.testing.assert_close(views, images.flip(axis), rtol=0, atol=1e-5)
    assert torch.equal(warped, masks.flip(axis))
    corner = transform.matrices[0] @ torch.tensor([0.0, 0.0, 1.0])
    assert corner.tolist() == ([SIZE[1] - 1, 0, 1] if axis == -1 else [0, SIZE[0] - 1, 1])


def test_flip_probability_is_kept():
    transform = Augmenter(only(flip_horizontal=0.3)).sample(4000, SIZE, stream())
    share = float((transform.matrices[:, 0, 0] < 0).float().mean())
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 4000))


def test_views_show_the_source_where_the_matrices_say():
    augmenter = Augmenter(only(flip_horizontal=0.5, flip_vertical=0.5, rotation=180.0, scale_low=0.7, scale_high=1.3))
    transform = augmenter.sample(12, SIZE, stream(3))
    ramps = (pixels() / 100).expand(12, 2, *SIZE)
    views, _ = augmenter.apply(ramps.clone(), transform)
    view_pixels = torch.cat([pixels(), torch.ones(1, *SIZE)]).flatten(1)
    source = torch.linalg.solve(transform.matrices, view_pixels.expand(12, 3, -1))[:, :2].view(12, 2, *SIZE)
    torch.testing.assert_close(transform.source_points(), source, rtol=1e-4, atol=1e-3)
    limit = torch.tensor([SIZE[1] - 1.0, SIZE[0] - 1.0])[:, None, None]
    inside = ((source >= 0) & (source <= limit)).all(dim=1, keepdim=True).expand_as(views)
    assert 0.3 < float(inside.float().mean()) < 1
    torch.testing.assert_close(views[inside], (source / 100)[inside], rtol=0, atol=1e-4)
    far = ((source < -1) | (source > limit + 1)).any(dim=1, keepdim=True).expand_as(views)
    assert bool((views[far] == 0).all())


def test_a_planted_spot_lands_where_its_matrix_sends_it():
    augmenter = Augmenter(only(flip_horizontal=0.5, rotation=90.0, scale_low=0.8, scale_high=1.2, crop=0.8))
    transform = augmenter.sample(20, SIZE, stream(1))
    spot = torch.tensor([30.0, 17.0])
    image = torch.exp(-(pixels() - spot[:, None, None]).square().sum(0) / 8).expand(20, 1, *SIZE)
    views, _ = augmenter.apply(image.clone(), transform)
    centre = (views * pixels()).sum(dim=(2, 3)) / views.sum(dim=(2, 3))
    expected = (transform.matrices @ torch.tensor([30.0, 17.0, 1.0]))[:, :2]
    seen = ((expected > 8) & (expected < torch.tensor([SIZE[1] - 9.0, SIZE[0] - 9.0]))).all(dim=1)
    assert int(seen.sum()) >= 8
    torch.testing.assert_close(centre[seen], expected[seen], rtol=0, atol=0.1)


class TestViewsSmallerThanTheirSlices:
    VIEW = (24, 32)

    def test_each_pixel_is_where_the_matrix_says(self):
        augmenter = Augmenter(only(rotation=90.0, scale_low=0.8, scale_high=1.2, translation=0.1))
        transform = augmenter.sample(6, SIZE, stream(2), view=self.VIEW)
        views, masks = augmenter.apply(pixels().expand(6, 2, *SIZE).clone(), transform, torch.ones(6, *SIZE))
        assert views.shape == (6, 2, *self.VIEW)
        assert masks.shape == (6, *self.VIEW)
        there = transform.source_points()
        inside = ((there >= 0) & (there <= torch.tensor([SIZE[1] - 1.0, SIZE[0] - 1.0])[:, None, None])).all(dim=1)
        assert float(inside.float().mean()) > 0.5
        for axis in range(2):
            torch.testing.assert_close(views[:, axis][inside], there[:, axis][inside], rtol=0, atol=1e-3)
        assert bool((masks[inside] == 1).all())

    def test_they_lie_anywhere_within_and_nowhere_else(self):
        transform = Augmenter(only()).sample(4000, SIZE, stream(), view=self.VIEW)
        corner = -transform.matrices[:, :2, 2]
        room = torch.tensor([SIZE[1] - self.VIEW[1], SIZE[0] - self.VIEW[0]]).float()
        assert bool((corner >= -1e-4).all())
        assert bool((corner <= room + 1e-4).all())
        torch.testing.assert_close(corner.mean(dim=0), room / 2, rtol=0, atol=0.3)
        assert bool((corner.amin(dim=0) < 0.5).all())
        assert bool((corner.amax(dim=0) > room - 0.5).all())

    def test_a_focus_lies_in_the_middle_but_for_the_shift(self):
        focus = torch.tensor([[3.0, 5.0], [40.0, 30.0], [torch.nan, torch.nan]], dtype=torch.float64)
        middle = torch.tensor([(self.VIEW[1] - 1) / 2, (self.VIEW[0] - 1) / 2])
        for config, limit in ((only(rotation=180.0, scale_high=1.5), 1e-3), (only(translation=0.25), 8.0)):
            transform = Augmenter(config).sample(3, SIZE, stream(4), view=self.VIEW, focus=focus)
            found = (transform.matrices[:2, :2, :2] @ focus[:2, :, None].float())[..., 0] + transform.matrices[
                :2, :2, 2
            ]
            assert bool(((found - middle).abs() <= limit).all())
        assert float((found - middle).abs().max()) > 0.5
        free = Augmenter(only()).sample(3, SIZE, stream(4), view=self.VIEW)
        about = Augmenter(only()).sample(3, SIZE, stream(4), view=self.VIEW, focus=focus)
        assert torch.equal(free.matrices[2], about.matrices[2])

    def test_a_view_of_the_size_of_the_slice_is_the_usual_one(self):
        config = AugmentConfig()
        usual = Augmenter(config).sample(5, SIZE, stream(3))
        same = Augmenter(config).sample(5, SIZE, stream(3), view=SIZE)
        assert torch.equal(usual.matrices, same.matrices)
        assert torch.equal(usual.control, same.control)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_matrices_are_similarities_within_the_limits(seed):
    config = only(flip_horizontal=0.5, rotation=25.0, scale_low=0.7, scale_high=1.3, crop=0.8, translation=0.1)
    matrices = Augmenter(config).sample(8, SIZE, stream(seed)).matrices.double()
    linear = matrices[:, :2, :2]
    singular = torch.linalg.svdvals(linear)
    torch.testing.assert_close(singular[:, 0], singular[:, 1], rtol=1e-5, atol=1e-6)
    assert bool((singular >= 0.7 - 1e-5).all())
    assert bool((singular <= 1.3 / 0.8 + 1e-5).all())
    mirrored = torch.linalg.det(linear) < 0
    unmirrored = torch.where(mirrored[:, None, None], linear * torch.tensor([-1.0, 1.0]), linear)
    angle = torch.rad2deg(torch.atan2(unmirrored[:, 1, 0], unmirrored[:, 0, 0]))
    assert bool((angle.abs() <= 25 + 1e-3).all())
    assert torch.equal(matrices[:, 2], torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(8, 3))


def test_a_crop_stays_inside_the_image_and_reaches_its_border():
    transform = Augmenter(only(crop=0.5)).sample(400, SIZE, stream())
    points = transform.source_points()
    for axis, length in enumerate((SIZE[1], SIZE[0])):
        assert float(points[:, axis].min()) >= -0.5
        assert float(points[:, axis].max()) <= length - 0.5
        assert float(points[:, axis].min()) < 2
        assert float(points[:, axis].max()) > length - 3
    magnification = transform.matrices[:, 0, 0]
    assert float(magnification.min()) >= 1
    assert float(magnification.max()) <= 2 + 1e-5


@pytest.mark.parametrize(("length", "intervals"), [(17, 1), (40, 4), (33, 7)])
def test_spline_basis_equals_scipy(length, intervals):
    knots = np.arange(-3, intervals + 4, dtype=float)
    where = (np.arange(length) + 0.5) * intervals / length
    expected = BSpline.design_matrix(where, knots, 3).toarray()
    np.testing.assert_allclose(spline_basis(length, intervals).numpy(), expected, atol=1e-6)


def test_source_points_equal_a_slow_sum():
    generator = stream(5)
    matrix = torch.eye(3) + 0.1 * torch.randn(3, 3, generator=generator)
    matrix[2] = torch.tensor([0.0, 0.0, 1.0])
    control = torch.randn(1, 2, 6, 6, generator=generator)
    size = (7, 9)
    found = source_points(matrix[None], control, size)[0]
    down, across = spline_basis(7, 3), spline_basis(9, 3)
    for y in range(7):
        for x in range(9):
            moved = torch.tensor([float(x), float(y), 1.0])
            for row in range(6):
                for column in range(6):
                    moved[:2] += down[y, row] * across[x, column] * control[0, :, row, column]
            torch.testing.assert_close(found[:, y, x], (matrix @ moved)[:2], rtol=1e-4, atol=1e-4)


def test_elastic_is_drawn_by_probability_within_its_limit():
    transform = Augmenter(only(elastic_probability=0.67, elastic=0.3)).sample(2000, SIZE, stream())
    drawn = transform.control.flatten(1).any(dim=1)
    assert float(drawn.float().mean()) == pytest.approx(0.67, abs=0.05)
    largest = transform.control.abs().amax(dim=(0, 2, 3))
    limit = 0.3 * torch.tensor([SIZE[1] / 4, SIZE[0] / 4])
    assert bool((largest <= limit).all())
    assert bool((largest > 0.9 * limit).all())


def test_no_elastic_field_folds_below_the_limit():
    size = (48, 48)
    points = 7
    # The hardest case for the bound: every control displacement at the limit, signs at random.
    signs = torch.randint(0, 2, (300, 2, points, points), generator=stream()).float() * 2 - 1
    control = signs * (FOLD_LIMIT * size[0] / 4)
    moved = source_points(torch.eye(3).expand(300, 3, 3), control, size)
    along_x = moved[:, :, :-1, 1:] - moved[:, :, :-1, :-1]
    along_y = moved[:, :, 1:, :-1] - moved[:, :, :-1, :-1]
    area = along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]
    assert float(area.min()) > 0
    with pytest.raises(SettingsError, match="elastic"):
        AugmentConfig.parse({"elastic": FOLD_LIMIT})


def test_masks_follow_their_images():
    masks = torch.zeros(16, *SIZE, dtype=torch.int64)
    masks[:, 8:30, 12:40] = 3
    augmenter = Augmenter(
        AugmentConfig(
            brightness=0.0,
            contrast_low=1.0,
            contrast_high=1.0,
            gamma_probability=0.0,
            noise_probability=0.0,
            blur_probability=0.0,
        )
    )
    transform = augmenter.sample(16, SIZE, stream(2))
    views, warped = augmenter.apply((masks[:, None] == 3).float(), transform, masks)
    assert set(warped.unique().tolist()) == {0, 3}
    assert warped.dtype == torch.int64
    sure = (views[:, 0] < 0.2) | (views[:, 0] > 0.8)
    assert float(sure.float().mean()) > 0.9
    assert torch.equal((views[:, 0] > 0.5)[sure], (warped == 3)[sure])


def test_outside_of_the_source_is_background_or_unlabelled():
    masks = torch.ones(3, *SIZE, dtype=torch.uint8)
    masks[1] = 255
    masks[2, :, : SIZE[1] // 2] = 255
    augmenter = Augmenter(only(scale_low=0.5))
    transform = augmenter.sample(3, SIZE, stream(4))
    transform = transform[torch.tensor([int(transform.matrices[:, 0, 0].argmin())] * 3)]
    views, warped = augmenter.apply(torch.ones(3, 1, *SIZE), transform, masks)
    assert float(views[:, :, 0, 0].max()) == 0
    assert warped[0].unique().tolist() == [0, 1]
    assert warped[1].unique().tolist() == [255]
    assert warped[2].unique().tolist() == [0, 1, 255]


def everything():
    return AugmentConfig(noise_probability=0.7, blur_probability=0.7, gamma_probability=0.7)


def test_rows_of_two_ranks_are_the_rows_of_one_process():
    images = torch.rand(8, 2, *SIZE, generator=stream())
    masks = torch.randint(0, 4, (8, *SIZE), generator=stream())
    augmenter = Augmenter(everything())
    transform = augmenter.sample(8, SIZE, stream(7))
    whole, whole_masks = augmenter.apply(images, transform, masks)
    parts = [augmenter.apply(images[rows], transform[rows], masks[rows]) for rows in (slice(0, 4), slice(4, 8))]
    assert torch.equal(torch.cat([view for view, _ in parts]), whole)
    assert torch.equal(torch.cat([mask for _, mask in parts]), whole_masks)
    assert len(transform[2:5]) == 3


def test_same_stream_same_views_and_every_row_its_own():
    image = torch.rand(1, 1, *SIZE, generator=stream()).expand(6, -1, -1, -1).clone()
    augmenter = Augmenter(everything())
    first, second, other = (augmenter.apply(image, augmenter.sample(6, SIZE, stream(s)))[0] for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert len({float(view.sum()) for view in first}) == 6


def test_the_source_is_left_alone_and_values_stay_in_range():
    images = torch.rand(32, 1, *SIZE, generator=stream())
    copy = images.clone()
    augmenter = Augmenter(AugmentConfig(noise_probability=0.0, blur_probability=0.5, gamma_probability=0.5))
    views, masks = augmenter.apply(images, augmenter.sample(32, SIZE, stream()))
    assert masks is None
    assert torch.equal(images, copy)
    assert float(views.min()) >= 0
    assert float(views.max()) <= 1


def test_wrong_sizes_are_refused():
    augmenter = Augmenter(only())
    transform = augmenter.sample(2, SIZE, stream())
    for shape in ((2, 1, 40, 40), (3, 1, *SIZE)):
        with pytest.raises(ValueError, match="2 rows"):
            augmenter.apply(torch.zeros(shape), transform)


def test_gamma_touches_only_its_rows():
    images = torch.rand(3, 2, 5, 6, generator=stream())
    found = apply_gamma(images.clone(), torch.tensor([1.0, 2.0, 0.5]))
    torch.testing.assert_close(found, torch.stack([images[0], images[1] ** 2, images[2] ** 0.5]))


def test_contrast_turns_about_the_mean_and_is_cut():
    images = torch.rand(3, 2, 5, 6, generator=stream())
    contrast, brightness = torch.tensor([0.5, 3.0, 1.0]), torch.tensor([0.02, -0.05, 0.0])
    found = apply_contrast(images.clone(), contrast, brightness)
    for row in range(3):
        for channel in range(2):
            x = images[row, channel]
            expected = ((x - x.mean()) * contrast[row] + x.mean() + brightness[row]).clamp(0, 1)
            torch.testing.assert_close(found[row, channel], expected)
    assert float(found[1].min()) == 0
    assert float(found[1].max()) == 1


def test_noise_belongs_to_its_seed_and_has_its_deviation():
    noise, seeds = torch.tensor([0.0, 0.05, 0.2]), torch.tensor([1, 2, 3])
    found = apply_noise(torch.zeros(3, 1, 200, 200), noise, seeds)
    assert not found[0].any()
    assert float(found[1].std()) == pytest.approx(0.05, rel=0.03)
    assert float(found[2].std()) == pytest.approx(0.2, rel=0.03)
    alone = apply_noise(torch.zeros(1, 1, 200, 200), noise[2:], seeds[2:])
    assert torch.equal(alone[0], found[2])


def test_blur_equals_scipy_row_by_row():
    images = torch.rand(3, 2, 12, 15, generator=stream())
    blur = torch.tensor([0.0, 0.6, 1.0])
    found = apply_blur(images.clone(), blur)
    assert torch.equal(found[0], images[0])
    for row in (1, 2):
        weights = np.exp(-0.5 * (np.arange(-3, 4) / float(blur[row])) ** 2)
        weights /= weights.sum()
        expected = images[row].double().numpy()
        for axis in (1, 2):
            expected = correlate1d(expected, weights, axis=axis, mode="nearest")
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-5)


def test_drawn_intensities_keep_their_limits():
    t = Augmenter(AugmentConfig()).sample(3000, SIZE, stream())
    assert float(t.brightness.abs().max()) <= 0.05
    assert float(t.brightness.abs().max()) > 0.049
    assert 0.5 <= float(t.contrast.min()) < 0.51
    assert 1.49 < float(t.contrast.max()) <= 1.5
    drawn = t.gamma[t.gamma != 1]
    assert len(drawn) / 3000 == pytest.approx(0.3, abs=0.04)
    assert 1 / 1.3 - 1e-6 <= float(drawn.min()) < 0.78
    assert 1.28 < float(drawn.max()) <= 1.3 + 1e-6
    assert float((t.noise > 0).float().mean()) == pytest.approx(0.2, abs=0.04)
    assert 0.029 < float(t.noise.max()) <= 0.03
    widths = t.blur[t.blur > 0]
    assert len(widths) / 3000 == pytest.approx(0.1, abs=0.03)
    assert 0.5 <= float(widths.min()) <= float(widths.max()) <= 1.0
    assert len(t.noise_seeds.unique()) == 3000


def test_standardise_per_slice_and_channel():
    images = torch.rand(4, 3, 16, 18, generator=stream()) * 0.3 + 0.2
    found = standardise(images)
    torch.testing.assert_close(found.mean(dim=(2, 3)), torch.zeros(4, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.var(dim=(2, 3), unbiased=False), torch.ones(4, 3), rtol=0, atol=1e-3)
    torch.testing.assert_close(standardise(0.5 * images + 0.1), found, rtol=0, atol=2e-3)
    assert not standardise(torch.full((1, 1, 8, 8), 0.25)).any()
    assert standardise(images.half()).dtype == torch.float32
    torch.testing.assert_close(standardise(images.contiguous(memory_format=torch.channels_last)), found)


def test_presets_and_partial_settings():
    views, patients = pretraining_augmentation(), finetuning_augmentation()
    assert views == AugmentConfig()
    assert (views.scale_low, views.scale_high, views.elastic_probability) == (0.7, 1.3, 0.67)
    # What reaches other patients collapses contrastive training, and is on for fine-tuning alone.
    for name in ("low_resolution_probability", "inverted_gamma_probability", "random_convolutions_probability"):
        assert getattr(views, name) == 0
    assert (views.bias, views.gain, views.shift, views.anatomy.probability) == (0, 1, 0, 0)
    assert min(patients.bias, patients.gain - 1, patients.shift, patients.anatomy.probability) > 0
    assert patients.flip_horizontal == patients.flip_vertical == 0
    # Changing one setting of fine-tuning keeps the others of fine-tuning.
    changed = AugmentConfig.parse({"rotation": 5.0}, base=patients)
    assert changed.model_copy(update={"rotation": patients.rotation}) == patients
    with pytest.raises(SettingsError, match="Did you mean rotation"):
        AugmentConfig.parse({"rotatoin": 5.0})


@pytest.mark.parametrize("name", ["low_resolution", "inverted_gamma"])
def test_a_probability_of_what_is_off_is_refused(name):
    key = f"augment.{name}_probability"
    with pytest.raises(SettingsError, match=rf"0\.2 has no effect: {name} is 1, .*Give augment.{name} "):
        AugmentConfig.parse({f"{name}_probability": 0.2}, where="augment.")
    # With all others at once.
    with pytest.raises(SettingsError) as caught:
        AugmentConfig.parse({f"{name}_probability": 0.2, "nois": 0.1}, where="augment.")
    assert [fault.where for fault in caught.value.faults] == ["augment.nois", key]
    # Given limits count as they are: on, or switched off beside the probability of a recipe.
    for limit in (1.5, 1.0):
        assert getattr(AugmentConfig.parse({f"{name}_probability": 0.2, name: limit}), name) == limit
    assert getattr(AugmentConfig.parse({f"{name}_probability": 0.0}), name) == 1
    assert getattr(AugmentConfig.parse({f"{name}_probability": 0.2}, base=AugmentConfig(**{name: 1.5})), name) == 1.5
    assert AugmentConfig.parse(finetuning_augmentation().record()) == finetuning_augmentation()
