"""Shapes of the synthetic patients: a beating heart in a chest, as closed formulas on a grid in millimetres.

The proportions follow textbook short-axis views and span the healthy, the dilated and the thick-walled heart
(end-diastolic cavity 38 to 60 mm across, wall 6 to 13 mm). Papillary muscles count as cavity and the free wall of the
right ventricle as background, as in the ACDC annotation (Bernard et al., IEEE TMI 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Phase = Literal["ED", "ES"]
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Class index of each structure in a mask, the order of ACDC.
RV, MYOCARDIUM, LV = 1, 2, 3
LABEL_NAMES = {0: "background", RV: "right ventricle", MYOCARDIUM: "myocardium", LV: "left ventricle"}


@dataclass(frozen=True)
class Heart:
    """One patient's heart; lengths in mm, angles in radians.

    Attributes:
        radius: End-diastolic cavity radius at the base.
        wall: End-diastolic wall thickness.
        length: End-diastolic distance from the valve plane to the outer apex.
        squeeze: Cavity radius at end systole over end diastole.
        shortening: Fall of the valve plane at end systole, as a share of ``length``.
        rv_reach: How far the right ventricle reaches beyond the left one's outer wall, at the base.
        rv_end: Height (0 base, 1 apex) at which the right ventricle ends.
        rv_angle: Direction from the left to the right ventricle.
        tilt: Drift (x, y) of the long axis from base to apex.
        ripple: (3, 2) amplitude and phase of the 2nd to 4th harmonic of the outline.
        papillary: (2,) directions of the two papillary muscles.
        papillary_radius: Radius of a papillary muscle.
        fat: Thickness of the fat around the heart.
    """

    radius: float
    wall: float
    length: float
    squeeze: float
    shortening: float
    rv_reach: float
    rv_end: float
    rv_angle: float
    tilt: tuple[float, float]
    ripple: Array
    papillary: Array
    papillary_radius: float
    fat: float


@dataclass(frozen=True)
class Grid:
    """Sample points of one stack.

    Attributes:
        x: (slices, 1, columns) mm from the long axis of the heart, to the right.
        y: (slices, rows, 1) mm from the long axis, downwards.
        depth: (slices, 1, 1) mm below the end-diastolic valve plane; negative above it.
        centre: (x, y) mm of the heart in the chest, for :func:`chest`.
    """

    x: Array
    y: Array
    depth: Array
    centre: tuple[float, float]


def sample_heart(rng: np.random.Generator) -> Heart:
    """Draw one patient's heart."""
    return Heart(
        radius=rng.uniform(19.0, 30.0),
        wall=rng.uniform(6.0, 13.0),
        length=rng.uniform(70.0, 84.0),
        squeeze=rng.uniform(0.55, 0.82),
        shortening=rng.uniform(0.08, 0.16),
        rv_reach=rng.uniform(14.0, 34.0),
        rv_end=rng.uniform(0.72, 0.86),
        rv_angle=np.pi + rng.normal(0.25, 0.4),
        tilt=(rng.normal(3.0, 6.0), rng.normal(3.0, 6.0)),
        ripple=np.stack([rng.uniform(0.0, 0.045, 3), rng.uniform(0, 2 * np.pi, 3)], axis=1),
        papillary=np.array([0.9, 2.6]) + rng.normal(0.0, 0.3, 2),
        papillary_radius=rng.uniform(3.0, 5.2),
        fat=rng.uniform(2.0, 6.0),
    )


@dataclass(frozen=True)
class HeartShape:
    """Masks (slices, rows, columns) of one heart in one phase.

    ``labels`` holds the annotation (uint8); the rest are structures that an annotator leaves out or counts as
    cavity, and that make the images harder.
    """

    labels: NDArray[np.uint8]
    papillary: Mask
    rv_wall: Mask
    atria: Mask
    fat: Mask


