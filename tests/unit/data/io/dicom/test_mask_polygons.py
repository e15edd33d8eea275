"""Polygons along the edges of pixels: known ones, their areas, and the way back."""

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from scipy import ndimage

from fewlabel.data.io.dicom.contours import fill_contours
from fewlabel.data.io.dicom.mask_polygons import polygons_of


def mask_of(text):
    return np.array([[character == "#" for character in line] for line in text.split()])


def area(points):
    """The shoelace formula; a channel that is walked to and fro encloses nothing."""
    x, y = points.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


RING = "..... .###. .#.#. .###. ....."


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("... .#. ...", [[[0.5, 0.5], [1.5, 0.5], [1.5, 1.5], [0.5, 1.5]]]),
        ("##. #..", [[[-0.5, -0.5], [1.5, -0.5], [1.5, 0.5], [0.5, 0.5], [0.5, 1.5], [-0.5, 1.5]]]),
        # Pixels that touch at a corner are two pieces.
        (
            "#. .#",
            [
                [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]],
                [[0.5, 0.5], [1.5, 0.5], [1.5, 1.5], [0.5, 1.5]],
            ],
        ),
        # A channel from the corner of the hole to the left edge, between two rows of pixels, and back.
        (
            RING,
            [
                [
                    [0.5, 0.5], [3.5, 0.5], [3.5, 3.5], [0.5, 3.5], [0.5, 1.5],
                    [1.5, 1.5], [1.5, 2.5], [2.5, 2.5], [2.5, 1.5], [0.5, 1.5],
                ]
            ],
        ),
        ("... ...", []),
    ],
)  # fmt: skip
def test_known_polygons(text, wanted):
    found = [polygon.tolist() for polygon in polygons_of(mask_of(text))]
    assert len(found) == len(wanted)
    for one, two in zip(found, wanted, strict=True):
        # The same corners in the same order, from whichever on.
        start = two.index(one[0])
        assert one == two[start:] + two[:start]


def test_any_mask_comes_back_with_its_area():
    generator = np.random.default_rng(0)
    for _ in range(300):
        mask = generator.random(generator.integers(1, 12, 2)) < generator.random()
        polygons = polygons_of(mask)
        assert len(polygons) == ndimage.label(mask)[1]
        np.testing.assert_array_equal(fill_contours(polygons, mask.shape), mask)
        assert sum(map(area, polygons)) == pytest.approx(mask.sum())
        for polygon in polygons:
            steps = np.roll(polygon, -1, axis=0) - polygon
            assert ((steps != 0).sum(axis=1) == 1).all()


def test_another_fill_agrees_where_corners_are_rounded():
    """As in a structure set: coordinates of so many digits, filled by another program's rule."""
    y, x = np.mgrid[:40, :50]
    mask = (np.hypot(y - 19, x - 24) < 15) & (np.hypot(y - 15, x - 20) > 4) & (np.hypot(y - 24, x - 27) > 3)
    (polygon,) = polygons_of(mask)
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = Outline(np.round(polygon * 0.7031, 4) / 0.7031, closed=False).contains_points(centres)
    np.testing.assert_array_equal(inside.reshape(mask.shape), mask)
