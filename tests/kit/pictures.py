"""Writes small pictures, of photographs and of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (32, 40)


def classes(values: Sequence[int] = (0, 1, 2), size: tuple[int, int] = SIZE) -> np.ndarray:
    """A background with a box of each further value."""
    mask = np.full(size, values[0], np.uint8)
    for place, value in enumerate(values[1:]):
        top = 4 + 10 * place
        mask[top : top + 8, 6:20] = value
    return mask


def photo(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """Colours (height, width, 3) that follow the classes."""
    noise = np.random.default_rng(seed).integers(0, 40, (*mask.shape, 3))
    return (noise + 15 * (mask % 13)[..., None] * np.array([1, 0.7, 0.4])).clip(0, 255).astype(np.uint8)


def write_picture(path: Path, array: np.ndarray, colours: Sequence[tuple[int, int, int]] = ()) -> Path:
    """Write a picture in the format of its suffix; with colours an indexed one whose indices the array holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if colours:
        image = image.convert("L")
        image.putpalette([value for colour in colours for value in colour])
    image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path
