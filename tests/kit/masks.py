"""Labelled masks with known shapes, and stores of them that live in memory."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

SIZE = (96, 112)


def disc(y: float, x: float, radius: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Pixels whose centres lie within a disc."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def heart(inner: float = 10, outer: float = 16, right: float = 12, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A ring (2) about a cavity (3), and beside it a body (1) that touches the ring."""
    mask = np.zeros(size, np.uint8)
    y, x = size[0] / 2 - 0.5, size[1] / 2 - 0.5
    mask[disc(y, x - outer - right + 2, right, size)] = 1
    mask[disc(y, x, outer, size)] = 2
    mask[disc(y, x, inner, size)] = 3
    return mask


def memory_store(volumes: list[np.ndarray], classes: int = 4, channels: int = 1) -> SimpleNamespace:
    """What data needs of a store; images follow the masks, with noise."""
    labels = np.concatenate(volumes).astype(np.uint8)
    generator = np.random.default_rng(0)
    levels = np.linspace(0.15, 0.85, classes)[np.where(labels < classes, labels, 0)]
    noise = generator.normal(0, 0.03, (len(labels), channels, *labels.shape[1:]))
    images = np.clip(levels[:, None] + noise, 0, 1).astype(np.float16)
    cases = np.repeat([f"case{number}" for number in range(len(volumes))], [len(volume) for volume in volumes])
    return SimpleNamespace(
        images=images,
        labels=labels,
        slices=pd.DataFrame({"case": cases, "labelled": True, "height_fraction": np.linspace(0, 1, len(cases))}),
        label_names={number: str(number) for number in range(classes)},
    )
