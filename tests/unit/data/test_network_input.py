"""How much of a change of intensity is left at the network's input, behind the standardisation of slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig, finetuning_augmentation
from fewlabel.data.phantom.scans import render, sample_patient

#: No geometry and no noise.
STILL = {
    "flip_horizontal": 0.0, "flip_vertical": 0.0, "rotation": 0.0, "scale_low": 1.0, "scale_high": 1.0, "crop": 1.0,
    "translation": 0.0, "elastic_probability": 0.0, "noise_probability": 0.0,
}  # fmt: skip
#: Nor any change of intensity but those that are named.
ALONE = STILL | {
    "brightness": 0.0, "contrast_low": 1.0, "contrast_high": 1.0, "gamma_probability": 0.0, "blur_probability": 0.0
}  # fmt: skip
#: The intensities of fine-tuning, without noise and geometry.
DEFAULT = finetuning_augmentation().model_copy(update=STILL).model_dump()


@pytest.fixture(scope="module")
def phantoms():
    """Slices of synthetic patients on [0, 1], each scanner once."""
    found = []
    for number in (1, 2):
        scan = torch.from_numpy(render(sample_patient(number, 0), "ED")[0].astype(np.float32))
        low, high = np.quantile(scan.numpy(), [0.01, 0.99])
        found.append(((scan - low) / (high - low)).clamp(0, 1)[:, None])
    return found


def network_input(augmenter, given, transform):
    return augmenter.finish(augmenter.apply(given, transform)[0], transform)


def changes(phantoms, **settings):
    """Relative L2 change of the network's input: as it is, and after the best gain and shift of each slice."""
    augmenter = Augmenter(AugmentConfig(**settings))
    raw, fitted = [], []
    for number, scan in enumerate(phantoms):
        given = scan.repeat(12, 1, 1, 1)
        transform = augmenter.sample(len(given), tuple(given.shape[-2:]), torch.Generator().manual_seed(number))
        plain = network_input(augmenter, given, transform.geometry()).flatten(1).double()
        found = network_input(augmenter, given, transform).flatten(1).double()
        raw.append((found - plain).norm(dim=1) / plain.norm(dim=1))
        x, y = plain - plain.mean(1, keepdim=True), found - found.mean(1, keepdim=True)
        best = (x * y).sum(1, keepdim=True) / y.square().sum(1, keepdim=True) * y
        fitted.append((best - x).norm(dim=1) / x.norm(dim=1))
    return torch.cat(raw), torch.cat(fitted)


class TestWhatReachesTheNetwork:
    def test_contrast_and_brightness_hardly_do(self, phantoms):
        raw, _ = changes(phantoms, **ALONE | {"brightness": 0.05, "contrast_low": 0.5, "contrast_high": 1.5})
        assert float(raw.median()) < 0.02

    @pytest.mark.parametrize(
        ("settings", "least"),
        [
            ({"gamma": 2.0, "gamma_probability": 1.0}, 0.08),
            ({"inverted_gamma": 1.7, "inverted_gamma_probability": 1.0}, 0.05),
            ({"bias": 0.15}, 0.05),
            ({"low_resolution": 2.0, "low_resolution_probability": 1.0}, 0.1),
            ({"random_convolutions_probability": 1.0}, 0.25),
        ],
    )
    def test_what_is_not_affine_outlives_the_standardisation(self, phantoms, settings, least):
        _, fitted = changes(phantoms, **ALONE | settings)
        assert float(fitted.median()) > least

    def test_gain_and_shift_do_but_are_affine(self, phantoms):
        raw, fitted = changes(phantoms, **ALONE | {"gain": 1.5, "shift": 0.3})
        assert float(raw.median()) > 0.25
        assert float(fitted.max()) < 1e-4

    def test_the_default_of_fine_tuning_changes_a_fifth_of_the_input_beyond_gain_and_shift(self, phantoms):
        # Medians over 1900 slices of ACDC: 0.21; 0.14, 0.33 and 0.40 with none, eight of ten and all of the rows behind
        # random convolutions.
        _, half = changes(phantoms, **DEFAULT)
        _, always = changes(phantoms, **DEFAULT | {"random_convolutions_probability": 1.0})
        raw, without = changes(phantoms, **DEFAULT | {"random_convolutions_probability": 0.0})
        assert float(always.median()) >= 0.3
        assert 0.17 < float(half.median()) < 0.27
        assert 0.1 < float(without.median()) < 0.18
        assert float(raw.median()) > 0.3
