"""Scans of known pose: stacks of synthetic hearts, turned, magnified and shifted in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from scipy import ndimage

from fewlabel.data.phantom.scans import render, sample_patient
from fewlabel.data.pose_thumbnails import View, subject_views

SIDE = 96


@cache
def heart(number: int, phase: str, seed: int = 0) -> np.ndarray:
    """(slices, rows, columns) in [0, 1] of one synthetic patient's heart, in the chest of the first."""
    patient = replace(sample_patient(number, seed), chest=sample_patient(1, seed).chest)
    image = render(patient, phase)[0].astype(np.float32)
    return np.clip(image / np.percentile(image, 99), 0, 1)


def placed(stack: np.ndarray, turn: float = 0.0, zoom: float = 1.0, shift: Sequence[float] = (0.0, 0.0)) -> np.ndarray:
    """A stack on SIDE x SIDE pixels: turned about its middle in degrees, clockwise, magnified, then shifted."""
    height, width = stack.shape[1:]
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    y, x = (y - shift[0]) / zoom, (x - shift[1]) / zoom
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    rows, columns = cosine * y - sine * x + (height - 1) / 2, cosine * x + sine * y + (width - 1) / 2
    return np.stack([ndimage.map_coordinates(plane, [rows, columns], order=1, mode="nearest") for plane in stack])


def heart_view(
    number: int,
    turn: float = 0.0,
    zoom: float = 1.0,
    shift: Sequence[float] = (0.0, 0.0),
    *,
    seed: int = 0,
    phases: Sequence[str] = ("ED", "ES"),
    name: str = "",
) -> View:
    """The picture of one synthetic patient in a known pose."""
    subject = name or f"p{number:02d}"
    stacks = [placed(heart(number, phase, seed), turn, zoom, shift) for phase in phases]
    (view,) = subject_views(subject, [(f"{subject}_{at}", stack[None], {}) for at, stack in enumerate(stacks)])
    return view


def around(angles: Sequence[float]) -> np.ndarray:
    """Degrees less their circular mean, in [-180, 180)."""
    turned = np.radians(np.asarray(angles, float))
    return np.degrees((turned - np.angle(np.exp(1j * turned).sum()) + np.pi) % (2 * np.pi) - np.pi)