def heart_shape(heart: Heart, phase: Phase, grid: Grid) -> HeartShape:
    """The heart on a grid.

    Args:
        heart: Whose heart.
        phase: ``ED`` (full) or ``ES`` (contracted: small cavity, thick wall, valve plane lowered).
        grid: Where to sample.
    """
    systole = phase == "ES"
    fall = heart.shortening * heart.length if systole else 0.0
    height = (grid.depth - fall) / (heart.length - fall)
    inside = (height >= 0) & (height < 1)
    bullet = np.sqrt(np.clip(1 - np.abs(height) ** 2.4, 0, None))
    cavity_bullet = np.sqrt(np.clip(1 - np.abs(height / 0.93) ** 2.4, 0, None))
    # Muscle hardly changes its volume, so a smaller cavity goes with a thicker wall.
    cavity = heart.radius * (heart.squeeze if systole else 1.0) * cavity_bullet
    outer = cavity + heart.wall * (1.4 if systole else 1.0) * (0.45 + 0.55 * bullet) * np.where(bullet > 0, 1.0, 0.0)

    x, y = grid.x - heart.tilt[0] * height, grid.y - heart.tilt[1] * height
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    orders = np.arange(2, 5)
    waves = np.cos(angle[..., None] * orders + heart.ripple[:, 1]) * heart.ripple[:, 0]
    round_distance = distance / (1 + waves.sum(axis=-1))

    epicardium = inside & (round_distance < outer)
    lumen = inside & (round_distance < cavity)
    reach, half = _rv_size(heart, height, outer, systole=systole)
    right = inside & (height < heart.rv_end) & _rv(heart, x, y, outer, reach, half) & ~epicardium
    right_outer = inside & (height < heart.rv_end) & _rv(heart, x, y, outer, reach + 3.0, half + 3.0)

    labels = np.zeros(np.broadcast_shapes(x.shape, y.shape, height.shape), np.uint8)
    labels[right] = RV
    labels[epicardium] = MYOCARDIUM
    labels[lumen] = LV
    return HeartShape(
        labels=labels,
        papillary=lumen & _papillary(heart, x, y, height, cavity),
        rv_wall=right_outer & ~right & ~epicardium,
        atria=_atria(heart, x, y, height),
        fat=(height > -0.25) & (height < 1.1) & _fat(heart, x, y, outer, reach, half) & (labels == 0),
    )


def _rv_size(heart: Heart, height: Array, outer: Array, *, systole: bool) -> tuple[Array, Array]:
    """How far the right ventricle reaches beyond the left one, and its half width; both shrink to the apex."""
    shrink = np.sqrt(np.clip(1 - (np.clip(height, 0, None) / heart.rv_end) ** 2, 0, 1))
    reach = heart.rv_reach * (0.7 if systole else 1.0) * shrink
    return reach, outer * (0.5 + 0.55 * shrink)


def _rv(heart: Heart, x: Array, y: Array, outer: Array, reach: Array, half: Array) -> Mask:
    """An ellipse leaning on the septum; what the left ventricle covers of it is cut out by the caller."""
    along = x * np.cos(heart.rv_angle) + y * np.sin(heart.rv_angle)
    across = -x * np.sin(heart.rv_angle) + y * np.cos(heart.rv_angle)
    middle = 0.7 * outer
    extent = np.maximum(0.3 * outer + reach, 1e-6)
    return np.asarray(((along - middle) / extent) ** 2 + (across / np.maximum(half, 1e-6)) ** 2 < 1)


def _papillary(heart: Heart, x: Array, y: Array, height: Array, cavity: Array) -> Mask:
    muscles = np.zeros(np.broadcast_shapes(x.shape, y.shape, height.shape), bool)
    for angle in heart.papillary:
        px, py = 0.62 * cavity * np.cos(angle), 0.62 * cavity * np.sin(angle)
        size = heart.papillary_radius * np.clip(1 - ((height - 0.45) / 0.3) ** 2, 0, 1)
        muscles |= np.hypot(x - px, y - py) < size
    return muscles


def _atria(heart: Heart, x: Array, y: Array, height: Array) -> Mask:
    """Blood above the valve plane: as bright as the ventricles and not annotated."""
    above = (height < 0) & (height > -0.45)
    left = np.hypot(x / 1.25, y) < 0.85 * heart.radius
    rx = x - 1.55 * heart.radius * np.cos(heart.rv_angle)
    ry = y - 1.55 * heart.radius * np.sin(heart.rv_angle)
    return np.asarray(above & (left | (np.hypot(rx, ry / 1.2) < 0.7 * heart.radius)))


def _fat(heart: Heart, x: Array, y: Array, outer: Array, reach: Array, half: Array) -> Mask:
    """A pad around both ventricles, thickest in the groove between them."""
    near_left = np.hypot(x, y) < outer + heart.fat
    near_right = _rv(heart, x, y, outer, reach + 3.0 + heart.fat, half + 3.0 + heart.fat)
    return np.asarray((near_left | near_right) & (outer > 0))


