"""Augmentation of fine-tuning as it was before :mod:`suites.ground`, word by word: the arms that show what changed."""

from __future__ import annotations

from typing import Any

#: The augmentation of fine-tuning as it was: mild, and undone by the standardisation of slices.
PLAIN: dict[str, Any] = {
    "flip_horizontal": 0.0,
    "flip_vertical": 0.0,
    "rotation": 20.0,
    "scale_low": 0.8,
    "scale_high": 1.25,
    "crop": 1.0,
    "translation": 0.05,
    "elastic_probability": 0.5,
    "elastic": 0.2,
    "brightness": 0.05,
    "contrast_low": 0.5,
    "contrast_high": 1.5,
    "gamma": 1.3,
    "gamma_probability": 0.3,
    "noise": 0.03,
    "noise_probability": 0.2,
    "blur": 1.0,
    "blur_probability": 0.1,
    "low_resolution_probability": 0.0,
    "inverted_gamma_probability": 0.0,
    "bias": 0.0,
    "random_convolutions_probability": 0.0,
    "gain": 1.0,
    "shift": 0.0,
    "anatomy": {"probability": 0.0},
    "synthesis": {"probability": 0.0},
}
