"""Which grid a data set gets: by made scans, without files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewlabel.data.catalog import Case
from fewlabel.data.grid_extent_and_spacing import Laid, choose_grid, lay
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.label_extents import label_shapes
from fewlabel.data.label_values import LabelMap
from fewlabel.data.resample import AxisRecord
from fewlabel.data.scan_inspection import CaseFacts
from fewlabel.data.slice_plane import reference_frame


def scan(
    pixels: tuple[int, int] = (200, 180),
    spacing: tuple[float, float] = (1.5, 1.5),
    reach: tuple[float, float] = (0.0, 0.0),
    **thickness: float,
) -> Laid:
    return Laid(pixels, spacing, reach, {int(key[1:]): value for key, value in thickness.items()})


def test_the_grid_covers_what_nearly_all_scans_have() -> None:
    """Nineteen large scans and one small one: the small one decides nothing, nor does the largest."""
    scans = [scan((200 + number, 180)) for number in range(19)] + [scan((90, 90))]
    grid = choose_grid(scans)
    assert grid.spacing == grid.median == (1.5, 1.5)
    covers = sorted([200 + number for number in range(19)] + [90])
    assert grid.size == (16 * -(-np.percentile(covers, 5) // 16), 176)
    assert grid.size[0] == 208
    assert grid.reason == "what nearly all scans cover"
    assert grid.thinnest is None


def test_many_small_scans_make_a_small_grid() -> None:
    scans = [scan((200, 200))] * 18 + [scan((120, 100))] * 2
    assert choose_grid(scans).size == (128, 112)


def test_extents_count_in_mm() -> None:
    scans = [scan((100, 100), (2.0, 2.0)), scan((200, 200), (1.0, 1.0)), scan((200, 200), (1.0, 1.0))]
    assert choose_grid(scans).size == (208, 208)
    assert choose_grid(scans, spacing=(2.0, 4.0)).size == (112, 64)


def test_labels_enlarge_it_and_a_margin_stays_around_them() -> None:
    scans = [scan((100, 200), (1.0, 1.0))] * 9 + [scan((250, 250), (1.0, 1.0), reach=(80.0, 40.0))]
    grid = choose_grid(scans)
    # 2 x 80 mm and four pixels on either side.
    assert grid.size == (176, 208)
    assert grid.reason == "enlarged to hold all labels, what nearly all scans cover"


def test_a_margin_ends_where_the_largest_scan_does() -> None:
    scans = [scan((90, 96), (1.0, 1.0), reach=(45.0, 48.0))]
    assert choose_grid(scans).size == (96, 96)


@pytest.mark.parametrize("size", [(31, 40), (43, 59)])
def test_small_scans_are_covered_whole(size: tuple[int, int]) -> None:
    scans = [scan((31, 40), (1.0, 1.0))] * 40 + [scan(size, (1.0, 1.0))]
    grid = choose_grid(scans)
    assert grid.size == (32 if size == (31, 40) else 48, 48 if size == (31, 40) else 64)
    assert grid.reason == "all that any scan covers"


def test_the_largest_grid_and_labels_beyond_it() -> None:
    wide = scan((600, 600), (0.7, 0.7))
    assert choose_grid([wide]).size == (256, 256)
    assert choose_grid([wide]).spacing == (0.7, 0.7)
    assert choose_grid([wide]).reason == "the middle 256 pixels"
    # Labels 280 mm across: the spacing grows until they fit, with their margin.
    labelled = scan((600, 600), (0.7, 0.7), reach=(140.0, 90.0))
    grid = choose_grid([labelled])
    assert grid.spacing == pytest.approx((280 / 248, 280 / 248), rel=1e-5)
    assert grid.median == (0.7, 0.7)
    assert grid.size == (256, 256)
    assert grid.reason == "the middle 256 pixels"
    # No more than twice, and not where the spacing was asked for.
    assert choose_grid([scan((900, 900), (0.5, 0.5), reach=(200.0, 200.0))]).spacing == (1.0, 1.0)
    fixed = choose_grid([labelled], spacing=(0.7, 0.7))
    assert fixed.spacing == (0.7, 0.7)
    assert fixed.reason == "the middle 256 pixels, less than the labels reach"


def test_what_is_asked_for_is_kept() -> None:
    grid = choose_grid([scan(reach=(150.0, 150.0))], spacing=(2.0, 1.0), size=(64, 80))
    assert (grid.spacing, grid.size, grid.reason) == ((2.0, 1.0), (64, 80), "")
    assert choose_grid([scan(reach=(150.0, 150.0))], size=(64, 80)).spacing == (1.5, 1.5)


def test_the_thinnest_structure_is_that_of_the_usual_mask() -> None:
    scans = [scan(v1=9.0, v2=20.0), scan(v1=10.0, v2=21.0), scan(v1=2.0)]
    assert choose_grid(scans).thinnest == 9.0


def facts_of(mask: np.ndarray, direction: np.ndarray, spacing: tuple[float, float, float]) -> CaseFacts:
    case = Case("a", "a", (Path("a.nii"),), Path("m.nii"), {}, "")
    geometry = Geometry(mask.shape, spacing, (0.0, 0.0, 0.0), tuple(direction.ravel()))
    return CaseFacts(case, geometry, {}, shapes=label_shapes(mask))


def test_what_a_mask_says_follows_how_the_scan_is_laid() -> None:
    """Off-centre labels in a scan whose slices run along the file's y: none is cut, however it is turned."""
    mask = np.zeros((70, 9, 120), dtype=np.int64)
    mask[3:10, 2:5, 60:110] = 1
    mask[:, 0] = 99
    labels = LabelMap((0, 1), ("background", "a"), ignore=99)
    for direction in (np.eye(3), np.diag([-1.0, 1.0, -1.0])):
        fact = facts_of(mask, direction, (1.0, 8.0, 1.0))
        frame = reference_frame([fact.geometry])
        (laid,) = lay([fact], frame, labels)
        sides = sorted(zip(laid.pixels, laid.reach, strict=True))
        assert sides == [(70, 32.0), (120, 50.0)]
        assert set(laid.thickness) == {1}
        small = [scan((40, 40), (1.0, 1.0))] * 30
        grid = choose_grid([laid, *small])
        for pixels, reach, side in zip(laid.pixels, laid.reach, grid.size, strict=True):
            axis = AxisRecord.plan(pixels, 1.0, grid.spacing[0], side)
            kept = axis.forward().sum(0)
            middle = pixels / 2
            assert kept[max(0, round(middle - reach)) : round(middle + reach)].min() > 0.99
    assert lay([CaseFacts(fact.case, None, None)], frame, labels) == []