@dataclass(frozen=True)
class Chest:
    """What lies around one patient's heart; lengths in mm.

    Attributes:
        half: (x, y) half axes of the body's outline.
        skin: Thickness of the fat under the skin.
        muscle: Thickness of the chest wall under it.
        lung: Half axis of a lung, (x, y).
        liver: How far the liver reaches into the stack, from the apex, as a share of its depth.
        aorta: Radius of the descending aorta.
        aorta_at: (x, y) of it from the heart.
        stomach: Whether a bright stomach lies beside the apex.
        vessels: (n, 3) x, y from the heart and radius of lung vessels.
    """

    half: tuple[float, float]
    skin: float
    muscle: float
    lung: tuple[float, float]
    liver: float
    aorta: float
    aorta_at: tuple[float, float]
    stomach: bool
    vessels: Array


def sample_chest(rng: np.random.Generator) -> Chest:
    """Draw one patient's chest."""
    count = int(rng.integers(5, 11))
    vessels = np.stack([rng.uniform(-85, 85, count), rng.uniform(-60, 60, count), rng.uniform(2, 5.5, count)], axis=1)
    return Chest(
        half=(rng.uniform(88, 108), rng.uniform(74, 88)),
        skin=rng.uniform(5, 14),
        muscle=rng.uniform(8, 13),
        lung=(rng.uniform(36, 48), rng.uniform(48, 60)),
        liver=rng.uniform(0.35, 0.7),
        aorta=rng.uniform(9, 13),
        aorta_at=(rng.uniform(10, 40), rng.uniform(44, 56)),
        stomach=bool(rng.random() < 0.5),
        vessels=vessels,
    )


def chest_shape(chest: Chest, grid: Grid, *, length: float) -> dict[str, Mask]:
    """Masks (slices, rows, columns) of the tissues around the heart, to be painted in the order given.

    Args:
        chest: Whose chest.
        grid: Where to sample.
        length: Depth of the heart in mm, against which liver and stomach are placed.
    """
    bx, by = grid.x + grid.centre[0], grid.y + grid.centre[1]
    rim = np.hypot(bx / chest.half[0], by / chest.half[1])
    mean_half = sum(chest.half) / 2
    inner = rim < 1 - (chest.skin + chest.muscle) / mean_half
    height = grid.depth / length
    shape = np.broadcast_shapes(grid.x.shape, grid.y.shape, grid.depth.shape)

    def ellipse(at: tuple[float, float], half: tuple[float, float]) -> Mask:
        return np.asarray(((bx - at[0]) / half[0]) ** 2 + ((by - at[1]) / half[1]) ** 2 < 1)

    ax, ay = chest.aorta_at
    aorta = np.hypot(grid.x - ax, grid.y - ay)
    lungs = ellipse((-48, -4), chest.lung) | ellipse((48, -4), chest.lung)
    growth = np.clip((height - 1 + chest.liver) / chest.liver, 0, 1.3)
    liver = ((bx + 42) / (8 + 52 * growth)) ** 2 + ((by - 52) / (4 + 44 * growth)) ** 2 < 1
    stomach = ((bx - 52) / 22) ** 2 + ((by - 34) / 20) ** 2 < np.clip((height - 0.5) / 0.5, 0, 1)
    vessels = np.zeros(shape, bool)
    for vx, vy, radius in chest.vessels:
        # Vessels run obliquely, so they move from slice to slice.
        vessels |= np.hypot(grid.x - vx - 0.25 * grid.depth, grid.y - vy + 0.15 * grid.depth) < radius
    masks = {
        "fat": rim < 1,
        "muscle": rim < 1 - chest.skin / mean_half,
        "mediastinum": inner,
        "lung": lungs & inner,
        "vessel": vessels & lungs,
        "liver": liver & (growth > 0) & inner,
        "spine": ellipse((0, 66), (17, 14)) & (rim < 1 - chest.skin / mean_half),
        "stomach": stomach & chest.stomach & inner,
        "aorta wall": aorta < chest.aorta + 2.5,
        "aorta": aorta < chest.aorta,
    }
    return {name: np.broadcast_to(mask, shape) for name, mask in masks.items()}
